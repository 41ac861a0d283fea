"""Where everything of a scene stood, at every time that was reached."""

from typing import Any, NamedTuple

import jax
import numpy as np

from .._core.params import primal_of
from .._core.programs import program
from ..control import Track
from ..problems.clustering.problem import Clustering
from ..problems.facility_path import FacilityPath


class SceneView(NamedTuple):
    """Places at the T times that were reached, as NumPy arrays in the units of the problem.

    **Fields:** the `points` or nodes (T, N, d); `found`, centres or facilities (T, M, d);
    `ends`, the destinations (T, L, d), none for clusters.
    """

    points: np.ndarray
    found: np.ndarray
    ends: np.ndarray

    @property
    def everything(self) -> np.ndarray:
        """All places (n, d)."""
        return np.concatenate([part.reshape(-1, part.shape[-1]) for part in self])


def check_track(name: str, track: Track) -> None:
    """Raise `ValueError` for the lanes of a `vmap`, or a track without a row."""
    if np.ndim(track.times) != 1:
        raise ValueError(
            f"{name}: `track` must be one scene; got lanes of shape {np.shape(track.times)[:-1]}. "
            "Draw each, picked with `jax.tree.map(lambda leaf: leaf[lane], track)`."
        )
    if int(track.n_rows) == 0:
        raise ValueError(f"{name}: `track` has no row that was reached; see its `code`.")


def has_places(track: Track) -> bool:
    """Whether what was followed has places to draw."""
    return isinstance(track.problem_at(0), Clustering | FacilityPath)


def scene_view(track: Track) -> SceneView:
    """Places of a track of a `Clustering` or a `FacilityPath`."""
    rows = int(track.n_rows)
    return SceneView(*(np.asarray(part, np.float64)[:rows] for part in _places(track)))


@program
def _places(track: Track) -> Any:
    def at(time: Any, fields: Any, params: Any) -> Any:
        problem = track.scene.problem_at(time, fields)
        if isinstance(problem, FacilityPath):
            return problem.nodes, problem.facilities(params), problem.destinations
        return problem.x, primal_of(params), problem.x[:0]

    return jax.vmap(at)(track.times, track.moved, track.values)
