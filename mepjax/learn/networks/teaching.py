"""One level of a network's learning: steps on batches, with averages of parameters and targets."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from .settings import TrainingState
from .steps import Batch, rate_of, regressed, stepped, until_settled


def taught(
    training: Any,
    network: Any,
    optimiser: optax.GradientTransformation,
    state: TrainingState,
    batches: Batch,
    keys: Any,
    x: Float[Array, "n d"],
    origin: Float[Array, " d"],
    spacing: Float[Array, ""],
) -> tuple[TrainingState, Float[Array, ""]]:
    """The state after a step on each batch, and the mean loss of the steps, in spacing^4.

    Where a `Training`'s recipe has tolerances no step is taken any more once the loss, in squared
    units of cost, has changed by less.
    """

    def once(state: TrainingState, at: tuple[Batch, Any]) -> tuple[TrainingState, Array]:
        batch, key = at
        table = state.table
        if table is not None:
            place = batch.entity, batch.prescribed
            # Of several visits of one pair each moves its mean; one of them remains.
            moved = training.smoothing * table[place] + (1 - training.smoothing) * batch.target
            table = table.at[place].set(moved)
            batch = eqx.tree_at(lambda b: b.target, batch, table[place])
        loss, grad = jax.value_and_grad(regressed)(
            state.params, network, batch, x, origin, spacing, key
        )
        change, moments = optimiser.update(grad, state.optimiser, state.params)
        rate = rate_of(training, state.step)
        params, mixed = stepped(state.params, change, rate, state.average, training.average)
        return TrainingState(params, mixed, moments, state.step + 1, table), loss

    tolerances = training.recipe.tolerances
    if tolerances is None:
        state, losses = jax.lax.scan(once, state, (batches, keys))
        return state, jnp.mean(losses)
    least = tolerances[0] / spacing**4
    near = lambda new, old: jnp.abs(new - old) < least  # noqa: E731
    state, losses, taken = until_settled(once, state, (batches, keys), near)
    return state, jnp.sum(jnp.where(taken, losses, 0.0)) / jnp.sum(taken)
