"""What one leg of a path costs, as a function of its two ends."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._core import checks
from ..costs.base import AbstractCost
from ..costs.function import CostFunction
from ..costs.names import NAMES, as_cost
from ..costs.quadratic import SquaredEuclidean


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


class CostLegs(eqx.Module):
    """A cost of clustering, from the start of the leg to its end."""

    cost: AbstractCost

    def pairwise(
        self,
        start: Float[Array, "s d"],
        end: Float[Array, "e d"],
        permitted: Bool[Array, "s e"] | None,
        origin: Float[Array, " d"],
    ) -> Float[Array, "s e"]:
        """Costs of all legs, +inf where not permitted."""
        if not self.cost.translation_invariant:
            start, end = start + origin, end + origin
        costs = self.cost.pairwise(start, end)
        return costs if permitted is None else jnp.where(permitted, costs, jnp.inf)


class FreeLegs(eqx.Module):
    """Legs that cost nothing."""

    def pairwise(
        self,
        start: Float[Array, "s d"],
        end: Float[Array, "e d"],
        permitted: Bool[Array, "s e"] | None,
        origin: Float[Array, " d"],
    ) -> Float[Array, "s e"]:
        """Zeros, +inf where not permitted."""
        del origin
        nothing = jnp.zeros((start.shape[0], end.shape[0]), start.dtype)
        return nothing if permitted is None else jnp.where(permitted, nothing, jnp.inf)


Legs = FunctionLegs | CostLegs | FreeLegs


def is_squared(legs: Legs) -> bool:
    """Whether the legs cost the squared distance: the location step has a closed form."""
    return isinstance(legs, CostLegs) and isinstance(legs.cost, SquaredEuclidean)


def cost_of(legs: Legs) -> AbstractCost | None:
    """The legs as a cost of clustering between places relative to no origin; `None`: free."""
    if isinstance(legs, FunctionLegs):
        return CostFunction(legs.fn)
    return legs.cost if isinstance(legs, CostLegs) else None


def for_places(legs: Legs, places: Array, weights: Array) -> Legs:
    """Legs with what their cost leaves to the data filled in."""
    return CostLegs(legs.cost.for_data(places, weights)) if isinstance(legs, CostLegs) else legs


def checks_of(legs: tuple[Legs, Legs, Legs], nodes: Array, ends: Array) -> list[checks.Check]:
    """Conditions on the arrays of (entry, link, exit) and on the places they are between."""
    found: list[checks.Check] = []
    for leg, places in zip(legs, (nodes, nodes, ends), strict=True):
        if isinstance(leg, CostLegs):
            found += [*leg.cost.check(places.shape[1]), *leg.cost.check_data(places)]
    if all(is_squared(leg) or isinstance(leg, FreeLegs) for leg in legs):
        xp: Any = np if checks.is_concrete(nodes, ends) else jnp
        found += [checks.check_squares("FacilityPath", "nodes", xp.concatenate([nodes, ends]))]
    return found


def as_stage_costs(stage_costs: Any) -> Legs | tuple[Legs, Legs, Legs]:
    """Costs of all legs, or of entries, links and exits apart.

    One cost for all stays one object, so that its parameters are counted once.
    """
    if not isinstance(stage_costs, tuple | list):
        return _as_legs(stage_costs, none_is_free=False)
    if len(stage_costs) != 3:
        raise ValueError(
            "FacilityPath: `stage_costs` must be one cost or three, (entry, link, exit); "
            f"got {len(stage_costs)}."
        )
    entry, link, end = (_as_legs(cost, none_is_free=True) for cost in stage_costs)
    if isinstance(entry, FreeLegs) and isinstance(end, FreeLegs):
        raise ValueError(
            "FacilityPath: `stage_costs` must not leave both entry and exit free: nothing would "
            "hold the facilities in place."
        )
    return entry, link, end


def _is_name(stage_costs: Any) -> bool:
    return isinstance(stage_costs, str) and stage_costs in NAMES


def _as_legs(stage_costs: Any, *, none_is_free: bool) -> Legs:
    if isinstance(stage_costs, Legs):
        return stage_costs
    if stage_costs is None and none_is_free:
        return FreeLegs()
    if isinstance(stage_costs, AbstractCost) or _is_name(stage_costs):
        cost = as_cost(stage_costs)
        if not cost.smooth:
            raise ValueError(
                f"FacilityPath: `stage_costs` {type(cost).__name__} has no second derivatives "
                "where locations would come to rest; use a smooth cost such as "
                "mepjax.costs.Euclidean()."
            )
        return CostLegs(cost)
    if not callable(stage_costs) or isinstance(stage_costs, type):
        raise TypeError(
            'FacilityPath: `stage_costs` must be the name of a cost, such as "sqeuclidean" or '
            '"euclidean", an instance of a class in mepjax.costs, a function of two points, or '
            f"three of these for (entry, link, exit); got {stage_costs!r}."
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
