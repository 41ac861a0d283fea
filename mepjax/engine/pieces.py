"""An anneal in pieces: begin, advance by some stages, finish. `anneal` is begin and finish."""

import operator
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._core import arrays, checks, trees
from .._core.keys import check_key
from .._core.programs import own_arithmetic
from .._core.types import Tracer
from ..solvers.adjoints import AbstractAdjoint, Implicit
from ..solvers.base import AbstractSolver
from .branching.base import AbstractBranching
from .branching.growth import Growth
from .monitor import Monitor
from .problem import Problem, has_spectrum
from .record import Record
from .repair import Repair
from .schedules import AbstractSchedule
from .solution import Solution
from .stages import advanced, anneal_begin, anneal_init, completed, early_problem, input_report
from .state import (
    AnnealState,
    Options,
    check_kind,
    check_problem,
    check_state,
    same_shapes,
    shapes_of,
)
from .swaps import can_swap


@own_arithmetic()
def begin(
    problem: Problem,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    solver: AbstractSolver | None = None,
    detector: AbstractBranching | None = None,
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
    check_kind("detector", detector, AbstractBranching, "Detector, NoDetector or Growth")
    check_kind("repair", repair, Repair)
    check_kind("adjoint", adjoint, AbstractAdjoint)
    check_kind("record", record, Record)
    branching = (detector or Growth()).suited(problem)
    can_repair = has_spectrum(problem) or (repair is not None and can_swap(problem, repair))
    if not can_repair:
        repair = None
    if schedule is not None and schedule.horizon is not None and not branching.foretells:
        name = type(schedule).__name__
        if problem.smooth:
            raise ValueError(
                f"`schedule` {name} asks the detector for the next transition; "
                "leave `detector` unset or use a `Geometric` schedule."
            )
        raise ValueError(
            f"`schedule` {name} asks for the next transition, which a free "
            "energy without second derivatives does not show; use a `Geometric` schedule."
        )
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
        branching=branching,
        record=record or Record(),
        monitor=monitor,
        relaxation=0 if problem.continuation is None else problem.continuation.stages,
    )
    # The forward run carries no derivative: `adjoint` puts the solution's own in its place. Said
    # here, a value and its gradient share these programs.
    still, fixed = trees.stop_gradient((problem, replace(options, monitor=None)))
    # Concrete values are checked on the host, so that nothing is compiled for it.
    concrete = checks.is_concrete(still, fixed.schedule)
    report = input_report(still, fixed.schedule) if concrete else None
    given = init is not None
    params = trees.stop_gradient(init) if given else anneal_init(still, key)
    scale, start, carry, rows, report = anneal_begin(
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


@own_arithmetic()
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
    return advanced(early_problem(problem, state), state, stages)


@own_arithmetic()
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


def _check_init(problem: Problem, init: Any, key: Any) -> Any:
    expected = eqx.filter_eval_shape(problem.init, key)
    if not same_shapes(init, expected):
        got, want = shapes_of(init), shapes_of(expected)
        raise ValueError(f"`init` must have the shape of params, {want}; got {got}.")
    return jax.tree.map(lambda a, b: arrays.as_float_array("init", a, b.dtype), init, expected)
