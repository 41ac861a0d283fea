"""Where slots at weighted means split, for any Bregman divergence, by products with the data."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.linear import orientation
from ..engine.slot_spectrum import SlotSpectrum
from .costs.entities import live, means_of
from .costs.mean import MeanCost

# Enough for a transition in many features, and for all digits of one in few.
_ITERATIONS, _MORE_ITERATIONS, _FEW_FEATURES = 12, 60, 32
_PASSES = 2


class Divergence(eqx.Module):
    """What a spectrum needs of the data and a divergence d(x, y) whose best y is the mean of x.

    **Fields:** functions of arrays with one row per slot, `y` (k, d).

    - `pairwise(y)`: d(x_i, y_k), shape (n, k), but for what depends on i alone.
    - `between(a, b)`: d(a_k, b_k), shape (k,).
    - `sums(weights)`: sum_i weights_ik x_i, shape (k, d), of weights (n, k).
    - `along(v)`: x_i . v_k, shape (n, k), of v (k, d).
    - `curvature(y, v)`: Hess_y d(x, y) at x = y, times v, for every slot, shape (k, d).
    """

    pairwise: Callable[[Array], Array]
    between: Callable[[Array, Array], Array]
    sums: Callable[[Array], Array]
    along: Callable[[Array], Array]
    curvature: Callable[[Array, Array], Array]


def divergence_of(cost: MeanCost, x: Float[Array, "n d"]) -> Divergence:
    """What a cost says of data in memory."""

    def between(a: Array, b: Array) -> Array:
        return jax.vmap(lambda one, other: cost.pairwise(one[None], other[None])[0, 0])(a, b)

    def curvature(y: Array, v: Array) -> Array:
        return cost.metric_of(jnp.ones(y.shape[:1], y.dtype), y).mv(v)

    def product(a: Array, b: Array) -> Array:
        return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)

    return Divergence(
        pairwise=lambda y: cost.pairwise(x, y),
        between=between,
        sums=lambda weights: product(weights.T, x),
        along=lambda v: product(x, v.T),
        curvature=curvature,
    )


def mean_spectrum(
    divergence: Divergence,
    y: Float[Array, "k d"],
    told: Float[Array, "n k"],
    shares: Float[Array, " n"],
    beta: Any,
) -> SlotSpectrum:
    """`Problem.slot_spectrum` of slots at the means of what they are told to serve.

    A slot and a twin of it separate where beta times the largest eigenvalue of
    H^(1/2) sum_i told_ik (x_i - y_k)(x_i - y_k)^T H^(1/2) / mass is one, with H the curvature;
    found by power iteration for all slots at once, in two products with the data each time. The two
    are found by a soft division of what the slot serves, from the halves along the eigenvector.
    Gains are exact at these two, sum of mass times d(side, slot); removal costs are estimates.

    **Arguments:** `y`, the means; `told`, shares_i times the policy; `shares`, weights that sum to
    one; `beta`.
    """
    mass = jnp.sum(told, axis=0)
    alive = live(mass)
    safe = jnp.where(alive, mass, 1.0)

    def project(v: Array) -> tuple[Array, Array]:
        """(x_i - y_k) . H v, and H v."""
        bent = divergence.curvature(y, v)
        return divergence.along(bent) - jnp.sum(y * bent, axis=1), bent

    def spread(amounts: Array) -> Array:
        """sum_i amounts_ik (x_i - y_k) / mass."""
        return (divergence.sums(amounts) - jnp.sum(amounts, axis=0)[:, None] * y) / safe[:, None]

    def unit(v: Array) -> Array:
        length = jnp.sqrt(jnp.maximum(jnp.sum(v * divergence.curvature(y, v), axis=1), 0.0))
        return v / jnp.where(length > 0, length, 1.0)[:, None]

    def iterate(_: Any, v: Array) -> Array:
        return unit(spread(told * project(v)[0]))

    # Within the data's span, and not orthogonal to the eigenvector but by accident.
    start = jax.random.normal(jax.random.key(0), told.shape, y.dtype)
    iterations = _MORE_ITERATIONS if y.shape[1] <= _FEW_FEATURES else _ITERATIONS
    v = jax.lax.fori_loop(0, iterations, iterate, unit(spread(told * start)))
    v = v * orientation(v)[:, None]
    along, bent = project(v)
    largest = jnp.sum(spread(told * along) * bent, axis=1)
    # What rounding leaves of a slot of one point is no spread.
    floor = jnp.finfo(y.dtype).eps * jnp.sum(y * divergence.curvature(y, y), axis=1)
    splits = alive & (largest > floor)
    critical = jnp.where(splits, 1 / jnp.where(splits, largest, 1.0), jnp.inf)

    side = (along > 0).astype(y.dtype)

    def means(side: Array) -> tuple[Array, Array, Array, Array]:
        one, other = told * side, told * (1 - side)
        one_mass, other_mass = jnp.sum(one, axis=0), jnp.sum(other, axis=0)
        first = means_of(divergence.sums(one), one_mass, y)
        second = means_of(divergence.sums(other), other_mass, y)
        return first, second, one_mass, other_mass

    def refined(_: Any, side: Array) -> Array:
        first, second, _, _ = means(side)
        gap = divergence.pairwise(second) - divergence.pairwise(first)
        return jax.nn.sigmoid(beta * gap)

    first, second, one, other = means(jax.lax.fori_loop(0, _PASSES, refined, side))
    gain = one * divergence.between(first, y) + other * divergence.between(second, y)
    return SlotSpectrum(
        mass=mass,
        critical_beta=critical,
        gain=jnp.where(splits, gain, 0.0),
        removal=removal_costs(shares, divergence.pairwise(y).T),
        first=first,
        second=second,
        share=jnp.where(alive, one / safe, 0.5),
    )


def removal_costs(shares: Float[Array, " n"], costs: Float[Array, "k n"]) -> Float[Array, " k"]:
    """What those nearest to a slot lose if they have to go to the second nearest."""
    lowest = jnp.min(costs, axis=0)
    nearest = costs == lowest
    second = jnp.min(jnp.where(nearest, jnp.inf, costs), axis=0)
    alone = jnp.sum(nearest, axis=0) == 1
    lost = jnp.where(alone & jnp.isfinite(second), second - lowest, 0.0)
    return jnp.sum(jnp.where(nearest, shares * lost, 0.0), axis=1)
