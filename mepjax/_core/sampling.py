"""Draws from weighted data and from tables of probabilities."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def systematic(key: Any, weights: Float[Array, " entries"], n: int) -> Int[Array, " n"]:
    """`n` indices in rising order: one draw from each of n strips of equal weight."""
    sums = jnp.cumsum(weights)
    draws = jnp.arange(n) + jax.random.uniform(key, (n,), sums.dtype)
    places = jnp.searchsorted(sums, draws / n * sums[-1], side="right")
    return jnp.minimum(places, weights.shape[0] - 1)


def by_inverse(
    uniform: Float[Array, "*shape"], rows: Float[Array, "*shape k"]
) -> Int[Array, "*shape"]:
    """One draw from each row of probabilities by the inverse of their sums, one uniform each.

    Rows need not sum to one exactly; what has no probability is never drawn.
    """
    sums = jnp.cumsum(rows, axis=-1)
    drawn = jnp.sum(sums <= uniform[..., None] * sums[..., -1:], axis=-1)
    # Rounding might lead past the last possible one.
    last = rows.shape[-1] - 1 - jnp.argmax(rows[..., ::-1] > 0, axis=-1)
    return jnp.minimum(drawn, last).astype(jnp.int32)
