"""Who would be told to go where, for every place of the plane."""

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from .._core import trees
from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style
from .clusters import centre_colours, draw_centres
from .views import ClusterView, cluster_view, log_policy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Beyond the points, as a share of their extent.
_MARGIN = 0.08
_SURE = 0.9
_BROAD = 0.02
# Colours over an area are paler than those of marks.
_PALE = 0.55


def assignment_map(
    problem: Clustering,
    solution: Solution,
    *,
    beta: float | None = None,
    resolution: int = 200,
    ax: "Axes | None" = None,
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> "Axes":
    """Draw the Gibbs policy over the plane: blended colours, and the borders between clusters.

    Every place of a grid is given the policy that a point there would have, by the problem's own
    `policy`. Solid lines are the borders between most probable clusters, dashed ones enclose the
    places where the most probable has less than 90 %. Points are drawn in black.

    **Arguments:**

    - `problem`, `solution`: what was solved, for points of two features, and the outcome.
    - `beta`: inverse temperature of the policy; default the last of the anneal.
    - `resolution`: places along the longer side.
    - `ax`: axes to draw in; default those of a new figure.
    - `units`: applied to all places first, such as the inverse of a scaling; each coordinate by
        itself.
    - `view`: what `plot.views.cluster_view` made of them, where it is at hand.

    **Returns:** the axes.

    **Raises:** `ValueError` unless points have two features and the autonomy says something of new
    points (one given point by point does not), or for lanes of a `vmap`; `ImportError` without
    matplotlib, naming the command that installs it.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> from mepjax.plot import assignment_map
    >>> problem = mj.Clustering(four_square(40)[0], 4)
    >>> solution = mj.anneal(problem, mj.Geometric(1.0, 20.0, 1.5), key=jax.random.key(0))
    >>> axes = assignment_map(problem, solution, resolution=50)
    >>> axes.get_xlabel(), axes.get_ylabel()
    ('x', 'y')

    ```
    """
    style.check_single("assignment_map", solution)
    d = problem.x.shape[1]
    if d != 2:
        raise ValueError(
            f"assignment_map: points must have two features; got {d}. Draw `clusters` instead."
        )
    if resolution < 2:
        raise ValueError(f"assignment_map: `resolution` must be at least 2; got {resolution}.")
    view = cluster_view(problem, solution) if view is None else view
    points, centres = view.points, view.centres
    horizontal, vertical = _grid(points, resolution)
    places = np.stack(np.meshgrid(horizontal, vertical), axis=-1)
    found = _policy_at(
        problem, solution.params, solution.beta if beta is None else beta, places.reshape(-1, 2)
    ).reshape(*places.shape[:2], problem.k)
    colours, _ = centre_colours(view)
    if units is not None:
        points, centres = units(points), units(centres)
        horizontal = units(np.stack([horizontal, np.full_like(horizontal, vertical[0])], 1))[:, 0]
        vertical = units(np.stack([np.full_like(vertical, places[0, 0, 0]), vertical], 1))[:, 1]
    axes = style.new_figure((7, 6)) if ax is None else ax
    blended = np.exp(found) @ (1 - _PALE * (1 - colours))
    # The image's pixels are centred on the places.
    across = (horizontal[1] - horizontal[0]) / 2
    up = (vertical[1] - vertical[0]) / 2
    axes.imshow(
        np.clip(blended, 0, 1), origin="lower", interpolation="bilinear", zorder=0,
        extent=(
            horizontal[0] - across, horizontal[-1] + across, vertical[0] - up, vertical[-1] + up,
        ),
    )  # fmt: skip
    _draw_borders(axes, horizontal, vertical, found)
    size = float(np.clip(4000 / len(points), 1.5, 12))
    axes.scatter(*points.T, s=size, c="black", alpha=0.45, linewidths=0, zorder=1.5)
    draw_centres(axes, centres, colours, view.used)
    axes.set_xlabel("x")
    axes.set_ylabel("y")
    if style.is_elongated(points):
        axes.set_aspect("auto")
    return axes


def _grid(points: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Places along the two sides of the box around the points, at equal distances."""
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    extent = float(np.max(high - low)) or 1.0
    if style.is_elongated(points):
        # Nothing is drawn to scale, so nothing need be square.
        counts, margins = [resolution, resolution], _MARGIN * np.where(high > low, high - low, 1)
    else:
        margins = np.full(2, _MARGIN * extent)
        sides = high - low + 2 * margins
        counts = np.maximum(2, np.round(resolution * sides / np.max(sides)).astype(int))
    first, second = (
        np.linspace(low[axis] - margins[axis], high[axis] + margins[axis], int(counts[axis]))
        for axis in (0, 1)
    )
    return first, second


def _policy_at(problem: Clustering, params: Any, beta: Any, places: np.ndarray) -> np.ndarray:
    """log pi(j | place), (places, K): the problem's own policy, with other points."""
    n, k = len(places), problem.k
    try:
        # Tables for each of the N points say so here; no shape of theirs may fit by chance.
        problem.autonomy.check(n, k)
        problem.autonomy.check(n + 1, k)
    except ValueError:
        raise ValueError(
            f"assignment_map: the autonomy {type(problem.autonomy).__name__} is given point by "
            "point, so it says nothing of other places. Draw `clusters` instead."
        ) from None
    dtype = problem.x.dtype
    # What was measured from the data stays, as places are judged by the costs of the data.
    elsewhere = trees.replaced(problem, x=jnp.asarray(places, dtype), weights=jnp.ones(n, dtype))
    return np.asarray(log_policy(elsewhere, params, jnp.asarray(beta, dtype)), np.float64)


def _draw_borders(ax: Any, horizontal: np.ndarray, vertical: np.ndarray, found: np.ndarray) -> None:
    ordered = np.sort(found, axis=-1)
    if found.shape[-1] == 1:
        return
    winners = np.argmax(found, axis=-1)
    for index in np.unique(winners):
        # How far ahead this cluster is of the best other: smooth, and zero on its border.
        own = found[..., index]
        other = np.where(winners == index, ordered[..., -2], ordered[..., -1])
        ahead = own - other
        if np.any(ahead < 0):
            ax.contour(
                horizontal, vertical, ahead, levels=[0], colors="black", linewidths=1.1, zorder=1.2
            )
    # In log odds, which are nearly linear across a border, so that few places are enough.
    odds = ordered[..., -1] - np.logaddexp.reduce(ordered[..., :-1], axis=-1)
    sure = odds - np.log(_SURE / (1 - _SURE))
    # At large beta the band is thinner than the grid, and would be drawn as noise.
    if np.mean(sure < 0) > _BROAD and np.any(sure > 0):
        ax.contour(
            horizontal, vertical, sure, levels=[0], colors="black", linewidths=0.8,
            linestyles="--", zorder=1.1,
        )  # fmt: skip
