"""Figures as PNG files, and the names of their axes."""

import io
from collections.abc import Callable
from typing import Any

from .._core.scaling import Scaling
from .points import Points

_DPI = 150


def png(draw: Callable[[Any], None], size: tuple[float, float]) -> bytes:
    """What `draw` draws on a figure of so many inches."""
    # No window is wanted, so no pyplot: a figure of its own draws without a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    draw(figure)
    stream = io.BytesIO()
    # No date and no version: the same result has the same bytes.
    figure.savefig(stream, dpi=_DPI, format="png", metadata={"Software": None})
    return stream.getvalue()


def name_axes(axes: Any, points: Points, scaling: Scaling) -> None:
    """Write the names of the columns at the axes that show them as they are."""
    # Not mathematics, whatever dollars a name has.
    if points.x.shape[1] <= 2:
        axes.set_xlabel(points.names[0], parse_math=False)
    if points.x.shape[1] == 2:
        axes.set_ylabel(points.names[1], parse_math=False)
        if axes.get_aspect() != "auto":
            # A degree of longitude is shorter than one of latitude.
            axes.set_aspect(scaling.lengths[1] / scaling.lengths[0], adjustable="datalim")
