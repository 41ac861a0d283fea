"""What one leg of a path costs, as a function of its two ends."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._core import checks
from .._core.distances import squared_euclidean


class SquaredLegs(eqx.Module):
    """The squared distance between the ends: the location step has a closed form."""

    def pairwise(
        self,
        start: Float[Array, "s d"],
        end: Float[Array, "e d"],
        permitted: Bool[Array, "s e"] | None,
        origin: Float[Array, " d"],
    ) -> Float[Array, "s e"]:
        """Costs of all legs, +inf where not permitted."""
        del origin
        costs = squared_euclidean(start, end)
        return costs if permitted is None else jnp.where(permitted, costs, jnp.inf)


class FunctionLegs(eqx.Module):
    """Any function of the two ends in the user's units."""

    fn: Callable[[Array, Array], Any]

    def pairwise(
        self,
        start: Float[Array, "s d"],
        end: Float[Array, "e d"],
        permitted: Bool[Array, "s e"] | None,
        origin: Float[Array, " d"],
    ) -> Float[Array, "s e"]:
        """Costs of all legs, +inf where not permitted."""
        if permitted is None:
            permitted = jnp.ones((start.shape[0], end.shape[0]), bool)

        def cost(a: Array, b: Array, allowed: Array) -> Array:
            # A forbidden leg is evaluated elsewhere: a distance from a place to itself has no
            # derivative, which zero times would still be NaN.
            value = self.fn(a + origin, jnp.where(allowed, b, a + 1) + origin)
            if jnp.shape(value) != ():
                raise ValueError(
                    "FacilityPath: `stage_costs` must return a scalar for two points; got shape "
                    f"{jnp.shape(value)}."
                )
            return jnp.where(allowed, value, jnp.inf)

        by_end = jax.vmap(cost, in_axes=(None, 0, 0))
        return jax.vmap(by_end, in_axes=(0, None, 0))(start, end, permitted)


def as_legs(stage_costs: Any) -> SquaredLegs | FunctionLegs:
    """Leg costs from the name or a function of two points."""
    if isinstance(stage_costs, str) and stage_costs == "sqeuclidean":
        return SquaredLegs()
    if not callable(stage_costs) or isinstance(stage_costs, type):
        raise TypeError(
            'FacilityPath: `stage_costs` must be "sqeuclidean" or a function of two points; '
            f"got {stage_costs!r}."
        )
    for cell in getattr(stage_costs, "__closure__", None) or ():
        if not checks.is_concrete(cell.cell_contents):
            raise TypeError(
                "FacilityPath: `stage_costs` captures a traced value in its closure, through "
                "which no gradient would flow. Make it an equinox.Module that holds the value as "
                "a field and has a `__call__(self, start, end)`."
            )
    fn: Callable[[Array, Array], Any] = stage_costs
    return FunctionLegs(fn)
