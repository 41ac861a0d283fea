"""Facilities and routes for maps."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .geojson import line, point, short, write
from .points import Points
from .route import Result
from .route_words import routes_of


def write_facilities(path: Path, result: Result, points: Points) -> None:
    """One point a facility and a destination; properties: kind and number, visits, entry share."""
    write(path, _places(result, points))


def _places(result: Result, points: Points) -> Iterable[dict[str, Any]]:
    rows = zip(result.facilities, result.usage, result.entry_shares, strict=True)
    for index, (place, visits, share) in enumerate(rows):
        kind = "facility" if index < result.options.facilities else "fixed facility"
        yield point(
            place, points, kind=kind, facility=index, visits=short(visits),
            entry_share=short(share),
        )  # fmt: skip
    for index, place in enumerate(result.network.destinations):
        yield point(place, points, kind="destination", destination=index)


def write_routes(path: Path, result: Result, points: Points) -> None:
    """One line a node, through its facilities to its destination; properties as in routes.csv."""
    write(path, _lines(result, points))


def _lines(result: Result, points: Points) -> Iterable[dict[str, Any]]:
    for row, found in enumerate(routes_of(result)):
        through = [result.facilities[index] for index in found.facilities]
        places = [points.x[row], *through, result.network.destinations[found.destination]]
        yield line(
            places, points, row=row,
            **({} if points.ids is None else {"id": points.ids[row]}),
            entry=found.entry, route=list(found.facilities), destination=found.destination,
            cost=short(found.cost),
        )  # fmt: skip
