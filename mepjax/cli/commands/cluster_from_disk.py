"""`mepjax cluster --from-disk`: clusters of points that do not fit into memory."""

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ...problems.clustering.on_disk import hard_slabs
from ..console import say
from ..errors import CommandError
from ..on_disk import Checkpoints, Found, Job
from ..options.anneal import AnnealOptions
from ..options.autonomy import AutonomyOptions
from ..options.clustering import ClusterOptions, Request
from ..options.disk import DiskOptions
from ..options.output import OutputOptions
from ..options.reading import ReadingOptions
from ..processes import solve_together
from ..report import folder, terminal
from ..report.model import Card, Column, Extra, Heading, Report, Section, Table, percent


def cluster_from_disk(
    points: Path | None,
    options: ClusterOptions,
    autonomy: AutonomyOptions,
    reading: ReadingOptions,
    anneal: AnnealOptions,
    disk: DiskOptions,
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
    out, start = output.out, _start(disk, output)
    job = Job(points, reading, request, Checkpoints(start, out, disk.checkpoint_every))
    with anneal.computing():
        rows = job.rows()
        request.check_size(rows.shape[0])
        several = disk.processes > 1
        found = solve_together(job, disk.processes) if several else job.solve(rows)
        says = _report(job.problem(rows), found, job, disk)
        files = folder.write(out, says)
    Checkpoints.remove(out)
    say(*terminal.lines(says, files, out))


def _start(disk: DiskOptions, output: OutputOptions) -> Path | None:
    """The folder whose checkpoints are gone on from; without --resume they are not to be lost."""
    kept = Checkpoints.of(output.out)
    if disk.resume:
        goes_on = "to the bit with as many processes as before, else to 1e-6"
        say(
            f"Going on from {kept[-1]}, {goes_on}."
            if kept
            else f"Nothing saved in {output.out}: beginning."
        )
        return output.out
    if kept and not output.force:
        raise CommandError(
            f"--out {str(output.out)!r}: got a folder that has {kept[-1].name}; expected --resume "
            "to go on from it, or --force to begin again."
        )
    Checkpoints.remove(output.out)
    return None


def _report(problem: mj.Clustering, found: Found, job: Job, disk: DiskOptions) -> Report:
    request, source = job.request, str(job.points)
    rows: Any = problem.x
    (n, d), table = rows.shape, rows.source.table
    centres = found.centres.astype(np.float64)
    names = table.names or tuple(f"x{i}" for i in range(table.columns))
    coordinates = [
        Column(names[column], centres[:, i]) for i, column in enumerate(rows.source.columns)
    ]
    told = np.asarray(jax.jit(mj.Clustering.masses)(problem, found.centres, found.beta))
    name = "assignments.parquet" if table.names else "assignments.csv"
    write = _write_parquet if table.names else _write_csv
    lead = f"{n} points of {d} features on disk; k = {request.k}, {request.autonomy.description}"
    return Report(
        Heading("cluster", source, lead),
        [
            Card("hard cost", f"{found.cost:.6g}", f" (restart {found.restart + 1})"),
            Card("code", found.code.name),
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
                Extra(name, partial(write, problem, found.centres)),
            ]),
        ],
        {
            "versions": {"mepjax": mj.__version__, "jax": jax.__version__},
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
            "input": {"file": source, "shape": [n, d], "hash": rows.source.fingerprint},
            "options": {**request.facts, "seed": request.anneal.seed, "restarts": request.starts,
                        "sample": request.cluster.sample or None, "processes": disk.processes,
                        "checkpoint_every": disk.checkpoint_every},
            "hard_cost": found.cost,
            "beta": found.beta,
            "code": found.code.name,
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
