"""`anneal`: follow the minimiser of the free energy from small beta to large."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, trees
from .._core.codes import Code, as_code, is_failing
from .._core.keys import check_key
from ..exec.in_memory import InMemory
from ..solvers import spectrum
from ..solvers.adjoints import AbstractAdjoint, Implicit, NoGrad
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
    predict_critical_beta,
    random_start,
)
from .monitor import Monitor, report_progress
from .problem import Problem
from .record import Record
from .schedules import AbstractSchedule, Geometric, Stage
from .solution import Solution, Trace

# Perturbation of every stage where F has no curvature: kinks undo smaller ones.
_ROUGH_NOISE = 0.1


def anneal(
    problem: Problem,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    solver: AbstractSolver | None = None,
    detector: Detector | NoDetector | None = None,
    adjoint: AbstractAdjoint | None = None,
    record: Record | None = None,
    init: Any = None,
    executor: InMemory | None = None,
    monitor: Monitor | None = None,
) -> Solution:
    """Minimise the free energy F = D - H / beta at a rising sequence of beta.

    Every stage starts from the solution of the one before; where that has become a saddle, it is
    kicked along its unstable direction. Compiled as a whole; legal inside `jit`, `grad`, `vmap`.

    **Arguments:**

    - `problem`: a `Problem`, such as `Clustering`.
    - `schedule`: a schedule; default `Geometric(0.5 b, 1e4 b, 1.02)` with b the problem's first
        transition (a constant for derivatives).
    - `key`: a JAX random key, for the directions of the kicks.
    - `solver`: inner solver; default the problem's own.
    - `detector`: `Detector()` (default) or `NoDetector()`.
    - `adjoint`: how the solution is differentiated; default `Implicit()`.
    - `record`: what the trace keeps besides scalars; default `Record()`.
    - `init`: params or a `Solution` to continue from; default `problem.init`.
    - `executor`: where sums over data are computed; `InMemory()` is the only one so far.
    - `monitor`: a function called on the host after each stage, such as `print_progress`.

    **Returns:** a `Solution`. It never raises for what happens during the solve: look at
    `solution.code` or call `solution.raise_if_failed()`.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    Source: autonomy-aware clustering, Algorithm 1.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> problem = mj.Clustering(x, k=2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0)).raise_if_failed()
    >>> print(jnp.sort(sol.params[:, 0]))
    [-1.  1.]

    ```
    """
    key = check_key(key)
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a mepjax.Problem; got {type(problem).__name__} {problem!r:.60}."
        )
    _check_kind("schedule", schedule, AbstractSchedule)
    _check_kind("solver", solver, AbstractSolver)
    _check_kind("detector", detector, (Detector, NoDetector))
    _check_kind("adjoint", adjoint, AbstractAdjoint)
    _check_kind("record", record, Record)
    _check_kind("executor", executor, InMemory)
    detector = detector or Detector()
    if schedule is not None and schedule.needs_detector and isinstance(detector, NoDetector):
        raise ValueError(
            f"`schedule` {type(schedule).__name__} asks the detector for the next transition; "
            "leave `detector` unset or use a `Geometric` schedule."
        )
    if not problem.smooth:
        if schedule is not None and schedule.needs_detector:
            raise ValueError(
                f"`schedule` {type(schedule).__name__} asks for the next transition, which a free "
                "energy without second derivatives does not show; use a `Geometric` schedule."
            )
        if isinstance(detector, Detector):
            detector = NoDetector(noise=_ROUGH_NOISE)
    if isinstance(init, Solution):
        init = init.params
    if init is not None:
        init = _check_init(problem, init, key)
    return _anneal(
        problem,
        # Concrete values are checked on the host, so that nothing is compiled for it.
        _report(problem, schedule) if checks.is_concrete(problem, schedule) else None,
        schedule,
        key,
        solver or problem.default_solver(),
        detector,
        adjoint or Implicit(),
        record or Record(),
        init,
        monitor,
    )


def _report(problem: Problem, schedule: AbstractSchedule | None) -> checks.InputReport:
    conditions = () if schedule is None else schedule.checks()
    return checks.report((*problem.checks(), *conditions))


def _check_kind(name: str, value: Any, kinds: Any) -> None:
    if value is not None and not isinstance(value, kinds):
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        expected = " or ".join(kind.__name__.removeprefix("Abstract") for kind in classes)
        raise TypeError(
            f"`{name}` must be a {expected} instance; got {type(value).__name__} {value!r:.60}."
        )


def _check_init(problem: Problem, init: Any, key: Any) -> Any:
    expected = eqx.filter_eval_shape(problem.init, key)
    same = jax.tree.structure(init) == jax.tree.structure(expected)
    if same:
        shapes = jax.tree.map(lambda a, b: jnp.shape(a) == b.shape, init, expected)
        same = all(jax.tree.leaves(shapes))
    if not same:
        got = jax.tree.map(jnp.shape, init)
        want = jax.tree.map(lambda leaf: leaf.shape, expected)
        raise ValueError(f"`init` must have the shape of params, {want}; got {got}.")
    return jax.tree.map(lambda a, b: arrays.as_float_array("init", a, b.dtype), init, expected)


class _Transitions(eqx.Module):
    """Critical betas met: one place per slot, later ones counted only."""

    betas: Float[Array, " slots"]
    count: Int[Array, ""]

    def add(self, crossed: Bool[Array, ""], beta: Float[Array, ""]) -> "_Transitions":
        place = jnp.where(crossed, self.count, self.betas.shape[0])
        return _Transitions(
            self.betas.at[place].set(beta, mode="drop"), self.count + crossed.astype(jnp.int32)
        )


class _Carry(eqx.Module):
    params: Any
    stage: Stage
    # Curvature and a direction of that curvature at the stage before (0 before the first).
    curvature: Float[Array, ""]
    direction: Float[Array, " primal"]
    beta: Float[Array, ""]
    transitions: _Transitions
    # The stage before crossed a transition and did not converge.
    unsettled: Bool[Array, ""]
    code: Int[Array, ""]
    n_stages: Int[Array, ""]
    done: Bool[Array, ""]


class _Attempt(eqx.Module):
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


# A kick is at most this many times the detector's smallest.
_LONGEST_FALL = 2.0**10


@eqx.filter_jit
def _anneal(
    problem: Problem,
    report: checks.InputReport | None,
    schedule: AbstractSchedule | None,
    key: Any,
    solver: AbstractSolver,
    detector: Detector | NoDetector,
    adjoint: AbstractAdjoint,
    record: Record,
    init: Any,
    monitor: Monitor | None,
) -> Solution:
    if report is None:
        report = _report(problem, schedule)
    # The forward run carries no derivative: `adjoint` puts the solution's own in its place.
    still = trees.stop_gradient(problem)
    init_key, run_key = jax.random.split(key)
    params = still.init(init_key) if init is None else trees.stop_gradient(init)
    dtype = trees.dtype_of(params)
    scale = still.beta_scale().astype(dtype)
    if schedule is None:
        schedule = Geometric(0.5 * scale, 1e4 * scale, 1.02, max_stages=_default_stages())
    schedule = _cast(schedule, dtype)
    start = random_start(still, params, run_key)
    # A start that was given is not led through the easier problem, which would undo it.
    relaxation = problem.relaxation_stages if init is None else 0
    carry, trace = _run(
        still, trees.stop_gradient(schedule), run_key, start, solver, detector, record, monitor,
        params, scale, relaxation,
    )  # fmt: skip

    input_code = report.code
    finished = carry.stage.last & (carry.n_stages > 0)
    code = jnp.where(finished, carry.code, jnp.maximum(carry.code, as_code(Code.MAX_STEPS)))
    code = jnp.maximum(code, still.verdict(carry.params, carry.beta))
    code = jnp.where(input_code != int(Code.OK), input_code, code)

    beta = jax.lax.stop_gradient(carry.beta)
    final = schedule.final_beta()
    if final is not None:
        # The value is the beta that was reached; the derivative is the schedule's.
        beta = beta + (final - jax.lax.stop_gradient(final)).astype(dtype)
    if not problem.smooth:
        code = jnp.where(code == int(Code.OK), as_code(Code.NOT_DEFINED), code)
        adjoint = NoGrad()
    params = adjoint.apply(carry.params, problem, beta, is_failing(code))
    terms = problem.terms(params, beta)
    return Solution(
        params=params,
        beta=beta,
        code=code,
        free_energy=problem.free_energy(params, beta),
        distortion=terms.distortion,
        entropy=terms.entropy,
        trace=trace,
        n_stages=carry.n_stages,
        transitions=carry.transitions.betas,
        n_transitions=carry.transitions.count,
        input_report=report,
    )


def _default_stages() -> int:
    # The default spans a fixed ratio, so its stage count is known before b is.
    return Geometric(0.5, 1e4, 1.02).max_stages


def _cast(schedule: AbstractSchedule, dtype: Any) -> AbstractSchedule:
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf, schedule
    )


def _tolerances(solver: AbstractSolver, dtype: Any) -> tuple[float, float]:
    double = dtype == jnp.float64
    stage_rtol = (1e-6 if double else 1e-5) if solver.stage_rtol is None else solver.stage_rtol
    rtol = (1e-10 if double else 1e-6) if solver.rtol is None else solver.rtol
    return stage_rtol, rtol


def _run(
    problem: Problem,
    schedule: AbstractSchedule,
    key: Any,
    start: Float[Array, " primal"],
    solver: AbstractSolver,
    detector: Detector | NoDetector,
    record: Record,
    monitor: Monitor | None,
    params: Any,
    scale: Float[Array, ""],
    relaxation: int,
) -> tuple[_Carry, Trace]:
    """Scan the schedule, after the continuation `relaxed` at its first beta."""
    dtype = trees.dtype_of(params)
    flat_primal, _ = ravel_pytree(problem.split_params(params)[0])
    places = jax.tree.leaves(problem.slots(params))[0].shape[0]
    nothing = jnp.zeros((), dtype)
    carry = _Carry(
        params=params,
        stage=schedule.init(scale),
        curvature=nothing,
        direction=jnp.zeros_like(flat_primal),
        beta=jnp.asarray(jnp.nan, dtype),
        transitions=_Transitions(jnp.full((places,), jnp.inf, dtype), jnp.zeros((), jnp.int32)),
        unsettled=jnp.asarray(False),
        code=as_code(Code.OK),
        n_stages=jnp.zeros((), jnp.int32),
        done=jnp.asarray(False),
    )
    beta_end = schedule.final_beta()

    def advance(carry: _Carry, index: Int[Array, ""]) -> tuple[_Carry, Trace]:
        relaxing = index < relaxation

        def predict(limit: float) -> Float[Array, ""]:
            return predict_critical_beta(
                problem, carry.params, carry.stage.beta, carry.direction, limit
            )

        stage = trees.where(index <= relaxation, carry.stage, schedule.next(carry.stage, predict))
        now = problem
        if relaxation:
            s = jnp.minimum((index + 1) / (relaxation + 1), 1.0).astype(dtype)
            now = problem.relaxed(s)
        result, crossed = _solve_with_kicks(
            now, carry, stage, jax.random.fold_in(key, index), start, solver, detector, relaxing
        )
        terms = problem.terms(result.params, stage.beta)
        energy = problem.free_energy(result.params, stage.beta)
        finite = jnp.isfinite(energy) & trees.all_finite(result.params)
        code = jnp.where(finite, result.code, as_code(Code.NON_FINITE))
        moved = trees.subtract(result.params, carry.params)
        row = Trace(
            beta=stage.beta,
            free_energy=energy,
            distortion=terms.distortion,
            entropy=terms.entropy,
            curvature=result.curvature,
            displacement=jnp.sqrt(trees.dot(moved, moved)),
            steps=result.steps,
            code=code,
            params=result.params if record.params else None,
            statistic=None
            if record.statistic is None
            else record.statistic(problem, result.params, stage.beta),
        )
        new = _Carry(
            params=trees.where(finite, result.params, carry.params),
            stage=stage,
            curvature=jnp.where(relaxing, nothing, result.curvature),
            direction=result.direction,
            beta=stage.beta,
            transitions=carry.transitions.add(crossed, result.bracket.root),
            unsettled=crossed & is_failing(code),
            code=code,
            n_stages=carry.n_stages + jnp.where(relaxing, 0, 1).astype(jnp.int32),
            done=(stage.last & ~relaxing) | (code == int(Code.NON_FINITE)),
        )
        if monitor is not None:
            report_progress(
                monitor,
                schedule.max_stages,
                stage=new.n_stages,
                beta=stage.beta,
                beta_max=jnp.nan if beta_end is None else beta_end,
                free_energy=energy,
                curvature=result.curvature,
                steps=result.steps,
            )
        return new, row

    empty_row = _empty_row(problem, params, carry.stage.beta, record, dtype)

    def skip(carry: _Carry, index: Int[Array, ""]) -> tuple[_Carry, Trace]:
        del index
        return carry, empty_row

    def body(carry: _Carry, index: Int[Array, ""]) -> tuple[_Carry, Trace]:
        return jax.lax.cond(carry.done, skip, advance, carry, index)

    carry, trace = jax.lax.scan(body, carry, jnp.arange(relaxation + schedule.max_stages))
    return carry, jax.tree.map(lambda leaf: leaf[relaxation:], trace)


def _empty_row(
    problem: Problem, params: Any, beta: Float[Array, ""], record: Record, dtype: Any
) -> Trace:
    """The trace's row for a stage that does not happen."""
    number, count = jnp.asarray(jnp.nan, dtype), jnp.zeros((), jnp.int32)
    statistic = None
    if record.statistic is not None:
        statistic = eqx.filter_eval_shape(record.statistic, problem, params, beta)

    def missing(like: Any) -> Array:
        fill = jnp.nan if jnp.issubdtype(like.dtype, jnp.inexact) else 0
        return jnp.full(like.shape, fill, like.dtype)

    return Trace(
        beta=number,
        free_energy=number,
        distortion=number,
        entropy=number,
        curvature=number,
        displacement=number,
        steps=count,
        code=count,
        params=jax.tree.map(missing, params) if record.params else None,
        statistic=jax.tree.map(missing, statistic),
    )


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
    if not problem.variational or problem.split_params(params)[1] is not None:
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
    end = jax.lax.while_loop(lambda fall: fall.falling, body, start)
    return trees.axpy(end.length, step, params)


def _solve_with_kicks(
    problem: Problem,
    carry: _Carry,
    stage: Stage,
    key: Any,
    start: Float[Array, " primal"],
    solver: AbstractSolver,
    detector: Detector | NoDetector,
    relaxing: Bool[Array, ""],
) -> tuple[_Attempt, Bool[Array, ""]]:
    """Solve one stage; while it ends at a saddle, kick along the unstable direction and repeat.

    Also returns whether a transition was crossed: the solution of the stage before has negative
    curvature at this beta, or the first solve ended at a saddle. Its critical beta is then sought
    at the params that became unstable.
    """
    dtype = trees.dtype_of(carry.params)
    beta = stage.beta
    stage_rtol, rtol = _tolerances(solver, dtype)
    last = stage.last & ~relaxing
    tolerance = jnp.where(last, rtol, stage_rtol).astype(dtype)
    max_steps = jnp.where(last, solver.max_steps, solver.stage_max_steps)

    if isinstance(detector, NoDetector):
        noise = trees.normal_like(key, carry.params)
        step = _scaled_step(problem, carry.params, noise, detector.noise)
        kicked = trees.add(carry.params, step)
        result = solve_stage(problem, kicked, beta, solver, rtol=tolerance, max_steps=max_steps)
        attempt = _Attempt(
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
    # One second derivative tells whether the last solution is unstable at the new beta, before a
    # solve that rounding could carry off the saddle unnoticed.
    slope, along = spectrum.along(problem, carry.params, beta, carry.direction)
    # Where F slopes that way the solution merely drifts, and needs no kick; at a transition the
    # slope is zero, since coincident slots can separate either way.
    scale = problem.params_scale(carry.params)
    unit = flat_direction(carry.params, problem, carry.direction)
    reach = trees.max_abs(jax.tree.map(jnp.divide, unit, scale))
    drifting = jnp.abs(slope) * reach > watcher.kick * jnp.abs(along)
    lost = (along < -threshold) & ~drifting

    first_stage = carry.n_stages == 0
    was_stable = ~first_stage & (carry.curvature >= -threshold)
    # A stage that stopped on its way off a saddle would meet the same transition again.
    countable = ~relaxing & ~carry.unsettled & (first_stage | was_stable)

    def solving(attempt: _Attempt) -> Any:
        retry = attempt.saddle & (attempt.code != int(Code.NON_FINITE))
        return (attempt.tries == 0) | (retry & (attempt.tries <= watcher.max_kicks))

    def crossed(attempt: _Attempt) -> Any:
        return countable & (lost | (attempt.tries > 1))

    def proceed(attempt: _Attempt) -> Any:
        return solving(attempt) | (crossed(attempt) & attempt.bracket.searching)

    def body(attempt: _Attempt) -> _Attempt:
        # Solving and locating share this body, since a curvature takes long to compile; with no
        # steps allowed the solve returns what it was given.
        solve = solving(attempt)
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
        solved = _Attempt(
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
        located = eqx.tree_at(lambda a: a.bracket, attempt, attempt.bracket.narrowed(found.value))
        return trees.where(solve, solved, located)

    first = _Attempt(
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
    end = jax.lax.while_loop(proceed, body, first)
    code = end.code
    fine = code == int(Code.OK)
    code = jnp.where(fine & jnp.isnan(end.curvature), as_code(Code.NOT_DEFINED), code)
    code = jnp.where(
        fine & (jnp.abs(end.curvature) <= threshold), as_code(Code.NEAR_CRITICAL), code
    )
    code = jnp.where(fine & end.saddle, as_code(Code.STALLED), code)
    return eqx.tree_at(lambda a: a.code, end, code), crossed(end)
