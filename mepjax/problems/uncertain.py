"""Places that are known by a distribution only."""

import contextlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import arrays, checks


class Samples(eqx.Module):
    """Places given by weighted samples: costs become their expectations.

    **Arguments:** `points`, shape (places, samples, d); `weights`, shape (places, samples) or
    (samples,), >= 0, normalised over the samples. Default equal.

    **Example:** a destination in one of two towns, the first more likely.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> town = mj.paths.Samples(jnp.array([[[4.0], [8.0]]]), weights=jnp.array([0.75, 0.25]))
    >>> problem = mj.FacilityPath(jnp.array([[0.0], [1.0]]), town, 1)
    >>> print(problem.destinations)
    [[5.]]

    ```
    """

    points: Any
    weights: Any = None


class Covariance(eqx.Module):
    """Places given by their mean and covariance, for squared distances.

    **Arguments:** `mean`, shape (places, d); `covariance`, shape (places, d, d) or (d, d),
    symmetric and positive semidefinite.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> nodes = mj.paths.Covariance(jnp.zeros((3, 2)), jnp.eye(2))
    >>> mj.FacilityPath(nodes, jnp.ones(2), 1).nodes.shape
    (3, 2)

    ```
    """

    mean: Any
    covariance: Any


class Spread(eqx.Module):
    """How places scatter around their means.

    `variance` is the mean squared distance from the mean; `offsets` and `weights` are the
    samples themselves, `None` where only a covariance is known.
    """

    variance: Float[Array, " places"]
    offsets: Float[Array, "places samples d"] | None
    weights: Float[Array, "places samples"] | None


def split_spread(owner: str, name: str, value: Any, dtype: Any) -> tuple[Any, Spread | None]:
    """(means, spread) of places however they are given; plain arrays have no spread."""
    if isinstance(value, Samples):
        points = arrays.as_float_array(name, value.points, dtype)
        if points.ndim != 3 or 0 in points.shape:
            raise ValueError(
                f"{owner}: `{name}` given as Samples must have points of shape (places, samples, "
                f"coordinates), not empty; got {points.shape}."
            )
        shape = points.shape[:2]
        raw = np.ones(shape, points.dtype) if value.weights is None else value.weights
        weights = arrays.as_data_like(f"{name}.weights", raw, points.dtype)
        if weights.shape not in (shape, shape[1:]):
            raise ValueError(
                f"{owner}: weights of the Samples `{name}` must have shape {shape} or "
                f"{shape[1:]}; got {weights.shape}."
            )
        with _seen_now(points, weights):
            weights = jnp.broadcast_to(weights, shape)
            weights = weights / jnp.sum(weights, axis=1, keepdims=True)
            mean = jnp.einsum("ps,psd->pd", weights, points, precision=jax.lax.Precision.HIGHEST)
            offsets = points - mean[:, None]
            variance = jnp.sum(weights * jnp.sum(offsets**2, axis=2), axis=1)
        return mean, Spread(variance, offsets, weights)
    if isinstance(value, Covariance):
        mean = arrays.as_float_array(name, value.mean, dtype)
        if mean.ndim != 2 or 0 in mean.shape:
            raise ValueError(
                f"{owner}: `{name}` given as Covariance must have a mean of shape (places, "
                f"coordinates), not empty; got {mean.shape}."
            )
        places, d = mean.shape
        covariance = arrays.as_data_like(f"{name}.covariance", value.covariance, mean.dtype)
        if covariance.shape not in ((places, d, d), (d, d)):
            raise ValueError(
                f"{owner}: covariance of `{name}` must have shape {(places, d, d)} or {(d, d)}; "
                f"got {covariance.shape}."
            )
        with _seen_now(covariance):
            trace = jnp.broadcast_to(jnp.trace(covariance, axis1=-2, axis2=-1), (places,))
        return mean, Spread(trace, None, None)
    return value, None


def _seen_now(*values: Any) -> Any:
    """Under an outer trace, keep what follows from concrete values concrete, to be checked."""
    concrete = checks.is_concrete(*values)
    return jax.ensure_compile_time_eval() if concrete else contextlib.nullcontext()


def checks_of(owner: str, name: str, spread: Spread | None) -> list[checks.Check]:
    """Finite scatter from non-negative weights."""
    if spread is None:
        return []
    found = []
    if spread.weights is not None:
        found += [checks.check_range(owner, f"{name}.weights", spread.weights, low=0.0)]
    found += [
        checks.check_finite(owner, f"{name}.variance", spread.variance),
        checks.check_range(owner, f"{name}.variance", spread.variance, low=0.0),
    ]
    return found
