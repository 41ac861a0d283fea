"""Between the units of the user's data and those a solve works in."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("none", "unit", "zscore")


@dataclass(frozen=True)
class Scaling:
    """x -> (x - shift) / factor, in float64; `factor` has one entry per column."""

    kind: str
    shift: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, kind: str, x: np.ndarray, weights: np.ndarray | None) -> "Scaling":
        """`unit`: bounding box in the unit cube, one factor; `zscore`: unit standard deviations.

        Points of weight zero do not count. Constant columns keep their factor.
        """
        if weights is not None:
            x, weights = x[weights > 0], weights[weights > 0]
        # All three shift, which loses no digits here and saves many in float32.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(x, axis=0, weights=weights)
            shift, factor = mean, np.ones(x.shape[1])
            if kind == "unit":
                shift = np.min(x, axis=0)
                factor = np.full(x.shape[1], np.max(np.max(x, axis=0) - shift))
            elif kind == "zscore":
                factor = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
        return cls(kind, shift, np.where(factor > 0, factor, 1.0))

    @classmethod
    def identity(cls, d: int) -> "Scaling":
        """x -> x for `d` columns."""
        return cls("none", np.zeros(d), np.ones(d))

    @property
    def cost_factor(self) -> float | None:
        """What turns a squared scaled length into input units; `None` where there is no such."""
        with np.errstate(over="ignore"):
            factor = float(np.square(self.factor[0]))
        usable = np.all(self.factor == self.factor[0]) and 0 < factor < math.inf
        return factor if usable else None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Input units to scaled ones."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (x - self.shift) / self.factor

    def invert(self, x: Any) -> np.ndarray:
        """Scaled units to input ones."""
        return np.asarray(x, np.float64) * self.factor + self.shift


def square_range(dtype: Any) -> tuple[float, float]:
    """(low, high): largest coordinates in between have sums of squares that `dtype` can hold."""
    limits = np.finfo(dtype)
    return 1e3 * float(limits.tiny) ** 0.5, 1e-2 * float(limits.max) ** 0.5
