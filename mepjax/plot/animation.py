"""An anneal, or a scene that is followed, as a moving picture."""

import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..control import Track
from ..engine.problem import Problem
from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style
from .clusters import centre_colours, check_mixture, mixed_colours
from .film import check_film, film_writer, write_film
from .glyphs import draw_points
from .plane import Plane
from .track_film import animate_track
from .views import ClusterView, cluster_view


def animate(
    problem: Problem,
    solution: "Solution | Track",
    path: str | os.PathLike[str],
    *,
    frames: int = 80,
    fps: float = 12.0,
    dpi: int = 80,
    mixture: str = "association",
    units: style.Units | None = None,
    view: ClusterView | None = None,
) -> Path:
    """Write a film of an anneal, or of a scene that `mepjax.control.track` followed.

    Of an anneal, points and centres as in `clusters`, stage by stage. Of a `Track` of a
    `Clustering` or a `FacilityPath`, the picture of `clusters` or `routes` at times that are evenly
    spread over its rows, up to where it ended: colours stay with their centre or facility, so that
    points change colour where they change their way.

    Centres that coincide are one white disc with their count, and have their own colour and
    number from where they separate. Stages at which centres move get more of the frames. The file
    is written whole or not at all.

    **Arguments:**

    - `problem`, `solution`: a `Clustering` that was solved, and the outcome of
        `anneal(..., record=Record(params=True))`; or the problem that moved, and its `Track`.
    - `path`: where to; `.gif`, or `.mp4` where ffmpeg is installed.
    - `frames`: at most so many stages or times, the last of them held for a moment.
    - `fps`: frames a second.
    - `dpi`: dots an inch, of 7 by 6 inches.
    - `mixture`: as in `clusters`; of an anneal only.
    - `units`: applied to all places first, such as the inverse of a scaling.
    - `view`: what `plot.views.cluster_view` made of an anneal, where it is at hand.

    **Returns:** the path.

    **Raises:** `ValueError` for another kind of file, if the trace has no params, for numbers out
    of range or lanes of a `vmap`; `TypeError` for a track of another problem; `RuntimeError` for
    `.mp4` without ffmpeg; `ImportError` without matplotlib, naming the command that installs it;
    `OSError` if the file cannot be written.

    **Example:**

    ```python
    >>> import pathlib, tempfile, jax, jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot import animate
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> schedule = mj.Geometric(0.3, 30.0, 1.2)
    >>> record = mj.Record(params=True)
    >>> solution = mj.anneal(problem, schedule, key=jax.random.key(0), record=record)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = animate(problem, solution, pathlib.Path(folder) / "anneal.gif", frames=3)
    ...     path.read_bytes()[:6]
    b'GIF89a'

    ```
    """
    path = Path(path)
    check_film(path, frames, fps, dpi)
    if isinstance(solution, Track):
        return animate_track(solution, path, frames=frames, fps=fps, dpi=dpi, units=units)
    if not isinstance(problem, Clustering):
        raise TypeError(
            "animate: a film of an anneal is one of a Clustering; got "
            f"{type(problem).__name__}. Films of what `control.track` followed are of paths too."
        )
    betas, recorded = style.recorded("animate", solution)
    check_mixture(mixture)
    writer = film_writer(path, fps)
    from matplotlib.figure import Figure

    view = cluster_view(problem, solution) if view is None else view
    scene = _Scene(problem, solution, view, recorded, mixture, units, Figure)
    stages = _pick(betas, np.asarray(solution.trace.displacement)[: len(betas)], frames)
    return write_film(
        writer, scene.figure, path, show=lambda stage: scene.show(*stage),
        frames=[(recorded[stage], float(betas[stage])) for stage in stages], fps=fps, dpi=dpi,
    )  # fmt: skip


def _pick(betas: np.ndarray, displacement: np.ndarray, frames: int) -> np.ndarray:
    """Stages to show: half the frames spread evenly, half where centres move."""
    n = len(betas)
    if n <= frames:
        return np.arange(n)
    moved = np.sqrt(np.nan_to_num(displacement))
    total = np.sum(moved)
    worth = 1 / n + (moved / total if total > 0 else 0)
    along = np.cumsum(worth)
    picked = np.searchsorted(along, np.linspace(along[0], along[-1], frames) * (1 - 1e-9))
    return np.unique(np.minimum(np.append(picked, n - 1), n - 1))


class _Scene:
    """A figure whose points change colour and whose centres move."""

    def __init__(
        self,
        problem: Clustering,
        solution: Solution,
        view: ClusterView,
        recorded: np.ndarray,
        mixture: str,
        units: style.Units | None,
        figure: Any,
    ) -> None:
        self.problem, self.solution, self.mixture = problem, solution, mixture
        self.units = units
        self.colours, styles = centre_colours(view)
        points = style.in_units(units, view.points)
        self.extent = style.extent_of(points)
        self.plane = Plane(points, view.weights)
        self.figure = figure(figsize=(7, 6), layout="constrained")
        ax = self.figure.add_subplot()
        self.points = draw_points(ax, self.plane, np.zeros((len(points), 3)), styles[view.assigned])
        self.centres = ax.scatter(
            *np.zeros((2, problem.k)), s=190, edgecolors="black", linewidths=1.2, zorder=3
        )
        self.numbers = [
            ax.text(0, 0, "", ha="center", va="center", fontsize=8, fontweight="bold", zorder=4)
            for _ in range(problem.k)
        ]
        # The picture stands still, and has room for every place a centre will have.
        places = self.plane.place(style.in_units(units, recorded)).reshape(-1, 2)
        low, high = (
            edge(np.concatenate([self.plane.points, places]), axis=0) for edge in (np.min, np.max)
        )
        room = np.where(high > low, 0.05 * (high - low), 0.5)
        ax.set(
            xlim=(low[0] - room[0], high[0] + room[0]), ylim=(low[1] - room[1], high[1] + room[1])
        )
        ax.set_aspect(ax.get_aspect(), adjustable="box")
        self.title = ax.set_title(" ", family="monospace")
        # Laid out once: a film's frame must not move, and it saves most of the time.
        self.figure.draw_without_rendering()
        self.figure.set_layout_engine("none")

    def show(self, params: np.ndarray, beta: float) -> None:
        """The picture of one stage."""
        dtype = self.problem.x.dtype
        # Without prices: those of stages are not kept apart from the centres.
        view = cluster_view(
            self.problem, self.solution, params=jnp.asarray(params, dtype), beta=beta,
            rows=len(self.plane.points), hard=False,
        )  # fmt: skip
        mixed = mixed_colours(view, self.colours, self.mixture)
        self.points.set_facecolors(mixed)
        in_units = style.in_units(self.units, params)
        leaders = style.leaders(in_units, self.extent)
        sizes = np.bincount(leaders, minlength=len(leaders))
        placed = self.plane.place(in_units)
        alone = sizes[leaders] == 1
        colours = np.where(alone[:, None], self.colours, 1.0)
        self.centres.set_offsets(placed)
        self.centres.set_facecolors(colours)
        self.centres.set_sizes(np.where(alone, 190, 330))
        for index, text in enumerate(self.numbers):
            text.set_position(placed[index])
            text.set_color(style.text_on(colours[index]))
            count = sizes[index]
            words = str(index) if alone[index] else f"×{count}" if count else ""
            text.set_text(words if len(self.numbers) <= style.LABELLED or count > 1 else "")
        self.title.set_text(f"β = {beta:<9.3g}  distinct centres: {np.sum(sizes > 0):<3}")
