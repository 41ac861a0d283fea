"""Samples as estimators are given them: checks of weights and size, and an order of centres."""

from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length

from .._core.arrays import refuse_masked
from .._core.checks import square_range
from .._core.scaling import Scaling
from .parameters import check


def checked_weights(sample_weight: Any, n: int) -> np.ndarray:
    """The weights of n samples, ones where none were given; a complaint names `sample_weight`."""
    if sample_weight is None:
        return np.ones(n)
    name = "sample_weight"
    refuse_masked(name, sample_weight)
    options: Any = {"ensure_2d": False, "dtype": np.float64, "input_name": name}
    weights = check_array(sample_weight, **options)
    if weights.ndim != 1:
        raise ValueError(f"`{name}` must be 1-D, one number a sample; got shape {weights.shape}.")
    check_consistent_length(np.empty(n), weights)
    check(name, bool(np.all(weights >= 0)), float(np.min(weights)), ">= 0")
    if not np.any(weights > 0):
        raise ValueError(f"`{name}` must not be zero for all samples.")
    with np.errstate(over="ignore"):
        total, limits = float(np.sum(weights)), np.finfo(np.float64)
    between = f"numbers with a sum between {limits.tiny:.3g} and {limits.max:.3g}"
    check(name, bool(limits.tiny <= total < np.inf), total, between)
    return weights


def check_size(scaling: Scaling, x: np.ndarray) -> None:
    """Costs are squares, which must be neither too large for a number nor too small."""
    largest, (low, high) = float(np.max(np.abs(scaling.apply(x)))), square_range(np.float64)
    if not (largest == 0 or low < largest < high):
        raise ValueError(
            f"`scale` {scaling.kind!r} leaves coordinates of X up to {largest:g}; expected "
            f"{'larger' if largest <= low else 'smaller'} ones, or scale='unit'."
        )
