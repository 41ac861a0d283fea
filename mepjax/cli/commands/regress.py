"""`mepjax regress`: which columns of a table explain another one."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer

from ...select.model_order import ModelOrder
from ...select.sparse_marginal_return import ebic, sizes_of_return, sparse_marginal_return
from ...select.sparse_path import SparsePath, sparse_path
from ..console import say
from ..errors import CommandError
from ..options.checks import require
from ..options.order import OrderOptions
from ..options.output import OutputOptions
from ..report import folder, order, sections, terminal
from ..report.model import (
    Card,
    Column,
    Figure,
    Heading,
    Report,
    Section,
    Table,
    Text,
    finite_or_none,
)
from ..tables.points import read_table

_SIZES = 30
_WAYS = ("ebic", "return")


@dataclass(frozen=True)
class Regression:
    """A design of centred columns of unit standard deviation, and a centred response."""

    design: np.ndarray
    response: np.ndarray
    names: tuple[str, ...]
    target: str
    means: np.ndarray
    deviations: np.ndarray
    mean: float


def regress(
    table: Annotated[
        Path,
        typer.Argument(
            help="One observation a row: delimited text (also by gzip), NPY, NPZ or Parquet.",
            show_default=False,
        ),
    ],
    target: Annotated[
        str, typer.Option(help="The column to explain, by name or index.", show_default=False)
    ] = "",
    columns: Annotated[
        str | None,
        typer.Option(
            help="Columns that may explain it, such as a,b or 2,3.",
            show_default="all others",
        ),
    ] = None,
    select: Annotated[
        str,
        typer.Option(
            help="How many columns: ebic, the extended Bayesian information criterion; return, the "
            "thesis's marginal return; or a number."
        ),
    ] = "ebic",
    sizes: OrderOptions = OrderOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Find the few columns of a table that explain another one.

    Writes coefficients.csv, path.csv, sizes.csv, two pictures, report.html and report.json.
    """
    require(bool(target), "--target", "none", "the name or index of a column")
    data = read_regression(table, target, columns)
    r, n = data.design.shape
    most = sizes.size(_SIZES, min(r - 1, n), "the columns and the rows less one")
    if sizes.max_size is None:
        most = max(1, min(most, r // 3))
    is_number = select.isascii() and select.isdigit()
    require(select in _WAYS or is_number, "--select", repr(select), "ebic, return or a number")
    if is_number:
        require(1 <= int(select[:9]) <= most, "--select", select, f"from 1 to {most}")
    output.check()
    sizes.start()
    with jax.enable_x64(True), warnings.catch_warnings():
        # A size that was asked for.
        warnings.simplefilter("ignore", UserWarning)
        design, response = jnp.asarray(data.design), jnp.asarray(data.response)
        path = sparse_path(design, response, most)
        criterion = np.asarray(ebic(path, r, n))
        found = None
        if int(path.n_sizes) >= 2:
            top = min(int(path.n_sizes), sizes_of_return(r, n))
            supports = np.asarray(path.supports)
            table_of = {size: supports[size - 1, :size] for size in range(1, top + 1)}
            found = sparse_marginal_return(design, response, table_of)
    if select == "return" and found is None:
        raise CommandError(
            "--select: got 'return'; expected it with at least two sizes to compare."
        )
    if is_number:
        size = int(select[:9])
        require(size <= int(path.n_sizes), "--select", size, "as many independent columns")
    else:
        size = int(found.best) if select == "return" and found else int(np.argmin(criterion))
    made = report(data, path, criterion, found, size, select, str(table))
    files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def read_regression(path: Path, target: str, columns: str | None) -> Regression:
    """Response and columns of a file.

    **Raises:** `CommandError` for words, constant columns, or a target among the columns.
    """
    table = read_table(path, "TABLE")
    place = table.find(target, "--target")
    if columns is None:
        chosen = [index for index in range(table.width) if index != place]
    else:
        chosen = table.find_all(columns)
        if place in chosen:
            raise CommandError(
                f"--columns: got {table.titles[place]!r:.80}, which is the --target too; expected "
                "other columns."
            )
    if table.n < 4 or not chosen:
        raise CommandError(
            f"{table.what}: got {table.n} rows and {len(chosen)} columns beside the target; "
            "expected at least 4 rows and a column."
        )
    y = table.numbers(place)
    x = np.stack([table.numbers(index) for index in chosen], axis=1)
    spread = x.std(axis=0)
    names = tuple(table.titles[index] for index in chosen)
    scale = np.maximum(np.abs(x).max(axis=0), np.finfo(float).tiny)
    flat = np.flatnonzero(spread <= 1e-12 * scale)
    if len(flat):
        raise CommandError(
            f"{table.what}: column {names[flat[0]]!r:.80} is constant; expected --columns without "
            "it."
        )
    if np.std(y) <= 1e-12 * max(np.abs(y).max(), np.finfo(float).tiny):
        raise CommandError(
            f"--target: {table.titles[place]!r:.80} is constant; nothing to explain."
        )
    mean = x.mean(axis=0)
    return Regression(
        (x - mean) / spread, y - y.mean(), names, table.titles[place], mean, spread, float(y.mean())
    )


def report(
    data: Regression, path: SparsePath, criterion: np.ndarray, found: ModelOrder | None,
    size: int, select: str, source: str,
) -> Report:  # fmt: skip
    """What was found; coefficients in input units."""
    r, n = data.design.shape
    count = int(path.n_sizes)
    sums = np.asarray(path.residual_sums, np.float64)[:count]
    total = float(path.total)
    supports = [np.asarray(path.supports[s])[: s + 1] for s in range(count)]
    support = supports[size - 1] if size else np.empty(0, int)
    scaled = np.asarray(path.coefficients, np.float64)[size - 1, :size] if size else np.empty(0)
    own = scaled / data.deviations[support]
    intercept = data.mean - float(own @ data.means[support])
    explained = 1 - (sums[size - 1] if size else total) / total
    union = np.flatnonzero(path.union(size)) if size else support
    facts = {
        **order.heading(source, (r, n), data.names),
        "options": {"target": data.target, "select": select},
        "scale": {"kind": "zscore", "units": "coefficients in units of the table"},
        "columns_used": size,
        "support": [data.names[i] for i in support],
        "union": [data.names[i] for i in union],
        "coefficients": [float(value) for value in own],
        "intercept": intercept,
        "r_squared": finite_or_none(explained),
        "ebic": [finite_or_none(value) for value in criterion],
        "order": None if found is None else order.facts(found),
    }

    def draw(figure: Any) -> None:
        from ...plot import sparse_path as draw_path

        draw_path(path, size=size, names=data.names, ax=figure.add_subplot())

    others = [data.names[i] for i in np.setdiff1d(union, support)]
    coefficients = Table(
        "coefficients",
        [
            Column("column", [data.names[i] for i in support], is_text=True),
            Column("coefficient", own),
            Column("per_deviation", scaled, title="per standard deviation"),
        ],
        on_terminal=bool(size),
        note=f"Intercept {intercept:.6g}.",
    )
    steps = Table(
        "path",
        [
            Column("size", np.arange(1, count + 1)),
            Column("residual_share", sums / total),
            Column("ebic", [finite_or_none(value) for value in criterion[1 : count + 1]]),
            Column("columns", [", ".join(data.names[i] for i in s) for s in supports],
                   is_text=True),
        ],
    )  # fmt: skip
    warning = (
        [Text(f"{', '.join(others)}: the same as a column that is named, but for its scale; which "
              "of them is named is arbitrary.", is_warning=True)]
        if others else []
    )  # fmt: skip
    return Report(
        Heading("regress", source, f"{data.target} by {n} columns, {r} rows"),
        [
            Card("columns used", f"{size} of {n}", f", by {select}"),
            Card("explained", f"{100 * explained:.1f} %", " of the variance of the target"),
        ],
        [
            Section("Which columns matter?", [coefficients, *warning]),
            Section(
                "How does that change with their number?",
                [
                    Figure("sparse_path", draw, "Coefficients per standard deviation.", (8, 5),
                           is_file=True),
                    steps,
                ],
            ),
            *([] if found is None else
              [Section("What does the marginal return say?", order.blocks(found, data.names))]),
            sections.settings(facts, facts["options"]),
        ],
        facts,
    )  # fmt: skip
