"""Sums over the entities of a clustering with any autonomy and cost, block by block.

`soft_means` does the same faster where the autonomy is none or uniform and the cost squared
Euclidean.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import gibbs, trees
from ..._core.types import Scalar
from ...exec.base import AbstractExecutor
from ...exec.in_memory import InMemory
from ...exec.sources import Rows, total_weight
from ..costs.entities import Entities
from ..per_entity import split_rows, split_table


def in_memory(problem: Any, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> Any:
    """The clustering of these points, with all that was measured of its own."""
    return trees.replaced(problem, x=x, weights=weights, executor=InMemory())


class EntitySums(eqx.Module):
    """A clustering whose sums over entities `executor` computes."""

    problem: Any
    executor: AbstractExecutor

    def by_entity(self) -> Any:
        """Which leaves of the problem have a row for each entity."""
        problem = self.problem
        # Models select the numbers of some entities: those are the ones with a row for each.
        longer = jax.ShapeDtypeStruct((problem.x.shape[0] + 1,), jnp.int32)
        selected = eqx.filter_eval_shape(problem.autonomy.of_entities, longer)
        numbers = jax.tree.map(
            lambda a, b: eqx.is_array(a) and a.shape != b.shape, problem.autonomy, selected
        )
        nothing = jax.tree.map(lambda _: False, problem)
        return eqx.tree_at(lambda p: (p.x, p.weights, p.autonomy), nothing, (True, True, numbers))

    def _split(self) -> tuple[list[Any], Callable[[Any, list[Array]], Any], Any]:
        """`split_rows` of the problem, whose rows may be those of `Rows`."""
        problem = self.problem
        if isinstance(problem.x, Rows):
            return split_table(problem, problem.x, in_memory)
        return split_rows(problem, self.by_entity())

    @property
    def _columns(self) -> int:
        """Numbers that a block holds for an entity."""
        # Of each cluster its distance, average cost, exponential, and the weight it receives, or
        # for a gradient the slope of the cost.
        return 4 * self.problem.k

    def sum(
        self, part: Callable[..., Any], y: Float[Array, "k d"] | None, beta: Scalar, *more: Any
    ) -> Any:
        """Sum of part(block, shares, y, beta, *more) over the entities, by shares of weight."""
        problem = self.problem
        leaves, restore, shared = self._split()
        more, rest = eqx.partition(more, eqx.is_array)

        def of_block(args: Any, shares: Array, *leaves: Array) -> Any:
            shared, y, beta, more = args
            more = eqx.combine(more, rest)
            return part(restore(shared, list(leaves)), shares, y, beta, *more)

        args = (shared, y, jnp.asarray(beta, problem.x.dtype), more)
        weights, columns = problem.weights, self._columns
        sums = self.executor.sum(of_block, args, weights, *leaves, columns=columns)
        total = total_weight(problem.weights)
        return jax.tree.map(lambda a: a / total, sums)

    def free_energy(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """F at these centres, summed over entities in blocks."""

        def part(block: Any, shares: Array, y: Array, beta: Array) -> Array:
            return gibbs.free_energy(block.average_distances(y), shares, beta)

        return self.sum(part, y, beta)

    def energy_and_terms(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """F, D and H."""

        def part(block: Any, shares: Array, y: Array, beta: Array) -> tuple[Array, ...]:
            return gibbs.free_energy_and_terms(block.average_distances(y), shares, beta)

        return self.sum(part, y, beta)

    def harden(self, y: Float[Array, "k d"]) -> tuple[Array, Array]:
        """`least_costs` of every entity."""
        leaves, restore, shared = split_rows(self.problem, self.by_entity())

        def of_block(args: Any, *leaves: Array) -> tuple[Array, Array]:
            shared, y = args
            return restore(shared, list(leaves)).least_costs(y)

        return self.executor.map(of_block, (shared, y), *leaves, columns=self._columns)


class BlockedEntities(Entities):
    """Entities weighted by the Gibbs policy at `centres`, never all at once.

    Without centres all entities are in one cluster.
    """

    sums: EntitySums
    centres: Float[Array, "k d"] | None
    beta: Float[Array, ""]

    def sum(self, part: Callable[..., Any], *args: Any) -> Any:
        """part(weights, x, *args) of all entities, x relative to the origin."""

        def of_block(block: Any, shares: Array, y: Any, beta: Array, *args: Any) -> Any:
            one = self.centres is None
            weights = shares[:, None] if one else block.received_weights(y, beta, shares)
            return part(weights, block.x - jax.lax.stop_gradient(block.origin), *args)

        return self.sums.sum(of_block, self.centres, self.beta, *args)

    @property
    def k(self) -> int:
        """K, the number of clusters."""
        return 1 if self.centres is None else self.centres.shape[0]

    @property
    def first(self) -> Float[Array, " d"]:
        """Any one of the entities."""
        problem = self.sums.problem
        x = problem.x.fetch(0, 1)[0] if isinstance(problem.x, Rows) else problem.x
        return x[0] - jax.lax.stop_gradient(problem.origin)

    def scale(self, cost: Any) -> Float[Array, ""]:
        """`cost.spread` of the entities, which is known."""
        del cost
        return self.sums.problem.spread
