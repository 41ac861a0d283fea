"""What learning while annealing ends with."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code, SolveError, as_code, is_failing
from .._core.failures import raise_failed
from ..engine.anneal import anneal
from ..engine.detector import NoDetector
from ..engine.schedules import AbstractSchedule, Explicit
from ..problems.clustering import Clustering
from ..solvers.adjoints import NoGrad
from .environments import AbstractEnvironment, Observation
from .learner import AbstractLearner, with_autonomy
from .rounds import checked, draw_entities, over_starts


class LearningTrace(eqx.Module):
    """One entry for each level of beta, NaN after the last.

    **Fields:** `beta`; `loss`, how badly what was known before a round foretold it; `free_energy`,
    `distortion`, `entropy` of the policy under the costs as learnt, on all entities; `explored`,
    the share of interactions that were prescribed at random.
    """

    beta: Float[Array, " stages"]
    loss: Float[Array, "stages *starts"]
    free_energy: Float[Array, "stages *starts"]
    distortion: Float[Array, "stages *starts"]
    entropy: Float[Array, "stages *starts"]
    explored: Float[Array, " stages"]


class Starts(eqx.Module):
    """Centres of every start, and what fresh interactions say that they cost."""

    centres: Float[Array, "starts k d"]
    cost: Float[Array, " starts"]
    standard_error: Float[Array, " starts"]


class Learned(eqx.Module):
    """Centres and what was learnt on the way, as plain data without derivatives.

    **Fields:**

    - `params`: centres (K, d) of the start that fresh interactions say is cheapest.
    - `autonomy`: the learnt model, `None` where only costs were learnt.
    - `state`: what the learner keeps.
    - `starts`: centres of all starts, what they cost, and how sure that is.
    - `code`: see `mepjax.Code`.
    - `n_interactions`: of all starts together, fresh ones included.
    - `trace`: see `LearningTrace`; that of the start kept.
    - `learner`: whose state it is.
    """

    params: Float[Array, "k d"]
    autonomy: Any
    state: Any
    starts: Starts
    code: Int[Array, ""]
    n_interactions: Int[Array, ""]
    trace: LearningTrace
    beta: Float[Array, ""]
    learner: AbstractLearner
    input_report: checks.InputReport
    message: str | None = eqx.field(static=True, default=None)

    def problem(self, problem: Clustering) -> Clustering:
        """The problem under the learnt autonomy.

        **Raises:** `ValueError` where no model was learnt.
        """
        if self.autonomy is None:
            raise ValueError(
                f"Learned: `autonomy` is None, as {type(self.learner).__name__} learns costs; "
                "there is no problem under it."
            )
        return with_autonomy(problem, self.autonomy)

    def costs(self, problem: Clustering) -> Float[Array, "n k"]:
        """Average costs as learnt, at the centres kept: prescribe the least of each row."""
        everybody = jnp.arange(problem.x.shape[0])
        return self.learner.costs(self.state, problem, everybody, self.params)

    def told(self, message: str) -> "Learned":
        """The same with why it ended early, in words."""
        return dataclasses.replace(self, message=message)

    def raise_if_failed(self) -> "Learned":
        """Return self, or raise on the host if learning failed.

        **Raises:** `ValueError` for bad input, `SolveError` otherwise, with what an environment
        said that broke down.
        """
        failed = checks.is_concrete(self.code) and np.any(np.asarray(self.code) >= Code.MAX_STEPS)
        asked_badly = (
            int(np.max(np.asarray(self.input_report.index))) >= len(self.input_report.sentences)
            if failed
            else False
        )
        if failed and asked_badly and self.message is not None:
            raise SolveError(f"The environment broke down: {self.message}")
        if failed and asked_badly and np.max(np.asarray(self.code)) == Code.INVALID_INPUT:
            raise SolveError(
                "The environment answered what cannot be: a cluster outside 0 .. K - 1, or a cost "
                "that is NaN, Inf, or negative where it cannot be; or nothing at all. What was "
                "learnt before is kept."
            )
        raise_failed(self.code, self.input_report)
        return self


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


def concluded(problem: Clustering, environment: AbstractEnvironment, state: Any) -> Learned:
    """Centres of every start, fresh interactions, and the start to keep."""
    learner, carry = state.learner, state.carry
    starts = carry.centres.shape[0]
    beta = jax.lax.stop_gradient(state.rows.beta[jnp.maximum(carry.n_stages - 1, 0)])
    draw, ask, solve = jax.random.split(jax.random.fold_in(state.key, np.uint32(2**32 - 2)), 3)
    codes = jnp.zeros((starts,), jnp.int32)
    one = carry.states
    if not learner.shares_starts:
        one = jax.tree.map(lambda leaf: leaf[0], one)
    if learner.autonomy(one) is not None:
        # From where learning has led, by the library's own anneal at the last beta.
        def solved(at: Any) -> tuple[Array, Array]:
            learnt, y, key = at
            learnt = one if learner.shares_starts else learnt
            # What holds at any centres is worth a whole anneal.
            whole = state.schedule if learner.shares_starts else None
            return placed(problem, learner.autonomy(learnt), y, beta, whole, key)

        stacked = None if learner.shares_starts else carry.states
        keys = jax.random.split(solve, starts)
        centres, codes = jax.lax.map(solved, (stacked, carry.centres, keys))
    else:
        # Levels that did not happen are not averaged.
        happened = jnp.arange(carry.levels.shape[0]) >= carry.levels.shape[0] - carry.n_stages
        weights = happened / jnp.maximum(jnp.sum(happened), 1)
        centres = jnp.tensordot(weights.astype(carry.centres.dtype), carry.levels, axes=1)
        centres = jnp.where(carry.n_stages > 0, centres, carry.centres)
    entity = draw_entities(draw, problem, starts, state.fresh)
    costs = over_starts(
        learner,
        lambda learnt, i, y: learner.costs(learnt, problem, i, y),
        carry.states,
        entity,
        centres,
    )
    told = jnp.argmin(costs, axis=-1).astype(jnp.int32)
    seen = _asked(environment, ask, problem, entity, told, centres, carry.code == int(Code.OK))
    paid, impossible, known = checked(problem, seen, entity, centres)
    count = jnp.sum(known, axis=1)
    paid = jnp.zeros_like(costs[..., 0]) if paid is None else jnp.where(known, paid, 0)
    some = jnp.maximum(count, 1)
    mean = jnp.sum(paid, axis=1) / some
    variance = jnp.sum(jnp.where(known, (paid - mean[:, None]) ** 2, 0), axis=1) / some
    mean = jnp.where(count > 0, mean, jnp.inf)
    best = jnp.argmin(jnp.where(codes >= int(Code.MAX_STEPS), jnp.inf, mean))
    finished = carry.stage.last & (carry.n_stages > 0)
    code = jnp.where(finished, carry.code, jnp.maximum(carry.code, as_code(Code.MAX_STEPS)))
    code = jnp.maximum(code, codes[best])
    broken = impossible if seen.failed is None else impossible | jnp.any(seen.failed)
    code = jnp.where(broken, as_code(Code.INVALID_INPUT), code)
    # A log that has seen nothing of what was asked: nothing was learnt.
    silent = carry.n_interactions + jnp.sum(count) == 0
    code = jnp.where(silent, jnp.maximum(code, as_code(Code.INVALID_INPUT)), code)
    kept = carry.states
    if not learner.shares_starts:
        kept = jax.tree.map(lambda leaf: leaf[best], kept)
    code = jnp.maximum(code, learner.verdict(kept))
    input_code = state.input_report.code
    code = jnp.where(input_code != int(Code.OK), input_code, code)
    rows = state.rows
    trace = LearningTrace(
        beta=rows.beta,
        loss=rows.loss[:, best],
        free_energy=rows.free_energy[:, best],
        distortion=rows.distortion[:, best],
        entropy=rows.entropy[:, best],
        explored=rows.explored,
    )
    answered = jnp.sum(count, dtype=jnp.int32)
    return trees.stop_gradient(
        Learned(
            params=centres[best],
            autonomy=learner.autonomy(kept),
            state=kept,
            starts=Starts(centres, mean, jnp.sqrt(variance / some)),
            code=code.astype(jnp.int32),
            n_interactions=carry.n_interactions + answered,
            trace=trace,
            beta=beta,
            learner=learner,
            input_report=state.input_report,
        )
    )
