"""Nodes, facilities, destinations, and the traffic between them."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.solution import Solution
from ..problems.facility_path.problem import FacilityPath
from . import style
from .glyphs import draw_crosses, draw_labelled, draw_points, mark_area
from .plane import Plane
from .views import PathView, path_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Shares of the weight: a facility with less is not used, a leg with less is not drawn.
_UNUSED = 1e-3
_FAINT = 0.005
_THINNEST, _WIDEST = 0.8, 9.0
_ARROW = "0.3"
_STRAIGHT = np.array([0.75, 0.75, 0.75])
_END = np.array([[0.0, 0.0, 0.0]])
_MANY_ENDS = 10


class _Places(NamedTuple):
    """Facilities that stand at one place taken together.

    `members[g]` are the facilities at place g, `at` (G, d) where it is, `leader` (M,) the place
    of each facility.
    """

    members: list[np.ndarray]
    at: np.ndarray
    leader: np.ndarray


def routes(
    problem: FacilityPath,
    solution: Solution,
    *,
    params: Any = None,
    beta: Any = None,
    ax: "Axes | None" = None,
    units: style.Units | None = None,
    view: PathView | None = None,
) -> "Axes":
    """Draw where nodes enter the network, and the traffic from facility to facility and out.

    Nodes have the mixture of the colours of the facilities they enter, by probability, and up to
    1000 of them the marker of the most probable one; those that go straight to a destination are
    grey. Arrows are as wide as their expected traffic; below 0.5 % of the weight they are left
    out. Facilities that stand at one place are drawn as one, with their number, and facilities
    that nothing visits as crosses. Six colours are reused where M is larger, far from each other.
    With more than two coordinates the plane is that of the nodes' first two principal components.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome.
    - `params`, `beta`: drawn instead of those of the solution, such as a stage of an anneal
        recorded with `Record(params=True)`, or `problem.at(locations)` of another method.
        Colours stay those of the solution, so that pictures can be compared.
    - `ax`: axes to draw in; default those of a new figure.
    - `units`: applied to all places first, such as the inverse of a scaling.
    - `view`: what `plot.views.path_view` made of them, where it is at hand.

    **Returns:** the axes.

    **Raises:** `ValueError` for lanes of a `vmap`; `ImportError` without matplotlib, naming the
    command that installs it.

    Source: parameterized sequential decision making, Figure 2.4.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot import routes
    >>> nodes = jnp.array([[0.0, 1.0], [0.0, -1.0]])
    >>> problem = mj.FacilityPath(nodes, jnp.array([6.0, 0.0]), 2)
    >>> solution = mj.anneal(problem, key=jax.random.key(0))
    >>> [text.get_text() for text in routes(problem, solution).texts if text.get_text()]
    ['0', '1', 'D']

    ```
    """
    style.check_single("routes", solution)
    view = path_view(problem, solution, params=params, beta=beta) if view is None else view
    ends, final = (
        np.asarray(place, np.float64)
        for place in (problem.destinations, problem.facilities(solution.params))
    )
    nodes, found, policy = view.nodes, view.facilities, view.policy
    m, k = problem.total, problem.n_facilities
    everything = np.concatenate([nodes, ends, found])
    places = _together(found, style.extent_of(everything), k)
    styles = style.assign_styles(final)[[group[0] for group in places.members]]
    colours = style.PALETTE[styles]

    if units is not None:
        nodes, ends, at = units(nodes), units(ends), units(places.at)
    else:
        at = places.at
    plane = Plane(nodes, view.weights)
    axes = style.new_figure((7.5, 6.5)) if ax is None else ax
    entry = _summed(policy[:, :m], places.leader, axis=1)
    straight = np.sum(policy[:, m:], axis=1, keepdims=True)
    mixed = np.clip(entry @ colours + straight * _STRAIGHT, 0, 1)
    draw_points(axes, plane, mixed, styles[np.argmax(entry, axis=1)])

    used = _summed(view.usage, places.leader, axis=0) > _UNUSED
    links = _summed(_summed(view.links, places.leader, axis=0), places.leader, axis=1)
    last = _summed(view.last, places.leader, axis=0)
    at, ends = plane.place(at), plane.place(ends)
    drawn = _draw_traffic(axes, at, ends, links, last, m)
    standing = np.array([group[0] >= k for group in places.members])
    handles = _draw_places(axes, places, at, ends, colours, used, standing, m)
    if np.max(policy[:, m:], initial=0) > 0.5:
        handles.append(_swatch(_STRAIGHT, "straight to a destination"))
    if drawn:
        handles += [_width(share) for share in _sample_widths(drawn)]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False,
        fontsize=8.5, columnspacing=1.4, handletextpad=0.5,
    )  # fmt: skip
    return axes


def _together(found: np.ndarray, extent: float, n_placed: int) -> _Places:
    """Which facilities coincide; those that stand already are never taken with placed ones."""
    leaders = style.leaders(found, extent)
    standing = np.arange(len(found)) >= n_placed
    keys = np.where(standing, len(found) + np.arange(len(found)), leaders)
    firsts, leader = np.unique(keys, return_inverse=True)
    members = [np.flatnonzero(leader == group) for group in range(len(firsts))]
    return _Places(members, found[[group[0] for group in members]], leader)


def _summed(values: np.ndarray, leader: np.ndarray, axis: int) -> np.ndarray:
    """Values of facilities, summed over those at one place."""
    values = np.moveaxis(values, axis, 0)
    total = np.zeros((int(np.max(leader)) + 1, *values.shape[1:]))
    np.add.at(total, leader, values)
    return np.moveaxis(total, 0, axis)


def _thickness(share: float) -> float:
    return _THINNEST + (_WIDEST - _THINNEST) * min(share, 1.0)


def _draw_traffic(
    ax: Any, at: np.ndarray, ends: np.ndarray, links: np.ndarray, last: np.ndarray, m: int
) -> list[float]:
    """An arrow for every leg with traffic; the shares drawn."""
    drawn: list[float] = []
    # Between the edges of the marks, in points.
    gap = (mark_area(m) ** 0.5) / 2 + 1
    for start in range(len(at)):
        for stop in range(len(at)):
            if start != stop and links[start, stop] >= _FAINT:
                # Where traffic goes both ways, the two arrows pass each other.
                bend = 0.2 if links[stop, start] >= _FAINT else 0.0
                _arrow(ax, at[start], at[stop], links[start, stop], gap, bend)
                drawn.append(links[start, stop])
        for stop in range(len(ends)):
            if last[start, stop] >= _FAINT:
                _arrow(ax, at[start], ends[stop], last[start, stop], gap, 0.0)
                drawn.append(last[start, stop])
    return drawn


def _arrow(
    ax: Any, start: np.ndarray, stop: np.ndarray, share: float, gap: float, bend: float
) -> None:
    from matplotlib.patches import ArrowStyle, FancyArrowPatch

    width = _thickness(share)
    sizes = f"tail_width={width},head_width={width + 5},head_length={0.7 * width + 5.5}"
    ax.add_patch(
        FancyArrowPatch(
            tuple(start), tuple(stop), arrowstyle=ArrowStyle(f"simple,{sizes}"), mutation_scale=1,
            shrinkA=gap, shrinkB=gap, connectionstyle=f"arc3,rad={bend}", facecolor=_ARROW,
            edgecolor="white", linewidth=0.6, alpha=0.85, zorder=2,
        )
    )  # fmt: skip


def _draw_places(
    ax: Any,
    places: _Places,
    at: np.ndarray,
    ends: np.ndarray,
    colours: np.ndarray,
    used: np.ndarray,
    standing: np.ndarray,
    m: int,
) -> list[Any]:
    """Facilities and destinations; what of them the legend is to explain."""
    handles = []
    labels = [str(group[0]) if len(group) == 1 else f"×{len(group)}" for group in places.members]
    several = any(len(group) > 1 for group in places.members)
    facility = "facility (×: so many at one place)" if several else "facility"
    for kind, marker, name in (
        (used & ~standing, "o", facility), (used & standing, "s", "facility that stands already"),
    ):  # fmt: skip
        if np.any(kind):
            chosen = np.flatnonzero(kind)
            draw_labelled(ax, at[kind], colours[kind], [labels[i] for i in chosen], m, marker)
            handles.append(_mark(marker, "0.7", name))
    if not np.all(used):
        draw_crosses(ax, at[~used], m)
        handles.append(_mark("x", "black", "facility nothing visits"))
    names = ["D"] if len(ends) == 1 else [f"D{index}" for index in range(len(ends))]
    shown = m if len(ends) <= _MANY_ENDS else style.LABELLED + 1
    black = np.repeat(_END, len(ends), axis=0)
    # Diamonds look smaller than discs, and their labels need the room.
    draw_labelled(ax, ends, black, names, shown, "D")
    handles.append(_mark("D", "black", "destination"))
    return handles


# The legend.


def _mark(marker: str, colour: str, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], linestyle="", marker=marker, markersize=8, markerfacecolor=colour,
        markeredgecolor="black", label=name,
    )  # fmt: skip


def _swatch(colour: np.ndarray, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker="o", markersize=6, color=tuple(colour), label=name)


def _width(share: float) -> Any:
    from matplotlib.lines import Line2D

    text = f"{100 * share:g}% of the weight"
    return Line2D(
        [], [], color=_ARROW, linewidth=_thickness(share), label=text, solid_capstyle="butt"
    )


def _sample_widths(drawn: list[float]) -> list[float]:
    """Two round shares, about the widest arrow and a quarter of it."""
    steps = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    widest = steps[max(0, int(np.searchsorted(steps, max(drawn), side="right")) - 1)]
    quarter = steps[max(0, int(np.searchsorted(steps, widest / 4, side="right")) - 1)]
    return [float(share) for share in sorted({quarter, widest})]
