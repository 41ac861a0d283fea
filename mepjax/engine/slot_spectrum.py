"""What each slot (centre, facility) would gain by splitting and cost by its removal."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


class SlotSpectrum(eqx.Module):
    """One entry per slot, at given params and beta; what `Problem.slot_spectrum` returns.

    **Fields:**

    - `mass`: the weight a slot carries.
    - `critical_beta`: where the slot and a twin of it at the same place would separate, with the
        policy held; inf where they never would.
    - `gain`: how much the cost falls, about, when the slot's share is served by two.
    - `removal`: how much the cost rises, about, when the slot is taken away.
    - `first`, `second`: where the two would stand, shaped like the primal.
    - `share`: the first one's share of the mass.
    """

    mass: Float[Array, " slots"]
    critical_beta: Float[Array, " slots"]
    gain: Float[Array, " slots"]
    removal: Float[Array, " slots"]
    first: Any
    second: Any
    share: Float[Array, " slots"]


def unseen_spectrum(slots: Any, dtype: Any) -> SlotSpectrum:
    """What stands where a spectrum will be: nothing splits and nothing is gained by it."""
    count = jax.tree.leaves(slots)[0].shape[0]
    zero = jnp.zeros((count,), dtype)
    return SlotSpectrum(
        mass=zero + 1,
        critical_beta=zero + jnp.inf,
        gain=zero,
        removal=zero,
        first=slots,
        second=slots,
        share=zero + 0.5,
    )
