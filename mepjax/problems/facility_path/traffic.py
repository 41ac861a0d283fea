"""Sums over the nodes of a facility network, block by block.

What lies beyond the first facility is the same for all nodes: the recursion over stages is done
once, and a block adds its entries and its legs straight to a destination.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import paths
from ..._core.paths import Routes, StageCosts
from ..._core.types import Scalar
from ...exec.base import AbstractExecutor
from ..per_entity import split_rows

_HIGHEST = jax.lax.Precision.HIGHEST


class NodeSums(eqx.Module):
    """A network, in memory, whose sums over nodes `executor` computes."""

    problem: Any
    executor: AbstractExecutor

    @property
    def _columns(self) -> int:
        """Numbers that a block holds for a node: of each facility cost, cost-to-go and traffic."""
        return 4 * self.problem.total

    def _call(self, of_block: Callable[..., Any], args: Any, *, summed: bool) -> Any:
        """of_block(block, shares, *args) summed over nodes by shares of weight, or row by row."""
        problem = self.problem
        leaves, restore, shared = split_rows(problem, problem.by_node())
        args, rest = eqx.partition(args, eqx.is_array)

        def part(given: Any, shares: Array, *leaves: Array) -> Any:
            shared, args = given
            return of_block(restore(shared, list(leaves)), shares, *eqx.combine(args, rest))

        given, columns = (shared, args), self._columns
        if not summed:
            return self.executor.map(part, given, problem.weights, *leaves, columns=columns)
        sums = self.executor.sum(part, given, problem.weights, *leaves, columns=columns)
        total = jnp.sum(problem.weights)
        return jax.tree.map(lambda a: a / total, sums)

    def _beyond(self, params: Any, level: bool) -> tuple[Array, Array]:
        """Costs of links and exits, prices included."""
        costs = self.problem.common_costs(params, level=level)
        return costs.links, costs.last

    def _to_go(self, beyond: tuple[Array, Array], beta: Scalar) -> Float[Array, "stages m"]:
        links, last = beyond
        unused = jnp.zeros((1, self.problem.total), links.dtype)
        costs = StageCosts(unused, links, last, None, self.problem.n_stages)
        return paths.cost_to_go(costs, beta)

    def energy(self, params: Any, beta: Scalar, *, level: bool = False) -> Float[Array, ""]:
        """F, prices counted as costs; `level`: as if all that is permitted cost nothing."""

        def of_block(block: Any, shares: Array, params: Any, beta: Array, table: Array) -> Array:
            first, direct = block.first_costs(params, level=level)
            values = paths.values_before(first, direct, table, beta, block.max_hops)
            return jnp.sum(shares * values)

        beta = jnp.asarray(beta, self.problem.nodes.dtype)
        table = self._to_go(self._beyond(params, level), beta)
        return self._call(of_block, (params, beta, table), summed=True)

    def flow(
        self, params: Any, beta: Scalar, *, level: bool = False
    ) -> tuple[StageCosts, Float[Array, "m d"]]:
        """Traffic, that of all nodes together in one row, and sum over nodes of entries times x."""

        def of_block(block: Any, shares: Array, params: Any, beta: Array, table: Array) -> Any:
            first, direct = block.first_costs(params, level=level)

            def value(legs: tuple[Array, Array | None, Array]) -> Array:
                values = paths.values_before(*legs, beta, block.max_hops)
                return jnp.sum(shares * values)

            entries, straight, onward = eqx.filter_grad(value)((first, direct, table))
            x = block.nodes - jax.lax.stop_gradient(block.origin)
            entered = jnp.matmul(entries.T, x, precision=_HIGHEST)
            if straight is not None:
                straight = jnp.sum(straight, axis=0)
            return jnp.sum(entries, axis=0), straight, onward, entered

        beta = jnp.asarray(beta, self.problem.nodes.dtype)
        table, pull = jax.vjp(lambda *legs: self._to_go(legs, beta), *self._beyond(params, level))
        entries, straight, onward, entered = self._call(
            of_block, (params, beta, table), summed=True
        )
        links, last = pull(onward)
        if straight is not None:
            straight = straight[None]
        return StageCosts(entries[None], links, last, straight, self.problem.n_stages), entered

    def mean_entry_cost(self, params: Any) -> Float[Array, ""]:
        """Mean over nodes and facilities of the size of what is permitted."""

        def of_block(block: Any, shares: Array, params: Any) -> Array:
            first = block.leg_costs(params).first
            sizes = jnp.where(jnp.isposinf(first), 0.0, jnp.abs(first))
            return jnp.mean(sizes, axis=1)

        return jnp.mean(self._call(of_block, (params,), summed=False))

    def shortest(self, params: Any) -> Routes:
        """A cheapest path of every node."""

        def of_block(block: Any, shares: Array, params: Any) -> Routes:
            return paths.shortest(block.leg_costs(params), block.max_hops)

        return self._call(of_block, (params,), summed=False)
