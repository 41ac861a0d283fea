"""Figures as PNG, and the names of their axes."""

import io
from typing import Any

from ..._core.scaling import Scaling
from ..tables.points import Points
from .model import Figure

_DPI = 150


def png(figure: Figure) -> bytes:
    """The picture as the bytes of a PNG file."""
    # No window is wanted, so no pyplot: a figure of its own draws without a display.
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=figure.size, layout="constrained")
    figure.draw(canvas)
    stream = io.BytesIO()
    # No date and no version: the same result has the same bytes.
    canvas.savefig(stream, dpi=_DPI, format="png", metadata={"Software": None})
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
