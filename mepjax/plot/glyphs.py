"""Marks for points and for the few places that stand for them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from . import style
from .plane import Plane

# More points are drawn so small that shapes would only make some look denser than others.
_SHAPED = 1000
_FEW = 8


def draw_points(ax: Any, plane: Plane, colours: np.ndarray, styles: np.ndarray) -> Any:
    """The points, the more the smaller and the more translucent, and the names of the axes."""
    from matplotlib.markers import MarkerStyle

    n = len(plane.points)
    size, alpha = np.clip(8000 / n, 4, 36), np.clip(60 / n**0.5, 0.25, 0.9)
    drawn = ax.scatter(*plane.points.T, s=size, c=colours, alpha=alpha, linewidths=0, zorder=1)
    if n <= _SHAPED:
        shapes = [MarkerStyle(marker) for marker in style.MARKERS]
        paths = [shape.get_path().transformed(shape.get_transform()) for shape in shapes]
        drawn.set_paths([paths[index] for index in styles])
    ax.set_xlabel(plane.names[0])
    ax.set_ylabel(plane.names[1])
    if not plane.names[1]:
        ax.set_yticks([])
    elif not style.is_elongated(plane.points):
        # Distances look as they are, unless that would leave a thin line.
        ax.set_aspect("equal", adjustable="datalim")
    return drawn


def mark_area(count: int) -> float:
    """The area, in square points, of each of `count` marks: smaller where they would collide."""
    if count > style.LABELLED:
        return 60
    return 190 if count <= _FEW else 120


def draw_crosses(ax: Any, places: np.ndarray, count: int) -> Any:
    """Crosses for the places, of `count` in all, that nothing uses."""
    # Often they coincide, with each other and with a used one: the arms reach out from below.
    area = 2.2 * mark_area(count)
    return ax.scatter(*places.T, s=area, c="black", marker="x", linewidths=1.8, zorder=2)


def draw_labelled(
    ax: Any,
    places: np.ndarray,
    colours: np.ndarray,
    labels: Sequence[str],
    count: int,
    marker: str = "o",
) -> Any:
    """Marks of the places, of `count` in all, each with its label unless there are too many."""
    drawn = ax.scatter(
        *places.T, s=mark_area(count), c=colours, marker=marker, edgecolors="black",
        linewidths=1.2, zorder=3,
    )  # fmt: skip
    if count <= style.LABELLED:
        for label, place, colour in zip(labels, places, colours, strict=True):
            ax.annotate(
                label, place, ha="center", va="center", fontsize=8 if count <= _FEW else 6.5,
                fontweight="bold", color=style.text_on(colour), zorder=4,
            )  # fmt: skip
    return drawn
