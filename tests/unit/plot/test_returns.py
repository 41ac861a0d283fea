import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import plot
from mepjax.select.model_order import model_order

pyplot = pytest.importorskip("matplotlib.pyplot")
patches = pytest.importorskip("matplotlib.patches")


def heights(axes):
    """Heights of the bars, in the order in which they are drawn."""
    assert all(isinstance(bar, patches.Rectangle) for bar in axes.patches)
    return [bar.get_height() for bar in axes.patches]


def test_bars_references_and_the_answer_in_words():
    nulls = np.array([[np.nan, 0.5, 0.4, 0.1], [np.nan, 0.3, 0.2, 0.1]])
    order = model_order("scatter", range(1, 5), jnp.array([8, 4, 0.5, 0.4]), references=nulls)
    axes = plot.returns(order)
    np.testing.assert_allclose(sorted(heights(axes)), sorted(np.log([2, 8, 1.25])))
    across, up = zip(*(np.asarray(line.get_data()) for line in axes.lines[:2]), strict=True)
    assert [len(x) for x in across] == [3, 3]
    np.testing.assert_allclose(up[0], nulls[0, 1:])
    assert "3, clearly" in axes.get_title()
    pyplot.close("all")


def test_a_resolved_size_leaves_the_picture_and_lanes_are_refused():
    axes = plot.returns(model_order("scatter", range(1, 4), jnp.array([8.0, 4.0, 0.0])))
    assert max(heights(axes)) > axes.get_ylim()[1]
    lanes = jax.vmap(lambda row: model_order("scatter", range(1, 3), row))(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="one report"):
        plot.returns(lanes)
    pyplot.close("all")
