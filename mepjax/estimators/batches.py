"""`partial_fit`: an estimator that is given its points batch by batch."""

import math
from typing import Any

import jax
import numpy as np

from .._core.codes import Code
from .._core.padding import pad_rows, pad_weights
from .._core.scaling import Scaling
from ..engine.critical_jump import CriticalJump
from ..engine.schedules import AbstractSchedule, Explicit
from ..learn.streams import OnlineClustering
from ..problems.autonomy import Uniform
from ..problems.costs import SquaredEuclidean
from .parameters import autonomy_model, capacity_shares, check, check_numbers, cost_model
from .samples import check_size, checked_weights


def takes_batches(estimator: Any) -> bool:
    """Whether `partial_fit` is there: not under an autonomy that moves with the centres."""
    if not estimator._takes_batches:
        return False
    _autonomy(estimator)
    return True


def take_batch(estimator: Any, X: Any, sample_weight: Any) -> None:
    """What `AutonomyAwareClustering.partial_fit` does."""
    stream = getattr(estimator, "_stream", None)
    fitted = stream is None and hasattr(estimator, "cluster_centers_")
    if stream is None:
        model, autonomy, cost = _model(estimator, fitted)
    else:
        model, autonomy, cost = stream[0], estimator.autonomy_, estimator._cost
        k = estimator.n_clusters
        check("n_clusters", k == model.k, k, f"{model.k}, as in the batches before")
    x = estimator._validated(X, reset=stream is None and not fitted)
    weights = checked_weights(sample_weight, len(x))
    exact, scaling = x.astype(np.float64), Scaling.identity(x.shape[1])
    check_size(scaling, exact)
    padded, shares = pad_rows(exact), pad_weights(weights)
    with jax.enable_x64(True):
        if stream is None:
            start = estimator.cluster_centers_.astype(np.float64) if fitted else None
            state = model.init(padded, shares, centres=start)
        else:
            state = jax.tree.map(jax.numpy.asarray, stream[1])
        state = model.update(state, padded, shares)
        solution = model.solution(state)
        # NumPy's arrays pickle anywhere.
        estimator._stream = model, jax.tree.map(np.asarray, state)
        estimator.autonomy_, estimator._cost, estimator._scaling = autonomy, cost, scaling
        estimator._origin = np.asarray(state.origin)
        estimator.cluster_centers_ = np.asarray(solution.params).astype(x.dtype)
        estimator.beta_ = float(solution.beta)
        estimator.solution_code_ = Code(int(solution.code))
        estimator.n_iter_ = int(solution.n_batches)
        estimator.n_recoveries_ = int(solution.n_recoveries)
    estimator.found_by_, estimator.sampling_gap_ = "batches", 0.0
    estimator.transitions_, estimator.cost_of_ignoring_autonomy_ = np.empty(0), None
    costs = estimator._costs(x)
    labels = np.argmin(costs, axis=1)
    estimator.labels_ = labels.astype(np.int32)
    estimator.inertia_ = float(weights @ costs[np.arange(len(x)), labels])
    estimator.n_used_clusters_ = len(np.unique(labels[weights > 0]))


def _model(estimator: Any, fitted: bool) -> tuple[OnlineClustering, Any, Any]:
    """Stream, autonomy and cost, of parameters that batches can have."""
    check_numbers(estimator)
    k = int(estimator.n_clusters)
    model = _autonomy(estimator)
    cost = cost_model(estimator.cost)
    squares = isinstance(cost, SquaredEuclidean)
    check("cost", squares, estimator.cost, '"sqeuclidean" with partial_fit')
    none = capacity_shares(estimator.capacity, k) is None
    check("capacity", none, estimator.capacity, "None with partial_fit")
    # The size of a stream is not known.
    check("scale", estimator.scale in (None, "none"), estimator.scale, '"none" with partial_fit')
    first, last = estimator.beta_min, estimator.beta_max
    schedule: AbstractSchedule = CriticalJump(
        first, last, overshoot=1.1, min_factor=1.1, easing=math.inf, open_ended=False
    )
    if fitted:
        check("n_clusters", k == len(estimator.cluster_centers_), k, "that of `fit`")
        schedule = Explicit([estimator.beta_])
    stream = OnlineClustering(k, schedule, autonomy=model)
    return stream, model, cost


def _autonomy(estimator: Any) -> Uniform | None:
    model, is_softmax = autonomy_model(estimator)
    uniform = not is_softmax and isinstance(model, Uniform | None)
    given = "softmax" if estimator.autonomy is None else estimator.autonomy
    check("autonomy", uniform, given, "none or uniform with partial_fit")
    assert isinstance(model, Uniform | None)
    return model
