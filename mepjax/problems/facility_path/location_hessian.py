"""Second derivatives of the expected cost of traffic in the locations of facilities."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..costs import weighted_sum

Locations = Float[Array, "k d"]


def location_hessian(
    ends: Callable[[Locations], Array],
    between: Callable[[Locations], Array],
    locations: Locations,
    live: Bool[Array, " k"],
) -> Float[Array, "size size"]:
    """Hessian of ends + between, made positive definite, in the flat locations.

    **Arguments:** `ends`, a sum in which facilities do not interact (entries and exits), so that d
    products give all its Hessian; `between`, the cost of links; `live`, False where a facility has
    no traffic, which gets the identity.
    """
    k, d = locations.shape
    _, linear = jax.linearize(jax.grad(ends), locations)
    axes = jnp.eye(d, dtype=locations.dtype)
    columns = jax.lax.map(lambda axis: linear(jnp.broadcast_to(axis, (k, d))), axes)
    own = jnp.moveaxis(columns, 0, -1)
    same = jnp.eye(k, dtype=locations.dtype)
    hessian = jnp.einsum("kab,kj->kajb", own, same) + jax.hessian(between)(locations)
    coupled = (live[:, None] & live[None, :])[:, None, :, None]
    identity = jnp.eye(k * d, dtype=locations.dtype)
    hessian = jnp.where(coupled, hessian, 0.0).reshape(k * d, k * d)
    hessian = jnp.where(jnp.repeat(live, d)[:, None], hessian, identity)
    return weighted_sum.positive_definite(hessian[None])[0]
