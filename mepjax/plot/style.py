"""What all figures share: colours, markers and line styles, axes, and what of a trace is drawn."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._core.params import primal_of
from ..engine.solution import Solution

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Units = Callable[[np.ndarray], np.ndarray]

# Okabe and Ito's colours without yellow and black, which points and marks would lose. Colour never
# stands alone: centres and points have a marker, lines a style and bars a hatch of the same index.
PALETTE = np.array(
    [
        [0.00, 0.45, 0.70],
        [0.90, 0.60, 0.00],
        [0.00, 0.62, 0.45],
        [0.80, 0.47, 0.65],
        [0.34, 0.71, 0.91],
        [0.80, 0.40, 0.00],
    ]
)
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", "-.", ":", (0, (6, 1.5)), (0, (3, 1.5, 1, 1.5, 1, 1.5)))
UNUSED = np.array([0.6, 0.6, 0.6])
SHARED = "0.35"
LABELLED = 40
_SWEEPS = 20
# Centres nearer than this share of the data's extent are drawn as one.
_COINCIDENT = 1e-3
_ELONGATED = 8


def new_figure(figsize: tuple[float, float], rows: int = 1) -> Any:
    """Axes of a new figure, or an array of them, one below the other with a common x axis.

    **Raises:** `ImportError` without matplotlib, naming the command that installs it.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ImportError(
            'drawing needs matplotlib, which is not installed; run: pip install "mepjax[plot]"'
        ) from error
    _, axes = pyplot.subplots(rows, figsize=figsize, sharex=True, layout="constrained")
    return axes


def check_single(name: str, solution: Solution) -> None:
    """Raise `ValueError` for the lanes of a `vmap`."""
    shape = np.shape(solution.beta)
    if shape:
        raise ValueError(
            f"{name}: `solution` must be one solution; got lanes of shape {shape}. Draw each, "
            "picked with `jax.tree.map(lambda leaf: leaf[lane], solution)`."
        )


def centres_of(params: Any) -> np.ndarray:
    """The centres in the params of a clustering, with or without prices."""
    centres = primal_of(params)
    return np.asarray(centres, np.float64)


def recorded(name: str, solution: Solution) -> tuple[np.ndarray, np.ndarray]:
    """The betas (stages,) of an anneal and its centres (stages, K, d).

    **Raises:** `ValueError` where the trace has no params.
    """
    check_single(name, solution)
    if solution.trace.params is None:
        raise ValueError(
            f"{name}: `solution.trace.params` must hold the centres of every stage; got none. "
            "Solve with `anneal(..., record=mepjax.Record(params=True))`."
        )
    stages = int(solution.n_stages)
    return (
        np.asarray(solution.trace.beta, np.float64)[:stages],
        centres_of(solution.trace.params)[:stages],
    )


def transitions_met(solution: Solution) -> np.ndarray:
    """The critical betas that an anneal has met and kept."""
    betas = np.asarray(solution.transitions, np.float64)
    return betas[np.isfinite(betas)]


def mark_transitions(ax: "Axes", solution: Solution) -> Any:
    """Dotted vertical lines at the transitions; one of them, for a legend, or `None`."""
    mark = None
    for beta in transitions_met(solution):
        mark = ax.axvline(beta, color="black", linestyle=":", linewidth=1.1, zorder=0.5)
    return mark


def count_transitions(solution: Solution) -> str:
    """A legend's words for the marks of `mark_transitions`."""
    count, shown = int(solution.n_transitions), len(transitions_met(solution))
    words = f"{count} {'transition' if count == 1 else 'transitions'}"
    return words if shown == count else f"{words}, the first {shown} marked"


def legend_above(ax: "Axes", handles: Sequence[Any], labels: Sequence[str]) -> None:
    """A legend above the axes, where it hides nothing."""
    ax.legend(
        handles, labels, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(labels), fontsize=9,
        frameon=False, borderaxespad=0.1,
    )  # fmt: skip


def in_units(units: Units | None, places: np.ndarray) -> np.ndarray:
    """`units` of places (..., d), which it is given as rows of (n, d)."""
    if units is None:
        return places
    return np.asarray(units(places.reshape(-1, places.shape[-1]))).reshape(places.shape)


def leaders(centres: np.ndarray, extent: float) -> np.ndarray:
    """For each centre (K, d) the first one that coincides with it, at the scale of the data."""
    gaps = np.linalg.norm(centres[:, None] - centres, axis=2)
    return np.argmax(gaps <= _COINCIDENT * extent, axis=1)


def extent_of(points: np.ndarray) -> float:
    """Diagonal of the box around points (N, d)."""
    return float(np.linalg.norm(np.ptp(points, axis=0)))


def assign_styles(centres: np.ndarray) -> np.ndarray:
    """An index into the palette for each centre, so that near centres look different."""
    contrast = np.linalg.norm(PALETTE[:, None] - PALETTE, axis=2) + 0.25
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)
    distances = np.maximum(distances, 1e-6 * np.max(distances, initial=0)) + 1e-30
    # Repulsion between like colours falls off fast, so that it is near centres that count.
    repulsion = np.where(
        np.eye(len(centres), dtype=bool), 0.0, (distances / np.max(distances)) ** -4
    )
    chosen = np.arange(len(centres)) % len(PALETTE)
    for _ in range(_SWEEPS):
        before = chosen.copy()
        for index, others in enumerate(repulsion):
            chosen[index] = int(np.argmin(contrast[:, chosen] ** -4 @ others))
        if np.array_equal(chosen, before):
            break
    return chosen


def text_on(colour: np.ndarray) -> str:
    """White or black, whichever can be read on a colour."""
    return "white" if colour @ [0.299, 0.587, 0.114] < 0.55 else "black"


def is_elongated(points: np.ndarray) -> bool:
    """Whether points (N, 2), drawn to scale, would be a thin line."""
    spans = np.ptp(points, axis=0)
    return bool(np.max(spans) > _ELONGATED * np.min(spans))
