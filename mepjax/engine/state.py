"""An anneal in pieces: begin, advance by some stages, finish. `anneal` is begin and finish."""

import math
import operator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, trees
from .._core.codes import Code, as_code, is_failing
from .._core.keys import check_key
from .._core.programs import program
from .._core.types import Tracer
from ..solvers.adjoints import AbstractAdjoint, Implicit, NoGrad
from ..solvers.base import AbstractSolver
from .detector import Detector, NoDetector, random_start
from .growth import Growth, supports_growth
from .monitor import Monitor, Pace, report_rows
from .problem import Constrained, Growable, Problem, Terms
from .record import Record
from .repair import Repair
from .run import Carry, Run
from .schedules import AbstractSchedule, CriticalJump, Geometric
from .solution import Solution, Trace

# Past a transition by this factor a pair separates in few steps.
_GROWTH_FACTOR = 1.1

# Perturbation of every stage where F has no curvature: kinks undo smaller ones.
_ROUGH_NOISE = 0.1


class Options(eqx.Module):
    """What the stages of an anneal depend on besides its problem and its start."""

    schedule: AbstractSchedule | None
    key: Any
    solver: AbstractSolver
    detector: Detector | NoDetector
    growth: Growth | None
    record: Record
    monitor: Monitor | None = eqx.field(static=True)
    relaxation: int = eqx.field(static=True)

    def run(self, scale: Float[Array, ""], start: Float[Array, " primal"]) -> Run:
        """The loop over the schedule, without derivatives."""
        schedule = self.resolved(scale)
        return Run(
            schedule=trees.stop_gradient(schedule),
            key=self.run_key,
            start=start,
            solver=self.solver,
            detector=self.detector,
            growth=self.growth,
            record=self.record,
            monitor=self.monitor,
            scale=scale,
            relaxation=self.relaxation,
        )

    @property
    def run_key(self) -> Any:
        """For kicks and samples; the other half of `key` is for `Problem.init`."""
        return jax.random.split(self.key)[1]

    def resolved(self, scale: Float[Array, ""]) -> AbstractSchedule:
        """The schedule in the dtype of params, the default one where none was given."""
        schedule = self.schedule or default_schedule(
            scale, grows=self.growth is not None, foretold=isinstance(self.detector, Detector)
        )
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, scale.dtype) if eqx.is_inexact_array(leaf) else leaf,
            schedule,
        )


def default_schedule(scale: Float[Array, ""], *, grows: bool, foretold: bool) -> AbstractSchedule:
    """From half the first transition to 10^4 times it, as what is done about transitions asks."""
    first, last = 0.5 * scale, 1e4 * scale
    if grows:
        # Critical betas of groups do not depend on how near they are.
        factor = _GROWTH_FACTOR
        return CriticalJump(first, last, overshoot=factor, min_factor=factor, easing=math.inf)
    if foretold:
        return CriticalJump(first, last)
    # The default spans a fixed ratio, so its stage count is known before b is.
    return Geometric(first, last, 1.02, max_stages=Geometric(0.5, 1e4, 1.02).max_stages)


class AnnealState(eqx.Module):
    """An anneal that is under way: plain data, without the problem.

    Made by `begin`, taken further by `advance`, turned into a `Solution` by `finish`, kept on disk
    by `save` and `load`. A pytree of arrays, so it passes through `jit` and `vmap`.

    **Fields:**

    - `options`: the arguments of `begin` on which the stages depend.
    - `repair`, `adjoint`: those that `finish` will use.
    - `scale`: the problem's `beta_scale`; `start`: the vector from which eigenvectors are sought.
    - `carry`: what the last stage hands to the next.
    - `rows`: the trace so far, stages of the continuation at the first beta before all others.
    - `input_report`: which check a traced input failed.
    """

    options: Options
    repair: Repair | None
    adjoint: AbstractAdjoint
    scale: Float[Array, ""]
    start: Float[Array, " primal"]
    carry: Carry
    rows: Trace
    input_report: checks.InputReport

    @property
    def params(self) -> Any:
        """The problem's params after the last stage."""
        return self.carry.params

    @property
    def beta(self) -> Float[Array, ""]:
        """beta of the last stage, NaN before the first."""
        return self.carry.beta

    @property
    def n_stages(self) -> Int[Array, ""]:
        """Stages of the schedule behind it."""
        return self.carry.n_stages

    @property
    def n_advanced(self) -> Int[Array, ""]:
        """Stages behind it, with those of the continuation at the first beta."""
        return self.carry.index

    @property
    def done(self) -> Bool[Array, ""]:
        """Whether no stage is left: the schedule or its `max_stages` ended, or a number failed."""
        return self.carry.done | (self.carry.index >= self.rows.beta.shape[-1])

    @property
    def trace(self) -> Trace:
        """The trace so far, like that of a `Solution`."""
        # The last axis of beta is the stages', also where states are stacked.
        axis, first = self.rows.beta.ndim - 1, self.options.relaxation
        place = (slice(None),) * axis + (slice(first, None),)
        return jax.tree.map(lambda leaf: leaf[place], self.rows)


def begin(
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
    monitor: Monitor | None = None,
) -> AnnealState:
    """The state of an anneal before its first stage, to be taken further by `advance`.

    In pieces or whole, an anneal runs the same programs, so its result has the same bits: those of
    `anneal` with the same arguments.

    **Arguments:** those of `anneal`, but for the executor: hand over `problem.on(executor)`.

    **Returns:** an `AnnealState`.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind, as `anneal` does.

    **Example:** stop after ten stages, look, go on.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), k=2)
    >>> schedule, key = mj.Geometric(0.1, 100.0, 1.2), jax.random.key(0)
    >>> state = mj.begin(problem, schedule, key=key)
    >>> state = mj.advance(problem, state, 10)
    >>> print(state.n_stages, f"{state.beta:.3f}", state.done)
    10 0.516 False
    >>> sol = mj.finish(problem, state).raise_if_failed()
    >>> whole = mj.anneal(problem, schedule, key=key)
    >>> print(bool((sol.params == whole.params).all()))
    True

    ```
    """
    key = check_key(key)
    check_problem(problem)
    check_kind("schedule", schedule, AbstractSchedule)
    check_kind("solver", solver, AbstractSolver)
    check_kind("detector", detector, (Detector, NoDetector, Growth))
    check_kind("repair", repair, Repair)
    check_kind("adjoint", adjoint, AbstractAdjoint)
    check_kind("record", record, Record)
    if detector is None:
        detector = Growth() if supports_growth(problem) else Detector()
    growth = None
    if isinstance(detector, Growth):
        growth = detector if supports_growth(problem) else None
        detector = detector.detector
    if repair is not None and not (isinstance(problem, Growable) and problem.has_slot_spectrum):
        repair = None
    asks = growth is None and schedule is not None and schedule.horizon is not None
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
    elif callable(init):
        init = init(problem, jax.random.split(key)[0])
    if init is not None:
        init = _check_init(problem, init, key)
    options = Options(
        schedule=schedule,
        key=key,
        solver=solver or problem.default_solver(),
        detector=detector,
        growth=growth,
        record=record or Record(),
        monitor=monitor,
        relaxation=0 if problem.continuation is None else problem.continuation.stages,
    )
    # The forward run carries no derivative: `adjoint` puts the solution's own in its place. Said
    # here, a value and its gradient share these programs.
    still, fixed = trees.stop_gradient((problem, replace(options, monitor=None)))
    # Concrete values are checked on the host, so that nothing is compiled for it.
    concrete = checks.is_concrete(still, fixed.schedule)
    report = _report(still, fixed.schedule) if concrete else None
    given = init is not None
    params = trees.stop_gradient(init) if given else _anneal_init(still, key)
    scale, start, carry, rows, report = _anneal_begin(
        still, fixed, params, np.asarray(given), report
    )
    return AnnealState(
        options=options,
        repair=repair,
        adjoint=adjoint or Implicit(),
        scale=scale,
        start=start,
        carry=carry,
        rows=rows,
        input_report=report,
    )


def advance(problem: Problem, state: AnnealState, stages: Any) -> AnnealState:
    """Solve the next stages of an anneal; fewer where the schedule has fewer left.

    Compiled once however many stages; legal inside `jit` and `vmap`, where `stages` may be traced.

    **Arguments:**

    - `problem`: the problem that the anneal was begun with.
    - `state`: an `AnnealState`.
    - `stages`: how many, at least 0. Stages of the continuation at the first beta, which softmax
        autonomy may need, count.

    **Returns:** a new `AnnealState`; `state.done` tells whether any stages are left.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    **Example:** print how many centres have separated every 20 stages.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), k=3)
    >>> schedule = mj.Geometric(0.1, 1000.0, 1.2)
    >>> state = mj.begin(problem, schedule, key=jax.random.key(0))
    >>> while not state.done:
    ...     state = mj.advance(problem, state, 20)
    ...     print(state.n_stages, mj.n_distinct(problem, state.params))
    20 2
    40 3
    52 3

    ```
    """
    check_problem(problem)
    check_state(problem, state)
    stages = _check_stages(stages)
    return _advanced(_sample(problem, state), state, stages)


def finish(problem: Problem, state: AnnealState) -> Solution:
    """Solve the stages that are left, and return the solution that `anneal` would have.

    Legal inside `jit`, `grad` and `vmap`: the solution has the derivative of the anneal's adjoint
    with respect to `problem`, however the state was come by.

    **Arguments:**

    - `problem`: the problem that the anneal was begun with.
    - `state`: an `AnnealState`, at any stage.

    **Returns:** a `Solution`.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> state = mj.begin(problem, mj.Explicit([0.1, 1.0, 10.0]), key=jax.random.key(0))
    >>> sol = mj.finish(problem, mj.advance(problem, state, 2))
    >>> print(sol.n_stages, sol.beta)
    3 10.0

    ```
    """
    check_problem(problem)
    check_state(problem, state)
    return completed(problem, state)


def completed(problem: Problem, state: AnnealState) -> Solution:
    """`finish` without checks."""
    sample = _sample(problem, state)
    if not _is_done(state):
        state = _advanced(sample, state, np.asarray(state.rows.beta.shape[-1], np.int32))
    still = trees.stop_gradient(eqx.tree_at(lambda s: s.options, state, _quiet(state)))
    gap = np.zeros((), trees.dtype_of(state.params))
    if state.options.growth is not None or state.repair is not None:
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


def _advanced(problem: Problem, state: AnnealState, stages: Any) -> AnnealState:
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
    last = options.resolved(state.scale).final_beta()
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


def check_problem(problem: Any) -> None:
    """Raise `TypeError` for what is no problem."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a mepjax.Problem; got {type(problem).__name__} {problem!r:.60}."
        )


def check_state(problem: Problem, state: Any) -> None:
    """Raise unless `state` is one of an anneal of params of this shape."""
    if not isinstance(state, AnnealState):
        raise TypeError(
            "`state` must be an AnnealState, such as `mepjax.begin` returns; "
            f"got {type(state).__name__} {state!r:.60}."
        )
    expected = eqx.filter_eval_shape(problem.init, state.options.key)
    same = _same_shapes(state.params, expected)
    if not same or trees.dtype_of(state.params) != trees.dtype_of(expected):
        got, want = (f"{trees.dtype_of(p)} {_shapes(p)}" for p in (state.params, expected))
        raise ValueError(
            f"`state` belongs to another problem: its params are {got}, those of `problem` {want}."
        )


def _check_stages(stages: Any) -> Any:
    if isinstance(stages, Tracer):
        if stages.ndim != 0 or not jnp.issubdtype(stages.dtype, jnp.integer):
            raise TypeError(f"advance: `stages` must be an integer; got dtype {stages.dtype}.")
        return jnp.maximum(stages, 0).astype(jnp.int32)
    try:
        number = operator.index(stages)
    except TypeError:
        number = -1
    if isinstance(stages, bool) or number < 0:
        raise ValueError(f"advance: `stages` must be an int of at least 0; got {stages!r}.")
    return np.asarray(min(number, np.iinfo(np.int32).max), np.int32)


def _report(problem: Problem, schedule: AbstractSchedule | None) -> checks.InputReport:
    conditions = () if schedule is None else schedule.checks()
    return checks.report((*problem.checks(), *conditions))


def check_kind(name: str, value: Any, kinds: Any) -> None:
    """Raise `TypeError` unless `value` is `None` or one of `kinds`."""
    if value is not None and not isinstance(value, kinds):
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        expected = " or ".join(kind.__name__.removeprefix("Abstract") for kind in classes)
        raise TypeError(
            f"`{name}` must be a {expected} instance; got {type(value).__name__} {value!r:.60}."
        )


def _check_init(problem: Problem, init: Any, key: Any) -> Any:
    expected = eqx.filter_eval_shape(problem.init, key)
    if not _same_shapes(init, expected):
        got, want = _shapes(init), _shapes(expected)
        raise ValueError(f"`init` must have the shape of params, {want}; got {got}.")
    return jax.tree.map(lambda a, b: arrays.as_float_array("init", a, b.dtype), init, expected)


def _shapes(tree: Any) -> Any:
    return jax.tree.map(jnp.shape, tree)


def _same_shapes(tree: Any, expected: Any) -> bool:
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        return False
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.shape(a) == b.shape, tree, expected)))


def _sizes(tree: Any) -> list[Any]:
    return [leaf.shape for leaf in jax.tree.leaves(tree) if hasattr(leaf, "shape")]


def _sample(problem: Problem, state: AnnealState) -> Problem:
    """The problem of all stages but the last."""
    growth, key = state.options.growth, state.options.key
    size = None if growth is None else growth.sample
    if size is None:
        return problem
    # No program is compiled for a sample of all data.
    drawn = eqx.filter_eval_shape(lambda problem, key: _drawn(problem, key, size), problem, key)
    if _sizes(drawn) == _sizes(problem):
        return problem
    return _anneal_sample(problem, key, size)


# --- The programs, which every anneal runs in this order. --------------------------------------


@program
def _anneal_init(problem: Problem, key: Any) -> Any:
    return problem.init(jax.random.split(key)[0])


@program
def _anneal_begin(
    problem: Problem,
    options: Options,
    params: Any,
    given: Bool[Array | np.ndarray, ""],
    report: checks.InputReport | None,
) -> tuple[Any, Any, Carry, Trace, checks.InputReport]:
    if report is None:
        report = _report(problem, options.schedule)
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
    params, energy, terms = _attached(problem, carry.params, beta, code, adjoint)
    return Solution(
        params=params,
        beta=beta,
        code=code,
        free_energy=energy,
        distortion=terms.distortion,
        entropy=terms.entropy,
        trace=trace,
        n_stages=carry.n_stages,
        transitions=carry.transitions.betas,
        n_transitions=carry.transitions.count,
        sampling_gap=jax.lax.stop_gradient(jnp.asarray(gap)),
        input_report=state.input_report,
    )


def _attached(
    problem: Problem, params: Any, beta: Float[Array, ""], code: Any, adjoint: AbstractAdjoint
) -> tuple[Any, Float[Array, ""], Terms]:
    """Params with their derivative, and F and its parts at them."""
    params = adjoint.apply(params, problem, beta, is_failing(code))
    return params, *problem.free_energy_and_terms(params, beta)


@program
def with_derivative(problem: Problem, solution: Solution, adjoint: AbstractAdjoint) -> Solution:
    """A solution that was come by without derivatives, with those in `problem` and its beta."""
    if not problem.smooth:
        adjoint = NoGrad()
    still = jax.lax.stop_gradient(solution.params)
    params, energy, terms = _attached(problem, still, solution.beta, solution.code, adjoint)
    new = params, energy, terms.distortion, terms.entropy
    return eqx.tree_at(lambda s: (s.params, s.free_energy, s.distortion, s.entropy), solution, new)
