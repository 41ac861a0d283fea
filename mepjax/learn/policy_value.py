"""What a policy would have cost, from what another policy has logged."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import arrays
from ..problems.clustering import Clustering

if TYPE_CHECKING:
    from .interactions import Interactions


class PolicyValue(eqx.Module):
    """The expected cost of a policy, estimated from a log of another.

    **Fields:** `value`, in the units of the cost; `standard_error`, for independent interactions;
    `effective_sample_size`, (sum w)^2 / sum w^2 of the importance weights w: where it is small
    the two policies have little in common and neither number means much.
    """

    value: Float[Array, ""]
    standard_error: Float[Array, ""]
    effective_sample_size: Float[Array, ""]


def policy_value(
    log: "Interactions",
    log_policy: Any,
    problem: Clustering,
    centres: Any,
    entities: str,
    estimate_propensity: bool,
) -> PolicyValue:
    """`Interactions.policy_value`."""
    n, k = problem.x.shape[0], problem.k
    if entities not in ("by weight", "alike"):
        raise ValueError(
            f"policy_value: `entities` must be 'by weight' or 'alike'; got {entities!r}."
        )
    log_policy = arrays.as_data_like("log_policy", log_policy, problem.x.dtype)
    if log_policy.shape != (n, k):
        raise ValueError(
            f"policy_value: `log_policy` must have shape ({n}, {k}); got {log_policy.shape}."
        )
    dtype = problem.x.dtype
    times = jnp.asarray(log.counted, dtype)
    if log.propensity is not None:
        propensity = jnp.asarray(log.propensity, dtype)
    elif estimate_propensity:
        pairs = jnp.zeros((n, k), dtype).at[log.entity, log.prescribed].add(times)
        told = pairs / jnp.maximum(jnp.sum(pairs, axis=1, keepdims=True), 1e-30)
        propensity = told[log.entity, log.prescribed]
    else:
        raise ValueError(
            "policy_value: `propensity` of the interactions must be known, or say "
            "`estimate_propensity=True`; got None."
        )
    # A row that does not count may have a pair that no other has.
    propensity = jnp.where(times > 0, propensity, 1.0)
    costs = log.costs(problem, centres)
    weights = times * jnp.exp(log_policy[log.entity, log.prescribed]) / propensity
    if entities == "alike":
        weights = weights * problem.weights[log.entity]
    total = jnp.sum(weights)
    value = jnp.sum(weights * costs) / total
    # A row that counts t times stands for t independent ones.
    once = weights / jnp.where(times > 0, times, 1.0)
    squares = jnp.sum(weights * once * (costs - value) ** 2)
    return PolicyValue(value, jnp.sqrt(squares) / total, total**2 / jnp.sum(weights * once))
