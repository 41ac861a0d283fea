"""Hard plans: one action in every state."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class HardPlan(eqx.Module):
    """The plan of least cost at given places.

    **Fields:** `actions` (states,); `values` (states,), what it costs from each state; `cost`, the
    mean over the start distribution; `code` of the solve.
    """

    actions: Int[Array, " states"]
    values: Float[Array, " states"]
    cost: Float[Array, ""]
    code: Int[Array, ""]


def routes(
    after: Int[Array, "states actions"], actions: Int[Array, " states"],
    terminal: Bool[Array, " states"], steps: int,
) -> Int[Array, "states steps"]:  # fmt: skip
    """States visited after each state by a deterministic plan, -1 after the end."""
    following = jnp.take_along_axis(after, actions[:, None], axis=1)[:, 0]
    following = jnp.where(terminal, -1, following)

    def advance(state: Array, _: Any) -> tuple[Array, Array]:
        inside = jnp.maximum(state, 0)
        new = jnp.where(state < 0, -1, following[inside])
        return new, new

    start = jnp.arange(after.shape[0], dtype=after.dtype)
    return jax.lax.scan(advance, start, None, length=steps)[1].T
