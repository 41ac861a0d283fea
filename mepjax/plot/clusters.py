"""Points, centres, and where each point ends up."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style
from .glyphs import draw_crosses, draw_labelled, draw_points
from .plane import Plane
from .views import ClusterView, cluster_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MIXTURES = ("association", "policy")


def clusters(
    problem: Clustering,
    solution: Solution,
    *,
    mixture: str = "association",
    ax: "Axes | None" = None,
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> "Axes":
    """Draw points in the mixture of their centres' colours, and the centres with their numbers.

    Up to 1000 points each have the marker of the cluster they are told to join. Centres nobody is
    told to join are drawn as crosses. Six colours and markers are reused where K is larger, far
    from each other. With more than two features the plane is that of the first two principal
    components.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome.
    - `mixture`: `"association"` mixes by `problem.association_weights`, where a point ends up
        after overrides at the last beta; `"policy"` by where it is told to go.
    - `ax`: axes to draw in; default those of a new figure.
    - `units`: applied to points and centres first, such as the inverse of a scaling.
    - `view`: what `plot.views.cluster_view` made of them, where it is at hand.

    **Returns:** the axes.

    **Raises:** `ValueError` for another mixture or for lanes of a `vmap`; `ImportError` without
    matplotlib, naming the command that installs it.

    Source: autonomy-aware clustering, Figures 1 and 2, and 6 (`mixture="policy"`).

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> from mepjax.plot import clusters
    >>> problem = mj.Clustering(four_square(40)[0], 4)
    >>> solution = mj.anneal(problem, mj.Geometric(1.0, 100.0, 1.5), key=jax.random.key(0))
    >>> axes = clusters(problem, solution)
    >>> len(axes.texts)
    4

    ```
    """
    style.check_single("clusters", solution)
    check_mixture(mixture)
    view = cluster_view(problem, solution) if view is None else view
    colours, styles = centre_colours(view)
    points, centres = view.points, view.centres
    if units is not None:
        points, centres = units(points), units(centres)
    plane = Plane(points, view.weights)
    axes = style.new_figure((7, 6)) if ax is None else ax
    draw_points(axes, plane, mixed_colours(view, colours, mixture), styles[view.assigned])
    draw_centres(axes, plane.place(centres), colours, view.used)
    return axes


def check_mixture(mixture: str) -> None:
    """Raise `ValueError` for a mixture there is none of."""
    if mixture not in _MIXTURES:
        raise ValueError(f"`mixture` must be one of {_MIXTURES}; got {mixture!r}.")


def centre_colours(view: ClusterView) -> tuple[np.ndarray, np.ndarray]:
    """The colour (K, 3) and the index of the style (K,) of each centre; unused ones are grey."""
    used = view.used
    styles = np.zeros(len(used), int)
    styles[used] = style.assign_styles(view.centres[used])
    return np.where(used[:, None], style.PALETTE[styles], style.UNUSED), styles


def mixed_colours(view: ClusterView, colours: np.ndarray, mixture: str) -> np.ndarray:
    """The colour of each point (N, 3); points of weight zero end nowhere and are grey."""
    weights = view.association if mixture == "association" else view.policy
    total = np.sum(weights, axis=1, keepdims=True)
    mixed = np.where(total > 0, weights @ colours / np.where(total > 0, total, 1), 0.7)
    return np.clip(mixed, 0, 1)


def draw_centres(ax: Any, centres: np.ndarray, colours: np.ndarray, used: np.ndarray) -> None:
    """Numbered discs for the centres in use, crosses for the others."""
    count = len(centres)
    if not np.all(used):
        unused = draw_crosses(ax, centres[~used], count)
        number = int(np.sum(~used))
        text = f"{number} {'centre' if number == 1 else 'centres'} nobody is told to join"
        ax.legend([unused], [text], loc="upper center", bbox_to_anchor=(0.5, -0.1), frameon=False)
    labels = [str(index) for index in np.flatnonzero(used)]
    draw_labelled(ax, centres[used], colours[used], labels, count)
