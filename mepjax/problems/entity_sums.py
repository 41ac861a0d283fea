"""Sums over the entities of a clustering with any autonomy, block by block.

For costs whose centres are weighted means; `soft_means` does the same faster where the autonomy
is none or uniform and the cost squared Euclidean.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import gibbs
from .._core.types import Scalar
from ..exec.base import AbstractExecutor
from .costs.base import means_of


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

    def _split(self) -> tuple[list[Array], Callable[[Any, list[Array]], Any], Any]:
        """Arrays with a row for each entity, a way back to a problem, and all other arrays."""
        problem = self.problem
        rows, rest = eqx.partition(problem, self.by_entity())
        shared, static = eqx.partition(rest, eqx.is_array)
        leaves, structure = jax.tree.flatten(rows)

        def restore(shared: Any, leaves: list[Array]) -> Any:
            return eqx.combine(jax.tree.unflatten(structure, leaves), shared, static)

        return leaves, restore, shared

    @property
    def _columns(self) -> int:
        """Numbers that a block holds for an entity."""
        # Of each cluster its distance, average cost, exponential, and the weight it receives, or
        # for a gradient the slope of the cost.
        return 4 * self.problem.k

    def _sum(self, part: Callable[..., Any], y: Float[Array, "k d"], beta: Scalar) -> Any:
        """Sum of part(block, shares, y, beta) over the entities, by shares of weight."""
        problem = self.problem
        leaves, restore, shared = self._split()

        def of_block(args: Any, shares: Array, *leaves: Array) -> Any:
            shared, y, beta = args
            return part(restore(shared, list(leaves)), shares, y, beta)

        args = (shared, y, jnp.asarray(beta, y.dtype))
        weights, columns = problem.weights, self._columns
        sums = self.executor.sum(of_block, args, weights, *leaves, columns=columns)
        total = jnp.sum(problem.weights)
        return jax.tree.map(lambda a: a / total, sums)

    def free_energy(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """F."""

        def part(block: Any, shares: Array, y: Array, beta: Array) -> Array:
            return gibbs.free_energy(block.average_distances(y), shares, beta)

        return self._sum(part, y, beta)

    def energy_and_terms(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
        """F, D and H."""

        def part(block: Any, shares: Array, y: Array, beta: Array) -> tuple[Array, ...]:
            return gibbs.free_energy_and_terms(block.average_distances(y), shares, beta)

        return self._sum(part, y, beta)

    def received(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """What each cluster receives: sum of x - origin, and mass."""

        def part(block: Any, shares: Array, y: Array, beta: Array) -> tuple[Array, Array]:
            weights = block.received_weights(y, beta, shares)
            x = block.x - jax.lax.stop_gradient(block.origin)
            sums = jnp.matmul(weights.T, x, precision=jax.lax.Precision.HIGHEST)
            return sums, jnp.sum(weights, axis=0)

        return self._sum(part, y, beta)

    def update(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        """The mean of what each cluster receives; without mass a centre stays."""
        origin = jax.lax.stop_gradient(self.problem.origin)
        return means_of(*self.received(y, beta), y - origin) + origin

    def slope_and_masses(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
        """dF / dy, and what each cluster receives."""
        return jax.grad(self.free_energy)(y, beta), self.received(y, beta)[1]

    def harden(self, y: Float[Array, "k d"]) -> tuple[Array, Array]:
        """`least_costs` of every entity."""
        leaves, restore, shared = self._split()

        def of_block(args: Any, *leaves: Array) -> tuple[Array, Array]:
            shared, y = args
            return restore(shared, list(leaves)).least_costs(y)

        return self.executor.map(of_block, (shared, y), *leaves, columns=self._columns)
