"""Table 5.1 and Figures 5.1 to 5.3: how many clusters, by persistence and by others."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ..select.persistence import persistence
from . import counting_data as data
from .counting import counted_as_printed
from .counting_draw import curves
from .counting_peers import peers, splitting_peers
from .numbers import FIGURE_5_3, FIGURE_5_3_EXACT, TABLE_5_1, TABLE_5_1_METHODS
from .reproduction import SCALES, Claim, Reproduction, Setting, Task

_PEERS = ("gap", "jump", "silhouette", "calinski", "bic")
# Peers take longer than the rest above so many points.
_PEER_POINTS = 6_000


@dataclass(frozen=True)
class _Set:
    """Points, the number they are said to have, and how they are counted.

    `largest`: sizes up to it are compared, by peers too; `scale`: the smallest that has the row;
    `bandwidth`: of the graph of near neighbours, for shapes that are no clumps.
    """

    key: str
    load: data.Load
    known: int
    largest: int = 12
    scale: str = "small"
    bandwidth: float | None = None
    starts: int | None = None
    printed: str | None = None


_SQUARE = [(-5, -5), (5, -5), (-5, 5), (5, 5)]
_SETS = [
    _Set("low variance", data.gaussians(_SQUARE, 1.0, 100), 4),
    _Set("high variance", data.gaussians(_SQUARE, 2.75, 100), 4),
    _Set("combo", data.combo, 8),
    _Set("Wisconsin", data.labelled("wbc"), 2),
    _Set("yeast", data.labelled("yeast"), 10, 15),
    _Set("glass", data.labelled("glass"), 6),
    _Set("wine", data.labelled("wine"), 3),
    _Set("iris", data.labelled("iris"), 3),
    _Set("banknote", data.labelled("banknote"), 2),
    _Set("thyroid", data.labelled("new_thyroid"), 3),
    _Set("rings", data.rings, 3, 8, bandwidth=0.2),
    _Set("spirals", data.spirals, 3, 8, bandwidth=0.2),
    _Set("Figure 5.1(a)", data.groups_of_three(60.0), 3),
    _Set("Figure 5.1(b)", data.groups_of_three(14.0), 9),
    _Set("Figure 5.3", data.discs, 2, 6),
    _Set("R15", data.benchmark("r15"), 15, 20),
    _Set("S1, Figure 5.2(d)", data.benchmark("s1"), 15, 20, "medium"),
    _Set("S2", data.benchmark("s2"), 15, 20, "medium"),
    _Set("S3", data.benchmark("s3"), 15, 20, "medium"),
    _Set("A1", data.benchmark("a1"), 20, 26, "medium"),
    _Set("D31", data.benchmark("d31"), 31, 40, "medium"),
    _Set("A2", data.benchmark("a2"), 35, 45, "medium"),
    *(
        _Set(f"leaves, {view}", data.leaves(view), 100, 110, "paper", starts=1, printed="leaves")
        for view in ("Mar", "Sha", "Tex")
    ),
    _Set("Birch1", data.benchmark("birch1"), 100, 105, "paper", starts=1),
]


def _compute(setting: Setting, each: _Set) -> dict[str, Any]:
    raw = each.load(setting)
    key = jax.random.key(setting.seed)
    sizes = range(1, each.largest + 1)
    graph = each.bandwidth is not None
    # A graph's bandwidth, and the closed form of the discs, are in units of the points.
    as_given = graph or each.key == "Figure 5.3"
    x = raw.astype(np.float32) if as_given else data.standardised(raw)
    order = persistence(
        x, sizes=sizes, key=key, starts=each.starts,
        references=0 if graph else setting.pick(5, 3, 2),
        kernel="commute_time" if graph else None, bandwidth=each.bandwidth,
    )  # fmt: skip
    found = {
        "known": each.known,
        "best": int(order.best),
        "answer": "clear" if order.clear else "-" if graph else "not clear",
        "against references": None if graph else _against(order),
        "v": np.round(np.asarray(order.returns[1:], np.float64), 4),
        "margin": float(order.margin),
    }
    if not graph and len(x) <= _PEER_POINTS:
        for name, ask in (
            ("peers", lambda: peers(x, sizes, setting.seed)),
            ("splitting peers", lambda: splitting_peers(x, each.largest, setting.seed)),
        ):
            try:
                found |= ask()
            except ImportError as error:
                found[name] = f"not measured: {error}"
    return found


def _against(order: Any) -> int:
    """The size of the largest v less its mean over the reference that is the harder to beat."""
    excess = np.min(np.asarray(order.excess, np.float64), axis=0)
    return int(order.sizes[np.nanargmax(excess)])


def _printed(each: _Set) -> dict[str, Any]:
    row = TABLE_5_1.get(each.printed or each.key)
    if row is not None:
        named = zip(TABLE_5_1_METHODS, row, strict=True)
        return {name: "Error" if value == -1 else value for name, value in named}
    return {"v": FIGURE_5_3} if each.key == "Figure 5.3" else {}


def _tasks(setting: Setting) -> list[Task]:
    level = SCALES.index(setting.scale)
    return [
        Task(each.key, lambda each=each: _compute(setting, each), _printed(each))
        for each in _SETS
        if SCALES.index(each.scale) <= level
    ]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    printed = {each.key: best for each in _SETS if (best := _printed(each).get("best")) is not None}
    claims = counted_as_printed("sets counted as the table has it", rows, printed)
    told = [key for key, row in rows.items() if row["answer"] == "clear"]
    hits = [key for key in told if rows[key]["best"] == rows[key]["known"]]
    claims.append(
        Claim("clear answers that are right", "-", f"{len(hits)} of {len(told)}",
              len(hits) >= 0.85 * len(told) if told else None)
    )  # fmt: skip
    for key, number in (("Figure 5.1(a)", 3), ("Figure 5.1(b)", 9)):
        if key in rows:
            best = rows[key]["best"]
            claims.append(Claim(key, str(number), str(best), best == number))
    if "Figure 5.3" in rows:
        v = np.array(rows["Figure 5.3"]["v"])
        apart = float(np.max(np.abs(v - FIGURE_5_3_EXACT)))
        shown = ", ".join(f"{value:.2f}" for value in v)
        claims.append(
            Claim("two discs: v(2) .. v(6); in closed form 3.53, 0, .69, 0, .94",
                  ", ".join(map(str, FIGURE_5_3)), shown, apart < 0.1)
        )  # fmt: skip
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    del setting
    return {"returns": curves(rows)} if rows else {}


REPRODUCTION = Reproduction(
    "table_5_1",
    "how many clusters, by persistence and by others",
    "parameterized sequential decision making, Table 5.1 and Figures 5.1 to 5.3",
    _tasks,
    {
        "known": "said to be right",
        "best": "persistence",
        "answer": "clear",
        "against references": "against references",
        "gap": "gap",
        "jump": "jump (Info. Th.)",
        "silhouette": "silhouette",
        "calinski": "Calinski-Harabasz",
        "bic": "BIC",
        "x_means": "X-means",
        "g_means": "G-means",
        "pg_means": "PG-means",
        "dip_means": "dip-means",
        "kernel_dip": "kernel dip-means",
    },
    _claims,
    _draw,
    minutes={"small": 3, "medium": 15, "paper": 90},
)
