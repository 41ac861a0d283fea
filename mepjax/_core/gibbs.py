"""The Gibbs distribution and its free energy, in the log domain.

Costs are shifted by their row minimum before they are multiplied by beta, so exponents never
overflow and differences between near-best choices keep their precision at any beta.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .types import Scalar


def _exponents(
    costs: Float[Array, "..."], lowest: Float[Array, "..."], beta: Scalar
) -> Float[Array, "..."]:
    """-beta (costs - lowest), never positive, with the derivative of costs.

    Compilers contract the product in a cost and this difference into one operation, while the
    minimum was rounded once more: left to them, the least cost lies a little above or below zero,
    and at large beta its exponential is nothing or infinite. What is added first is zero or
    brings a cost up to the minimum, and the product is contracted with that instead.
    """
    missing = jax.lax.stop_gradient(jnp.where(costs < lowest, lowest - costs, 0.0))
    return -beta * ((costs + missing) - lowest)


def _from_largest(exponents: Float[Array, "..."], axis: int) -> Float[Array, "..."]:
    """Exponents less their largest, with their own derivative; that is rounding alone.

    Then sums of exponentials are at least one, and what is divided by them adds up to one.
    """
    largest = jax.lax.stop_gradient(jnp.max(exponents, axis=axis, keepdims=True))
    below = exponents - jnp.where(jnp.isfinite(largest), largest, 0.0)
    return below - jax.lax.stop_gradient(jnp.where(below > 0, below, 0.0))


def _shifted(costs: Float[Array, "rows columns"], beta: Scalar, axis: int) -> tuple[Array, Array]:
    """Exponents, and the least cost of every entity."""
    # The shift cancels in every result, so it needs no derivative, nor has it a guard, which would
    # triple the time on a CPU: an entity without any finite cost has a policy of NaN.
    lowest = jax.lax.stop_gradient(jnp.min(costs, axis=axis, keepdims=True))
    exponents = _from_largest(_exponents(costs, lowest, beta), axis)
    return exponents, jnp.squeeze(lowest, axis)


def log_policy(costs: Float[Array, "n k"], beta: Scalar) -> Float[Array, "n k"]:
    """Log Gibbs policy, log softmax_j(-beta costs_ij); an infinite cost has weight zero."""
    exponents, _ = _shifted(costs, beta, -1)
    return exponents - jnp.log(jnp.sum(jnp.exp(exponents), axis=-1, keepdims=True))


def policy(
    costs: Float[Array, "rows columns"], beta: Scalar, axis: int = -1
) -> Float[Array, "rows columns"]:
    """Gibbs policy, softmax_j(-beta costs_ij), with the choices j along `axis`."""
    exponents, _ = _shifted(costs, beta, axis)
    weights = jnp.exp(exponents)
    return weights / jnp.sum(weights, axis=axis, keepdims=True)


def _permitted(
    costs: Float[Array, "... k"], beta: Scalar
) -> tuple[Bool[Array, "... k"], Float[Array, "... k"], Float[Array, "..."], Float[Array, "..."]]:
    """(finite costs, exponents there, least cost, sum of exponentials or 1 for none)."""
    allowed = ~jnp.isposinf(costs)
    lowest = jax.lax.stop_gradient(jnp.min(costs, axis=-1))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 0.0)
    # The inner `where` keeps infinite costs out of every derivative, beta's included.
    shift = lowest[..., None]
    exponents = _exponents(jnp.where(allowed, costs, shift), shift, beta)
    exponents = _from_largest(jnp.where(allowed, exponents, -jnp.inf), -1)
    exponents = jnp.where(allowed, exponents, 0.0)
    total = jnp.sum(jnp.where(allowed, jnp.exp(exponents), 0.0), axis=-1)
    return allowed, exponents, lowest, jnp.where(jnp.any(allowed, axis=-1), total, 1.0)


def softmin(costs: Float[Array, "... k"], beta: Scalar) -> Float[Array, "..."]:
    """-(1/beta) log sum_j exp(-beta costs_j) over the last axis; +inf costs are left out.

    Where every cost is +inf so is the result, with derivative zero (and not NaN) in all
    arguments: recursions over graphs meet states from which nothing is permitted.
    """
    allowed, _, lowest, total = _permitted(costs, beta)
    return jnp.where(jnp.any(allowed, axis=-1), lowest - jnp.log(total) / beta, jnp.inf)


def masked_log_policy(costs: Float[Array, "... k"], beta: Scalar) -> Float[Array, "... k"]:
    """Log Gibbs policy over the last axis: -inf at +inf costs, throughout if all are."""
    allowed, exponents, _, total = _permitted(costs, beta)
    return jnp.where(allowed, exponents - jnp.log(total)[..., None], -jnp.inf)


def relative(
    costs: Float[Array, "... k"], log_prior: Float[Array, "... k"], beta: Scalar
) -> tuple[Float[Array, "..."], Float[Array, "... k"]]:
    """Free energy -(1/beta) log sum_j q_j exp(-beta costs_j) relative to a prior, and log policy.

    The prior q sums to one over the last axis; what has weight or log prior -inf, or cost +inf, is
    left out (log policy -inf), and where nothing is left the free energy is +inf. Unlike a sum
    without prior this tends to the mean cost as beta -> 0, and it does so to full precision.
    """
    allowed = ~jnp.isposinf(costs) & ~jnp.isneginf(log_prior)
    some = jnp.any(allowed, axis=-1)
    lowest = jax.lax.stop_gradient(jnp.min(jnp.where(allowed, costs, jnp.inf), axis=-1))
    lowest = jnp.where(jnp.isfinite(lowest), lowest, 0.0)
    shift = lowest[..., None]
    exponents = _exponents(jnp.where(allowed, costs, shift), shift, beta)
    log_weights = jnp.where(allowed, log_prior, 0.0)
    weights = jnp.where(allowed, jnp.exp(log_weights), 0.0)
    total = jnp.sum(weights * jnp.exp(exponents), axis=-1)
    total = jnp.where(some, total, 1.0)
    # One plus what is small: log alone would lose it.
    little = jnp.sum(weights * jnp.expm1(exponents), axis=-1) - (1 - jnp.sum(weights, axis=-1))
    near = some & (total > 0.5)
    log_total = jnp.where(near, jnp.log1p(jnp.where(near, little, 0.0)), jnp.log(total))
    energy = jnp.where(some, lowest - log_total / beta, jnp.inf)
    return energy, jnp.where(allowed, log_weights + exponents - log_total[..., None], -jnp.inf)


def free_energy(
    costs: Float[Array, "rows columns"], weights: Float[Array, " n"], beta: Scalar, axis: int = -1
) -> Float[Array, ""]:
    """Free energy -(1/beta) sum_i weights_i log sum_j exp(-beta costs_ij), j along `axis`."""
    exponents, lowest = _shifted(costs, beta, axis)
    return jnp.sum(weights * (lowest - jnp.log(jnp.sum(jnp.exp(exponents), axis=axis)) / beta))


def free_energies_and_partition(
    costs: Float[Array, "rows columns"], beta: Scalar, axis: int = -1
) -> tuple[Float[Array, " n"], Float[Array, "rows columns"], Float[Array, " n"]]:
    """For every entity its free energy, and its policy as exponentials and their sum."""
    exponents, lowest = _shifted(costs, beta, axis)
    # Else XLA on a CPU computes them once for every use.
    exponentials = jax.lax.optimization_barrier(jnp.exp(exponents))
    totals = jnp.sum(exponentials, axis=axis)
    return lowest - jnp.log(totals) / beta, exponentials, totals


def free_energy_and_terms(
    costs: Float[Array, "rows columns"], weights: Float[Array, " n"], beta: Scalar, axis: int = -1
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Free energy F, expected cost D and conditional entropy H of the Gibbs policy; 0 log 0 = 0."""
    exponents, lowest = _shifted(costs, beta, axis)
    gibbs = jnp.exp(exponents)
    total = jnp.sum(gibbs, axis=axis)
    # The inner `where` keeps infinite costs out of the product, hence out of its derivative.
    mean = jnp.sum(gibbs * jnp.where(gibbs > 0, exponents, 0.0), axis=axis) / total
    # One reduction of three rows, since every reduction is kernels to compile.
    rows = jnp.stack([lowest, jnp.log(total), mean])
    least, log_total, exponent = jnp.sum(weights * rows, axis=1)
    return least - log_total / beta, least - exponent / beta, log_total - exponent


def distortion_and_entropy(
    costs: Float[Array, "rows columns"], weights: Float[Array, " n"], beta: Scalar, axis: int = -1
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """D and H of `free_energy_and_terms`."""
    return free_energy_and_terms(costs, weights, beta, axis)[1:]
