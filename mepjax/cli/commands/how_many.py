"""`mepjax how-many`: how many clusters points have, if any."""

from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer

from ..._core.scaling import Scaling
from ...datasets import four_square
from ...select.model_order import ModelOrder
from ...select.persistence import clusterings, persistence
from ..console import say
from ..errors import CommandError
from ..options.checks import numeric, require
from ..options.order import OrderOptions, float32
from ..options.output import OutputOptions
from ..options.reading import TABLE_HELP, ReadingOptions
from ..report import folder, order, sections, terminal
from ..report.model import Column, Heading, Report, Section, Table, Text
from ..tables.points import Points

EXAMPLE = "bundled example: four_square(400)"
_SIZES = 20
_KINDS = ("scatter", "covariance")
_SCALES = ("zscore", "none")


def how_many(
    points: Annotated[
        Path | None, typer.Argument(help=TABLE_HELP.format(what="point"), show_default=False)
    ] = None,
    reading: ReadingOptions = ReadingOptions(),
    sizes: OrderOptions = OrderOptions(),
    kind: Annotated[
        str,
        typer.Option(help="scatter: clusters count by their weight; covariance: all alike."),
    ] = "scatter",
    scale: Annotated[
        str, typer.Option(help="zscore: standard deviation 1 in each column; none.")
    ] = "zscore",
    references: Annotated[
        int,
        numeric(
            "--references", int,
            help="Draws of each of two models without clusters, to compare with; 0: none.",
        ),
    ] = 10,
    output: OutputOptions = OutputOptions(),
) -> None:  # fmt: skip
    """Say how many clusters points have, and whether that is clear.

    Writes sizes.csv, assignments.csv, returns.png, report.html and report.json.
    """
    require(kind in _KINDS, "--kind", repr(kind), "one of " + ", ".join(_KINDS))
    require(scale in _SCALES, "--scale", repr(scale), "one of " + ", ".join(_SCALES))
    require(references >= 0, "--references", references, "at least 0")
    if points is None:
        reading.refuse("POINTS")
        x, _ = four_square(400)
        data = Points(np.asarray(x, np.float64), ("x", "y"), None)
    else:
        data = reading.read(points, "POINTS")
    kept = np.ones(len(data.x), bool) if data.weights is None else data.weights > 0
    distinct = len(np.unique(data.x[kept], axis=0))
    if distinct < 3:
        raise CommandError(f"POINTS: got {distinct} different points; expected at least 3.")
    most = sizes.size(_SIZES, distinct, "the number of different points")
    output.check()
    sizes.start()
    found, labels = solve(data, scale, most, kind, references, sizes.key)
    other = next(name for name in _SCALES if name != scale)
    second, _ = solve(data, other, most, kind, 0, sizes.key)
    source = EXAMPLE if points is None else str(points)
    made = report(data, found, labels, second, scale, kind, references, sizes.seed, source)
    files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def solve(
    data: Points, scale: str, most: int, kind: str, references: int, key: Any
) -> tuple[ModelOrder, np.ndarray]:
    """The report, and labels of every size."""
    scaling = Scaling.of(scale, data.x, data.weights, data.lonlat)
    with jax.enable_x64(False):
        z = jnp.asarray(float32(scaling.apply(data.x)))
        weights = jnp.asarray(float32(np.ones(len(z)) if data.weights is None else data.weights))
        labels = clusterings(z, most, weights=weights, key=key)
        found = persistence(z, labels, weights=weights, kind=kind, references=references, key=key)
    return found, np.asarray(labels)


def report(
    data: Points, found: ModelOrder, labels: np.ndarray, second: ModelOrder, scale: str,
    kind: str, references: int, seed: int, source: str,
) -> Report:  # fmt: skip
    """What was found; `second` is the answer at the other scale."""
    best, n = int(found.best), len(data.x)
    other = "without scaling" if scale == "zscore" else "with columns scaled"
    agrees = int(second.best) == best
    words = (
        f"The answer {other} is {'the same' if agrees else int(second.best)}."
        f"{'' if agrees else ' Units decide here: choose them with care.'}"
    )
    facts = {
        **order.heading(source, data.x.shape, data.names),
        "options": {"kind": kind, "references": references, "seed": seed},
        "scale": {"kind": scale, "units": "T in squared (scaled) units"},
        "order": order.facts(found),
        "other_scale": {"best": int(second.best), "agrees": agrees},
    }  # fmt: skip
    assignments = Table(
        "assignments",
        [*sections.names_of_rows(data.ids, n), Column("cluster", labels[best - 1])],
        note=f"Of the best clustering by squared distance into {best}.",
    )
    return Report(
        Heading("how-many", source, f"points: {n} x {data.x.shape[1]}; persistence ({kind})"),
        order.cards(found, "clusters"),
        [
            Section("How many clusters?", [*order.blocks(found), Text(words, not agrees)]),
            Section("Who belongs where?", [assignments]),
            sections.settings(facts, facts["options"]),
        ],
        facts,
    )
