"""Draws from weighted data."""

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
