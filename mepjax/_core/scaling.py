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

    **Fields:** `lengths`, what one unit of each column is long: 1, or km a degree; `seam`, the
    column of longitudes and the one at which the map begins, or `None`; `constant`, columns that
    count nothing, being constant but for rounding.
    """

    kind: str
    shift: np.ndarray
    factor: np.ndarray
    lengths: np.ndarray
    seam: tuple[int, float] | None = None
    constant: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        kind: str,
        x: np.ndarray,
        weights: np.ndarray | None,
        lonlat: tuple[int, int] | None = None,
    ) -> "Scaling":
        """`unit`: bounding box in the unit cube, one factor; `zscore`: unit standard deviations.

        Points of weight zero do not count. Columns that are constant, or are but for rounding,
        have the factor 1 and become zeros. Columns `lonlat` are degrees of longitude and latitude:
        they are laid out in km on a flat map first, true to scale at the mean latitude and cut in
        the middle of the largest gap between longitudes.
        """
        if weights is not None:
            x, weights = x[weights > 0], weights[weights > 0]
        lengths, seam = np.ones(x.shape[1]), None
        if lonlat is not None:
            longitude, latitude = lonlat
            seam = longitude, _largest_gap(x[:, longitude])
            x = _unrolled(x, seam)
            middle = np.radians(np.average(x[:, latitude], weights=weights))
            # Never nothing, even at a pole.
            lengths[longitude] = _KM_PER_DEGREE * max(math.cos(middle), 1e-3)
            lengths[latitude] = _KM_PER_DEGREE
            x = x * lengths
        # All three shift, which loses no digits here and saves many in float32.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(x, axis=0, weights=weights)
            shift, factor = mean, np.ones(x.shape[1])
            constant = None if kind == "none" else _is_constant(x, mean, weights)
            if kind == "unit":
                shift = np.min(x, axis=0)
                factor = np.full(x.shape[1], np.max(np.max(x, axis=0) - shift))
            elif kind == "zscore":
                factor = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
        if constant is not None:
            # One factor serves all columns of `unit`.
            factor = np.where(constant if kind == "zscore" else np.all(constant), 1.0, factor)
        factor = np.where(factor > 0, factor, 1.0)
        return cls(kind, shift / lengths, factor / lengths, lengths, seam, constant)

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
        x = x if self.seam is None else _unrolled(x, self.seam)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (x - self.shift) / self.factor
        return scaled if self.constant is None else np.where(self.constant, 0.0, scaled)

    def invert(self, x: Any) -> np.ndarray:
        """Scaled units to input ones, longitudes from -180 to 180."""
        places = self.unroll(x)
        if self.seam is not None:
            column = places[..., self.seam[0]]
            column = np.where(column < -180, column + 360, column)
            places[..., self.seam[0]] = np.where(column >= 180, column - 360, column)
        return places

    def unroll(self, x: Any) -> np.ndarray:
        """Scaled units to input ones; longitudes go on beyond 180 degrees, as a picture needs."""
        return np.asarray(x, np.float64) * self.factor + self.shift


def _is_constant(x: np.ndarray, mean: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Whether columns differ by no more than the rounding of their mean and variance.

    The bound is that of scikit-learn's `StandardScaler`.
    """
    eps, n = np.finfo(np.float64).eps, len(x)
    # In units of the largest, whose squares every number holds.
    largest = np.max(np.abs(x), axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    with np.errstate(over="ignore", invalid="ignore"):
        x, mean = x / largest, mean / largest
        variance = np.average((x - mean) ** 2, axis=0, weights=weights)
        return variance <= n * eps * variance + (n * eps * mean) ** 2


def _largest_gap(longitudes: np.ndarray) -> float:
    """The middle of the largest gap between longitudes in degrees, where maps begin."""
    along = np.unique(longitudes)
    gaps = np.diff(along, append=along[0] + 360)
    widest = int(np.argmax(gaps))
    if gaps[-1] >= gaps[widest]:
        # All lie in one piece on the usual map, and stay as they are.
        return float(along[0] - gaps[-1] / 2)
    return float(along[widest] + gaps[widest] / 2)


def _unrolled(x: np.ndarray, seam: tuple[int, float]) -> np.ndarray:
    """Longitudes within 360 degrees from the seam on eastwards."""
    column, start = seam
    x = np.array(x, np.float64)
    longitudes = x[..., column]
    longitudes = np.where(longitudes < start, longitudes + 360, longitudes)
    x[..., column] = np.where(longitudes >= start + 360, longitudes - 360, longitudes)
    return x
