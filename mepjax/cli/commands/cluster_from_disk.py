"""`mepjax cluster --from-disk`: clusters of points that do not fit into memory."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ...problems.clustering.on_disk import hard_slabs
from ..console import say
from ..errors import SOLVE, CommandError
from ..options.anneal import AnnealOptions
from ..options.autonomy import AutonomyOptions
from ..options.clustering import ClusterOptions, Request
from ..options.output import OutputOptions
from ..options.reading import ReadingOptions
from ..report import folder, terminal
from ..report.model import Card, Column, Extra, Heading, Report, Section, Table, percent


@dataclass(frozen=True)
class Result:
    """The best of all restarts, which it is, from 0, and its hard cost."""

    problem: mj.Clustering
    schedule: mj.Geometric
    solution: mj.Solution
    cost: float
    restart: int


def cluster_from_disk(
    points: Path | None,
    options: ClusterOptions,
    autonomy: AutonomyOptions,
    reading: ReadingOptions,
    anneal: AnnealOptions,
    output: OutputOptions,
) -> None:
    """`mepjax cluster` of points that stay on disk."""
    if points is None:
        raise CommandError("--from-disk: got no file; expected POINTS, a file or a folder.")
    for name, given in (
        ("capacity", options.capacity), ("animate", options.animate), ("ids", reading.ids),
        ("lonlat", reading.lonlat), ("array", reading.array), ("header", reading.header),
    ):  # fmt: skip
        if given:
            raise CommandError(f"--{name}: got it beside --from-disk; expected it only without.")
    if anneal.scale not in (None, "none"):
        raise CommandError(f"--scale: got {anneal.scale} beside --from-disk; expected none.")
    if autonomy.kind not in ("none", "uniform"):
        raise CommandError(
            f"--autonomy: got {autonomy.kind} beside --from-disk; expected none or uniform."
        )
    request = Request.of(options, autonomy, anneal)
    output.check()
    with anneal.computing():
        rows = _rows(points, reading)
        request.check_size(rows.shape[0])
        result = _solve(rows, request)
        found = _report(result, request, str(points))
        files = folder.write(output.out, found)
    say(*terminal.lines(found, files, output.out))


def _rows(points: Path, reading: ReadingOptions) -> mj.exec.Rows:
    def column(text: str) -> int | str:
        text = text.strip()
        return int(text) if text.isdecimal() else text

    columns = None if reading.columns is None else [*map(column, reading.columns.split(","))]
    weights = None if reading.weights is None else column(reading.weights)
    try:
        return mj.exec.Rows(points, columns=columns, weights=weights)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise CommandError(f"POINTS: {error}") from None


def _solve(rows: mj.exec.Rows, request: Request) -> Result:
    """The restart of least hard cost.

    **Raises:** `CommandError` if every restart failed.
    """
    anneal = request.anneal
    model = request.autonomy.model(request.k, None, anneal.dtype)
    problem = mj.Clustering(rows, request.k, autonomy=model)
    schedule = anneal.schedule(problem)
    detector = mj.Growth(sample=request.cluster.sample or None)
    found: list[Result] = []
    message = ""
    for restart, key in enumerate(jax.random.split(jax.random.key(anneal.seed), request.starts)):
        solution = mj.anneal(
            problem, schedule, key=key, detector=detector, repair=mj.Repair(swaps=2 * request.k),
            adjoint=mj.NoGrad(),
        )  # fmt: skip
        try:
            solution.raise_if_failed()
        except mj.SolveError as error:
            message = str(error)
            continue
        cost = float(problem.harden(solution.params).cost)
        found.append(Result(problem, schedule, solution, cost, restart))
    if not found:
        raise CommandError(message, SOLVE)
    return min(found, key=lambda result: result.cost)


def _report(result: Result, request: Request, source: str) -> Report:
    problem, solution = result.problem, result.solution
    rows: Any = problem.x
    (n, d), table = rows.shape, rows.source.table
    centres = np.asarray(solution.params, np.float64)
    names = table.names or tuple(f"x{i}" for i in range(table.columns))
    coordinates = [
        Column(names[column], centres[:, i]) for i, column in enumerate(rows.source.columns)
    ]
    told = np.asarray(jax.jit(mj.Clustering.masses)(problem, solution.params, solution.beta))
    name = "assignments.parquet" if table.names else "assignments.csv"
    write = _write_parquet if table.names else _write_csv
    lead = f"{n} points of {d} features on disk; k = {request.k}, {request.autonomy.description}"
    return Report(
        Heading("cluster", source, lead),
        [
            Card("hard cost", f"{result.cost:.6g}", f" (restart {result.restart + 1})"),
            Card("code", mj.Code(int(solution.code)).name),
        ],
        [
            Section("What are the centres?", [
                Table("centres", [
                    Column("cluster", np.arange(request.k)), *coordinates,
                    Column("share_ending", told, ".7g", "weight ending there", percent()),
                ], page_rows=request.k, on_terminal=True),
            ]),
            Section("Who belongs where?", [
                f"The cluster that each point is told to join is in {name}, in the order of rows.",
                Extra(name, partial(write, problem, solution.params)),
            ]),
        ],
        {
            "versions": {"mepjax": mj.__version__, "jax": jax.__version__},
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "input": {"file": source, "shape": [n, d], "hash": rows.source.fingerprint},
            "options": {**request.facts, "seed": request.anneal.seed, "restarts": request.starts,
                        "sample": request.cluster.sample or None},
            "hard_cost": result.cost,
            "beta": float(solution.beta),
            "code": mj.Code(int(solution.code)).name,
        },
    )  # fmt: skip


def _write_csv(problem: mj.Clustering, params: Any, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write("row,cluster\n")
        for first, labels, _, _ in hard_slabs(problem, params):
            rows = zip(range(first, first + len(labels)), labels.tolist(), strict=True)
            file.writelines(f"{row},{label}\n" for row, label in rows)


def _write_parquet(problem: mj.Clustering, params: Any, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    schema = pa.schema([("cluster", pa.int32())])
    with parquet.ParquetWriter(path, schema) as file:
        for _, labels, _, _ in hard_slabs(problem, params):
            file.write_table(pa.table({"cluster": labels}, schema=schema))
