"""A scene that is followed: ways of everything, cost, and speeds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.codes import Code
from ..control import Track
from . import style
from .glyphs import draw_labelled
from .plane import Plane
from .scenes import check_track, has_places, scene_view

if TYPE_CHECKING:
    pass

_POINT = "0.75"
_END = "0.0"


def track(
    followed: Track,
    *,
    others: Mapping[str, Any] | None = None,
    name: str = "control law",
    axes: "Any | None" = None,
    units: style.Units | None = None,
) -> "np.ndarray[Any, Any]":
    """Draw the ways of all places, and beside them the free energy and the largest speed in time.

    Where centres or facilities started is a ring, where they came to a disc with their number;
    destinations are diamonds, and points, nodes and the ways they went grey. Dashed vertical lines
    are re-anneals, dotted ones transitions that were crossed without. Six colours and line styles
    are reused where there are more, far from each other. With more than two coordinates the plane
    is that of the first two principal components of the points at the start.

    **Arguments:**

    - `followed`: the outcome of `mepjax.control.track`, of any problem; only of a `Clustering` and
        a `FacilityPath` ways are drawn.
    - `others`: other outcomes for the same scene by name, each with `times`, `free_energy` and
        `speed`: other laws, or baselines that solve every frame anew.
    - `name`: of `followed` in the legend.
    - `axes`: three axes to draw in, or two where no ways are drawn; default those of a new figure.
    - `units`: applied to all places first, such as the inverse of a scaling.

    **Returns:** the axes: of ways, of the free energy, of speeds; or the latter two.

    **Raises:** `ValueError` for lanes of a `vmap`, a track without rows or another number of axes;
    `ImportError` without matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, Figures 2.6 and 4.3.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> apart = lambda time, problem, centres: {"x": jnp.sign(problem.x)}
    >>> start = jnp.array([[-1.0], [1.0]])
    >>> moved = mj.control.track(problem, start, [0.0, 1.0], beta=10.0, velocity=apart)
    >>> [axes.get_ylabel() for axes in mj.plot.track(moved)]
    ['x', 'free energy', 'largest speed']

    ```
    """
    check_track("track", followed)
    ways = has_places(followed)
    needed = 3 if ways else 2
    if axes is None:
        axes = _new_axes(ways)
    axes = np.asarray(axes, object).ravel()
    if len(axes) != needed:
        raise ValueError(f"track: `axes` must be {needed} axes; got {len(axes)}.")
    if ways:
        _draw_ways(axes[0], followed, units)
    _draw_rows(axes[-2], axes[-1], {name: followed, **(others or {})})
    _mark_events(axes[-2:], followed)
    return axes


def _new_axes(ways: bool) -> Any:
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'drawing needs matplotlib, which is not installed; run: pip install "mepjax[plot]"'
        ) from error
    if not ways:
        return style.new_figure((7, 5), rows=2)
    figure = pyplot.figure(figsize=(12, 5.6), layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.15, 1))
    energy = figure.add_subplot(grid[0, 1])
    speed = figure.add_subplot(grid[1, 1], sharex=energy)
    return [figure.add_subplot(grid[:, 0]), energy, speed]


def _draw_ways(ax: Any, followed: Track, units: style.Units | None) -> None:
    from matplotlib.collections import LineCollection

    seen = scene_view(followed)
    points, found, ends = (style.in_units(units, part) for part in seen)
    plane = Plane(points[0], np.asarray(followed.problem_at(0).weights, np.float64))
    styles = style.assign_styles(found[-1])
    if plane.d == 1:
        # One coordinate is drawn over time.
        times = np.asarray(followed.times, np.float64)[: len(points), None, None]
        points, found, ends = (
            np.concatenate([np.broadcast_to(times, part.shape), part], axis=-1)
            for part in (points, found, ends)
        )
        ax.set(xlabel="time", ylabel="x")
    else:
        points, found, ends = (plane.place(part) for part in (points, found, ends))
        ax.set(xlabel=plane.names[0], ylabel=plane.names[1])
        if not style.is_elongated(np.concatenate([points[0], points[-1]])):
            ax.set_aspect("equal", adjustable="datalim")
    along = lambda part: list(np.swapaxes(part, 0, 1))  # noqa: E731
    ax.add_collection(LineCollection(along(points), colors=_POINT, linewidths=0.7, zorder=0.5))
    size = np.clip(4000 / points.shape[1], 3, 20)
    ax.scatter(*points[-1].T, s=size, c="0.55", linewidths=0, zorder=1)
    count = found.shape[1]
    for index, way in enumerate(along(found)):
        colour, line = style.PALETTE[styles[index]], style.LINES[styles[index]]
        ax.plot(*way.T, color=colour, linestyle=line, linewidth=2, zorder=2)
        ax.plot(*way[0], marker="o", markersize=7, markerfacecolor="white",
                markeredgecolor=colour, markeredgewidth=2, zorder=2.5)  # fmt: skip
    labels = [str(index) for index in range(count)]
    draw_labelled(ax, found[-1], style.PALETTE[styles], labels, count)
    for way in along(ends):
        ax.plot(*way.T, color=_END, linestyle=":", linewidth=1.5, zorder=2)
    if ends.shape[1]:
        names = ["D"] if ends.shape[1] == 1 else [f"D{i}" for i in range(ends.shape[1])]
        black = np.zeros((len(names), 3))
        draw_labelled(ax, ends[-1], black, names, max(count, len(names)), "D")
    ax.autoscale_view()


def _draw_rows(energy: Any, speed: Any, outcomes: Mapping[str, Any]) -> None:
    for index, (name, outcome) in enumerate(outcomes.items()):
        look = {
            "color": style.PALETTE[index % len(style.PALETTE)],
            "linestyle": style.LINES[index % len(style.LINES)], "label": name,
            "linewidth": 2 if index == 0 else 1.3, "zorder": 3 if index == 0 else 2,
        }  # fmt: skip
        times = np.asarray(outcome.times, np.float64)
        energy.plot(times, np.asarray(outcome.free_energy, np.float64), **look)
        speeds = np.asarray(outcome.speed, np.float64)
        # On a logarithm: speeds of solving anew jump by orders of magnitude, and rest is 0.
        speed.plot(times, np.where(speeds > 0, speeds, np.nan), **look)
    energy.set_ylabel("free energy")
    speed.set(ylabel="largest speed", xlabel="time", yscale="log")
    if len(outcomes) > 1:
        style.legend_above(energy, *energy.get_legend_handles_labels())


def _mark_events(axes: Any, followed: Track) -> None:
    solved = followed.reanneals.time
    crossed = np.asarray(followed.curvature) <= 0
    crossed &= np.asarray(followed.code) == int(Code.NEAR_CRITICAL)
    times = np.asarray(followed.times, np.float64)
    first = times[1:][crossed[1:] & ~crossed[:-1]]
    for ax in axes:
        for time in solved:
            ax.axvline(time, color="0.4", linestyle="--", linewidth=1, zorder=0.5)
        for time in np.setdiff1d(first, solved):
            ax.axvline(time, color="black", linestyle=":", linewidth=1, zorder=0.5)
