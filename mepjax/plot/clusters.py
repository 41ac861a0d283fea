"""Points, centres, and where each point ends up."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.solution import Solution
from ..problems.clustering import Clustering

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours without yellow and black, which points and marks would lose.
_PALETTE = np.array(
    [
        [0.00, 0.45, 0.70],
        [0.90, 0.60, 0.00],
        [0.00, 0.62, 0.45],
        [0.80, 0.47, 0.65],
        [0.34, 0.71, 0.91],
        [0.80, 0.40, 0.00],
    ]
)
_UNUSED = np.array([0.6, 0.6, 0.6])
_LABELLED = 40
_SWEEPS = 20
_ELONGATED = 8


def clusters(
    problem: Clustering,
    solution: Solution,
    *,
    ax: "Axes | None" = None,
    units: Callable[[np.ndarray], np.ndarray] | None = None,
) -> "Axes":
    """Draw points in the mixture of their centres' colours, and the centres with their numbers.

    The mixture is that of `problem.association_weights`: where a point ends up, after overrides,
    at the last beta. Centres nobody is prescribed to are drawn as crosses. Six colours are
    reused where K is larger, far from each other. With more than two features the plane is that
    of the first two principal components.

    **Arguments:**

    - `problem`, `solution`: what was solved, and the outcome.
    - `ax`: axes to draw in; default those of a new figure.
    - `units`: applied to points and centres first, such as the inverse of a scaling.

    **Returns:** the axes.

    **Raises:** `ImportError` without matplotlib, naming the command that installs it.

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
    points = np.asarray(problem.x, np.float64)
    centres = np.asarray(solution.params, np.float64)
    mixture = np.asarray(problem.association_weights(solution.params, solution.beta), np.float64)
    told = np.asarray(problem.harden(solution.params).assignments)
    used = np.isin(np.arange(problem.k), told)
    colours = np.tile(_UNUSED, (problem.k, 1))
    colours[used] = _PALETTE[_assign_colours(centres[used])]
    if units is not None:
        points, centres = units(points), units(centres)
    points, centres, names = _plane(points, centres, np.asarray(problem.weights, np.float64))
    axes = _new_axes() if ax is None else ax

    total = np.sum(mixture, axis=1, keepdims=True)
    # Points of weight zero end nowhere; they are grey.
    mixed = np.where(total > 0, mixture @ colours / np.where(total > 0, total, 1), 0.7)
    n = len(points)
    # The more points, the smaller and the more translucent.
    size, alpha = np.clip(8000 / n, 4, 36), np.clip(60 / n**0.5, 0.25, 0.9)
    axes.scatter(*points.T, s=size, c=np.clip(mixed, 0, 1), alpha=alpha, linewidths=0, zorder=1)
    _draw_centres(axes, centres, colours, used)
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    if not names[1]:
        axes.set_yticks([])
    elif np.max(spans := np.ptp(points, axis=0)) <= _ELONGATED * np.min(spans):
        # Distances look as they are, unless that would leave a thin line.
        axes.set_aspect("equal", adjustable="datalim")
    return axes


def _new_axes() -> "Axes":
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'drawing needs matplotlib, which is not installed; run: pip install "mepjax[plot]"'
        ) from error
    _, ax = pyplot.subplots(figsize=(7, 6), layout="constrained")
    return ax


def _plane(
    points: np.ndarray, centres: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Two coordinates for everything, and the names of the axes."""
    d = points.shape[1]
    if d == 1:
        # A fixed scatter across the line, since points on one line hide each other.
        across = np.random.default_rng(0).uniform(-1, 1, len(points))
        flat = np.zeros(len(centres))
        return (
            np.stack([points[:, 0], across], axis=1),
            np.stack([centres[:, 0], flat], axis=1),
            ("x", ""),
        )
    if d == 2:
        return points, centres, ("x", "y")
    shares = weights / np.sum(weights)
    mean = shares @ points
    centred = points - mean
    _, singular, axes = np.linalg.svd(np.sqrt(shares)[:, None] * centred, full_matrices=False)
    plane = np.zeros((2, d))
    plane[: min(2, len(axes))] = axes[:2]
    # An axis has no sign of its own: let its largest entry be positive.
    largest = np.take_along_axis(plane, np.argmax(np.abs(plane), axis=1)[:, None], axis=1)
    plane = np.where(largest < 0, -plane, plane)
    explained = np.zeros(2)
    total = np.sum(singular**2)
    explained[: min(2, len(singular))] = singular[:2] ** 2 / (total if total > 0 else 1)
    first, second = (f"{100 * share:.0f}% of the variance" for share in explained)
    names = (f"first principal component ({first})", f"second principal component ({second})")
    return centred @ plane.T, (centres - mean) @ plane.T, names


def _assign_colours(centres: np.ndarray) -> np.ndarray:
    """A palette entry for each centre, so that near centres look different."""
    contrast = np.linalg.norm(_PALETTE[:, None] - _PALETTE, axis=2) + 0.25
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)
    distances = np.maximum(distances, 1e-6 * np.max(distances, initial=0)) + 1e-30
    # Repulsion between like colours falls off fast, so that it is near centres that count.
    repulsion = np.where(
        np.eye(len(centres), dtype=bool), 0.0, (distances / np.max(distances)) ** -4
    )
    chosen = np.arange(len(centres)) % len(_PALETTE)
    for _ in range(_SWEEPS):
        before = chosen.copy()
        for index, others in enumerate(repulsion):
            chosen[index] = int(np.argmin(contrast[:, chosen] ** -4 @ others))
        if np.array_equal(chosen, before):
            break
    return chosen


def _draw_centres(ax: Any, centres: np.ndarray, colours: np.ndarray, used: np.ndarray) -> None:
    labelled = len(centres) <= _LABELLED
    size = 190 if labelled else 60
    if not np.all(used):
        # Often they coincide, with each other and with a used one: the arms reach out from below.
        unused = ax.scatter(
            *centres[~used].T, s=2.2 * size, c="black", marker="x", linewidths=1.8, zorder=2
        )
        number = int(np.sum(~used))
        text = f"{number} {'centre' if number == 1 else 'centres'} nobody is told to join"
        ax.legend([unused], [text], loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)
    ax.scatter(
        *centres[used].T, s=size, c=colours[used], edgecolors="black", linewidths=1.2, zorder=3
    )
    if labelled:
        for index in np.flatnonzero(used):
            dark = colours[index] @ [0.299, 0.587, 0.114] < 0.55
            ax.annotate(
                str(index), centres[index], ha="center", va="center", fontsize=8,
                fontweight="bold", color="white" if dark else "black", zorder=4,
            )  # fmt: skip
