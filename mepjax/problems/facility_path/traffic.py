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
from ..._core.params import dual_of, join_params, split_params
from ..._core.paths import Routes, StageCosts
from ..._core.types import Scalar
from ...exec.base import AbstractExecutor
from ...exec.in_memory import InMemory
from ...exec.sources import Rows, total_weight
from ..per_entity import split_rows, split_table
from .network import Network
from .on_disk import has_masks, in_memory, mean_entry_cost
from .prices import worth

_HIGHEST = jax.lax.Precision.HIGHEST


class NodeSums(eqx.Module):
    """A network, in memory or on disk, whose sums over nodes `executor` computes."""

    problem: Network
    executor: AbstractExecutor

    @property
    def _columns(self) -> int:
        """Numbers that a block holds for a node: of each facility cost, cost-to-go and traffic."""
        return 4 * self.problem.total

    def _call(self, of_block: Callable[..., Any], args: Any, *, summed: bool) -> Any:
        """of_block(block, shares, *args) summed over nodes by shares of weight, or row by row."""
        problem = self.problem
        if isinstance(problem.nodes, Rows):
            leaves, restore, shared = split_table(problem, problem.nodes, in_memory)
        else:
            leaves, restore, shared = split_rows(problem, problem.by_node())
        args, rest = eqx.partition(args, eqx.is_array)

        def part(given: Any, shares: Array, *leaves: Array) -> Any:
            shared, args = given
            return of_block(restore(shared, list(leaves)), shares, *eqx.combine(args, rest))

        given, columns = (shared, args), self._columns
        if not summed:
            return self.executor.map(part, given, problem.weights, *leaves, columns=columns)
        sums = self.executor.sum(part, given, problem.weights, *leaves, columns=columns)
        total = total_weight(problem.weights)
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

    def slope(self, params: Any, beta: Scalar) -> Float[Array, "k d"]:
        """Gradient of F in the locations."""
        locations, prices = split_params(params)
        return jax.grad(lambda y: self.energy(join_params(y, prices), beta))(locations)

    def entry_hessians(self, params: Any, beta: Scalar) -> Float[Array, "k d d"]:
        """Hessians of what entries cost, at fixed traffic, in the place of each facility."""

        def of_block(
            block: Any, shares: Array, params: Any, axes: Array, beta: Array, table: Array
        ) -> Array:
            first, direct = block.first_costs(params)
            locations, prices = split_params(params)

            def value(first: Array) -> Array:
                return jnp.sum(
                    shares * paths.values_before(first, direct, table, beta, block.max_hops)
                )

            entries = jax.grad(value)(first)

            def paid(locations: Array) -> Array:
                return worth_of(block.leg_costs(join_params(locations, prices)).first, entries)

            return own_hessians(paid, locations, axes)

        beta = jnp.asarray(beta, self.problem.nodes.dtype)
        table = self._to_go(self._beyond(params, False), beta)
        # Of devices of a mesh directions are each one's own, as params are.
        axes = jnp.eye(self.problem.nodes.shape[1], dtype=beta.dtype)
        return self._call(of_block, (params, axes, beta, table), summed=True)

    def mean_entry_cost(self, params: Any) -> Float[Array, ""]:
        """Mean over nodes and facilities of the size of what is permitted."""
        stays = isinstance(self.problem.nodes, Rows)
        if stays and self.problem.all_squared and not has_masks(self.problem.nodes):
            return mean_entry_cost(self.problem, params)

        def of_block(block: Any, shares: Array, params: Any) -> Array:
            first = block.leg_costs(params).first
            sizes = jnp.mean(jnp.where(jnp.isposinf(first), 0.0, jnp.abs(first)), axis=1)
            return jnp.sum(shares * sizes) if stays else sizes

        if stays:
            return self._call(of_block, (params,), summed=True)
        return jnp.mean(self._call(of_block, (params,), summed=False))

    def hard_cost(self, params: Any) -> Float[Array, ""]:
        """The mean cost of a cheapest path."""

        def of_block(block: Any, shares: Array, params: Any) -> Array:
            paid = paths.shortest(block.leg_costs(params), block.max_hops).costs
            return jnp.sum(jnp.where(shares > 0, shares * paid, 0.0))

        return self._call(of_block, (params,), summed=True)

    def shortest(self, params: Any) -> Routes:
        """A cheapest path of every node."""

        def of_block(block: Any, shares: Array, params: Any) -> Routes:
            return paths.shortest(block.leg_costs(params), block.max_hops)

        return self._call(of_block, (params,), summed=False)


def worth_of(legs: Float[Array, "a b"], traffic: Float[Array, "a b"]) -> Float[Array, ""]:
    """What traffic pays for legs, of which forbidden ones have none."""
    return jnp.sum(traffic * jnp.where(jnp.isposinf(legs), 0.0, legs))


def own_hessians(
    function: Callable[[Float[Array, "k d"]], Array],
    locations: Float[Array, "k d"],
    axes: Float[Array, "d d"],
) -> Float[Array, "k d d"]:
    """Hessians of a sum in which places do not interact: a product for each of the axes."""
    _, linear = jax.linearize(jax.grad(function), locations)
    columns = jax.lax.map(lambda axis: linear(jnp.broadcast_to(axis, locations.shape)), axes)
    return jnp.moveaxis(columns, 0, -1)


def sums_of(network: Network) -> NodeSums:
    """What computes sums over nodes block by block."""
    if isinstance(network.nodes, Rows):
        return NodeSums(network, network.executor)
    return NodeSums(network.on(InMemory()), network.executor)


def energy_of(network: Network, costs: StageCosts, beta: Scalar) -> Float[Array, ""]:
    """F at these costs of legs, less what all capacity costs."""
    return jnp.sum(network.shares() * paths.values(costs, beta, network.max_hops))


def free_energy_at(network: Network, params: Any, beta: Scalar) -> Float[Array, ""]:
    """`Problem.free_energy`."""
    if network.executor.in_blocks:
        energy = sums_of(network).energy(params, beta)
    else:
        energy = energy_of(network, network.charged_costs(params), beta)
    prices = dual_of(params)
    if prices is None:
        return energy
    return energy - worth(prices, network.capacities.limits, network.active_prices())


def flow_of(network: Network, costs: StageCosts, beta: Scalar) -> StageCosts:
    """Traffic at these costs of legs: the gradient of F in them."""
    return eqx.filter_grad(lambda c: energy_of(network, c, beta))(costs)


def flow_and_entered(
    network: Network, params: Any, beta: Scalar, *, level: bool = False
) -> tuple[StageCosts, Float[Array, "m d"]]:
    """Traffic, and the sum over nodes of entries times where the node is.

    Block by block the traffic of all nodes together is in one row.
    """
    if network.executor.in_blocks:
        return sums_of(network).flow(params, beta, level=level)
    flow = flow_of(network, network.charged_costs(params, level=level), beta)
    x = network.nodes - jax.lax.stop_gradient(network.origin)
    return flow, jnp.matmul(flow.first.T, x, precision=_HIGHEST)


def revisits(network: Network, params: Any, beta: Scalar) -> Float[Array, " m"]:
    """Share of the weight whose path visits a facility more than once, for every facility.

    No recursion over stages can forbid it. Where legs cost something it fades as beta grows;
    negative prices of capacities, which only `Equal` ones have, reward it.
    """
    costs = network.charged_costs(params)
    energy = paths.values(costs, beta, network.max_hops)

    def once(j: Array) -> Array:
        at_most_once = paths.values(paths.once_through(costs, j), beta, network.max_hops)
        return 1 - jnp.exp(-beta * (at_most_once - energy))

    return jax.lax.map(once, jnp.arange(network.total)) @ network.shares()


def visits(flow: StageCosts) -> Float[Array, " m"]:
    """Visits of every facility."""
    return jnp.sum(flow.first, axis=0) + jnp.sum(flow.links, axis=0)
