"""How learning while annealing ends: centres, fresh interactions, and the start to keep."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code, as_code, is_failing
from ..engine.anneal import anneal
from ..engine.branching.noise import NoDetector
from ..engine.schedules import AbstractSchedule, Explicit
from ..problems.clustering import Clustering
from ..select.solve import solve
from ..solvers.adjoints import NoGrad
from .environments import AbstractEnvironment, Observation
from .learned import Learned, LearningTrace, Starts
from .learner import with_autonomy
from .rounds import checked, draw_entities, over_starts
from .state import LearningState

# Starts whose costs differ by fewer standard errors are not told apart by fresh interactions.
_TOLD_APART = 2.0


def placed(
    problem: Clustering,
    model: Any,
    centres: Float[Array, "k d"],
    beta: Float[Array, ""],
    schedule: AbstractSchedule | None,
    key: Any,
) -> tuple[Float[Array, "k d"], Int[Array, ""]]:
    """Centres under a learnt model by the library's own anneal, and its code.

    From given centres at `beta` and, with a schedule, from its start; the cheaper under the model.
    """
    aware = with_autonomy(problem, model)
    last, quiet = Explicit(beta[None]), NoDetector(noise=0.0)
    sol = anneal(aware, last, key=key, init=centres, detector=quiet, adjoint=NoGrad())
    if schedule is None:
        return sol.params, sol.code
    whole = anneal(aware, schedule, key=key, detector=NoDetector(), adjoint=NoGrad())
    price = [aware.harden(found.params).cost for found in (sol, whole)]
    better = ~(price[0] <= price[1]) & ~is_failing(whole.code)
    return trees.where(better, (whole.params, whole.code), (sol.params, sol.code))


def solved(
    problem: Clustering, state: LearningState
) -> tuple[Float[Array, "k d"], Int[Array, ""]] | None:
    """Centres by `mepjax.solve` under a model that holds anywhere, and their code.

    `None` where there is no such model, or where learning broke down.
    """
    learner, carry = state.learner, state.carry
    if not learner.shares_starts:
        return None
    if checks.is_concrete(carry.code) and int(carry.code) != int(Code.OK):
        return None
    model = learner.autonomy(carry.states)
    if model is None:
        return None
    # What was learnt is not checked, as bad values must end in a code.
    aware = trees.replaced(problem, autonomy=model)
    key = jax.random.fold_in(state.key, np.uint32(2**32 - 3))
    starts = carry.centres.shape[0]
    found = solve(aware, state.schedule, key=key, starts=starts, adjoint=NoGrad()).solution
    return found.params, found.code


def _asked(
    environment: AbstractEnvironment,
    key: Any,
    problem: Clustering,
    entity: Array,
    told: Array,
    centres: Array,
    sound: Array,
) -> Observation:
    """What is observed, and nothing where learning has broken down before."""

    def observed() -> Observation:
        seen = environment.observe(key, problem, entity, told, centres)
        known = jnp.ones(entity.shape, bool) if seen.known is None else seen.known
        return eqx.tree_at(lambda s: s.known, seen, known, is_leaf=lambda leaf: leaf is None)

    shapes = jax.eval_shape(observed)

    def nothing() -> Observation:
        return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    return jax.lax.cond(sound, observed, nothing)


def concluded(
    problem: Clustering, environment: AbstractEnvironment, state: LearningState, best: Any
) -> Learned:
    """What learning ends with; `best` is what `solved` has found."""
    learner, carry = state.learner, state.carry
    beta = jax.lax.stop_gradient(state.rows.beta[jnp.maximum(carry.n_stages - 1, 0)])
    draw, ask, solve_key = jax.random.split(jax.random.fold_in(state.key, np.uint32(2**32 - 2)), 3)
    centres, codes = _centres(problem, state, beta, solve_key)
    if best is not None:
        centres = jnp.concatenate([centres, best[0][None]])
        codes = jnp.concatenate([codes, best[1][None].astype(jnp.int32)])
    entity = draw_entities(draw, problem, centres.shape[0], state.fresh)
    everybody = jnp.arange(problem.x.shape[0])

    def foretold(learnt: Any, rows: Array, y: Array) -> tuple[Array, Array, Array]:
        costs = learner.costs(learnt, problem, everybody, y)
        told = jnp.argmin(costs, axis=1).astype(jnp.int32)
        least = jnp.min(costs, axis=1)
        share = problem.weights / jnp.sum(problem.weights)
        return told[rows], least[rows], share @ least

    told, expected, believed = over_starts(learner, foretold, carry.states, entity, centres)
    seen = _asked(environment, ask, problem, entity, told, centres, carry.code == int(Code.OK))
    paid, impossible, known = checked(problem, seen, entity, centres)
    count = jnp.sum(known, axis=1)
    off = jnp.zeros_like(expected) if paid is None else jnp.where(known, paid - expected, 0)
    some = jnp.maximum(count, 1)
    correction = jnp.sum(off, axis=1) / some
    variance = jnp.sum(jnp.where(known, (off - correction[:, None]) ** 2, 0), axis=1) / some
    cost = jnp.where(count > 0, believed + correction, jnp.inf)
    error = jnp.sqrt(variance / some)
    judged = jnp.where(codes >= int(Code.MAX_STEPS), jnp.inf, cost)
    kept = jnp.argmin(judged)
    if best is not None:
        # What differs by noise alone is told apart by the model.
        alike = judged <= judged[kept] + _TOLD_APART * jnp.hypot(error, error[kept])
        kept = jnp.argmin(jnp.where(alike, believed, jnp.inf))
    finished = carry.stage.last & (carry.n_stages > 0)
    code = jnp.where(finished, carry.code, jnp.maximum(carry.code, as_code(Code.MAX_STEPS)))
    code = jnp.maximum(code, codes[kept])
    broken = impossible if seen.failed is None else impossible | jnp.any(seen.failed)
    code = jnp.where(broken, as_code(Code.INVALID_INPUT), code)
    # A log that has seen nothing of what was asked: nothing was learnt.
    silent = carry.n_interactions + jnp.sum(count) == 0
    code = jnp.where(silent, jnp.maximum(code, as_code(Code.INVALID_INPUT)), code)
    # That of the best start where what is kept is none of them.
    starts = carry.centres.shape[0]
    place = jnp.where(kept < starts, kept, jnp.argmin(judged[:starts]))
    state_kept = carry.states
    if not learner.shares_starts:
        state_kept = jax.tree.map(lambda leaf: leaf[place], state_kept)
    code = jnp.maximum(code, learner.state_code(state_kept))
    input_code = state.input_report.code
    code = jnp.where(input_code != int(Code.OK), input_code, code)
    rows = state.rows
    trace = LearningTrace(
        beta=rows.beta,
        loss=rows.loss[:, place],
        free_energy=rows.free_energy[:, place],
        distortion=rows.distortion[:, place],
        entropy=rows.entropy[:, place],
        explored=rows.explored,
    )
    answered = jnp.sum(count, dtype=jnp.int32)
    return trees.stop_gradient(
        Learned(
            params=centres[kept],
            autonomy=learner.autonomy(state_kept),
            state=state_kept,
            starts=Starts(centres, cost, error),
            code=code.astype(jnp.int32),
            n_interactions=carry.n_interactions + answered,
            trace=trace,
            beta=beta,
            learner=learner.at_rest(),
            input_report=state.input_report,
        )
    )


def _centres(
    problem: Clustering, state: LearningState, beta: Float[Array, ""], key: Any
) -> tuple[Float[Array, "starts k d"], Int[Array, " starts"]]:
    """Of every start, and how their anneals ended."""
    learner, carry = state.learner, state.carry
    starts = carry.centres.shape[0]
    one = carry.states
    if not learner.shares_starts:
        one = jax.tree.map(lambda leaf: leaf[0], one)
    if learner.autonomy(one) is None:
        # Levels that did not happen are not averaged.
        happened = jnp.arange(carry.levels.shape[0]) >= carry.levels.shape[0] - carry.n_stages
        weights = happened / jnp.maximum(jnp.sum(happened), 1)
        centres = jnp.tensordot(weights.astype(carry.centres.dtype), carry.levels, axes=1)
        centres = jnp.where(carry.n_stages > 0, centres, carry.centres)
        return centres, jnp.zeros((starts,), jnp.int32)

    # From where learning has led, by the library's own anneal at the last beta.
    def at(arguments: Any) -> tuple[Array, Array]:
        learnt, y, key = arguments
        learnt = one if learner.shares_starts else learnt
        return placed(problem, learner.autonomy(learnt), y, beta, None, key)

    stacked = None if learner.shares_starts else carry.states
    return jax.lax.map(at, (stacked, carry.centres, jax.random.split(key, starts)))
