"""Moving pictures: frames of a figure, written to a file whole or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

_KINDS = (".gif", ".mp4")
# Seconds for which the last frame stays.
_HOLD = 1.0


def check_film(path: Path, frames: int, fps: float, dpi: int) -> None:
    """Raise `ValueError` for another kind of file or numbers out of range."""
    if path.suffix.lower() not in _KINDS:
        raise ValueError(f"animate: `path` must end with .gif or .mp4; got {path.name!r}.")
    if frames < 1 or not 0 < fps < np.inf or dpi < 1:
        raise ValueError(
            f"animate: `frames`, `fps` and `dpi` must be positive; got {frames}, {fps:g} and {dpi}."
        )


def film_writer(path: Path, fps: float) -> Any:
    """Matplotlib's writer of this kind of file.

    **Raises:** `ImportError` without matplotlib, `RuntimeError` for `.mp4` without ffmpeg.
    """
    try:
        from matplotlib import animation
    except ImportError as error:
        raise ImportError(
            'drawing needs matplotlib, which is not installed; run: pip install "mepjax[plot]"'
        ) from error
    if path.suffix.lower() == ".gif":
        return animation.PillowWriter(fps=fps)  # type: ignore[arg-type]
    if not animation.FFMpegWriter.isAvailable():
        raise RuntimeError(
            f"animate: writing {path.name!r} needs ffmpeg, which was not found; install it, or "
            "give a name that ends with .gif."
        )
    return animation.FFMpegWriter(fps=fps)  # type: ignore[arg-type]


def write_film(
    writer: Any,
    figure: Any,
    path: Path,
    *,
    show: Callable[[Any], None],
    frames: Iterable[Any],
    fps: float,
    dpi: int,
) -> Path:
    """One picture for each of `frames`, which `show` draws; the last is held for a moment."""
    descriptor, name = tempfile.mkstemp(
        prefix=".mepjax-", suffix=path.suffix.lower(), dir=path.parent
    )
    os.close(descriptor)
    try:
        writer.setup(figure, name, dpi)
        try:
            for frame in frames:
                show(frame)
                writer.grab_frame()
            for _ in range(round(_HOLD * fps)):
                writer.grab_frame()
        except BaseException:
            # Ends ffmpeg; whatever it says, the first error is the one to be told.
            with contextlib.suppress(Exception):
                writer.finish()
            raise
        writer.finish()
        # A temporary file is for its owner only; a result has the rights of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
    return path
