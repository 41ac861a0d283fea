"""What a result says: files, a JSON report, and lines for the terminal."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import facts, figures, geojson, names, page
from .cluster import IGNORED, Options, Result
from .files import new_files, write_table
from .points import Points
from .words import describe_autonomy, excess, shares

FILES = names.CLUSTER
ALL_FILES = (*FILES, *names.CLUSTER_MAP, *names.CLUSTER_FILM)
_SHOWN_CENTRES = 12


def files_for(points: Points, options: Options) -> tuple[str, ...]:
    """The names of the files that a run writes."""
    return (
        *FILES,
        *(names.CLUSTER_MAP if points.lonlat is not None else ()),
        *(names.CLUSTER_FILM if options.animate else ()),
    )


def write_all(folder: Path, result: Result, points: Points, source: str) -> tuple[str, ...]:
    """Write centres, assignments, report, page and figure to `folder`, or nothing.

    **Arguments:** `source`: the name of the input, for the report.

    **Returns:** the names of the files.
    """
    wanted = files_for(points, result.options)
    found = report(result, points, source)
    with new_files(folder, names.EVERY) as place:
        write_table(place("centres.csv"), _centres(result, points))
        write_table(place("assignments.csv"), _assignments(result, points))
        text = json.dumps(found, indent=2, allow_nan=False)
        place("report.json").write_text(text + "\n", encoding="utf-8")
        drawn = figures.draw_all(result, points)
        place("clusters.png").write_bytes(drawn["clusters"])
        # Names of files may hold bytes that are no text.
        html = page.render(result, points, found, drawn)
        place("report.html").write_text(html, encoding="utf-8", errors="backslashreplace")
        if points.lonlat is not None:
            geojson.write_centres(place("centres.geojson"), result, points)
            geojson.write_assignments(place("assignments.geojson"), result, points)
        if result.options.animate:
            figures.write_film(place("anneal.gif"), result, points)
    return wanted


def _centres(result: Result, points: Points) -> Iterable[list[Any]]:
    yield ["cluster", *points.names, "share_told", "share_ending"]
    rows = zip(result.centres, *shares(result), strict=True)
    for index, (centre, told, ends) in enumerate(rows):
        yield [index, *(f"{value:.9g}" for value in centre), f"{told:.7g}", f"{ends:.7g}"]


def _assignments(result: Result, points: Points) -> Iterable[list[Any]]:
    ids, weights = points.ids, points.weights
    yield [
        "row",
        *([] if ids is None else ["id"]),
        "cluster",
        *([] if weights is None else ["weight"]),
        *(f"p_{index}" for index in range(result.problem.k)),
    ]
    rows = zip(result.assignments.tolist(), result.policy.tolist(), strict=True)
    for row, (cluster, policy) in enumerate(rows):
        yield [
            row,
            *([] if ids is None else [ids[row]]),
            cluster,
            *([] if weights is None else [f"{weights[row]:.9g}"]),
            *(f"{value:.7g}" for value in policy),
        ]


# The report.


def report(result: Result, points: Points, source: str) -> dict[str, Any]:
    """Everything about a result that is not one number a point, ready for JSON."""
    options, scaling, best, ignored = result.options, result.scaling, result.best, result.ignored
    chosen = facts.describe_chosen(best, scaling, "clusters_used")
    return {
        **facts.heading(points, source),
        "options": {
            "k": options.k,
            "autonomy": {
                "model": options.kind,
                **options.parameters,
                **({} if options.matrix is None else {"p": options.matrix.tolist()}),
            },
            "capacity": None
            if options.capacity is None
            else {
                "kind": "equal" if options.capacity.equal else "bounds",
                "shares": [facts.number(value) for value in options.capacity.values],
            },
            **facts.anneal_options(options, result.schedule),
            "sample": options.sample or None,
        },
        "scale": facts.scale(scaling, "Temperature, beta, costs and free energy", "Centres"),
        "chosen": chosen,
        "sizes": None
        if options.capacity is None
        else {"told": shares(result)[0].tolist(), "excess": excess(result).tolist()},
        "cost_of_ignoring_autonomy": {
            "percent": result.cost_of_ignoring,
            "hard_cost_ignored": None if ignored is None else facts.number(ignored.cost),
            "hard_cost_aware": facts.number(best.cost),
            "restart_ignored": None if ignored is None else ignored.restart + 1,
        }
        if options.is_aware
        else None,
        **facts.course(best, result.runs, "clusters_used"),
    }


# The terminal.


def summary(
    result: Result, points: Points, folder: Path, files: Sequence[str] = FILES
) -> list[str]:
    """The lines the command ends with."""
    best = result.best
    n, d = points.x.shape
    lines = [
        f"points: {n} x {d} ({', '.join(points.names[:6])}{', ...' if d > 6 else ''}); "
        f"k = {result.problem.k}, {describe_autonomy(result)}",
    ]
    if result.problem.k <= _SHOWN_CENTRES and d <= 6:
        lines += ["", *_centre_lines(result, points), ""]
    cost = facts.cost_in_words(best.cost, result.scaling)
    lines += [
        f"{cost}; found by: {best.name}, restart {best.restart + 1} of {result.options.starts}",
        f"clusters used: {best.n_used} of {result.problem.k}",
    ]
    if result.options.capacity is not None:
        lines.append(_sizes(result))
    if result.options.is_aware:
        lines.append(_ignoring(result))
    return [*lines, *facts.ending(best, result.runs, files, folder)]


def _sizes(result: Result) -> str:
    told = ", ".join(f"{100 * share:.4g}%" for share in shares(result)[0])
    gap = excess(result)
    worst = float(np.max(np.abs(gap)))
    # Shares are of whole points.
    verdict = f"off by {100 * worst:.2g}% at most" if worst > 1e-6 else "as asked for"
    return f"sizes told: {told}; {verdict}"


def _ignoring(result: Result) -> str:
    if result.ignored is None:
        return f"cost of ignoring autonomy: unknown, no run {IGNORED} converged"
    percent = result.cost_of_ignoring
    more = "undefined" if percent is None else f"{percent:+.2f}%"
    return (
        f"cost of ignoring autonomy: {more} (hard cost {result.ignored.cost:.6g} with the centres "
        "found without it)"
    )


def _centre_lines(result: Result, points: Points) -> list[str]:
    rows = [
        [str(index), *(f"{value:.6g}" for value in centre), f"{100 * told:.1f}%"]
        for index, (centre, told) in enumerate(zip(result.centres, shares(result)[0], strict=True))
    ]
    return facts.columns([["cluster", *points.names, "told to join"], *rows])
