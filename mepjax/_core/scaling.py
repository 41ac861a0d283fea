"""Between the units of the user's data and those a solve works in."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

KINDS = ("none", "unit", "zscore")
# Length of a degree of latitude on a sphere as large as the earth.
_KM_PER_DEGREE = 6371.0088 * math.pi / 180


@dataclass(frozen=True)
class Scaling:
    """x -> (x - shift) / factor, in float64; `factor` has one entry per column.

    **Fields:** `lengths`, what one unit of each column is long: 1, or km a degree.
    """

    kind: str
    shift: np.ndarray
    factor: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of(
        cls,
        kind: str,
        x: np.ndarray,
        weights: np.ndarray | None,
        lonlat: tuple[int, int] | None = None,
    ) -> "Scaling":
        """`unit`: bounding box in the unit cube, one factor; `zscore`: unit standard deviations.

        Points of weight zero do not count. Constant columns keep their factor. Columns `lonlat`
        are degrees of longitude and latitude: they are laid out in km on a flat map first, true
        to scale at the mean latitude.
        """
        if weights is not None:
            x, weights = x[weights > 0], weights[weights > 0]
        lengths = np.ones(x.shape[1])
        if lonlat is not None:
            longitude, latitude = lonlat
            middle = np.radians(np.average(x[:, latitude], weights=weights))
            # Never nothing, even at a pole.
            lengths[longitude] = _KM_PER_DEGREE * max(math.cos(middle), 1e-3)
            lengths[latitude] = _KM_PER_DEGREE
            x = x * lengths
        # All three shift, which loses no digits here and saves many in float32.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(x, axis=0, weights=weights)
            shift, factor = mean, np.ones(x.shape[1])
            if kind == "unit":
                shift = np.min(x, axis=0)
                factor = np.full(x.shape[1], np.max(np.max(x, axis=0) - shift))
            elif kind == "zscore":
                factor = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
        return cls(kind, shift / lengths, np.where(factor > 0, factor, 1.0) / lengths, lengths)

    @classmethod
    def identity(cls, d: int) -> "Scaling":
        """x -> x for `d` columns."""
        return cls("none", np.zeros(d), np.ones(d), np.ones(d))

    @property
    def is_map(self) -> bool:
        """Whether input units are degrees, and lengths km."""
        return bool(np.any(self.lengths != 1))

    @property
    def cost_unit(self) -> str:
        """What `cost_factor` turns costs into."""
        if not self.is_map:
            return "input units"
        return "square km" if np.all(self.lengths != 1) else "mixed units"

    @property
    def cost_factor(self) -> float | None:
        """What turns a squared scaled length into `cost_unit`; `None` where there is no such."""
        sides = self.factor * self.lengths
        with np.errstate(over="ignore"):
            factor = float(np.square(sides[0]))
        usable = np.allclose(sides, sides[0], rtol=1e-12, atol=0) and 0 < factor < math.inf
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
