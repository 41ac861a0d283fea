import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import plot
from mepjax.select.model_order import model_order

pyplot = pytest.importorskip("matplotlib.pyplot")


def test_bars_references_and_the_answer_in_words():
    nulls = np.array([[np.nan, 0.5, 0.4, 0.1], [np.nan, 0.3, 0.2, 0.1]])
    order = model_order("scatter", range(1, 5), jnp.array([8, 4, 0.5, 0.4]), references=nulls)
    axes = plot.returns(order)
    heights = sorted(bar.get_height() for bar in axes.patches)
    np.testing.assert_allclose(heights, sorted(np.log([2, 8, 1.25])))
    assert [len(line.get_xdata()) for line in axes.lines[:2]] == [3, 3]
    np.testing.assert_allclose(axes.lines[0].get_ydata(), nulls[0, 1:])
    assert "3, clearly" in axes.get_title()
    pyplot.close("all")


def test_a_resolved_size_leaves_the_picture_and_lanes_are_refused():
    axes = plot.returns(model_order("scatter", range(1, 4), jnp.array([8.0, 4.0, 0.0])))
    assert max(bar.get_height() for bar in axes.patches) > axes.get_ylim()[1]
    lanes = jax.vmap(lambda row: model_order("scatter", range(1, 3), row))(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="one report"):
        plot.returns(lanes)
    pyplot.close("all")
