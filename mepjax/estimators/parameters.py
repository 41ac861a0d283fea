"""What the parameters of an estimator may be; every complaint is a `ValueError` that names one."""

import math
import numbers
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._core.scaling import KINDS
from ..problems.autonomy import AbstractAutonomy, Dense, Matrix, Softmax, Uniform
from ..problems.autonomy.function import as_autonomy
from ..problems.capacity.limits import Equal
from ..problems.capacity.prices import ClusterCapacity
from ..problems.costs import AbstractCost, as_cost

_MODELS = ("none", "uniform", "softmax")
_OF_SOFTMAX = ("zeta", "gamma", "temperature")


def check(name: str, ok: bool, got: Any, expected: str) -> None:
    """Raise the complaint unless `ok`."""
    if not ok:
        raise ValueError(f"`{name}` must be {expected}; got {got!r:.80}.")


def check_integer(name: str, value: Any) -> None:
    """An integer of at least 1."""
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool | np.bool_)
    check(name, bool(integer and int(value) >= 1), value, "an integer >= 1")


def check_number(
    name: str, value: Any, expected: str, low: float = -math.inf, high: float = math.inf
) -> None:
    """A finite real number in [low, high]."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    number = float(value) if real else math.nan
    check(name, math.isfinite(number) and low <= number <= high, value, expected)


def check_positive(name: str, value: Any) -> None:
    """`None` or a finite real number > 0."""
    if value is not None:
        check_number(name, value, "a finite number > 0", low=math.nextafter(0, 1))


def check_numbers(estimator: Any) -> None:
    """Everything but autonomy, cost and capacity, which are checked where they are made."""
    check_integer("n_clusters", estimator.n_clusters)
    for name in ("restarts", "sample"):
        value = getattr(estimator, name)
        if value is not None:
            check_integer(name, value)
    check_number("tol", estimator.tol, "a finite number > 0", low=math.nextafter(0, 1))
    check_number("kappa", estimator.kappa, "a number from 0 to 1", 0, 1)
    for name in ("zeta", "gamma"):
        value = getattr(estimator, name)
        if value is not None:
            check_number(name, value, "a finite number")
    for name in ("temperature", "beta_min", "beta_max"):
        check_positive(name, getattr(estimator, name))
    check_number("factor", estimator.factor, "a finite number > 1", low=math.nextafter(1, 2))
    scale = estimator.scale
    if scale is not None:
        known = isinstance(scale, str) and scale in KINDS
        check("scale", known, scale, f"None or one of {', '.join(KINDS)}")


def as_numpy(tree: Any) -> Any:
    """A model whose numbers are NumPy float64: they suit any precision, and pickle anywhere."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf, np.float64) if eqx.is_inexact_array(leaf) else leaf, tree
    )


def cost_model(cost: Any) -> AbstractCost:
    """The cost from its name or itself."""
    return as_numpy(as_cost(cost))


def capacity_shares(capacity: Any, k: int) -> Any:
    """Bounds on shares of the weight, an `Equal` of shares, or `None`, as `Clustering` takes it."""
    if capacity is None:
        return None
    equality = isinstance(capacity, Equal)
    try:
        limit = np.asarray(capacity.values if isinstance(capacity, Equal) else capacity, np.float64)
    except (TypeError, ValueError):
        limit = np.empty(0)
    expected = f"None or {k} shares of the weight, one a cluster, or mepjax.Equal of them"
    check("capacity", limit.shape == (k,), capacity, expected)
    # A new point might be nearest to a closed cluster, whose centre is nowhere in particular.
    positive = bool(np.all(limit > 0))
    check("capacity", positive, float(np.min(limit)), "> 0 for every cluster")
    checked = ClusterCapacity(limit, equality)  # pyright: ignore[reportArgumentType]
    for condition in checked.checks("AutonomyAwareClustering"):
        if not bool(condition.ok):
            raise ValueError(condition.message(float(condition.got)))
    return Equal(limit) if equality else limit


def autonomy_model(estimator: Any) -> tuple[AbstractAutonomy | None, bool]:
    """The model, `None` where autonomy changes nothing, and whether softmax was asked for."""
    given, kappa, k = estimator.autonomy, float(estimator.kappa), int(estimator.n_clusters)
    softmax: dict[str, Any] = {
        name: float(value)
        for name in _OF_SOFTMAX
        if (value := getattr(estimator, name)) is not None
    }
    if given is None:
        given = "softmax" if softmax else "uniform" if kappa else "none"
    named = isinstance(given, str)
    if named:
        check("autonomy", given in _MODELS, given, f"one of {', '.join(_MODELS)}, or a model")
    whose = f"autonomy={given!r}" if named else "an `autonomy` that brings its own numbers"
    if softmax and given != "softmax" if named else softmax:
        name, value = next(iter(softmax.items()))
        check(name, False, value, f"None beside {whose}")
    if kappa and (not named or given == "none"):
        check("kappa", False, estimator.kappa, f"0 beside {whose}")
    if not named:
        model = _given_model(given, k)
        return (model if k > 1 else None), isinstance(model, Softmax)
    if given == "none" or kappa == 0 or k == 1:
        return None, given == "softmax"
    return (Softmax(kappa, **softmax), True) if given == "softmax" else (Uniform(kappa), False)


def _given_model(given: Any, k: int) -> AbstractAutonomy:
    try:
        if not isinstance(given, AbstractAutonomy) and not callable(given):
            given = Matrix(np.asarray(given, np.float64))
        model = as_numpy(as_autonomy(given))
        if isinstance(model, Dense) or np.ndim(getattr(model, "kappa", 0.0)) > 0:
            raise ValueError(
                f"{type(model).__name__} has numbers of its own for every entity, so nothing "
                "can be predicted for others; expected the same for all, or use mepjax.Clustering"
            )
        for condition in model.check(1, k):
            if not bool(condition.ok):
                raise ValueError(condition.message(float(condition.got)))
    except (TypeError, ValueError) as error:
        raise ValueError(f"`autonomy`: {error}") from error
    return model
