"""The tree of centres: where they split as beta rises."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style
from .clusters import centre_colours
from .plane import principal_axes
from .views import ClusterView, cluster_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Numbers at the ends of branches nearer than this share of the axis are written as one.
_CLOSE = 0.035
# At the right end, as a share of the axis.
_ROOM = 0.09


@overload
def bifurcation(
    problem: Clustering,
    solution: Solution,
    *,
    coordinates: int | None = None,
    ax: "Axes | None" = None,
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> "Axes": ...
@overload
def bifurcation(
    problem: Clustering,
    solution: Solution,
    *,
    coordinates: Sequence[int],
    ax: "Sequence[Axes] | None" = None,
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> np.ndarray: ...
def bifurcation(
    problem: Clustering,
    solution: Solution,
    *,
    coordinates: int | Sequence[int] | None = None,
    ax: Any = None,
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> Any:
    """Draw one coordinate of every centre against beta, with the transitions marked.

    Centres that coincide are one grey line; each has its own colour and line style from where it
    separates, and its number at the right end. Centres nobody is told to join at the end stay
    grey.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome of
        `anneal(..., record=Record(params=True))`.
    - `coordinates`: a feature, or several for one axes each; default the only feature, or the
        first principal component of the points where there are more.
    - `ax`: axes to draw in, as many as coordinates; default those of a new figure.
    - `units`: applied to points and centres first, such as the inverse of a scaling.
    - `view`: what `plot.views.cluster_view` made of them, where it is at hand.

    **Returns:** the axes; an array of them where several coordinates were given.

    **Raises:** `ValueError` if the trace has no params, for coordinates the points do not have, or
    for lanes of a `vmap`; `ImportError` without matplotlib, naming the command that installs it.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot import bifurcation
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> schedule = mj.Geometric(0.3, 30.0, 1.2)
    >>> record = mj.Record(params=True)
    >>> solution = mj.anneal(problem, schedule, key=jax.random.key(0), record=record)
    >>> bifurcation(problem, solution).get_xscale()
    'log'

    ```
    """
    betas, centres = style.recorded("bifurcation", solution)
    view = cluster_view(problem, solution) if view is None else view
    points, centres = style.in_units(units, view.points), style.in_units(units, centres)
    several = isinstance(coordinates, Sequence)
    chosen = list(coordinates) if isinstance(coordinates, Sequence) else [coordinates]
    d = points.shape[1]
    for coordinate in chosen:
        if coordinate is not None and not 0 <= coordinate < d:
            raise ValueError(
                f"bifurcation: `coordinates` must be from 0 to {d - 1}; got {coordinate}."
            )
    if not chosen:
        raise ValueError("bifurcation: `coordinates` must name at least one; got none.")
    axes = style.new_figure((7, max(4.5, 3 * len(chosen))), len(chosen)) if ax is None else ax
    axes = np.atleast_1d(np.asarray(axes, object))
    if axes.shape != (len(chosen),):
        raise ValueError(
            f"bifurcation: `ax` must hold {len(chosen)} axes, one for each coordinate; got "
            f"{axes.size}."
        )
    leaders = np.stack([style.leaders(y, style.extent_of(points)) for y in centres])
    colours, styles = centre_colours(view)
    for place, coordinate in zip(axes, chosen, strict=True):
        heights, name = _heights(centres, points, view.weights, coordinate)
        _draw_tree(place, betas, heights, leaders, colours, styles, view.used)
        mark = style.mark_transitions(place, solution)
        place.set_ylabel(name, parse_math=False)
        if mark is not None and place is axes[0]:
            style.legend_above(place, [mark], [style.count_transitions(solution)])
    axes[-1].set_xlabel("β")
    return axes if several else axes[0]


def _heights(
    centres: np.ndarray, points: np.ndarray, weights: np.ndarray, coordinate: int | None
) -> tuple[np.ndarray, str]:
    """One number for each centre at each stage, and what it is."""
    d = points.shape[1]
    if coordinate is None and d > 1:
        mean, axes, explained = principal_axes(points, weights, 1)
        name = f"centre, first principal component ({100 * explained[0]:.0f}% of the variance)"
        return (centres - mean) @ axes[0], name
    name = "centre" if d == 1 else f"centre, coordinate {coordinate}"
    return centres[:, :, coordinate or 0], name


def _draw_tree(
    ax: Any,
    betas: np.ndarray,
    heights: np.ndarray,
    leaders: np.ndarray,
    colours: np.ndarray,
    styles: np.ndarray,
    used: np.ndarray,
) -> None:
    k = heights.shape[1]
    alone = np.sum(leaders[:, :, None] == leaders[:, None, :], axis=2) == 1
    # A step between two stages belongs to the trunk if the centre is shared at both ends.
    own = alone[:-1] | alone[1:]
    marker = "o" if len(betas) == 1 else None
    for index in range(k):
        dashes = style.LINES[styles[index]] if used[index] else (0, (1, 1))
        for steps, look in (
            (own[:, index], {"color": colours[index], "linestyle": dashes, "linewidth": 1.8}),
            # Drawn by every centre on it, all over each other: where they part, each leads on.
            (~own[:, index], {"color": style.SHARED, "linewidth": 2.6, "zorder": 1.5}),
        ):
            stages = _runs(steps)
            there = stages >= 0
            ax.plot(
                np.where(there, betas[stages], np.nan),
                np.where(there, heights[stages, index], np.nan), marker=marker, **look,
            )  # fmt: skip
    ax.set_xscale("log")
    # Room for the numbers at the right, in log beta.
    span = max(float(betas[-1] / betas[0]), 1.01)
    ax.set_xlim(betas[0] / span**0.02, betas[-1] * span**_ROOM)
    if k <= style.LABELLED:
        _number_ends(ax, betas[-1], heights[-1])


def _runs(steps: np.ndarray) -> np.ndarray:
    """The stages that the chosen steps pass, runs of steps parted by -1."""
    if not steps.size:
        return np.array([0])
    stages: list[int] = []
    for stage in np.flatnonzero(steps).tolist():
        if not stages:
            stages = [stage]
        elif stages[-1] != stage:
            stages += [-1, stage]
        stages.append(stage + 1)
    return np.array(stages, int)


def _number_ends(ax: Any, beta: float, ends: np.ndarray) -> None:
    """The numbers of the centres at the right, those of close branches together."""
    low, high = ax.get_ylim()
    order = np.argsort(ends, kind="stable")
    together: list[list[int]] = []
    for index in order.tolist():
        near = together and ends[index] - ends[together[-1][0]] < _CLOSE * (high - low)
        if near:
            together[-1].append(index)
        else:
            together.append([index])
    for group in together:
        text = ", ".join(str(index) for index in sorted(group))
        ax.annotate(
            text if len(group) <= 4 else f"{len(group)} centres",
            (beta, float(np.mean(ends[group]))), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
