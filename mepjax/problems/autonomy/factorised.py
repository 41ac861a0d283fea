"""Averages under overrides whose log weights are a sum over (j, k) and (i, k)."""

from typing import Any, ClassVar, Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .base import AbstractAutonomy, at_kappa_zero, kappa_of, row_kappa

_HIGHEST = jax.lax.Precision.HIGHEST
# Up to this many (entity, prescribed, realised) triples the plain form is fastest to compile and
# to run; its size is then bounded whatever N and K are.
DIRECT_LIMIT = 2**16


class FactorisedKernel(eqx.Module):
    """Log weights of an override: log_pull[j, k] (diagonal -inf) + log_reach[i, k]."""

    log_pull: Float[Array, "k k"]
    log_reach: Float[Array, "n k"]
    kappa: Float[Array, "*n"]


class AbstractFactorised(AbstractAutonomy):
    """Overrides by what draws from centre to centre and, where it `reaches_entity`, from entities.

    A subclass writes `kernel`, and `relaxed` towards a start that is convex.
    """

    kappa: eqx.AbstractVar[Float[Array, "*n"]]
    reaches_entity: eqx.AbstractVar[bool]
    direct_limit: eqx.AbstractVar[int]
    # Stages of the continuation to a start that is not convex.
    stages: ClassVar[int] = 16

    @property
    def depends_on_centres(self) -> bool:
        """True: overrides go where centres are."""
        return True

    @property
    def exchangeable(self) -> bool:
        """True: clusters differ by their centres alone."""
        return True

    @property
    def convex_at_zero(self) -> bool:
        """Where entities do not matter: at one place no centre is drawn to another."""
        return not self.reaches_entity

    def of_entities(self, places: Int[Array, " m"]) -> Self:
        """The model with the kappa of these entities."""
        return eqx.tree_at(lambda a: a.kappa, self, kappa_of(self.kappa, places))

    def average(
        self, kernel: FactorisedKernel, distances: Float[Array, "n k"]
    ) -> Float[Array, "n k"]:
        """(1 - kappa) D + kappa sum_{k != j} s_ijk D_ik."""
        return average_factorised(
            kernel,
            distances,
            reaches_entity=self.reaches_entity,
            direct_limit=self.direct_limit,
        )

    @property
    def without_overrides(self) -> Self:
        """With kappa = 0."""
        return at_kappa_zero(self)

    @property
    def relaxation_stages(self) -> int:
        """None where the start is convex anyway."""
        return self.stages if self.reaches_entity else 0


def average_factorised(
    kernel: FactorisedKernel,
    distances: Float[Array, "n k"],
    *,
    reaches_entity: bool,
    direct_limit: int,
) -> Float[Array, "n k"]:
    """(1 - kappa) D + kappa sum_{k != j} s_ijk D_ik, with s the softmax of the log weights.

    Two matrix products; nothing of size N x K x K is formed, but for at most `direct_limit` such
    triples. Where float range is too short for the factors an exact loop over clusters takes over.
    Without `reaches_entity`, `log_reach` is zero.
    """
    if distances.shape[1] == 1:
        return distances
    n, k = distances.shape
    if not reaches_entity:
        alternative = _entity_free(kernel, distances)
    elif n * k * k <= direct_limit:
        alternative = _direct(kernel, distances)
    else:
        factors = _shifted_factors(kernel)
        # Rematerialised, so that the N x K x K intermediates of the loop are not kept (as
        # zeros, even when it does not run) for the derivative.
        streamed = jax.checkpoint(_streamed)
        alternative = jax.lax.cond(
            jnp.all(factors.trusted | factors.closest),
            _factorised,
            lambda kernel, factors, distances: streamed(kernel, distances),
            kernel,
            factors,
            distances,
        )
    kappa = row_kappa(kernel.kappa)
    return (1 - kappa) * distances + kappa * alternative


def _entity_free(kernel: FactorisedKernel, distances: Array) -> Array:
    """One K x K table, and the first-order effect of log_reach, which is zero in value."""
    table = jax.nn.softmax(kernel.log_pull, axis=1).T
    product = lambda a: jnp.matmul(a, table, precision=_HIGHEST)  # noqa: E731
    mean, reach = product(distances), kernel.log_reach
    return mean + product(reach * distances) - product(reach) * mean


def _direct(kernel: FactorisedKernel, distances: Array) -> Array:
    """Exact log-domain evaluation with all (i, j, k) at once."""
    weights = jax.nn.softmax(kernel.log_pull[None] + kernel.log_reach[:, None, :], axis=2)
    return jnp.sum(weights * distances[:, None, :], axis=2)


class _Factors(eqx.Module):
    """Both factors scaled by their row maximum, their product, and where it can be divided by."""

    pull: Float[Array, "k k"]
    reach: Float[Array, "n k"]
    normaliser: Float[Array, "n k"]
    # The cluster with the largest reach of each entity, one-hot. Its own column excludes exactly
    # that term, so there all others may underflow.
    closest: Bool[Array, "n k"]
    trusted: Bool[Array, "n k"]


def _shifted_factors(kernel: FactorisedKernel) -> _Factors:
    stop = jax.lax.stop_gradient
    highest_pull = stop(jnp.max(kernel.log_pull, axis=1, keepdims=True))
    highest_reach = stop(jnp.max(kernel.log_reach, axis=1, keepdims=True))
    pull = jnp.exp(kernel.log_pull - highest_pull)
    reach = jnp.exp(kernel.log_reach - highest_reach)
    normaliser = jnp.matmul(reach, pull.T, precision=_HIGHEST)
    # First of the largest by a reduction over indices: argmax is slow on CPUs.
    k = reach.shape[1]
    places = jnp.arange(k)
    candidates = jnp.where(kernel.log_reach >= highest_reach, places, k)
    closest = places == jnp.min(candidates, axis=1, keepdims=True)
    # Below this, terms that were flushed to zero could matter.
    info = jnp.finfo(reach.dtype)
    trusted = normaliser > float(info.tiny) / float(info.eps)
    return _Factors(pull, reach, normaliser, closest, trusted)


@jax.custom_jvp
def _divide(numerator: Array, denominator: Array) -> Array:
    """Quotient whose derivatives never square the denominator, which would underflow."""
    return numerator / denominator


@_divide.defjvp
def _divide_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    numerator, denominator = primals
    d_numerator, d_denominator = tangents
    quotient = _divide(numerator, denominator)
    return quotient, _divide(d_numerator - quotient * d_denominator, denominator)


def _factorised(kernel: FactorisedKernel, factors: _Factors, distances: Array) -> Array:
    """Two matrix products, with one column per entity recomputed exactly."""
    closest = factors.closest
    numerator = jnp.matmul(factors.reach * distances, factors.pull.T, precision=_HIGHEST)
    usable = factors.trusted & ~closest
    quotient = _divide(numerator, jnp.where(usable, factors.normaliser, 1.0))
    # Row of the closest cluster by a one-hot product: its transpose is a product too, not a
    # scatter. The infinite diagonal is put back afterwards.
    finite = jnp.where(jnp.eye(kernel.log_pull.shape[0], dtype=bool), 0.0, kernel.log_pull)
    rows = jnp.matmul(closest.astype(distances.dtype), finite, precision=_HIGHEST)
    exact = jax.nn.softmax(jnp.where(closest, -jnp.inf, rows + kernel.log_reach), axis=1)
    repaired = jnp.sum(exact * distances, axis=1, keepdims=True)
    return jnp.where(closest, repaired, jnp.where(usable, quotient, 0.0))


def _streamed(kernel: FactorisedKernel, distances: Array) -> Array:
    """Exact log-domain evaluation, one prescribed cluster at a time: O(N K) memory."""

    @jax.checkpoint
    def column(log_pull_row: Array) -> Array:
        weights = jax.nn.softmax(log_pull_row[None, :] + kernel.log_reach, axis=1)
        return jnp.sum(weights * distances, axis=1)

    return jax.lax.map(column, kernel.log_pull).T
