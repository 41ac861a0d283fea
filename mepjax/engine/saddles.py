"""One stage of an anneal: solve it, and where it ends at a saddle kick and solve again."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import loops, trees
from .._core.codes import Code, as_code
from .._core.params import dual_of
from ..solvers.base import AbstractSolver
from ..solvers.loop import solve_stage
from .detector import (
    Bracket,
    Detector,
    NoDetector,
    critical_bracket,
    flat_direction,
    lowest_curvature,
    near_critical_threshold,
)
from .prediction import Probe
from .problem import Problem
from .schedules import Stage

# A kick is at most this many times the detector's smallest.
_LONGEST_FALL = 2.0**10


class Attempt(eqx.Module):
    """The state of one stage: solved `tries` times, and the search for what it crossed."""

    params: Any
    curvature: Float[Array, ""]
    direction: Float[Array, " primal"]
    code: Int[Array, ""]
    steps: Int[Array, ""]
    tries: Int[Array, ""]
    saddle: Bool[Array, ""]
    kicking: Bool[Array, ""]
    # The transition that was crossed: params that it makes unstable, and the search for its beta.
    critical_params: Any
    bracket: Bracket


def tolerances(solver: AbstractSolver, dtype: Any) -> tuple[float, float]:
    """Relative errors asked of an early stage and of the last one."""
    double = dtype == jnp.float64
    stage_rtol = (1e-6 if double else 1e-5) if solver.stage_rtol is None else solver.stage_rtol
    rtol = (1e-10 if double else 1e-6) if solver.rtol is None else solver.rtol
    return stage_rtol, rtol


def _scaled_step(problem: Problem, params: Any, change: Any, size: float) -> Any:
    """`change` with its largest entry made `size` relative to the params' own scale."""
    scale = problem.params_scale(params)
    length = trees.max_abs(jax.tree.map(jnp.divide, change, scale))
    factor = jnp.where(length > 0, size / jnp.where(length > 0, length, 1.0), 0.0)
    factor = factor.astype(trees.dtype_of(params))
    return jax.tree.map(lambda leaf: factor * leaf, change)


class _Fall(eqx.Module):
    length: Float[Array, ""]
    energy: Float[Array, ""]
    trial: Float[Array, ""]
    falling: Bool[Array, ""]


def _kicked(
    problem: Problem, params: Any, step: Any, beta: Float[Array, ""], wanted: Bool[Array, ""]
) -> Any:
    """Params moved along `step`, doubled for as long as F falls; unmoved where not `wanted`.

    Just past a transition a perturbation grows by little more than one per step of the inner
    loop, so most of the way to the new branch is cheaper to go here. Where F is no monitor the
    step is taken once.
    """
    one = jnp.ones_like(beta)
    if not problem.variational or dual_of(params) is not None:
        return trees.axpy(jnp.where(wanted, one, 0), step, params)
    slack = 8 * jnp.finfo(beta.dtype).eps

    def body(fall: _Fall) -> _Fall:
        energy = problem.free_energy(trees.axpy(fall.trial, step, params), beta)
        better = energy <= fall.energy + slack * jnp.abs(energy)
        return _Fall(
            jnp.where(better, fall.trial, fall.length),
            jnp.minimum(energy, fall.energy),
            2 * fall.trial,
            better & (fall.trial < _LONGEST_FALL),
        )

    start = _Fall(0 * one, jnp.inf * one, one, wanted)
    end = loops.while_loop(lambda fall: fall.falling, body, start)
    return trees.axpy(end.length, step, params)


def solve_with_kicks(
    problem: Problem,
    carry: Any,
    stage: Stage,
    probe: Probe | None,
    key: Any,
    start: Float[Array, " primal"],
    solver: AbstractSolver,
    detector: Detector | NoDetector,
    relaxing: Bool[Array, ""],
) -> tuple[Attempt, Bool[Array, ""]]:
    """Solve one stage; while it ends at a saddle, kick along the unstable direction and repeat.

    `probe` is that of `carry` at the stage's beta; `None` without a detector, and where the stage
    before was at this beta, so that nothing can be crossed.
    Also returns whether a transition was crossed: the solution of the stage before has negative
    curvature at this beta, or the first solve ended at a saddle. Its critical beta is then sought
    at the params that became unstable.
    """
    dtype = trees.dtype_of(carry.params)
    beta = stage.beta
    stage_rtol, rtol = tolerances(solver, dtype)
    last = stage.last & ~relaxing
    tolerance = jnp.where(last, rtol, stage_rtol).astype(dtype)
    max_steps = jnp.where(last, solver.max_steps, solver.stage_max_steps)

    if isinstance(detector, NoDetector):
        noise = trees.normal_like(key, carry.params)
        step = _scaled_step(problem, carry.params, noise, detector.noise)
        kicked = trees.add(carry.params, step)
        result = solve_stage(problem, kicked, beta, solver, rtol=tolerance, max_steps=max_steps)
        attempt = Attempt(
            params=result.params,
            curvature=jnp.asarray(jnp.nan, dtype),
            direction=carry.direction,
            code=result.code,
            steps=result.steps,
            tries=jnp.ones((), jnp.int32),
            saddle=jnp.asarray(False),
            kicking=jnp.asarray(False),
            critical_params=carry.params,
            bracket=critical_bracket(beta),
        )
        return attempt, jnp.asarray(False)

    watcher = detector
    threshold = near_critical_threshold(dtype)
    lost = jnp.asarray(False)
    if probe is not None:
        # The probe tells whether the last solution is unstable at the new beta, before a
        # solve that rounding could carry off the saddle unnoticed.
        slope, along = probe.slope, probe.curvature
        # Where F slopes that way the solution merely drifts, and needs no kick; at a transition
        # the slope is zero, since coincident slots can separate either way.
        scale = problem.params_scale(carry.params)
        unit = flat_direction(carry.params, problem, carry.direction)
        reach = trees.max_abs(jax.tree.map(jnp.divide, unit, scale))
        drifting = jnp.abs(slope) * reach > watcher.kick * jnp.abs(along)
        lost = (along < -threshold) & ~drifting

    first_stage = carry.n_stages == 0
    was_stable = ~first_stage & (carry.curvature >= -threshold)
    # A stage that stopped on its way off a saddle would meet the same transition again.
    countable = ~relaxing & ~carry.unsettled & (first_stage | was_stable)

    def solving(attempt: Attempt) -> Any:
        retry = attempt.saddle & (attempt.code != int(Code.NON_FINITE))
        return (attempt.tries == 0) | (retry & (attempt.tries <= watcher.max_kicks))

    def crossed(attempt: Attempt) -> Any:
        return countable & (lost | (attempt.tries > 1))

    def proceed(attempt: Attempt) -> Any:
        if probe is None:
            return solving(attempt)
        return solving(attempt) | (crossed(attempt) & attempt.bracket.searching)

    def body(attempt: Attempt) -> Attempt:
        # Solving and locating share this body, since a curvature takes long to compile; with no
        # steps allowed the solve returns what it was given.
        solve = True if probe is None else solving(attempt)
        change = flat_direction(attempt.params, problem, attempt.direction)
        step = _scaled_step(problem, attempt.params, change, watcher.kick)
        kicked = _kicked(problem, attempt.params, step, beta, solve & attempt.kicking)
        at = jnp.where(solve, beta, attempt.bracket.trial)
        result = solve_stage(
            problem,
            trees.where(solve, kicked, attempt.critical_params),
            at,
            solver,
            rtol=tolerance,
            max_steps=jnp.where(solve, max_steps, 0),
        )
        found = lowest_curvature(problem, result.params, at, start, watcher)
        saddle = found.value < -threshold
        first_saddle = solve & (attempt.tries == 0) & ~was_stable
        solved = Attempt(
            params=result.params,
            curvature=found.value,
            direction=found.direction,
            code=result.code,
            steps=attempt.steps + result.steps,
            tries=attempt.tries + 1,
            saddle=saddle,
            kicking=saddle,
            critical_params=trees.where(first_saddle, result.params, attempt.critical_params),
            bracket=attempt.bracket,
        )
        if probe is None:
            return solved
        located = eqx.tree_at(lambda a: a.bracket, attempt, attempt.bracket.narrowed(found.value))
        return trees.where(solve, solved, located)

    first = Attempt(
        params=carry.params,
        curvature=carry.curvature,
        direction=carry.direction,
        code=as_code(Code.OK),
        steps=jnp.zeros((), jnp.int32),
        tries=jnp.zeros((), jnp.int32),
        saddle=jnp.asarray(False),
        kicking=lost,
        critical_params=carry.params,
        bracket=critical_bracket(jnp.where(was_stable, carry.beta, beta)),
    )
    end = loops.while_loop(proceed, body, first)
    code = end.code
    fine = code == int(Code.OK)
    code = jnp.where(fine & jnp.isnan(end.curvature), as_code(Code.NOT_DEFINED), code)
    code = jnp.where(
        fine & (jnp.abs(end.curvature) <= threshold), as_code(Code.NEAR_CRITICAL), code
    )
    code = jnp.where(fine & end.saddle, as_code(Code.STALLED), code)
    over = jnp.asarray(False) if probe is None else crossed(end)
    return eqx.tree_at(lambda a: a.code, end, code), over
