"""Entities with their weights in every cluster, seen through sums over them only."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

_HIGHEST = jax.lax.Precision.HIGHEST


class Entities(eqx.Module):
    """n entities of d features with their weights in k clusters.

    A cost asks for sums over them alone, so that it never sees whether these are computed at once,
    block by block, or on several devices.
    """

    @abc.abstractmethod
    def sum(self, part: Callable[..., Any], *args: Any) -> Any:
        """part(weights, x, *args), which is a sum over entities and linear in the weights.

        `weights` (n, k) and `x` (n, d) may be those of some entities. What `part` needs besides
        goes into `args`: it has no tracers of its own.
        """

    @property
    @abc.abstractmethod
    def k(self) -> int:
        """K, the number of clusters."""

    @property
    @abc.abstractmethod
    def first(self) -> Float[Array, " d"]:
        """Any one of the entities."""

    @abc.abstractmethod
    def scale(self, cost: Any) -> Float[Array, ""]:
        """`cost.spread` of the entities."""


class WeightedEntities(Entities):
    """Entities and weights in memory."""

    weights: Float[Array, "n k"]
    x: Float[Array, "n d"]

    def sum(self, part: Callable[..., Any], *args: Any) -> Any:
        """The sum over all entities at once."""
        return part(self.weights, self.x, *args)

    @property
    def k(self) -> int:
        """Columns of the weights."""
        return self.weights.shape[1]

    @property
    def first(self) -> Float[Array, " d"]:
        """The first row of the data."""
        return self.x[0]

    def scale(self, cost: Any) -> Float[Array, ""]:
        """`cost.spread` of the entities, each by its weight in all clusters together."""
        total = jnp.sum(self.weights, axis=1)
        return cost.spread(self.x, total / jnp.sum(total))


def masses(weights: Float[Array, "n k"], x: Float[Array, "n d"]) -> Float[Array, " k"]:
    """For `Entities.sum`: the weight of each cluster."""
    del x
    return jnp.sum(weights, axis=0)


def sums_and_masses(
    weights: Float[Array, "n k"], x: Float[Array, "n d"]
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """For `Entities.sum`: sum_i weights_ik x_i, and the weight of each cluster."""
    return jnp.matmul(weights.T, x, precision=_HIGHEST), jnp.sum(weights, axis=0)


def live(masses: Float[Array, " k"]) -> Bool[Array, " k"]:
    """Clusters with enough mass for their centre to be defined; NaN counts, to be seen."""
    return ~(masses <= float(jnp.finfo(masses.dtype).tiny) ** 0.5)


def safe_masses(masses: Float[Array, " k"]) -> Float[Array, " k"]:
    """Masses, with 1 in place of none."""
    return jnp.where(live(masses), masses, 1.0)


def means_of(
    sums: Float[Array, "k d"], masses: Float[Array, " k"], previous: Float[Array, "k d"]
) -> Float[Array, "k d"]:
    """sums_k / masses_k; without mass what was there before."""
    alive = live(masses)[:, None]
    means = sums / jnp.where(alive, masses[:, None], 1.0)
    return jnp.where(alive, means, jax.lax.stop_gradient(previous))


def weighted_means(entities: Entities, previous: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """sum_i weights_ik x_i / sum_i weights_ik; clusters without mass stay where they are."""
    sums, masses = entities.sum(sums_and_masses)
    return means_of(sums, masses, previous)
