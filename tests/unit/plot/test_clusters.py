"""`mepjax.plot.clusters`, without a solve."""

import sys
from typing import Any, cast

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import mepjax as mj
from mepjax import plot
from mepjax.plot.style import PALETTE, assign_styles


class Solution:
    """What the figure needs of a solution."""

    def __init__(self, params, beta=100.0):
        self.params, self.beta = np.asarray(params, float), beta


def _points(n, d):
    return np.asarray(jax.random.normal(jax.random.key(0), (n, d)), np.float64)


def _draw(x, centres, **options) -> Any:
    figure = Figure()
    problem = mj.Clustering(x, len(centres), **options.pop("problem", {}))
    solution: Any = Solution(centres)
    axes = plot.clusters(problem, solution, ax=figure.add_subplot(), **options)
    figure.canvas.draw()
    return axes


def test_points_have_the_mixture_of_the_colours_of_where_they_end():
    x = np.array([[0.0, 0.0], [4.0, 0.0]])
    axes = _draw(x, x, problem={"autonomy": mj.autonomy.Uniform(0.3)})
    points, centres = axes.collections
    np.testing.assert_array_equal(points.get_offsets(), x)
    np.testing.assert_array_equal(centres.get_offsets(), x)
    first, second = centres.get_facecolors()[:, :3]
    assert np.max(np.abs(first - second)) > 0.3
    mixed = [0.7 * first + 0.3 * second, 0.3 * first + 0.7 * second]
    np.testing.assert_allclose(points.get_facecolors()[:, :3], mixed, atol=1e-6)
    assert [text.get_text() for text in axes.texts] == ["0", "1"]


@pytest.mark.parametrize(
    ("n", "d", "k"), [(1, 2, 1), (30, 1, 3), (30, 3, 3), (20, 5, 2), (9, 2, 60)]
)
def test_any_size_is_drawn(n, d, k):
    x = _points(n, d)
    axes = _draw(x, _points(k, d))
    offsets = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    assert offsets.shape == (n + k, 2) and np.all(np.isfinite(offsets))
    assert ("principal component" in axes.get_xlabel()) == (d > 2)
    assert axes.get_aspect() == ("auto" if d == 1 else 1.0)


def test_a_thin_line_is_stretched():
    x = _points(20, 2) * [1, 1000]
    assert _draw(x, x[:2]).get_aspect() == "auto"


def test_principal_components_keep_distances_in_the_plane():
    flat = _points(40, 2) * [3, 1]
    turn, _ = np.linalg.qr(_points(4, 4))
    axes = _draw(flat @ turn[:2] + 7, flat[:2] @ turn[:2] + 7)
    drawn = np.asarray(axes.collections[0].get_offsets())
    gaps = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.testing.assert_allclose(
        np.linalg.norm(drawn[:, None] - drawn[None], axis=2), gaps, atol=1e-6
    )
    np.testing.assert_allclose(axes.collections[1].get_offsets(), drawn[:2], atol=1e-6)


def test_unused_centres_and_weightless_points_look_different():
    x = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    axes = _draw(x, [[0.0, 0], [2, 0], [9, 9]], problem={"weights": np.array([1.0, 0, 1])})
    points, unused, used = axes.collections
    assert len(used.get_offsets()) == 2 and len(unused.get_offsets()) == 1
    (legend,) = axes.get_legend().get_texts()
    assert len(axes.texts) == 2 and legend.get_text() == "1 centre nobody is told to join"
    red, green, blue = points.get_facecolors()[1, :3]
    assert red == green == blue


def test_units_are_applied_to_points_and_centres():
    x = np.array([[0.0, 0.0], [1.0, 0.0]])
    axes = _draw(x, x, units=lambda points: 10 * points + 5)
    for drawn in axes.collections:
        np.testing.assert_array_equal(drawn.get_offsets(), 10 * x + 5)


def test_equal_colours_are_far_apart():
    grid = np.stack(np.meshgrid(np.arange(6.0), np.arange(6.0)), axis=-1).reshape(-1, 2)
    colours = assign_styles(grid)
    assert set(colours) == set(range(len(PALETTE)))
    same = (colours[:, None] == colours) & ~np.eye(36, dtype=bool)
    gaps = np.linalg.norm(grid[:, None] - grid[None], axis=2)
    assert np.min(gaps[same]) > 1.2


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch):
    x = _points(3, 2)
    problem, solution = mj.Clustering(x, 1), Solution(x[:1])
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    with pytest.raises(ImportError, match=r'pip install "mepjax\[plot\]"'):
        plot.clusters(problem, cast(Any, solution))
