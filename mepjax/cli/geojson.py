"""Results for maps: GeoJSON, RFC 7946, positions in the order longitude, latitude."""

import json
from collections.abc import Iterable
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
    _write(
        path,
        (
            _feature(centre, points, cluster=index, share_told=told, share_ending=ends)
            for index, (centre, told, ends) in enumerate(rows)
        ),
    )


def write_assignments(path: Path, result: Result, points: Points) -> None:
    """One point a row of data; properties: row, id, cluster and the soft probabilities."""
    rows = zip(points.x.tolist(), result.assignments.tolist(), result.policy.tolist(), strict=True)
    _write(
        path,
        (
            _feature(
                place, points, row=row,
                **({} if points.ids is None else {"id": points.ids[row]}),
                cluster=cluster, probability=_short(policy[cluster]),
                probabilities=[_short(value) for value in policy],
            )
            for row, (place, cluster, policy) in enumerate(rows)
        ),
    )  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.7g}")


def _feature(place: list[float], points: Points, **properties: Any) -> dict[str, Any]:
    assert points.lonlat is not None
    position = [round(place[index], _DIGITS) for index in points.lonlat]
    return {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": position},
        "properties": properties,
    }


def _write(path: Path, features: Iterable[dict[str, Any]]) -> None:
    """A feature a line, so that the file need not be held in memory and can be compared."""
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(("," if index else "") + "\n" + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")
