"""Clustering by squared distance in passes over the data, block by block, centres by entities.

For no autonomy and for uniform autonomy alike: entity i told to join cluster j costs
a_i |x_i - y_j|^2 + f_i sum_k |x_i - y_k|^2, and cluster j receives the share a_i policy_ij + f_i
of it. Without autonomy a = 1 and f = 0, with uniform autonomy a = 1 - kappa K / (K - 1) and
f = kappa / (K - 1).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import gibbs
from ..._core.distances import relative_squared_euclidean
from ..._core.types import Scalar
from ...exec.base import AbstractExecutor
from ...exec.sources import Rows, RowWeights, total_weight
from ..capacity.prices import Totals, totals_of
from ..costs.entities import means_of

_HIGHEST = jax.lax.Precision.HIGHEST


def product(a: Array, b: Array) -> Array:
    """Matrix product at the highest precision."""
    return jnp.matmul(a, b, precision=_HIGHEST)


def with_ones(x: Float[Array, "n d"]) -> Float[Array, "n d+1"]:
    """x with a column of ones, whose sums are masses."""
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


class Block(eqx.Module):
    """Some of the data and all centres, both relative to the origin."""

    y: Float[Array, "k d"]
    beta: Scalar
    shares: Float[Array, " n"]
    x: Float[Array, "n d"]
    firmness: Float[Array, "*n"]
    floor: Float[Array, "*n"] | None
    prices: Float[Array, " k"] | None

    def _priced(self, costs: Float[Array, "k n"]) -> Float[Array, "k n"]:
        return costs if self.prices is None else costs + self.prices[:, None]

    def average(self) -> tuple[Float[Array, "k n"], Float[Array, "*n"] | None]:
        """d_avg of entity i told to join j, less prices, and what to add for each entity."""
        costs, offset = relative_squared_euclidean(self.y, self.x)
        if self.floor is None:
            extra = None if offset is None else self.firmness * offset
        else:
            extra = self.floor * jnp.sum(costs, axis=0)
            if offset is not None:
                extra = extra + (self.firmness + self.floor * self.y.shape[0]) * offset
        return self.firmness * costs, extra

    def policy(self) -> Float[Array, "k n"]:
        """Gibbs policy."""
        costs, _ = relative_squared_euclidean(self.y, self.x)
        return gibbs.policy(self._priced(self.firmness * costs), self.beta, axis=0)

    def _offset(self, each: Float[Array, "*n"] | None) -> Float[Array, ""] | float:
        """What is added to F and D, of what is added for each entity."""
        return 0.0 if each is None else jnp.sum(self.shares * each)

    def everywhere(self) -> Float[Array, " d+1"] | float:
        """What every cluster receives whatever the policy: sums of x and of 1."""
        if self.floor is None:
            return 0.0
        return jnp.sum((self.floor * self.shares)[:, None] * with_ones(self.x), axis=0)

    def hard_cost(self) -> Float[Array, ""]:
        """Share of the least cost, without prices."""
        costs, each = self.average()
        return jnp.sum(self.shares * jnp.min(costs, axis=0)) + self._offset(each)

    def energy(self) -> Float[Array, ""]:
        """Share of F."""
        costs, each = self.average()
        energy = gibbs.free_energy(self._priced(costs), self.shares, self.beta, axis=0)
        return energy + self._offset(each)

    def energy_and_terms(self) -> Float[Array, "3"]:
        """Shares of F, D and H, without prices."""
        costs, each = self.average()
        energy, distortion, entropy = gibbs.free_energy_and_terms(
            costs, self.shares, self.beta, axis=0
        )
        offset = self._offset(each)
        return jnp.stack([energy + offset, distortion + offset, entropy])

    def received(self) -> Float[Array, "k d+1"]:
        """Sums of x and of 1, by what each cluster receives."""
        told = (self.firmness * self.shares) * self.policy()
        given = told if self.floor is None else told + self.floor * self.shares
        return product(given, with_ones(self.x))

    def energy_and_received(self) -> tuple[Float[Array, ""], Float[Array, "k d+1"]]:
        """`energy` and `received` at the price of one."""
        costs, each = self.average()
        energies, policy, totals = gibbs.free_energies_and_partition(
            self._priced(costs), self.beta, axis=0
        )
        scaled = (self.firmness * self.shares / totals)[:, None] * with_ones(self.x)
        firm = product(policy, scaled)
        return jnp.sum(self.shares * energies) + self._offset(each), firm + self.everywhere()

    def entity_slopes(self) -> Float[Array, "n d"]:
        """dF / dx, by what each entity is told and what it takes part in whatever it is told."""
        costs, _ = relative_squared_euclidean(self.y, self.x)
        _, policy, totals = gibbs.free_energies_and_partition(
            self._priced(self.firmness * costs), self.beta, axis=0
        )
        mean = product(self.y.T, policy) / totals
        slopes = (self.firmness * self.shares) * (self.x.T - mean)
        if self.floor is not None:
            everywhere = self.y.shape[0] * self.x.T - jnp.sum(self.y, axis=0)[:, None]
            slopes = slopes + (self.floor * self.shares) * everywhere
        return 2 * slopes.T

    def totals(self) -> Totals:
        """Shares of `SoftMeans.totals`."""
        costs, each = self.average()
        energy, told, joint = totals_of(self._priced(costs), self.shares, self.beta)
        return energy + self._offset(each), told, joint

    def priced_terms(self) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " k"]]:
        """Shares of `SoftMeans.priced_terms`."""
        costs, each = self.average()
        priced = self._priced(costs)
        _, entropy = gibbs.distortion_and_entropy(priced, self.shares, self.beta, axis=0)
        told = self.shares * gibbs.policy(priced, self.beta, axis=0)
        distortion = jnp.sum(told * costs) + self._offset(each)
        return distortion, entropy, jnp.sum(told, axis=1)


def block_of(
    shared: tuple[Any, ...], shares: Array, x: Array, firmness: Array, floor: Array | None = None
) -> Block:
    """A block of entities at centres, beta, origin and prices, which all blocks share."""
    y, beta, origin, prices = shared
    return Block(y, beta, shares, x - origin, firmness, floor, prices)


class SoftMeans(eqx.Module):
    """The data of such a clustering; `firmness` is a and `floor` is f, scalar or one per entity.

    A floor of `None` is zero. Centres are in the units of `x`; distances are computed relative to
    `origin`. `prices` are added to the costs of being told to join each cluster.
    """

    x: Float[Array, "n d"] | Rows
    weights: Float[Array, " n"] | RowWeights
    firmness: Float[Array, "*n"]
    floor: Float[Array, "*n"] | None
    origin: Float[Array, " d"]
    executor: AbstractExecutor
    prices: Float[Array, " k"] | None = None

    def sum_blocks(
        self, part: Callable[..., Any], y: Float[Array, "k d"], beta: Scalar, *, columns: int = 0
    ) -> Any:
        """Sum of part(block) over the data, by shares of weight; centres relative to the origin."""
        return self.sum_with(lambda block, extra: part(block), y, beta, None, columns=columns)

    def sum_with(
        self,
        part: Callable[..., Any],
        y: Float[Array, "k d"],
        beta: Scalar,
        extra: Any,
        *,
        columns: int = 0,
    ) -> Any:
        """Sum of part(block, extra)."""

        def of_block(args: Any, shares: Array, *data: Array) -> Any:
            shared, extra = args
            return part(block_of(shared, shares, *data), extra)

        sums = self.executor.sum(
            of_block,
            (self.shared(y, beta), extra),
            *self._rows(),
            columns=max(columns, y.shape[0]),
        )
        total = total_weight(self.weights)
        return jax.tree.map(lambda a: a / total, sums)

    def shared(self, y: Float[Array, "k d"], beta: Scalar) -> tuple[Any, ...]:
        """What `block_of` needs beside its entities."""
        return y, jnp.asarray(beta, y.dtype), self.origin, self.prices

    def _rows(self) -> tuple[Any, ...]:
        """What `block_of` needs of its entities."""
        floor = () if self.floor is None else (self.floor,)
        return self.weights, self.x, self.firmness, *floor

    def slope_along(
        self, y: Float[Array, "k d"], beta: Scalar, direction: Float[Array, "n d"]
    ) -> Float[Array, ""]:
        """The derivative of F as x moves along `direction`, linear in it."""

        def of_block(shared: Any, shares: Array, direction: Array, *data: Array) -> Array:
            return jnp.sum(block_of(shared, shares, *data).entity_slopes() * direction)

        weights, *data = self._rows()
        shared = self.shared(y - self.origin, beta)
        total = jnp.sum(weights)
        columns = y.shape[0]
        return (
            self.executor.sum(of_block, shared, weights, direction, *data, columns=columns) / total
        )

    def free_energy(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """F, whose slope in the centres comes out of the same pass; that in x takes one more."""
        return _free_energy(self, y, jnp.asarray(beta, y.dtype))

    def energy_and_terms(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """F, D and H, without prices."""
        energy, distortion, entropy = self.sum_blocks(Block.energy_and_terms, y - self.origin, beta)
        return energy, distortion, entropy

    def received(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """What each cluster receives: sum of x - origin, and mass."""
        sums = self.sum_blocks(Block.received, y - self.origin, beta)
        return sums[:, :-1], sums[:, -1]

    def update(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        """The mean of what each cluster receives; without mass a centre stays."""
        return means_of(*self.received(y, beta), y - self.origin) + self.origin

    def slope_and_masses(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """dF / dy = 2 (m y - s), and m."""
        sums, masses = self.received(y, beta)
        return 2 * (masses[:, None] * (y - self.origin) - sums), masses

    def energy_and_slope(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, "k d"]]:
        """F and dF / dy in one pass."""
        y = y - self.origin
        energy, sums = self.sum_blocks(Block.energy_and_received, y, beta)
        return energy, 2 * (sums[:, -1:] * y - sums[:, :-1])

    # With prices.

    def totals(self, y: Float[Array, "k d"], beta: Scalar) -> Totals:
        """F, what is told to join each cluster, and the second moments of the policy."""
        return self.sum_blocks(Block.totals, y - self.origin, beta)

    def priced_terms(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " k"]]:
        """D, which leaves prices out, H, and what is told to join each cluster."""
        return self.sum_blocks(Block.priced_terms, y - self.origin, beta)


def _is_none(leaf: Any) -> bool:
    return leaf is None


@eqx.filter_custom_jvp
def _free_energy(means: SoftMeans, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
    return means.sum_blocks(Block.energy, y - means.origin, beta)


@_free_energy.def_jvp
def _free_energy_jvp(primals: Any, tangents: Any) -> Any:
    means, y, beta = primals
    x_tangent, y_tangent = tangents[0].x, tangents[1]
    if isinstance(x_tangent, Rows):
        x_tangent = None
    others = eqx.tree_at(lambda t: (t[0].x, t[1]), tangents, (None, None), is_leaf=_is_none)
    if not jax.tree.leaves(others):
        if y_tangent is None:
            energy, tangent = _free_energy(means, y, beta), 0.0
        else:
            energy, slope = means.energy_and_slope(y, beta)
            tangent = jnp.sum(slope * y_tangent)
        if x_tangent is not None:
            tangent = tangent + means.slope_along(y, beta, x_tangent)
        return energy, tangent
    arrays, static = eqx.partition(primals, eqx.is_inexact_array)
    filled = jax.tree.map(
        lambda a, t: jnp.zeros_like(a) if t is None and a is not None else t,
        arrays,
        tangents,
        is_leaf=_is_none,
    )

    def plain(arrays: Any) -> Array:
        means, y, beta = eqx.combine(arrays, static)
        return means.sum_blocks(Block.energy, y - means.origin, beta)

    return jax.jvp(plain, (arrays,), (filled,))
