"""A scene that is followed, as a moving picture."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..control import Track
from . import style
from .clusters import centre_colours, draw_centres, mixed_colours
from .film import film_writer, write_film
from .glyphs import draw_points
from .plane import Plane
from .routes import routes
from .scenes import SceneView, check_track, has_places, scene_view
from .views import cluster_view, path_view


class _Shown(NamedTuple):
    """What figures need of a solution."""

    params: Any
    beta: Any


def animate_track(
    track: Track, path: Path, *, frames: int, fps: float, dpi: int, units: style.Units | None
) -> Path:
    """Write the pictures of `routes` or `clusters` at times evenly spread over the rows."""
    check_track("animate", track)
    if not has_places(track):
        raise TypeError(
            "animate: `solution` must be a track of a Clustering or a FacilityPath, whose places "
            f"can be drawn; got one of a {type(track.problem_at(0)).__name__}."
        )
    writer = film_writer(path, fps)
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 7))
    picture = _Picture(track, scene_view(track), units, figure.add_axes((0.1, 0.21, 0.86, 0.73)))
    rows = np.unique(np.linspace(0, int(track.n_rows) - 1, frames).round().astype(int))
    return write_film(
        writer, figure, path, show=picture.show, frames=rows.tolist(), fps=fps, dpi=dpi
    )


class _Picture:
    """Axes that are drawn anew for each row, with limits, plane and colours that stay."""

    def __init__(self, track: Track, seen: SceneView, units: style.Units | None, ax: Any) -> None:
        self.track, self.ax = track, ax
        self.first = track.values_at(0)
        self.is_clusters = seen.ends.shape[1] == 0
        points = style.in_units(units, seen.points)
        weights = np.asarray(track.problem_at(0).weights, np.float64)
        plane = Plane(points[0], weights)
        self.names = plane.names
        self.d = plane.d
        # One plane for all frames, chosen where the scene starts.
        self.to_plane = lambda at: (
            style.in_units(units, at) if plane.d < 3 else plane.place(style.in_units(units, at))
        )
        if self.is_clusters:
            self.colours, self.styles = centre_colours(self._cluster_view(0))
        everything = self.to_plane(seen.everything)
        low, high = np.min(everything, axis=0), np.max(everything, axis=0)
        room = np.where(high > low, 0.06 * (high - low), 0.5)
        self.low, self.high = low - room, high + room

    def _cluster_view(self, row: int) -> Any:
        problem, params = self.track.problem_at(row), self.track.values_at(row)
        shown: Any = _Shown(params, self.track.beta)
        return cluster_view(problem, shown, hard=False)

    def show(self, row: int) -> None:
        """The picture of one row."""
        self.ax.clear()
        if self.is_clusters:
            view = self._cluster_view(row)
            plane = Plane(self.to_plane(view.points), view.weights)
            mixed = mixed_colours(view, self.colours, "association")
            draw_points(self.ax, plane, mixed, self.styles[view.assigned])
            every = np.ones(len(view.centres), bool)
            draw_centres(self.ax, plane.place(self.to_plane(view.centres)), self.colours, every)
        else:
            problem = self.track.problem_at(row)
            # Colours are those of the facilities where they started.
            shown: Any = _Shown(self.first, self.track.beta)
            view = path_view(problem, shown, params=self.track.values_at(row))
            routes(problem, shown, view=view, ax=self.ax, units=self.to_plane)
        self.ax.set(xlabel=self.names[0], ylabel=self.names[1])
        self.ax.set_xlim(self.low[0], self.high[0])
        if self.d > 1:
            self.ax.set_ylim(self.low[1], self.high[1])
            if not style.is_elongated(np.stack([self.low, self.high])):
                self.ax.set_aspect("equal", adjustable="box")
        self.ax.set_title(f"t = {float(self.track.times[row]):<8.4g}", family="monospace")
