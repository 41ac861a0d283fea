"""`anneal`: follow the minimiser of the free energy from small beta to large."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from .._core import arrays, checks, trees
from .._core.codes import Code, as_code, is_failing
from .._core.keys import check_key
from ..exec.base import AbstractExecutor
from ..solvers.adjoints import AbstractAdjoint, Implicit, NoGrad
from ..solvers.base import AbstractSolver
from .detector import Detector, NoDetector, random_start
from .growth import Growth, supports_growth
from .monitor import Monitor
from .problem import Problem
from .record import Record
from .repair import Repair
from .run import Run
from .schedules import AbstractSchedule, CriticalJump, Geometric
from .solution import Solution

# Past a transition by this factor a pair separates in few steps.
_GROWTH_FACTOR = 1.1

# Perturbation of every stage where F has no curvature: kinks undo smaller ones.
_ROUGH_NOISE = 0.1


def anneal(
    problem: Problem,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    solver: AbstractSolver | None = None,
    detector: Detector | NoDetector | Growth | None = None,
    repair: Repair | None = None,
    adjoint: AbstractAdjoint | None = None,
    record: Record | None = None,
    init: Any = None,
    executor: AbstractExecutor | None = None,
    monitor: Monitor | None = None,
) -> Solution:
    """Minimise the free energy F = D - H / beta at a rising sequence of beta.

    Every stage starts from the solution of the one before; where that has become a saddle, it is
    kicked along its unstable direction. Compiled as a whole; legal inside `jit`, `grad`, `vmap`.

    **Arguments:**

    - `problem`: a `Problem`, such as `Clustering`.
    - `schedule`: a schedule; default `Geometric(0.5 b, 1e4 b, 1.02)` with b the problem's first
        transition (a constant for derivatives), `CriticalJump` with factors of at least
        1.1 with `Growth`.
    - `key`: a JAX random key, for the directions of the kicks and for samples.
    - `solver`: inner solver; default the problem's own.
    - `detector`: what is done about transitions: `Detector()` (default), `NoDetector()`, or
        `Growth()`, which finds better solutions sooner where there are many slots.
    - `repair`: `Repair()` moves slots to better places after the last stage; default none.
    - `adjoint`: how the solution is differentiated; default `Implicit()`.
    - `record`: what the trace keeps besides scalars; default `Record()`.
    - `init`: params or a `Solution` to continue from; default `problem.init`.
    - `executor`: where sums over data are computed: `InMemory()` (default), `Streaming()` with
        memory of one block, or `Sharded()` on several devices.
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
    _check_kind("detector", detector, (Detector, NoDetector, Growth))
    _check_kind("repair", repair, Repair)
    _check_kind("adjoint", adjoint, AbstractAdjoint)
    _check_kind("record", record, Record)
    _check_kind("executor", executor, AbstractExecutor)
    if executor is not None:
        problem = problem.on(executor)
    detector = detector or Detector()
    growth = None
    if isinstance(detector, Growth):
        # A start that was given has its own groups.
        growth = detector if init is None and supports_growth(problem) else None
        detector = detector.detector
    if repair is not None and not problem.has_slot_spectrum:
        repair = None
    asks = growth is None and schedule is not None and schedule.needs_detector
    if asks and isinstance(detector, NoDetector):
        raise ValueError(
            f"`schedule` {type(schedule).__name__} asks the detector for the next transition; "
            "leave `detector` unset or use a `Geometric` schedule."
        )
    if not problem.smooth:
        if asks:
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
        growth,
        repair,
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


@eqx.filter_jit
def _anneal(
    problem: Problem,
    report: checks.InputReport | None,
    schedule: AbstractSchedule | None,
    key: Any,
    solver: AbstractSolver,
    detector: Detector | NoDetector,
    growth: Growth | None,
    repair: Repair | None,
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
    sample_key = jax.random.fold_in(run_key, jnp.uint32(2**32 - 1))
    params = still.init(init_key) if init is None else trees.stop_gradient(init)
    dtype = trees.dtype_of(params)
    scale = still.beta_scale().astype(dtype)
    if schedule is None and growth is not None:
        schedule = CriticalJump(overshoot=_GROWTH_FACTOR, min_factor=_GROWTH_FACTOR)
    if schedule is None:
        schedule = Geometric(0.5 * scale, 1e4 * scale, 1.02, max_stages=_default_stages())
    schedule = _cast(schedule, dtype)
    start = random_start(still, params, run_key)
    # A start that was given is not led through the easier problem, which would undo it.
    relaxation = problem.relaxation_stages if init is None else 0
    run = Run(
        schedule=trees.stop_gradient(schedule),
        key=run_key,
        start=start,
        solver=solver,
        detector=detector,
        growth=growth,
        record=record,
        monitor=monitor,
        scale=scale,
        relaxation=relaxation,
    )
    sample = still
    if growth is not None and growth.sample is not None:
        sample = still.subsample(sample_key, growth.sample)
    carry, trace = run(sample, params)
    gap = jnp.zeros((), dtype)
    if growth is not None or repair is not None:
        carry, trace, gap = run.finish(sample, still, carry, trace, repair)

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
        sampling_gap=gap,
        input_report=report,
    )


def _default_stages() -> int:
    # The default spans a fixed ratio, so its stage count is known before b is.
    return Geometric(0.5, 1e4, 1.02).max_stages


def _cast(schedule: AbstractSchedule, dtype: Any) -> AbstractSchedule:
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, dtype) if eqx.is_inexact_array(leaf) else leaf, schedule
    )
