"""Figures as PNG, and the names of their axes."""

import io
from typing import Any

from ..._core.scaling import Scaling
from ..tables.points import Points
from .model import Figure

_DPI = 150
# Inches left free at the left, right, bottom and top of axes.
_MARGINS = (0.95, 0.25, 0.65, 0.55)


def png(figure: Figure) -> bytes:
    """The picture as the bytes of a PNG file."""
    # No window is wanted, so no pyplot: a figure of its own draws without a display.
    from matplotlib.figure import Figure as Canvas

    # Computing a layout takes as long as drawing.
    canvas = Canvas(figsize=figure.size, layout=None if figure.is_plain else "constrained")
    if figure.is_plain:
        (width, height), (left, right, bottom, top) = figure.size, _MARGINS
        canvas.subplots_adjust(
            left=left / width, right=1 - right / width, bottom=bottom / height,
            top=1 - top / height, hspace=0.1,
        )  # fmt: skip
    figure.draw(canvas)
    stream = io.BytesIO()
    # No date and no version: the same result has the same bytes.
    canvas.savefig(
        stream, dpi=_DPI, format="png", metadata={"Software": None},
        pil_kwargs={"compress_level": 2},
    )  # fmt: skip
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
