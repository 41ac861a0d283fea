"""What a result says: files, a JSON report, and lines for the terminal."""

import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from . import figures, geojson, page
from .cluster import IGNORED, Options, Result, Run
from .files import new_files
from .points import Points
from .words import describe_autonomy, shares

FILES = ("centres.csv", "assignments.csv", "report.json", "report.html", "clusters.png")
_GEOJSON = ("centres.geojson", "assignments.geojson")
_FILM = ("anneal.gif",)
ALL_FILES = (*FILES, *_GEOJSON, *_FILM)
_SHOWN_CENTRES = 12


def files_for(points: Points, options: Options) -> tuple[str, ...]:
    """The names of the files that a run writes."""
    return (
        *FILES,
        *(_GEOJSON if points.lonlat is not None else ()),
        *(_FILM if options.animate else ()),
    )


def write_all(folder: Path, result: Result, points: Points, source: str) -> tuple[str, ...]:
    """Write centres, assignments, report, page and figure to `folder`, or nothing.

    **Arguments:** `source`: the name of the input, for the report.

    **Returns:** the names of the files.
    """
    wanted = files_for(points, result.options)
    facts = report(result, points, source)
    with new_files(folder, ALL_FILES) as place:
        _write_table(place("centres.csv"), _centres(result, points))
        _write_table(place("assignments.csv"), _assignments(result, points))
        text = json.dumps(facts, indent=2, allow_nan=False)
        place("report.json").write_text(text + "\n", encoding="utf-8")
        drawn = figures.draw_all(result, points)
        place("clusters.png").write_bytes(drawn["clusters"])
        # Names of files may hold bytes that are no text.
        html = page.render(result, points, facts, drawn)
        place("report.html").write_text(html, encoding="utf-8", errors="backslashreplace")
        if points.lonlat is not None:
            geojson.write_centres(place("centres.geojson"), result, points)
            geojson.write_assignments(place("assignments.geojson"), result, points)
        if result.options.animate:
            figures.write_film(place("anneal.gif"), result, points)
    return wanted


def _write_table(path: Path, rows: Iterable[list[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


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


def _number(value: Any) -> float | None:
    """A finite number, or None, since JSON has no NaN and no Inf."""
    value = float(value)
    return value if np.isfinite(value) else None


def _code(run: Run) -> dict[str, Any]:
    return {"code": run.code.name, "message": run.code.message}


def _betas(run: Run) -> list[float]:
    stages = int(run.solution.n_stages)
    return [float(beta) for beta in np.asarray(run.solution.trace.beta)[:stages]]


def _transitions(run: Run) -> list[float]:
    betas = np.asarray(run.solution.transitions)
    return [float(beta) for beta in betas[np.isfinite(betas)]]


def _describe(run: Run) -> dict[str, Any]:
    solution = run.solution
    stages = int(solution.n_stages)
    codes = [mj.Code(code) for code in np.asarray(solution.trace.code)[:stages].tolist()]
    names = [code.name for code in codes]
    return {
        "run": run.name,
        "restart": run.restart + 1,
        **_code(run),
        "hard_cost": _number(run.cost),
        "soft_cost": _number(solution.distortion),
        "free_energy": _number(solution.free_energy),
        "entropy": _number(solution.entropy),
        "clusters_used": run.n_used,
        "stages": stages,
        "steps": int(np.sum(np.asarray(solution.trace.steps)[:stages])),
        "stage_codes": {name: names.count(name) for name in dict.fromkeys(names)},
        "transitions": _transitions(run),
        "transitions_met": int(solution.n_transitions),
        "seconds": round(run.seconds, 3),
    }


def report(result: Result, points: Points, source: str) -> dict[str, Any]:
    """Everything about a result that is not one number a point, ready for JSON."""
    options, scaling, best, ignored = result.options, result.scaling, result.best, result.ignored
    solution, factor = best.solution, scaling.cost_factor
    chosen = _describe(best)
    chosen["beta"] = float(solution.beta)
    chosen["transitions"] = [beta for run in best.path for beta in _transitions(run)]
    chosen["transitions_met"] = sum(int(run.solution.n_transitions) for run in best.path)
    if factor is not None:
        for name in ("hard_cost", "soft_cost", "free_energy"):
            value = chosen[name]
            chosen[f"{name}_in_input_units"] = None if value is None else _number(value * factor)
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "file": source,
            "shape": list(points.x.shape),
            "columns": list(points.names),
            "weighted": points.weights is not None,
            "ids": points.ids is not None,
            "lonlat": None
            if points.lonlat is None
            else [points.names[index] for index in points.lonlat],
        },
        "options": {
            "k": options.k,
            "autonomy": {
                "model": options.kind,
                **options.parameters,
                **({} if options.matrix is None else {"p": options.matrix.tolist()}),
            },
            "restarts": options.starts,
            "seed": options.seed,
            "beta_min": float(result.schedule.beta_min),
            "beta_max": float(result.schedule.beta_max),
            "factor": float(result.schedule.factor),
            "precision": "float64" if options.float64 else "float32",
        },
        "scale": {
            "kind": scaling.kind,
            "shift": scaling.shift.tolist(),
            "factor": scaling.factor.tolist(),
            "cost_factor": factor,
            "units": units(result),
        },
        "chosen": chosen,
        "cost_of_ignoring_autonomy": {
            "percent": result.cost_of_ignoring,
            "hard_cost_ignored": None if ignored is None else _number(ignored.cost),
            "hard_cost_aware": _number(best.cost),
            "restart_ignored": None if ignored is None else ignored.restart + 1,
        }
        if options.is_aware
        else None,
        "beta_path": [beta for run in best.path for beta in _betas(run)],
        "runs": [_describe(run) for run in result.runs],
        "seconds": round(sum(run.seconds for run in result.runs), 3),
    }


def units(result: Result) -> str:
    """One sentence on what the numbers are measured in."""
    scaling = result.scaling
    if scaling.kind == "none":
        return "All numbers are in input units."
    how = {
        "unit": "x -> (x - shift) / factor, the longest side of the bounding box becoming 1",
        "zscore": "x -> (x - shift) / factor, each column's standard deviation becoming 1",
    }[scaling.kind]
    return (
        f"Temperature, beta, costs and free energy are in scaled units: {how}; costs in input "
        + (
            "units are cost_factor times as large."
            if scaling.cost_factor
            else "units do not exist."
        )
        + " Centres are in input units."
    )


# The terminal.


def summary(
    result: Result, points: Points, folder: Path, files: Sequence[str] = FILES
) -> list[str]:
    """The lines the command ends with."""
    best, factor = result.best, result.scaling.cost_factor
    n, d = points.x.shape
    lines = [
        f"points: {n} x {d} ({', '.join(points.names[:6])}{', ...' if d > 6 else ''}); "
        f"k = {result.problem.k}, {describe_autonomy(result)}",
    ]
    if result.problem.k <= _SHOWN_CENTRES and d <= 6:
        lines += ["", *_centre_lines(result, points), ""]
    scaled = result.scaling.kind != "none"
    cost = f"hard cost {best.cost:.6g}"
    if scaled:
        cost += f" at scale {result.scaling.kind}"
        cost += f", {best.cost * factor:.6g} in input units" if factor else ""
    lines += [
        f"{cost}; found by: {best.name}, restart {best.restart + 1} of {result.options.starts}",
        f"clusters used: {best.n_used} of {result.problem.k}",
    ]
    if result.options.is_aware:
        lines.append(_ignoring(result))
    lines.append(f"code {best.code.name}: {best.code.message}")
    failed = [run for run in result.runs if run.code.is_failing]
    if failed:
        lines.append(
            f"{len(failed)} of {len(result.runs)} runs did not converge and were not chosen; "
            "see report.json"
        )
    lines.append(f"wrote {', '.join(files)} to {folder}")
    return lines


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
    rows.insert(0, ["cluster", *points.names, "told to join"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
