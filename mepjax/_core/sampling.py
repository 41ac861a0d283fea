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


def different(
    key: Any, along: Float[Array, " n"], shares: Float[Array, " n"], k: int
) -> Int[Array, " k"]:
    """`k` rows drawn by weight, at different places as long as there are any left.

    Places are given by a number each. What is drawn depends on how much weight lies where, not on
    the order of the rows nor on how many share a place: a place that has been drawn has no weight
    any more.
    """
    order = jnp.argsort(along)

    def draw(left: Float[Array, " n"], key: Any) -> tuple[Float[Array, " n"], Int[Array, ""]]:
        sums = jnp.cumsum(jnp.where(jnp.any(left > 0), left, shares)[order])
        drawn = jax.random.uniform(key, (), sums.dtype) * sums[-1]
        place = jnp.searchsorted(sums, drawn, side="right")
        row = order[jnp.minimum(place, order.shape[0] - 1)]
        return jnp.where(along == along[row], 0.0, left), row

    return jax.lax.scan(draw, shares, jax.random.split(key, k))[1]
