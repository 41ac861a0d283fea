"""What `mepjax route` found: files, a JSON report, and lines for the terminal."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import facts, names, route_figures, route_geojson, route_page
from .files import new_files, write_table
from .points import Points
from .route import Result
from .route_words import (
    describe_network,
    describe_sequential,
    describe_unlimited,
    routes_of,
    uses_of,
)

_SHOWN = 12


def write_all(folder: Path, result: Result, points: Points, source: str) -> tuple[str, ...]:
    """Write facilities, routes, report, page and figure to `folder`, or nothing.

    **Arguments:** `source`: the name of the input, for the report.

    **Returns:** the names of the files.
    """
    found = report(result, points, source)
    with new_files(folder, names.EVERY) as place:
        write_table(place("facilities.csv"), _facilities(result, points))
        write_table(place("routes.csv"), _routes(result, points))
        text = json.dumps(found, indent=2, allow_nan=False)
        place("report.json").write_text(text + "\n", encoding="utf-8")
        drawn = route_figures.draw_all(result, points)
        place("routes.png").write_bytes(drawn["routes"])
        # Names of files may hold bytes that are no text.
        html = route_page.render(result, points, found, drawn)
        place("report.html").write_text(html, encoding="utf-8", errors="backslashreplace")
        if points.lonlat is not None:
            route_geojson.write_facilities(place("facilities.geojson"), result, points)
            route_geojson.write_routes(place("routes.geojson"), result, points)
    return (*names.ROUTE, *(names.ROUTE_MAP if points.lonlat is not None else ()))


def _facilities(result: Result, points: Points) -> Iterable[list[Any]]:
    yield ["facility", *points.names, "fixed", "visits", "entry_share"]
    rows = zip(result.facilities, result.usage, result.entry_shares, strict=True)
    for index, (place, visits, share) in enumerate(rows):
        fixed = int(index >= result.options.facilities)
        coordinates = (f"{value:.9g}" for value in place)
        yield [index, *coordinates, fixed, f"{visits:.7g}", f"{share:.7g}"]


def _routes(result: Result, points: Points) -> Iterable[list[Any]]:
    ids, weights = points.ids, points.weights
    yield [
        "row",
        *([] if ids is None else ["id"]),
        *([] if weights is None else ["weight"]),
        "entry",
        "entry_probability",
        "route",
        "destination",
        "cost" if result.scaling.cost_factor else "scaled_cost",
    ]
    for row, found in enumerate(routes_of(result)):
        yield [
            row,
            *([] if ids is None else [ids[row]]),
            *([] if weights is None else [f"{weights[row]:.9g}"]),
            "" if found.entry is None else found.entry,
            f"{found.probability:.7g}",
            " ".join(str(index) for index in found.facilities),
            found.destination,
            f"{found.cost:.7g}",
        ]


# The report.


def report(result: Result, points: Points, source: str) -> dict[str, Any]:
    """Everything about a result that is not one number a node, ready for JSON."""
    options, scaling, network = result.options, result.scaling, result.network
    factor = scaling.cost_factor
    baseline = result.baseline_cost
    chosen = facts.describe_chosen(result.best, scaling, "facilities_used")
    course = facts.course(result.best, result.runs, "facilities_used")
    if network.is_limited:
        # Only the routes of the run that was kept are made to meet the capacities.
        for run in course["runs"]:
            run["hard_cost"] = None
        hard = None if result.unlimited else facts.number(result.cost)
        chosen["hard_cost"] = hard
        if factor is not None:
            unit = scaling.cost_unit.replace(" ", "_")
            chosen[f"hard_cost_in_{unit}"] = None if hard is None else hard * factor
    return {
        **facts.heading(points, source),
        "options": {
            "facilities": options.facilities,
            "destinations": network.destinations.tolist(),
            "fixed": None if network.fixed is None else network.fixed.tolist(),
            "stages": result.problem.n_stages,
            "max_hops": options.max_hops,
            "direct": options.direct,
            "links": _mask(network.between),
            "exits": _mask(network.exit),
            **facts.anneal_options(options, result.schedule),
        },
        "scale": facts.scale(scaling, "Beta, costs and free energy", "Places"),
        "chosen": chosen,
        "facilities": [
            {"facility": index, "place": place, "visits": visits, "entry_share": share}
            for index, (place, visits, share) in enumerate(
                zip(
                    result.facilities.tolist(), result.usage.tolist(),
                    result.entry_shares.tolist(), strict=True,
                )
            )
        ],
        "locate_then_route": {
            "hard_cost": baseline,
            "ratio": None if baseline is None or result.cost <= 0 else baseline / result.cost,
            "percent": result.percent_dearer,
            "code": result.baseline_code.name,
        },
        "capacities": {
            use.name: {
                "equality": use.equality,
                "limit": _finite(use.limit),
                "used": use.used.tolist(),
                "largest_violation": facts.number(use.worst),
            }
            for use in uses_of(result)
        },
        "routes_ignore_capacities": result.unlimited,
        "revisits": None if result.revisits is None else result.revisits.tolist(),
        **course,
    }  # fmt: skip


def _finite(limits: np.ndarray) -> list[Any]:
    """Limits as lists, `None` where there is none."""
    return np.where(np.isfinite(limits), limits, None).tolist()  # type: ignore[arg-type]


def _mask(mask: np.ndarray | None) -> list[list[int]] | None:
    return None if mask is None else mask.astype(int).tolist()


# The terminal.


def summary(result: Result, points: Points, folder: Path, files: Sequence[str]) -> list[str]:
    """The lines the command ends with."""
    best = result.best
    n, d = points.x.shape
    lines = [
        f"nodes: {n} x {d} ({', '.join(points.names[:6])}{', ...' if d > 6 else ''}); "
        f"{describe_network(result)}"
    ]
    if result.problem.total <= _SHOWN and d <= 6:
        lines += ["", *_facility_lines(result, points), ""]
    cost = facts.cost_in_words(result.cost, result.scaling, result.cost_name)
    lines += [
        f"{cost}; found by restart {best.restart + 1} of {result.options.starts}",
        describe_sequential(result),
        *(
            f"{use.name} capacities: {'missed' if use.equality else 'exceeded'} by at most "
            f"{max(use.worst, 0):.2g} per unit weight"
            for use in uses_of(result)
        ),
        *([describe_unlimited(result)] if result.unlimited else []),
    ]
    return [*lines, *facts.ending(best, result.runs, files, folder)]


def _facility_lines(result: Result, points: Points) -> list[str]:
    rows = [
        [
            str(index), *(f"{value:.6g}" for value in place), f"{visits:.3f}",
            f"{100 * share:.1f}%",
        ]
        for index, (place, visits, share) in enumerate(
            zip(result.facilities, result.usage, result.entry_shares, strict=True)
        )
    ]  # fmt: skip
    return facts.columns([["facility", *points.names, "visits", "enter here"], *rows])
