"""`mepjax aggregate`: which states of a chain belong together, and in how many superstates."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer

import mepjax as mj

from ...select.marginal_return import aggregations, marginal_return
from ...select.model_order import ModelOrder
from ..console import say
from ..errors import CommandError
from ..options.checks import require
from ..options.order import OrderOptions, float32
from ..options.output import OutputOptions
from ..report import folder, order, sections, terminal
from ..report.model import Card, Column, Figure, Heading, Report, Section, Table, finite_or_none
from ..tables.points import read_table
from ..tables.table import TableFile, show

_WEIGHTS = ("stationary", "equal")


@dataclass(frozen=True)
class Chain:
    """Transitions (N, N), and the names of the states."""

    transitions: np.ndarray
    names: tuple[str, ...]


def aggregate(
    chain: Annotated[
        Path,
        typer.Argument(
            help="A square matrix of transition probabilities, rows sum to one, or with --edges a "
            "list: delimited text (also by gzip), NPY, NPZ or Parquet.",
            show_default=False,
        ),
    ],
    k: Annotated[
        str, typer.Option("-k", help="Number of superstates, or auto: the one that lasts longest.")
    ] = "auto",
    counts: Annotated[
        bool, typer.Option("--counts", help="The numbers are counts >= 0: rows are normalised.")
    ] = False,
    edges: Annotated[
        bool,
        typer.Option(
            "--edges",
            help="One transition a row: from, to and its probability (or count), by name.",
        ),
    ] = False,
    weights: Annotated[
        str, typer.Option(help="What a state weighs: stationary, by the chain itself, or equal.")
    ] = "stationary",
    sizes: OrderOptions = OrderOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Aggregate the states of a Markov chain into superstates that say alike what comes next.

    Writes superstates.csv, transitions.csv, sizes.csv, two pictures, report.html and report.json.
    """
    require(weights in _WEIGHTS, "--weights", repr(weights), "one of " + ", ".join(_WEIGHTS))
    data = read_chain(chain, counts, edges)
    n = len(data.names)
    wanted = _size(k, n)
    most = sizes.size(max(2, n // 2, wanted or 0), n, "the number of states")
    require(wanted is None or wanted <= most, "-k", k, f"at most --max-size {most}")
    output.check()
    sizes.start()
    with jax.enable_x64(False):
        rows = jnp.asarray(float32(data.transitions))
        rows = rows / jnp.sum(rows, axis=1, keepdims=True)
        given: Any = "stationary" if weights == "stationary" else jnp.ones((n,), rows.dtype)
        try:
            problem = mj.MarkovAggregation(rows, 1, weights=given)
        except ValueError as error:
            raise CommandError(f"CHAIN {show(chain)}: {error}") from None
        labels = aggregations(rows, most, weights=problem.weights, key=sizes.key)
        filled = next((i for i, row in enumerate(np.asarray(labels)) if len(set(row)) <= i), most)
        if wanted is not None and wanted > filled:
            raise CommandError(f"-k: got {k}; expected at most {filled}, the rows that differ.")
        found = marginal_return(rows, labels[: max(filled, 2)], weights=problem.weights)
        chosen = int(found.best) if wanted is None else wanted
        problem = mj.MarkovAggregation(rows, chosen, weights=problem.weights)
        hard = problem.of_partition(labels[chosen - 1])
    made = report(data, problem, hard, found, weights, sizes.seed, str(chain), wanted is None)
    files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def _size(k: str, n: int) -> int | None:
    if k == "auto":
        return None
    if not (k.isascii() and k.isdigit() and int(k[:9]) >= 1):
        raise CommandError(f"-k: got {k!r:.80}; expected auto or an integer from 1 to {n}.")
    require(int(k[:9]) <= n, "-k", k, f"at most the number of states, {n}")
    return int(k[:9])


def read_chain(path: Path, counts: bool, edges: bool) -> Chain:
    """The chain in a file.

    **Raises:** `CommandError` for what is no chain, naming the row.
    """
    table = read_table(path, "CHAIN")
    matrix, names = _edges(table) if edges else _square(table)
    if np.min(matrix) < 0:
        row, column = np.unravel_index(np.argmin(matrix), matrix.shape)
        raise CommandError(
            f"{table.what}: got {matrix[row, column]:g} from {show(names[row])} to "
            f"{show(names[column])}; expected numbers >= 0."
        )
    sums = matrix.sum(axis=1)
    if np.any(sums == 0):
        name = show(names[int(np.argmin(sums))])
        raise CommandError(f"{table.what}: got no way on from {name}; expected one for each state.")
    if not counts:
        worst = int(np.argmax(np.abs(sums - 1)))
        if abs(sums[worst] - 1) > 1e-4:
            raise CommandError(
                f"{table.what}: the row of {show(names[worst])} sums to {sums[worst]:.7g}; "
                "expected one, or --counts."
            )
    return Chain(matrix / sums[:, None], names)


def _square(table: TableFile) -> tuple[np.ndarray, tuple[str, ...]]:
    # A first column of words holds the names of the rows.
    first = int(table.width == table.n + 1 and not table.is_numeric(0))
    if table.width - first != table.n or table.n < 2:
        raise CommandError(
            f"{table.what}: got {table.n} rows and {table.width - first} columns; expected a "
            "square matrix of at least 2 states, or --edges."
        )
    matrix = np.stack([table.numbers(i) for i in range(first, table.width)], axis=1)
    if first:
        return matrix, tuple(table.words(0))
    names = table.names or [str(i) for i in range(table.n)]
    return matrix, tuple(names)


def _edges(table: TableFile) -> tuple[np.ndarray, tuple[str, ...]]:
    if table.width not in (2, 3):
        raise CommandError(
            f"{table.what}: got {table.width} columns; expected from, to and a probability."
        )
    sources, targets = table.words(0), table.words(1)
    values = table.numbers(2) if table.width == 3 else np.ones(table.n)
    names = tuple(dict.fromkeys([*sources, *targets]))
    if len(names) < 2:
        raise CommandError(f"{table.what}: got {len(names)} states; expected at least 2.")
    place = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(names), len(names)))
    np.add.at(matrix, ([place[s] for s in sources], [place[t] for t in targets]), values)
    return matrix, names


def report(
    data: Chain, problem: mj.MarkovAggregation, hard: mj.Aggregation, found: ModelOrder,
    weights: str, seed: int, source: str, is_auto: bool,
) -> Report:  # fmt: skip
    """What was found."""
    n, k = len(data.names), problem.k
    labels, states = np.asarray(hard.assignments), np.asarray(problem.weights, np.float64)
    total, lost = float(problem.information()), max(float(hard.information_loss), 0.0)
    share = lost / total if total > 0 else 0.0
    rate = finite_or_none(hard.kl_rate)
    facts = {
        **order.heading(source, (n, n), data.names),
        "options": {"weights": weights, "k": "auto" if is_auto else k, "seed": seed},
        "scale": {"kind": "none", "units": "nats"},
        "superstates": k,
        "information": finite_or_none(total),
        "information_loss": finite_or_none(lost),
        "kl_rate": rate,
        "order": order.facts(found),
    }

    def draw(figure: Any) -> None:
        from ...plot import aggregation

        aggregation(problem, hard, names=data.names, ax=figure.add_subplot())

    members = [", ".join(data.names[i] for i in np.flatnonzero(labels == j)) for j in range(k)]
    between = np.asarray(hard.transitions, np.float64)
    cards = [
        Card("superstates", str(k), ", chosen by marginal return" if is_auto else ", as asked"),
        Card("information lost", f"{lost:.4g} of {total:.4g} nats", f", {100 * share:.1f} %"),
        *([] if is_auto else order.cards(found, "best by marginal return")[:1]),
    ]
    return Report(
        Heading("aggregate", source, f"chain of {n} states, {weights} weights"),
        cards,
        [
            Section(
                "Which states belong together?",
                [
                    Table(
                        "superstates",
                        [
                            Column("state", data.names, is_text=True),
                            Column("superstate", labels),
                            Column("weight", states / states.sum()),
                        ],
                    ),
                    Figure("aggregation", draw, "Transitions, states by superstate.", is_file=True),
                ],
            ),
            Section(
                "What is the chain of superstates?",
                [
                    Table(
                        "transitions",
                        [
                            Column("superstate", np.arange(k)),
                            Column("members", members, is_text=True),
                            Column("weight", np.asarray(hard.weights, np.float64)),
                            *(Column(f"to_{j}", between[:, j]) for j in range(k)),
                        ],
                        on_terminal=k <= 6,
                    )
                ],
            ),
            Section("How many superstates?", order.blocks(found)),
            sections.settings(facts, facts["options"]),
        ],
        facts,
    )
