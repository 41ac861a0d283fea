"""Whether anything is left to decide: where an open-ended schedule ends, and what UNSEPARATED says.

Something is left while slots are at one place whose data are not, and until decisions are hard.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from .._core import trees
from .._core.params import join_params, split_params
from ..solvers import spectrum
from .curvature import near_critical_threshold
from .distinct import coincident
from .problem import Problem
from .schedules import Stage

# Decisions are hard where their entropy is below this share of log K.
HARD = 1e-3
# Slots closer than this times the temperature's length have not separated yet.
_SEPARATION = 0.05


def temperature_length(scale: Float[Array, ""], beta: Float[Array, ""]) -> Float[Array, ""]:
    """How far apart what separates at `beta` stands, in units of the data's size; at most 1.

    `scale` is the first transition, where this is the size itself.
    """
    return jnp.minimum(jnp.sqrt(scale / beta), 1.0).astype(beta.dtype)


def is_undecided(
    problem: Problem,
    scale: Float[Array, ""],
    pending: Float[Array, ""],
    before: tuple[Float[Array, ""], Float[Array, ""]],
    now: tuple[Float[Array, ""], Float[Array, ""]],
) -> Bool[Array, ""]:
    """Whether a larger beta would still part slots, see `pending_beta`, or harden decisions.

    `before` and `now` are beta and entropy of two stages. Where entities lie between places, or
    slots are at one place with their data, an entropy is left that no beta takes away.
    """
    if problem.n_slots is None:
        return jnp.asarray(False)
    little = HARD * math.log(max(problem.n_slots, 2))
    # Before the first stage there is no beta, and the entropies are the same.
    factor = jnp.where(before[0] < now[0], now[0] / before[0], 1.0)
    is_soft = (now[1] > little) & (before[1] - now[1] > little * jnp.log(factor))
    rounded, _ = problem.rounding_betas(scale)
    return (jnp.isfinite(pending) | is_soft) & (now[0] < rounded)


def pending_beta(
    problem: Problem,
    params: Any,
    stage: Stage,
    scale: Float[Array, ""],
    start: Float[Array, " primal"],
    split: Float[Array, ""] | None,
) -> Float[Array, ""]:
    """About where slots that are at one place after a stage separate; inf: they never do.

    `split` is where the next of the groups of `Growth` does. Otherwise it is looked for after
    stages that may be the last.
    """
    beta, nowhere = stage.beta, jnp.full_like(stage.beta, jnp.inf)
    if problem.n_slots is None:
        return nowhere
    if split is not None:
        # Groups that come together again past that do not want to be apart.
        pending = jnp.where(split > 0.5 * beta, split, jnp.inf)
    elif problem.smooth:
        pending = jax.lax.cond(
            stage.last,
            lambda: separating_beta(problem, params, beta, scale, start),
            lambda: nowhere,
        )
    else:
        # Without curvature nothing tells where they would, only that they are not apart.
        pending = jnp.where(at_one_place(problem, params, beta, scale), beta, jnp.inf)
    _, one_place = problem.rounding_betas(scale)
    return jnp.where(pending < one_place, pending, jnp.inf).astype(beta.dtype)


def separating_beta(
    problem: Problem,
    params: Any,
    beta: Float[Array, ""],
    scale: Float[Array, ""],
    start: Float[Array, " primal"],
) -> Float[Array, ""]:
    """About where slots at one place would separate, at the places held; inf: they would not.

    From the curvature of F along a random direction that moves nothing but slots of one place
    apart: a mean of those of all such places, so that it is inf only where all their data are at
    one place too. It tells that they would, and is no lower than the first place's.
    """
    primal, dual = split_params(params)
    _, unravel = ravel_pytree(primal)
    length = _SEPARATION * temperature_length(scale, beta)
    together = coincident(problem, params, length)

    def apart(leaf: Array) -> Array:
        flat = leaf.reshape(leaf.shape[0], -1)
        same = together[leaf.shape[0]].astype(beta.dtype)
        same = same / jnp.sum(same, axis=1, keepdims=True)
        means = jnp.matmul(same, flat, precision=jax.lax.Precision.HIGHEST)
        return (flat - means).reshape(leaf.shape)

    move = jax.tree.map(apart, unravel(start))
    flat, _ = ravel_pytree(move)

    def predicted(_: Any, guess: Float[Array, ""]) -> Float[Array, ""]:
        later = jnp.where(jnp.isfinite(guess), guess, beta)
        # Slots of one place share what comes there by their prices times beta.
        held = join_params(primal, jax.tree.map(lambda price: price * (beta / later), dual))
        stiffness = trees.dot(move, problem.metric(held, later).mv(move))
        moving = (stiffness > 0) & jnp.isfinite(guess)
        direction = jnp.where(moving, flat / jnp.sqrt(jnp.where(moving, stiffness, 1.0)), 0.0)
        _, curvature = spectrum.along(problem, held, later, direction)
        softening = 1 - curvature
        # Data at one place soften nothing but for rounding.
        real = moving & (softening > near_critical_threshold(beta.dtype) ** 2)
        return jnp.where(real, later / jnp.where(real, softening, 1.0), jnp.inf)

    # Where little but a soft policy lets data of other places in, nothing softens at the beta
    # that is predicted first.
    return jax.lax.fori_loop(0, 2, predicted, beta)


def at_one_place(
    problem: Problem, params: Any, beta: Float[Array, ""], scale: Float[Array, ""]
) -> Bool[Array, ""]:
    """Whether two slots are."""
    together = coincident(problem, params, _SEPARATION * temperature_length(scale, beta))
    return jnp.any(jnp.stack([jnp.any(jnp.tril(near, -1)) for near in together.values()]))
