"""What reports say of sizes: v(k), its picture, and the answer in words."""

from datetime import UTC, datetime
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ...select.model_order import NAMES, ModelOrder
from .model import Block, Card, Column, Figure, Table, Text, finite_or_none


def heading(source: str, shape: Any, columns: Any) -> dict[str, Any]:
    """Versions, the time, and what was read."""
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"file": source, "shape": list(shape), "columns": list(columns)},
    }


def cards(order: ModelOrder, name: str) -> list[Card]:
    """The best size, and how sure that is."""
    return [
        Card(name, str(int(order.best)), f", by {NAMES[order.kind]}"),
        Card("clear", "yes" if bool(order.clear) else "no", f": {order.in_words()}"),
    ]


def blocks(order: ModelOrder, names: Any = None) -> list[Block]:
    """Bars of v(k) and the table behind them; `names` are those of culprits."""

    def draw(figure: Any) -> None:
        from ...plot import returns

        returns(order, ax=figure.add_subplot())

    def numbers(values: Any) -> list[float | None]:
        return [finite_or_none(value) for value in np.asarray(values)]

    culprit = [int(place) for place in np.asarray(order.culprit)]
    shown = [None if c < 0 else str(c if names is None else names[c]) for c in culprit]
    columns = [
        Column("size", np.asarray(order.sizes)),
        Column("critical_temperature", numbers(order.critical), title="T(k)"),
        Column("v", numbers(order.returns), title="v(k)"),
        Column("culprit", shown, is_text=True, title="splits next"),
    ]
    if not np.all(np.isnan(np.asarray(order.excess))):
        columns += [
            Column("v_less_uniform", numbers(order.excess[0]), title="v less uniform box"),
            Column("v_less_normal", numbers(order.excess[1]), title="v less normal"),
        ]
    found: list[Block] = [
        Text(order.in_words()),
        Figure("returns", draw, "How long solutions of each size last.", is_file=True),
        Table(
            "sizes", columns, on_terminal=len(order.sizes) <= 12,
            note="v(k) = log T(k-1) - log T(k); T(k) is the temperature at which the first of k "
            "groups splits.",
        ),
    ]  # fmt: skip
    if order.negative:
        sizes = ", ".join(map(str, order.negative))
        words = f"v < 0 at {sizes}: the solution one size smaller is a poor one."
        found.append(Text(words, is_warning=True))
    return found


def facts(order: ModelOrder) -> dict[str, Any]:
    """As `report.json` has it."""
    return {
        "index": order.kind,
        "best": int(order.best),
        "runner_up": int(order.runner_up),
        "margin": finite_or_none(order.margin),
        "clear": bool(order.clear),
        "rival": int(order.rival),
        "resolved": int(order.resolved),
        "negative": list(order.negative),
        "words": order.in_words(),
        "sizes": [int(size) for size in np.asarray(order.sizes)],
        "critical_temperatures": [finite_or_none(t) for t in np.asarray(order.critical)],
        "v": [finite_or_none(v) for v in np.asarray(order.returns)],
    }
