"""Figures 7.1 and 7.2: how many columns matter."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..select.sparse_marginal_return import ebic, sizes_of_return, sparse_marginal_return
from ..select.sparse_path import sparse_path
from .counting import counted_as_printed, tasks_of
from .counting_draw import curves
from .reproduction import Claim, Reproduction, Setting

Data = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class _Design:
    """A regression, the number that is printed, and the one that is known to be right."""

    key: str
    load: Callable[[Setting], Data]
    printed: int | None
    known: int | None
    largest: int


def drawn(r: int, n: int, m: int, smallest: float, noise: float, shift: int) -> Any:
    """Normal columns, m of them with amplitudes from `smallest` to 2, and noise of a deviation."""

    def load(setting: Setting) -> Data:
        rng = np.random.default_rng(setting.seed + shift)
        design = rng.normal(size=(r, n))
        amplitudes = rng.choice([-1.0, 1.0], m) * rng.uniform(smallest, 2.0, m)
        clean = design[:, rng.choice(n, m, replace=False)] @ amplitudes
        return design, clean + noise * rng.normal(size=r)

    return load


def _table(*parts: str, columns: slice, target: int, delimiter: str) -> Callable[[Setting], Data]:
    """Columns of unit deviation, all centred."""

    def load(setting: Setting) -> Data:
        table = np.genfromtxt(setting.file(*parts), delimiter=delimiter, skip_header=1)
        x, y = table[:, columns], table[:, target]
        x = x - x.mean(axis=0)
        return x / x.std(axis=0), y - y.mean()

    return load


_DESIGNS = [
    _Design("Figure 7.1(a), 6 x 10", drawn(6, 10, 3, 1.0, 1e-3, 0), 3, 3, 5),
    _Design("Figure 7.1(b), 100 x 1000, amplitudes from .02", drawn(100, 1000, 12, 0.02, 0.02, 1),
            11, 12, 24),
    _Design("Figure 7.1(c), amplitudes from 1", drawn(100, 1000, 12, 1.0, 0.02, 2), 12, 12, 24),
    _Design("Figure 7.1(d), noise of .1", drawn(100, 1000, 12, 1.0, 0.1, 3), 12, 12, 24),
    _Design("Figure 7.2(a), Pima", _table("pima", "pima.csv", columns=slice(8), target=8,
            delimiter=","), 2, None, 8),
    _Design("Figure 7.2(b), prostate", _table("prostate", "prostate.data", columns=slice(1, 9),
            target=9, delimiter="\t"), 8, None, 8),
    _Design("diabetes of least angles", _table("diabetes_lars", "diabetes.data",
            columns=slice(10), target=10, delimiter="\t"), None, None, 10),
]  # fmt: skip


def _compute(setting: Setting, each: _Design) -> dict[str, Any]:
    x, y = each.load(setting)
    r, n = x.shape
    with jax.enable_x64(True), warnings.catch_warnings():
        # As many sizes as the figures have.
        warnings.filterwarnings("ignore", ".*more than a third", UserWarning)
        path = sparse_path(jnp.asarray(x), jnp.asarray(y), min(each.largest, r, n))
        count = int(path.n_sizes)
        top = min(
            count, max(each.largest if n <= 10 else 2, min(each.largest, sizes_of_return(r, n)))
        )
        rows = {s: np.asarray(path.supports[s - 1, :s]) for s in range(1, top + 1)}
        order = sparse_marginal_return(x, y, rows)
        literal = sparse_marginal_return(x, y, rows, literal=True)
        criterion = np.asarray(ebic(path, r, n))
    size = int(np.argmin(criterion))
    sums = np.asarray(path.residual_sums)
    return {
        "known": each.known,
        "best": int(order.best),
        "literal": int(literal.best),
        "ebic": size,
        "support": rows[size] if 0 < size <= top else [],
        "explained": float(1 - sums[max(size, 1) - 1] / float(path.total)),
        "v": np.round(np.asarray(order.returns[1:]), 4),
    }


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    printed = {each.key: each.printed for each in _DESIGNS if each.printed is not None}
    claims = counted_as_printed("counted as printed, by the spare atom", rows, printed)
    claims += counted_as_printed(
        "counted as printed, by (7.15) as printed", rows, printed, "literal"
    )
    known = [row for row in rows.values() if row["known"] is not None]
    for name, title in (("literal", "(7.15) as printed"), ("ebic", "extended BIC")):
        if known:
            hits = sum(row[name] == row["known"] for row in known)
            claims.append(Claim(f"true numbers found by {title}", "-", f"{hits} of {len(known)}"))
    return claims


REPRODUCTION = Reproduction(
    "figure_7",
    "how many columns, by the marginal return",
    "parameterized sequential decision making, Figures 7.1 and 7.2",
    partial(tasks_of, _DESIGNS, _compute),
    {
        "known": "columns there are",
        "best": "marginal return (spare atom)",
        "literal": "marginal return as printed",
        "ebic": "extended BIC",
        "support": "columns, by extended BIC",
        "explained": "variance explained by these",
        "v": "v(2), v(3), ...",
    },
    _claims,
    lambda rows, setting: {"returns": curves(rows)} if rows else {},
    minutes={"small": 1, "medium": 1, "paper": 1},
)
