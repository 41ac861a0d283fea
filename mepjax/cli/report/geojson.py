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
        at = np.asarray(place, np.float64)
        coordinates = np.round(at, _DIGITS).tolist()
        geometry = {"type": "Point" if at.ndim == 1 else "LineString", "coordinates": coordinates}
        properties = {column.name: _plain(column.values[row]) for column in columns}
        yield {"type": "Feature", "geometry": geometry, "properties": properties}


def _plain(value: Any) -> Any:
    """A value as JSON has it, numbers to seven digits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return float(f"{value:.{_SIGNIFICANT}g}") if isinstance(value, float) else value
