"""`mepjax.plot.routes` and `cost_ratio`, without a solve."""

import sys
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

import mepjax as mj
from mepjax import plot

NODES = np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 1.0]])
END = np.array([8.0, 2.0])


class Solution:
    """What the figure needs of a solution."""

    def __init__(self, params: Any, beta: float = 1.0):
        self.params, self.beta = np.asarray(params, float), beta


def _draw(problem: mj.FacilityPath, places: Any, **options: Any) -> Any:
    figure = Figure()
    solution: Any = Solution(places, options.pop("at_beta", 1.0))
    axes = plot.routes(problem, solution, ax=figure.add_subplot(), **options)
    figure.canvas.draw()
    return axes


def _arrows(axes: Any) -> list[Any]:
    return [patch for patch in axes.patches if isinstance(patch, FancyArrowPatch)]


def _labels(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts if text.get_text()]


def _legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def _tail(arrow: Any) -> float:
    return arrow.get_arrowstyle().tail_width


def test_nodes_have_the_mixture_of_the_colours_of_where_they_enter():
    problem = mj.FacilityPath(NODES, END, 2)
    places = np.array([[2.0, 1.0], [5.0, 2.0]])
    axes = _draw(problem, places, at_beta=0.1)
    nodes, facilities, _ = axes.collections
    np.testing.assert_array_equal(nodes.get_offsets(), NODES)
    np.testing.assert_array_equal(facilities.get_offsets(), places)
    policy = np.exp(np.asarray(problem.policy(places, 0.1)))
    expected = policy @ facilities.get_facecolors()[:, :3]
    np.testing.assert_allclose(nodes.get_facecolors()[:, :3], expected, atol=1e-6)
    assert _labels(axes) == ["0", "1", "D"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_aspect()) == ("x", "y", 1.0)


def test_arrows_are_as_wide_as_their_traffic():
    problem = mj.FacilityPath(NODES, END, 2)
    places = np.array([[2.0, 1.0], [5.0, 2.0]])
    traffic = problem.traffic(places, 0.1)
    shares = [*np.asarray(traffic.links)[[0, 1], [1, 0]], *np.asarray(traffic.last)[:, 0]]
    drawn = sorted(share for share in shares if share >= 0.005)
    widths = sorted(_tail(arrow) for arrow in _arrows(_draw(problem, places, at_beta=0.1)))
    assert len(drawn) == len(widths) >= 3
    slopes = np.diff(widths) / np.diff(drawn)
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-6)
    # At large beta all go through both, on one road.
    widest = [_tail(arrow) for arrow in _arrows(_draw(problem, places, at_beta=100.0))]
    assert len(widest) == 2 and min(widest) > max(widths[:-1])


def test_facilities_at_one_place_are_drawn_as_one_with_their_number():
    problem = mj.FacilityPath(NODES, END, 3)
    axes = _draw(problem, [[4.0, 2.0], [4.0, 2.0], [6.0, 2.0]])
    assert _labels(axes) == ["×2", "2", "D"]
    assert "facility (×: so many at one place)" in _legend(axes)
    together = mj.FacilityPath(NODES, END, 3)
    (only,) = _arrows(_draw(together, [[4.0, 2.0]] * 3))
    assert "100% of the weight" in _legend(only.axes)
    # All that leaves them together, which is all there is.
    everything = max(_tail(arrow) for arrow in _arrows(axes))
    assert _tail(only) >= everything


def test_colours_stay_those_of_the_solution():
    problem = mj.FacilityPath(NODES, END, 2)
    final = np.array([[2.0, 1.0], [5.0, 2.0]])
    first = _draw(problem, final)
    other = _draw(problem, final, params=final[::-1], beta=0.2)
    colours = [axes.collections[1].get_facecolors() for axes in (first, other)]
    np.testing.assert_array_equal(*colours)
    np.testing.assert_array_equal(other.collections[1].get_offsets(), final[::-1])


def test_standing_and_unused_facilities_destinations_and_straight_nodes_are_told_apart():
    ends = np.array([[8.0, 2.0], [0.0, 0.5]])
    straight = np.array([[True, True], [False, False], [False, False]])
    problem = mj.FacilityPath(
        NODES, ends, 1, fixed=[[50.0, 50.0], [4.0, 2.0]], direct=True,
        links=mj.paths.Links(direct=straight),
    )  # fmt: skip
    axes = _draw(problem, [[6.0, 2.0]], at_beta=50.0)
    nodes, placed, standing, unused, destinations = axes.collections
    assert [len(c.get_offsets()) for c in (placed, standing, unused, destinations)] == [1, 1, 1, 2]
    np.testing.assert_array_equal(unused.get_offsets(), [[50.0, 50.0]])
    assert _labels(axes) == ["0", "2", "D0", "D1"]
    legend = _legend(axes)
    for words in (
        "facility", "facility that stands already", "facility nothing visits", "destination",
        "straight to a destination",
    ):  # fmt: skip
        assert words in legend
    red, green, blue = nodes.get_facecolors()[0, :3]
    assert red == pytest.approx(green, abs=1e-6) and green == pytest.approx(blue, abs=1e-6)


@pytest.mark.parametrize("d", [1, 3])
def test_any_number_of_coordinates_is_drawn(d):
    rng = np.random.default_rng(0)
    problem = mj.FacilityPath(rng.normal(size=(9, d)), rng.normal(size=d), 2)
    axes = _draw(problem, rng.normal(size=(2, d)))
    offsets = np.concatenate([np.asarray(c.get_offsets()) for c in axes.collections])
    assert offsets.shape[1] == 2 and np.all(np.isfinite(offsets))
    assert ("principal component" in axes.get_xlabel()) == (d > 2)


def test_units_are_applied_to_all_places():
    problem = mj.FacilityPath(NODES, END, 1)
    axes = _draw(problem, [[4.0, 2.0]], units=lambda places: 10 * places + 5)
    for drawn, places in zip(axes.collections, (NODES, [[4.0, 2.0]], END[None]), strict=True):
        np.testing.assert_allclose(drawn.get_offsets(), 10 * np.asarray(places) + 5)


def test_without_matplotlib_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)
    solution: Any = Solution([[4.0, 2.0]])
    with pytest.raises(ImportError, match=r'pip install "mepjax\[plot\]"'):
        plot.routes(mj.FacilityPath(NODES, END, 1), solution)


# --- The ratio of costs. -----------------------------------------------------------------------


def test_ratios_of_several_layouts_have_their_median_as_a_line():
    ax = Figure().add_subplot()
    first = np.array([[2.0, 3.0, 4.0], [9.0, 8.0, 10.0]])
    axes: Any = plot.cost_ratio([2, 5], first, np.full((2, 3), 2.0), ax=ax)
    median, every, one = axes.lines
    np.testing.assert_array_equal(median.get_xydata(), [[2, 1.5], [5, 4.5]])
    expected = [[2, 1.0], [2, 1.5], [2, 2.0], [5, 4.5], [5, 4.0], [5, 5.0]]
    np.testing.assert_array_equal(every.get_xydata(), expected)
    assert list(one.get_ydata()) == [1, 1]
    assert axes.get_xticks().tolist() == [2, 5]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (([], [], []), "`n_facilities` must be rising numbers"),
        (([2, 2], [1, 1], [1, 1]), "`n_facilities` must be rising numbers"),
        (([2, 3], [1, 1], [1]), "`simultaneous` must have shape"),
        (([2, 3], [1], [1]), "`sequential` must have shape"),
        (([2], [0.0], [1]), "`sequential` must be finite and > 0"),
        (([2], [1], [float("nan")]), "`simultaneous` must be finite and > 0"),
    ],
)
def test_costs_that_do_not_fit_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        plot.cost_ratio(*arguments, ax=Figure().add_subplot())
