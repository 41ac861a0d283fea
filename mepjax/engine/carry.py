"""What one stage of an anneal hands to the next."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .schedules import Stage


class Transitions(eqx.Module):
    """Critical betas met: one place per slot, later ones counted only."""

    betas: Float[Array, " slots"]
    count: Int[Array, ""]

    def add(self, crossed: Bool[Array, " c"], betas: Float[Array, " c"]) -> "Transitions":
        """With those of `betas` that were crossed."""
        number = jnp.cumsum(crossed, dtype=jnp.int32)
        place = jnp.where(crossed, self.count + number - 1, self.betas.shape[0])
        return Transitions(self.betas.at[place].set(betas, mode="drop"), self.count + number[-1])


class Carry(eqx.Module):
    """Where an anneal is after a stage."""

    params: Any
    stage: Stage
    # At the stage before; 0 before the first.
    curvature: Float[Array, ""]
    beta: Float[Array, ""]
    # What the branching keeps from stage to stage.
    memory: Any
    transitions: Transitions
    # The stage before crossed a transition and did not converge.
    unsettled: Bool[Array, ""]
    # The stage before crossed a transition.
    crossed: Bool[Array, ""]
    code: Int[Array, ""]
    entropy: Float[Array, ""]
    # Where slots that are at one place would separate, as far as rounding lets them; inf: nowhere.
    pending: Float[Array, ""]
    n_stages: Int[Array, ""]
    # The next stage, counted with those of the continuation, which `n_stages` leaves out.
    index: Int[Array, ""]
    done: Bool[Array, ""]
