"""Pictures of aggregation and of the path of supports: what they show is what was found."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import plot
from mepjax.select import sparse_path

pyplot = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def closed():
    yield
    pyplot.close("all")


def chain():
    """States 0 and 2 against 1 and 3."""
    rows = np.array([[0.4, 0.1, 0.3, 0.2], [0.1, 0.5, 0.1, 0.3]])[[0, 1, 0, 1]]
    return mj.MarkovAggregation(rows, 2), rows


def test_the_heat_map_is_ordered_by_superstate_with_lines_between():
    problem, rows = chain()
    hard = problem.harden(jnp.asarray(rows[:2]))
    axes: Any = plot.aggregation(problem, hard, names=["a", "b", "c", "d"])
    order = [0, 2, 1, 3]
    (image,) = axes.images
    np.testing.assert_allclose(image.get_array(), np.sqrt(rows[np.ix_(order, order)]), rtol=1e-6)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "c", "b", "d"]
    places = [np.unique(np.asarray(line.get_data()[at])) for at in (1, 0) for line in axes.lines]
    assert [1.5] in [list(np.asarray(place, float)) for place in places]
    axes.figure.canvas.draw()
    with pytest.raises(ValueError, match="`names` must be 4, one a state; got 1"):
        plot.aggregation(problem, hard, names=["a"])


def test_rows_that_are_no_chain_are_refused():
    problem = mj.MarkovAggregation(np.full((3, 2), 0.5), 1, weights=np.ones(3))
    with pytest.raises(ValueError, match=r"must be of a chain; got rows of shape \(3, 2\)"):
        plot.aggregation(problem, problem.harden(jnp.full((1, 2), 0.5)))


def test_lines_are_the_coefficients_of_every_size():
    rng = np.random.default_rng(0)
    design = rng.normal(size=(12, 6))
    path = sparse_path(design, design[:, 4] - 2 * design[:, 1] + 0.1 * rng.normal(size=12), 4)
    axes: Any = plot.sparse_path(path, size=2, names=[f"$x{i}" for i in range(6)])
    shown = {str(line.get_label()): np.asarray(line.get_ydata()) for line in axes.lines}
    table = np.stack([np.asarray(path.dense(size)) for size in range(1, 5)])
    used = np.flatnonzero(np.any(table != 0, axis=0))
    for column in used:
        np.testing.assert_allclose(shown[rf"\$x{column}"], table[:, column])
    assert sum(label.startswith(r"\$") for label in shown) == len(used)
    np.testing.assert_array_equal(
        [line.get_xdata()[0] for line in axes.lines if line.get_label() == "chosen: 2"], [2]
    )
    axes.figure.canvas.draw()  # a dollar is no mathematics
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), path)
    with pytest.raises(ValueError, match="must be one path"):
        plot.sparse_path(lanes)
