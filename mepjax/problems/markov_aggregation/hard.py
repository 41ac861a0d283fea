"""A partition of the states, the chain of its superstates, and what is lost by it."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..costs.entities import means_of
from .rows import AbstractRows


class Aggregation(eqx.Module):
    """Superstates of a chain.

    **Fields:**

    - `assignments`: the superstate of each state, shape (N,).
    - `transitions`: probabilities between superstates, shape (K, K), rows sum to one; uniform for
        an empty one, and NaN where the rows are no chain.
    - `weights`: what each superstate weighs, shape (K,).
    - `cost`: D = sum_i weights_i KL(pi_i || z of its superstate) at the params given, in nats.
    - `information_loss`: I(X; X') - I(superstate; X') of the partition, in nats: D with the mean of
        its rows for each superstate, which is what `cost` tends to along an anneal.
    - `kl_rate`: I(X; X') - I(superstate; next superstate), in nats a step: with stationary weights
        the divergence rate of the chain from the one that its superstates generate. NaN where the
        rows are no chain.
    """

    assignments: Int[Array, " n"]
    transitions: Float[Array, "k k"]
    weights: Float[Array, " k"]
    cost: Float[Array, ""]
    information_loss: Float[Array, ""]
    kl_rate: Float[Array, ""]


def xlogy(p: Array, q: Array) -> Array:
    """p log q with 0 log 0 = 0."""
    return jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, q, 1.0)), 0.0)


def row_information(rows: AbstractRows, shares: Float[Array, " n"]) -> Float[Array, ""]:
    """Mutual information of a row drawn by `shares` and a state drawn from it."""
    mean = rows.sums(shares[:, None])[0]
    return shares @ rows.entropies() - jnp.sum(xlogy(mean, mean))


def _information(joint: Float[Array, "a b"]) -> Float[Array, ""]:
    left, right = jnp.sum(joint, axis=1), jnp.sum(joint, axis=0)
    entropies = jnp.sum(xlogy(left, left)) + jnp.sum(xlogy(right, right))
    return jnp.sum(xlogy(joint, joint)) - entropies


def aggregate(
    rows: AbstractRows, shares: Float[Array, " n"], costs: Float[Array, "n k"]
) -> Aggregation:
    """The superstates of least cost; their chain is that of the means of their rows."""
    k = costs.shape[1]
    assignments = jnp.argmin(costs, axis=1)
    n, s = rows.shape
    assignments = assignments.astype(jnp.int32)
    onehot = jax.nn.one_hot(assignments, k, dtype=rows.dtype)
    told = shares[:, None] * onehot
    mass = jnp.sum(told, axis=0)
    joint = rows.sums(told)
    means = means_of(joint, mass, jnp.full_like(joint, 1 / s))
    information = row_information(rows, shares)
    if n == s:
        transitions = means @ onehot
        rate = information - _information(joint @ onehot)
    else:
        transitions = jnp.full((k, k), jnp.nan, rows.dtype)
        rate = jnp.asarray(jnp.nan, rows.dtype)
    return Aggregation(
        assignments=assignments,
        transitions=transitions,
        weights=mass,
        cost=shares @ jnp.min(costs, axis=1),
        information_loss=information - _information(joint),
        kl_rate=rate,
    )
