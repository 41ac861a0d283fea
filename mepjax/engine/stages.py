"""The programs that every anneal runs in this order: begin, advance, finish, solution."""

import math
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks, trees
from .._core.codes import Code, as_code, is_failing
from .._core.programs import program
from ..solvers.adjoints import AbstractAdjoint, NoGrad
from .carry import Carry
from .curvature import random_start
from .monitor import Pace, report_rows
from .problem import Constrained, Growable, Problem, Terms
from .schedules import AbstractSchedule
from .solution import Solution, Trace
from .state import AnnealState, Options


def completed(problem: Problem, state: AnnealState) -> Solution:
    """The solution of a state whose arguments are known to be sound; see `finish`."""
    sample = early_problem(problem, state)
    if not _is_done(state):
        state = advanced(sample, state, np.asarray(state.rows.beta.shape[-1], np.int32))
    still = trees.stop_gradient(eqx.tree_at(lambda s: s.options, state, _quiet(state)))
    gap = np.zeros((), trees.dtype_of(state.params))
    if state.options.branching.at_end is not None or state.repair is not None:
        early = None if sample is problem else trees.stop_gradient(sample)
        carry, trace, gap = _anneal_finish(early, trees.stop_gradient(problem), still)
    else:
        carry, trace = still.carry, still.trace
    state = eqx.tree_at(lambda s: s.options, state, _quiet(state))
    return _anneal_solution(problem, state, carry, trace, gap)


def _quiet(state: AnnealState) -> Options:
    """The options without the monitor, whom only stages concern."""
    return replace(state.options, monitor=None)


def _is_done(state: AnnealState) -> bool:
    """Whether it is known that no stage is left."""
    carry = state.carry
    if not checks.is_concrete(carry.done, carry.index):
        return False
    ended = np.asarray(carry.index) >= state.rows.beta.shape[-1]
    return bool(np.all(np.asarray(carry.done) | ended))


def advanced(problem: Problem, state: AnnealState, stages: Any) -> AnnealState:
    """The state after `stages` more, or as many as are left."""
    still, options = trees.stop_gradient((problem, state.options))
    fixed = trees.stop_gradient((state.scale, state.start))

    def moved(state: AnnealState, options: Options, stages: Any) -> AnnealState:
        moving = trees.stop_gradient((state.carry, state.rows))
        carry, rows = _anneal_advance(still, options, *fixed, *moving, stages)
        return eqx.tree_at(lambda s: (s.carry, s.rows), state, (carry, rows))

    monitor = options.monitor
    if monitor is None or not checks.is_concrete(still, state.carry, stages):
        return moved(state, options, stages)
    # The host looks between stages, so that nothing else is compiled, and it can be kept.
    quiet, pace = replace(options, monitor=None), Pace()
    last = options.resolved(state.scale).expected_end()
    beta_max = math.nan if last is None else float(last)
    end = int(state.carry.index) + int(stages)
    while not _is_done(state) and int(state.carry.index) < end:
        before = int(state.carry.index)
        state = moved(state, quiet, np.asarray(min(pace.stages, end - before), np.int32))
        report_rows(
            monitor,
            state.rows,
            range(before, int(state.carry.index)),
            relaxation=options.relaxation,
            beta_max=beta_max,
        )
        pace.looked()
    return state


def input_report(problem: Problem, schedule: AbstractSchedule | None) -> checks.InputReport:
    """Which condition on the data or the schedule fails."""
    conditions = () if schedule is None else schedule.checks()
    return checks.report((*problem.checks(), *conditions))


def _sizes(tree: Any) -> list[Any]:
    return [leaf.shape for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]


def early_problem(problem: Problem, state: AnnealState) -> Problem:
    """The problem of all stages but the last."""
    size, key = state.options.branching.sample_size, state.options.key
    if size is None:
        return problem
    # No program is compiled for a sample of all data.
    drawn = eqx.filter_eval_shape(lambda problem, key: _drawn(problem, key, size), problem, key)
    if _sizes(drawn) == _sizes(problem):
        return problem
    return _anneal_sample(problem, key, size)


@program
def anneal_init(problem: Problem, key: Any) -> Any:
    """The params that nobody gave."""
    return problem.init(jax.random.split(key)[0])


@program
def anneal_begin(
    problem: Problem,
    options: Options,
    params: Any,
    given: Bool[Array | np.ndarray, ""],
    report: checks.InputReport | None,
) -> tuple[Any, Any, Carry, Trace, checks.InputReport]:
    """What the first stage starts from."""
    if report is None:
        report = input_report(problem, options.schedule)
    scale = problem.beta_scale().astype(trees.dtype_of(params))
    start = random_start(problem, params, options.run_key)
    carry, rows = options.run(scale, start).first(problem, params, jnp.asarray(given))
    return scale, start, carry, rows, report


@program
def _anneal_sample(problem: Problem, key: Any, size: int) -> Problem:
    return _drawn(problem, key, size)


def _drawn(problem: Problem, key: Any, size: int) -> Problem:
    assert isinstance(problem, Growable)
    sample_key = jax.random.fold_in(jax.random.split(key)[1], jnp.uint32(2**32 - 1))
    return trees.stop_gradient(problem).subsample(sample_key, size)


@program
def _anneal_advance(
    problem: Problem,
    options: Options,
    scale: Float[Array, ""],
    start: Float[Array, " primal"],
    carry: Carry,
    rows: Trace,
    stages: Int[Array | np.ndarray, ""],
) -> tuple[Carry, Trace]:
    return options.run(scale, start)(problem, carry, rows, jnp.asarray(stages))


@program
def _anneal_finish(
    sample: Problem | None, problem: Problem, state: AnnealState
) -> tuple[Carry, Trace, Float[Array, ""]]:
    """`sample` is that of the early stages, `None` where it is the problem."""
    early = problem if sample is None else sample
    run = state.options.run(state.scale, state.start)
    return run.finish(early, problem, state.carry, state.trace, state.repair)


@program
def _anneal_solution(
    problem: Problem,
    state: AnnealState,
    carry: Carry,
    trace: Trace,
    gap: Float[Array | np.ndarray, ""],
) -> Solution:
    """The one program that is differentiated; `carry` and `trace` are those at the end."""
    still = trees.stop_gradient(problem)
    carry, trace = trees.stop_gradient((carry, trace))
    options = state.options
    dtype = trees.dtype_of(carry.params)
    input_code = state.input_report.code
    finished = carry.stage.last & (carry.n_stages > 0)
    code = jnp.where(finished, carry.code, jnp.maximum(carry.code, as_code(Code.MAX_STEPS)))
    unseparated = jnp.isfinite(carry.pending)
    code = jnp.maximum(code, jnp.where(unseparated, as_code(Code.UNSEPARATED), 0))
    if isinstance(still, Constrained):
        code = jnp.maximum(code, still.constraint_code(carry.params, carry.beta))
    code = jnp.where(input_code != int(Code.OK), input_code, code)

    beta = jax.lax.stop_gradient(carry.beta)
    final = options.resolved(state.scale).final_beta()
    if final is not None:
        # The value is the beta that was reached; the derivative is the schedule's.
        beta = beta + (final - jax.lax.stop_gradient(final)).astype(dtype)
    adjoint = state.adjoint
    if not problem.smooth:
        code = jnp.where(code == int(Code.OK), as_code(Code.NOT_DEFINED), code)
        adjoint = NoGrad()
    params, terms = _attached(problem, carry.params, beta, code, adjoint)
    return Solution(
        params=params,
        beta=beta,
        code=code,
        free_energy=terms.free_energy,
        distortion=terms.distortion,
        entropy=terms.entropy,
        trace=trace,
        n_stages=carry.n_stages,
        transitions=carry.transitions.betas,
        n_transitions=carry.transitions.count,
        sampling_gap=jax.lax.stop_gradient(jnp.asarray(gap)),
        input_report=state.input_report,
        beta_floor=jax.lax.stop_gradient(still.beta_floor()).astype(dtype),
    )


def _attached(
    problem: Problem, params: Any, beta: Float[Array, ""], code: Any, adjoint: AbstractAdjoint
) -> tuple[Any, Terms]:
    """Params with their derivative, and F and its parts at them."""
    params = adjoint.apply(params, problem, beta, is_failing(code))
    return params, problem.terms(params, beta)


@program
def with_derivative(problem: Problem, solution: Solution, adjoint: AbstractAdjoint) -> Solution:
    """A solution that was come by without derivatives, with those in `problem` and its beta."""
    if not problem.smooth:
        adjoint = NoGrad()
    still = jax.lax.stop_gradient(solution.params)
    params, terms = _attached(problem, still, solution.beta, solution.code, adjoint)
    new = params, terms.free_energy, terms.distortion, terms.entropy
    return eqx.tree_at(lambda s: (s.params, s.free_energy, s.distortion, s.entropy), solution, new)
