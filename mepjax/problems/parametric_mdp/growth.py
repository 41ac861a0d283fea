"""Where unknown places split in two, what that saves, and what one of them is worth.

A slot in two is the process with a twin of it (`twins`) between which whoever chose the slot now
chooses: its prior is halved. While both are at one place nothing changes, so that one with a prior
twice as large and two tied ones are the same.
"""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import sampling, trees
from ..._core.types import Scalar
from ...engine.slot_spectrum import SlotSpectrum
from ...solvers.loop import solve_stage
from .decisions import decide, started

if TYPE_CHECKING:
    from .problem import ParametricMDP

# Steps of a trial of two, and how well it need be solved.
_TRIAL_STEPS, _TRIAL_RTOL = 10, 1e-3
# Prior of a place that is out of the way, and how far that is in units of the data's size.
_OUT_OF_THE_WAY, _FAR = 1e-6, 10.0


def slot_spectrum(problem: "ParametricMDP", params: Any, beta: Scalar) -> SlotSpectrum:
    """`Problem.slot_spectrum` of a `ParametricMDP` with twins.

    The critical beta of a slot is beta / (1 - mu), with mu the lowest curvature, relative to the
    metric, along moves of it and its twin apart; those of slots at one place are the same, that of
    the group. Gains are those of a trial, ten steps of the pair alone with the prior of the whole
    group, shared among its members.
    """
    y = jnp.asarray(params)
    beta = jnp.asarray(beta, y.dtype)
    k, d = y.shape
    doubled = _doubled(problem, jnp.full((2 * k,), 0.5, y.dtype))
    both = jnp.concatenate([y, y])
    _, push = jax.linearize(lambda p: doubled.residual(p, beta), both)
    metric = doubled.metric(both, beta)
    mass = visits(problem, y, beta)
    alive = mass > float(jnp.finfo(y.dtype).tiny) ** 0.5
    size = jnp.asarray(problem.size(), y.dtype)

    def of_slot(slot: Int[Array, ""]) -> tuple[Array, ...]:
        unit = jnp.eye(d, dtype=y.dtype)
        moves = jnp.zeros((d, 2 * k, d), y.dtype).at[:, slot].set(unit).at[:, k + slot].set(-unit)
        bent = jax.vmap(push)(moves)
        stiff = metric.mv(moves[0])
        hessian = 0.5 * (bent[:, slot] - bent[:, k + slot])
        stiffness = 0.5 * (stiff[slot, 0] - stiff[k + slot, 0])
        stiffness = jnp.where(stiffness > 0, stiffness, 1.0)
        values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T) / stiffness)
        softening = 1 - values[0]
        # Where all is at one place rounding alone is left.
        unstable = softening > 100 * float(jnp.finfo(y.dtype).eps)
        critical = jnp.where(unstable, beta / jnp.where(unstable, softening, 1.0), jnp.inf)
        # As far apart as the places that those who come by would have it at scatter.
        spread = jnp.where(unstable, jax.lax.rsqrt(2 * jnp.where(unstable, critical, 1.0)), 0.0)
        apart = spread * jnp.stack([vectors[:, 0], -vectors[:, 0]])

        tied = jnp.all(y == y[slot], axis=1)
        pair = jnp.stack([slot, k + slot])
        weights = jnp.where(jnp.tile(tied, 2), _OUT_OF_THE_WAY, 0.5).astype(y.dtype)
        weights = weights.at[pair].set(0.5 * jnp.sum(tied))
        away = jnp.where(jnp.tile(tied, 2)[:, None], both + _FAR * size, both)
        trial = _of_pair(_doubled(problem, weights), away, pair)
        start = jnp.broadcast_to(y[slot], (2, d))
        result = solve_stage(
            trial, start + apart, beta, trial.default_solver(),
            rtol=jnp.asarray(_TRIAL_RTOL, y.dtype), max_steps=jnp.asarray(_TRIAL_STEPS),
        )  # fmt: skip
        before = trial.free_energy(start, beta)
        gain = before - trial.free_energy(result.params, beta)
        gained = gain > 8 * float(jnp.finfo(y.dtype).eps) * jnp.abs(before)
        # Two may hold together where the whole group does not: then they are left to fall apart.
        places = jnp.where(gained, result.params, start + apart)
        one, other = visits(trial, places, beta)
        some = one + other > 0
        share = jnp.where(some, one / jnp.where(some, one + other, 1.0), 0.5)
        return critical, jnp.where(gained, gain, 0.0) / jnp.sum(tied), *places, share

    critical, gain, first, second, share = jax.lax.map(of_slot, jnp.arange(k, dtype=jnp.int32))
    return SlotSpectrum(
        mass=mass,
        critical_beta=jnp.where(alive, critical, jnp.inf),
        gain=jnp.where(alive, gain, 0.0),
        removal=_removal_costs(problem, y),
        first=jnp.where(alive[:, None], first, y),
        second=jnp.where(alive[:, None], second, y),
        share=jnp.where(alive, share, 0.5),
    )


def visits(problem: "ParametricMDP", params: Any, beta: Scalar) -> Float[Array, " slots"]:
    """Expected discounted number of times every slot is come by."""
    traffic, unknowns = problem.traffic(params, beta), problem.unknowns
    if unknowns.state_index is not None:
        return jnp.sum(traffic, axis=1)[unknowns.state_index]
    return jnp.sum(traffic, axis=0)[unknowns.action_index]


def _doubled(problem: "ParametricMDP", weights: Float[Array, " twins"]) -> Any:
    """The process with twins, the prior of every slot times its weight."""
    twins, unknowns = problem.twins, problem.unknowns
    assert twins is not None
    state, action = twins.state, twins.action
    factor = jnp.concatenate([weights, jnp.ones((1,), weights.dtype)])[twins.slot]
    prior = jnp.exp(problem.log_prior())[state][:, action] * factor
    extra = problem.extra_costs
    start, n, k = problem.start[state], unknowns.states.shape[0], problem.n_slots
    index, places = unknowns.state_index, None
    if index is not None:
        more = jnp.arange(n, n + k, dtype=index.dtype)
        start = start.at[index].multiply(0.5).at[more].multiply(0.5)
        index = jnp.concatenate([index, more])
    else:
        assert unknowns.actions is not None and unknowns.action_index is not None
        places = unknowns.actions[action]
        more = jnp.arange(k, dtype=unknowns.action_index.dtype) + unknowns.actions.shape[0]
    at_actions = unknowns.action_index
    at_actions = None if at_actions is None else jnp.concatenate([at_actions, more])
    doubled = trees.replaced(
        unknowns, states=unknowns.states[state], actions=places, state_index=index,
        action_index=at_actions, spread=jax.tree.map(lambda leaf: leaf[state], unknowns.spread),
    )  # fmt: skip
    return trees.replaced(
        problem, kernel=twins.kernel, unknowns=doubled, prior=jnp.where(twins.exists, prior, 0.0),
        extra_costs=None if extra is None else extra[state][:, action], start=start,
        permitted=twins.exists if problem.permitted is None
        else twins.exists & problem.permitted[state][:, action],
        terminal=problem.terminal[state],
        end_costs=None if problem.end_costs is None else problem.end_costs[state],
        structure=twins.structure, twins=None,
    )  # fmt: skip


def _of_pair(doubled: Any, places: Float[Array, "n d"], pair: Int[Array, "2"]) -> Any:
    """The process in which these two are unknown, and all other slots known."""
    unknowns = doubled.unknowns
    states, actions = unknowns.filled(places)
    index = unknowns.state_index, unknowns.action_index
    index = tuple(None if given is None else given[pair] for given in index)
    held = trees.replaced(
        unknowns, states=states, actions=actions, state_index=index[0], action_index=index[1]
    )
    return trees.replaced(doubled, unknowns=held)


def _removal_costs(problem: "ParametricMDP", params: Any) -> Float[Array, " slots"]:
    """How much the hard cost rises without each of the slots: where nobody goes there."""
    twins, costs = problem.twins, problem.costs(params)
    assert twins is not None
    n, a = costs.shape
    slot = twins.slot[:n, :a]
    # Beyond what going round by all states may cost.
    far = (n + 2 + (problem.horizon or 0)) * jnp.max(jnp.abs(costs))

    def hard(closed: Any) -> Array:
        found = decide(problem, jnp.where(closed, costs + far, costs), 1.0, hard=True)
        return started(problem, found.values)

    count = jnp.arange(problem.n_slots)
    without = jax.lax.map(lambda number: hard(slot == number), count)
    return without - hard(jnp.zeros_like(slot, bool))


def subsample(problem: Any, key: Any, n: int) -> Any:
    """The process that starts at `n` states drawn from its start, of equal weight."""
    count = problem.start.shape[0]
    if count <= n:
        return problem
    rows = sampling.systematic(key, problem.start, n)
    drawn = jnp.zeros_like(problem.start).at[rows].add(1 / n)
    return trees.replaced(problem, start=drawn)
