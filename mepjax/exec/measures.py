"""What one pass over points on disk finds."""

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .._core.checks import square_range


@dataclass(frozen=True)
class Measures:
    """In float64: total weight, mean (d,), covariance (d, d), weights of slabs, and a hash."""

    total: float
    mean: np.ndarray
    covariance: np.ndarray
    slab_weights: np.ndarray
    digest: str

    @property
    def spread(self) -> float:
        """Total standard deviation; 1 for constant data."""
        variance = float(np.trace(self.covariance))
        return variance**0.5 if variance > 0 else 1.0

    def to_json(self) -> dict[str, Any]:
        """As a file keeps it; floats to all digits."""
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in asdict(self).items()
        }

    @staticmethod
    def from_json(kept: dict[str, Any]) -> "Measures":
        """What `to_json` made."""

        def numbers(name: str) -> np.ndarray:
            return np.asarray(kept[name], np.float64)

        return Measures(
            float(kept["total"]), numbers("mean"), numbers("covariance"), numbers("slab_weights"),
            str(kept["digest"]),
        )  # fmt: skip


def measure(
    slabs: Iterable[tuple[int, np.ndarray, np.ndarray]], n: int, d: int, dtype: Any
) -> Measures:
    """One pass, which raises `ValueError` at the first bad row and names it."""
    total, mean, moments = 0.0, np.zeros(d), np.zeros((d, d))
    sums, digest = [], hashlib.sha256(f"{n} {d} {np.dtype(dtype)}".encode())
    extent, start = 0.0, None
    for first, x, weights in slabs:
        _check(first, x, weights)
        digest.update(x.tobytes())
        digest.update(weights.tobytes())
        # What else was read of a row is no part of the point.
        x = x[:, :d]
        start = x[:1].astype(np.float64) if start is None else start
        extent = max(extent, float(np.max(np.abs(x - start))))
        # Deviations from the slab's own mean, then those of its mean: no digits are lost.
        wide, shares = x.astype(np.float64), weights.astype(np.float64)
        here = float(shares.sum())
        sums.append(here)
        if here == 0:
            continue
        centre = shares @ wide / here
        wide -= centre
        moments += (shares[:, None] * wide).T @ wide
        apart = centre - mean
        moments += np.outer(apart, apart) * (total * here / (total + here))
        mean = mean + apart * (here / (total + here))
        total += here
    limits = np.finfo(dtype)
    if not limits.tiny <= total <= limits.max:
        raise ValueError(
            f"Rows: weights must have a sum that {np.dtype(dtype)} can hold, above zero; "
            f"got {total:g}."
        )
    low, high = square_range(dtype)
    if not (extent == 0 or low < extent < high):
        raise ValueError(
            f"Rows: points must have differences between {low:.3g} and {high:.3g}, whose squares "
            f"{np.dtype(dtype)} can hold; got {extent:g} at most. Scale them."
        )
    return Measures(total, mean, moments / total, np.array(sums), digest.hexdigest())


def _check(first: int, x: np.ndarray, weights: np.ndarray) -> None:
    bad = ~np.isfinite(x).all(axis=1)
    if np.any(bad):
        row = int(np.argmax(bad))
        raise ValueError(
            f"Rows: points must be finite; got {x[row].tolist()} in row {first + row}, and "
            f"{int(bad.sum()) - 1} more such rows up to row {first + len(x) - 1}."
        )
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if np.any(bad):
        row = int(np.argmax(bad))
        raise ValueError(
            f"Rows: weights must be finite and >= 0 in {weights.dtype}; got {weights[row]:g} in "
            f"row {first + row}."
        )
