"""Capacities from the options of commands: numbers separated by commas."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import mepjax as mj

from ..errors import CommandError
from ..tables.table import show


@dataclass(frozen=True)
class Capacity:
    """Shares or visits per unit weight; `equal` to these, or at most these."""

    values: np.ndarray
    equal: bool = False

    def of(self, dtype: Any) -> Any:
        """The argument of a problem."""
        values = self.values.astype(dtype)
        return mj.Equal(values) if self.equal else values


def read_numbers(option: str, text: str, expected: str) -> np.ndarray:
    """Numbers separated by commas, not NaN."""
    try:
        # Python's own digit grouping is no other tool's.
        values = [math.nan if "_" in cell else float(cell) for cell in text.split(",")]
    except ValueError:
        values = [math.nan]
    if any(math.isnan(value) for value in values):
        raise CommandError(f"{option}: got {show(text)}; expected {expected}.")
    return np.array(values)


def read_capacity(option: str, text: str, m: int, whose: str = "facility") -> Capacity:
    """M numbers >= 0 separated by commas, after `=` where they are to be met exactly.

    **Raises:** `CommandError` for anything else.
    """
    expected = (
        f"{m} numbers >= 0 separated by commas, one a {whose}, after = if they are not bounds "
        "but to be met"
    )
    text = text.strip()
    equal = text.startswith("=")
    values = read_numbers(option, text.removeprefix("="), expected)
    if len(values) != m or np.min(values) < 0 or (equal and not np.all(np.isfinite(values))):
        raise CommandError(f"{option}: got {show(text)}; expected {expected}.")
    return Capacity(values, equal)


def read_shares(option: str, text: str, k: int) -> Capacity:
    """Capacities of K clusters, as shares of the weight; `equal` for sizes all alike.

    **Raises:** `CommandError` for anything else, or shares that have no room for the weight.
    """
    if text.strip() == "equal":
        return Capacity(np.full(k, 1 / k), True)
    found = read_capacity(option, text, k, "cluster")
    total = float(np.sum(found.values))
    if found.equal and abs(total - 1) > 1e-9:
        expected = "shares with the sum 1 after ="
    elif total < 1 - 1e-9:
        expected = "bounds with a sum of at least 1"
    else:
        return found
    raise CommandError(f"{option}: got {show(text)}, with the sum {total:g}; expected {expected}.")
