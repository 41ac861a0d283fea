"""Tables with places as maps: GeoJSON, RFC 7946, positions in the order longitude, latitude."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .model import Table

# 1e-7 degrees are a centimetre, which single precision does not reach.
_DIGITS = 7
_SIGNIFICANT = 7


def write(path: Path, tables: Sequence[Table]) -> None:
    """Write a feature a row, each on its line: the file need not be held and can be compared."""
    features = (feature for table in tables for feature in _features(table))
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(features):
            file.write(("," if index else "") + "\n" + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")


def _features(table: Table) -> Iterator[dict[str, Any]]:
    columns = table.shown("map")
    assert table.places is not None
    for row, place in enumerate(table.places):
        geometry = _geometry(np.asarray(place, np.float64))
        properties = {column.name: _plain(column.values[row]) for column in columns}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _geometry(at: np.ndarray) -> dict[str, Any]:
    """A point, or a line; one that crosses 180 degrees is cut there, as the standard asks."""
    if at.ndim == 1:
        return {"type": "Point", "coordinates": _rounded(at)}
    parts: list[list[np.ndarray]] = [[at[0]]]
    for start, stop in zip(at[:-1], at[1:], strict=True):
        if abs(stop[0] - start[0]) > 180:
            side = 180.0 if start[0] > 0 else -180.0
            beyond = stop[0] + 2 * side
            share = (side - start[0]) / (beyond - start[0]) if beyond != start[0] else 0.0
            latitude = start[1] + share * (stop[1] - start[1])
            parts[-1].append(np.array([side, latitude]))
            parts.append([np.array([-side, latitude])])
        parts[-1].append(stop)
    lines = [_rounded(np.stack(part)) for part in parts]
    if len(lines) == 1:
        return {"type": "LineString", "coordinates": lines[0]}
    return {"type": "MultiLineString", "coordinates": lines}


def _rounded(at: np.ndarray) -> Any:
    return np.round(at, _DIGITS).tolist()


def _plain(value: Any) -> Any:
    """A value as JSON has it, numbers to seven digits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(f"{value:.{_SIGNIFICANT}g}") if isinstance(value, float) else value
