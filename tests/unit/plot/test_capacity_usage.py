"""`mepjax.plot.capacity_usage`, without a solve."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import mepjax as mj
from mepjax import plot
from mepjax.plot.style import PALETTE

NODES = np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
END = np.array([8.0, 2.0])
PLACES = np.array([[2.0, 1.0], [5.0, 2.0]])
LINKS = np.array([[np.inf, 0.9], [np.inf, np.inf]])


class Solution:
    """What the figure needs of a solution."""

    def __init__(self, params: Any):
        self.params, self.beta = params, 0.1


def _draw(**capacities: Any) -> tuple[mj.FacilityPath, Any, Any]:
    problem = mj.FacilityPath(NODES, END, 2, **capacities)
    params = problem.at(PLACES)
    solution: Any = Solution(params)
    figure = Figure()
    axes: Any = plot.capacity_usage(problem, solution, ax=figure.add_subplot())
    figure.canvas.draw()
    return problem, params, axes


def _lines(axes: Any) -> np.ndarray:
    """Heights of the lines, from left to right."""
    return np.array([s[0, 1] for c in axes.collections for s in c.get_segments()])


@pytest.mark.slow
def test_every_kind_of_capacity_has_its_bars_and_lines():
    problem, params, axes = _draw(
        entry_capacity=mj.Equal(np.array([0.5, 0.5])),
        facility_capacity=np.array([2.0, np.inf]),
        link_capacity=LINKS,
    )
    traffic = problem.traffic(params, 0.1)
    used = [
        *problem.entry_shares(params, 0.1), *problem.usage(params, 0.1), traffic.links[0, 1],
    ]  # fmt: skip
    np.testing.assert_allclose([bar.get_height() for bar in axes.patches], used)
    np.testing.assert_array_equal(_lines(axes), [0.5, 0.5, 2.0, 0.9])
    titles = [text.get_text() for text in axes.texts]
    assert titles == ["entering at facility", "visits of facility", "traffic on link"]
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert names == ["0", "1", "0", "1", "0→1"]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["used", "at most", "to be met"]


def test_what_misses_its_capacity_is_hatched():
    problem, params, _ = _draw(entry_capacity=np.array([1.0, 1.0]))
    shares = np.asarray(problem.entry_shares(params, 0.1))
    low, high = shares.min() * 0.9, 1.0
    limits = np.where(shares == shares.min(), low, high)
    _, _, axes = _draw(entry_capacity=limits)
    marked = [bar.get_hatch() == "///" for bar in axes.patches]
    np.testing.assert_array_equal(marked, shares > limits)
    colours = np.array([bar.get_facecolor()[:3] for bar in axes.patches])
    np.testing.assert_allclose(colours, PALETTE[np.where(marked, 5, 4)])


def test_without_capacities_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="`problem` must have a capacity; got none"):
        _draw()
