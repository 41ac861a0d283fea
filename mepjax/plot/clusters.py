"""Points, centres, and where each point ends up."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style
from .marks import draw_crosses, draw_labelled, draw_points
from .plane import Plane

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
    colours, styles, used, told = centre_colours(problem, solution.params)
    points = np.asarray(problem.x, np.float64)
    centres = style.centres_of(solution.params)
    if units is not None:
        points, centres = units(points), units(centres)
    plane = Plane(points, np.asarray(problem.weights, np.float64))
    mixed = mixed_colours(problem, solution.params, solution.beta, colours, mixture)
    axes = style.new_figure((7, 6)) if ax is None else ax
    draw_points(axes, plane, mixed, styles[told])
    draw_centres(axes, plane.place(centres), colours, used)
    return axes


def centre_colours(
    problem: Clustering, params: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per centre its colour (K, 3), style and whether it is used; per point whom it is told."""
    told = np.asarray(problem.harden(params, capacities="assign").assignments)
    used = np.isin(np.arange(problem.k), told)
    styles = np.zeros(problem.k, int)
    styles[used] = style.assign_styles(style.centres_of(params)[used])
    return np.where(used[:, None], style.PALETTE[styles], style.UNUSED), styles, used, told


def mixed_colours(
    problem: Clustering, params: Any, beta: Any, colours: np.ndarray, mixture: str
) -> np.ndarray:
    """The colour of each point (N, 3); points of weight zero end nowhere and are grey."""
    if mixture not in _MIXTURES:
        raise ValueError(f"`mixture` must be one of {_MIXTURES}; got {mixture!r}.")
    weights = (
        np.asarray(problem.association_weights(params, beta), np.float64)
        if mixture == "association"
        else np.exp(np.asarray(problem.policy(params, beta), np.float64))
    )
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
