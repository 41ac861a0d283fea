"""Results for maps: GeoJSON, RFC 7946, positions in the order longitude, latitude."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .cluster import Result
from .points import Points
from .words import shares

# 1e-7 degrees are a centimetre, which single precision does not reach.
_DIGITS = 7


def write_centres(path: Path, result: Result, points: Points) -> None:
    """One point a centre; properties: cluster, share told to join it, share that ends there."""
    rows = zip(result.centres.tolist(), *(part.tolist() for part in shares(result)), strict=True)
    write(
        path,
        (
            point(centre, points, cluster=index, share_told=told, share_ending=ends)
            for index, (centre, told, ends) in enumerate(rows)
        ),
    )


def write_assignments(path: Path, result: Result, points: Points) -> None:
    """One point a row of data; properties: row, id, cluster and the soft probabilities."""
    rows = zip(points.x.tolist(), result.assignments.tolist(), result.policy.tolist(), strict=True)
    write(
        path,
        (
            point(
                place, points, row=row,
                **({} if points.ids is None else {"id": points.ids[row]}),
                cluster=cluster, probability=short(policy[cluster]),
                probabilities=[short(value) for value in policy],
            )
            for row, (place, cluster, policy) in enumerate(rows)
        ),
    )  # fmt: skip


# For the maps of all commands.


def point(place: Sequence[float], points: Points, **properties: Any) -> dict[str, Any]:
    """A feature at one place, whose coordinates are in the order of the points' columns."""
    return _feature("Point", _position(place, points), properties)


def line(places: Sequence[Sequence[float]], points: Points, **properties: Any) -> dict[str, Any]:
    """A feature along several places."""
    return _feature("LineString", [_position(place, points) for place in places], properties)


def _position(place: Sequence[float], points: Points) -> list[float]:
    assert points.lonlat is not None
    return [round(float(place[index]), _DIGITS) for index in points.lonlat]


def _feature(kind: str, coordinates: Any, properties: dict[str, Any]) -> dict[str, Any]:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def short(value: float) -> float:
    """A share to seven digits."""
    return float(f"{value:.7g}")


def write(path: Path, features: Iterable[dict[str, Any]]) -> None:
    """A feature a line, so that the file need not be held in memory and can be compared."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(("," if index else "") + "\n" + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")
