"""Expected costs of legs between places that are known by a distribution only."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..uncertain import Spread
from .legs import FreeLegs, Legs, is_squared


def check_known_enough(
    owner: str, name: str, spread: Spread | None, legs: tuple[Legs, ...]
) -> None:
    """Raise `ValueError` where a covariance does not determine an expected cost."""
    if spread is None or spread.offsets is not None:
        return
    if not all(isinstance(leg, FreeLegs) or is_squared(leg) for leg in legs):
        raise ValueError(
            f"{owner}: `{name}` given as Covariance determines expected squared distances only; "
            "give Samples for other `stage_costs`."
        )


def expected_costs(
    legs: Legs,
    start: Float[Array, "s d"],
    end: Float[Array, "e d"],
    spreads: tuple[Spread | None, Spread | None],
    permitted: Bool[Array, "s e"] | None,
    origin: Float[Array, " d"],
) -> Float[Array, "s e"]:
    """Expected costs of all legs between independent places, +inf where not permitted."""
    if spreads == (None, None) or isinstance(legs, FreeLegs):
        return legs.pairwise(start, end, permitted, origin)
    if is_squared(legs):
        costs = legs.pairwise(start, end, permitted, origin)
        first, second = (0.0 if spread is None else spread.variance for spread in spreads)
        return costs + jnp.reshape(first, (-1, 1)) + second
    (starts, first), (ends, second) = (
        _samples_of(place, spread) for place, spread in zip((start, end), spreads, strict=True)
    )
    d = start.shape[1]
    costs = legs.pairwise(starts.reshape(-1, d), ends.reshape(-1, d), None, origin)
    costs = costs.reshape(*starts.shape[:2], *ends.shape[:2])
    costs = jnp.einsum("asbt,as,bt->ab", costs, first, second, precision=jax.lax.Precision.HIGHEST)
    return costs if permitted is None else jnp.where(permitted, costs, jnp.inf)


def _samples_of(places: Array, spread: Spread | None) -> tuple[Array, Array]:
    if spread is None:
        return places[:, None], jnp.ones((places.shape[0], 1), places.dtype)
    assert spread.offsets is not None and spread.weights is not None
    return places[:, None] + spread.offsets, spread.weights
