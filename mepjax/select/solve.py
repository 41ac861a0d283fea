"""`solve`: the best answer that a problem's ways offer, when only the answer counts."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code
from .._core.keys import check_key
from .._core.programs import own_arithmetic
from ..engine.branching.growth import Growth
from ..engine.critical_jump import CriticalJump
from ..engine.problem import Problem
from ..engine.record import Record
from ..engine.schedules import AbstractSchedule
from ..engine.solution import Solution, Trace
from ..engine.stages import with_derivative
from ..engine.state import check_kind, check_problem
from ..exec.base import AbstractExecutor
from ..solvers.adjoints import AbstractAdjoint, Implicit
from . import sized
from .starts import Measured, Run, Watch, best_of_starts, beta_scale, cost_of, default_starts


class Runs(eqx.Module):
    """All solves of `solve`, one entry each.

    **Fields:** `name`, how it was done; `key`, its random key; `cost`, what solves are compared
    by; `code`; `seconds`, compiling included, NaN inside `jit`; `kept`, whether the solve is one of
    the problem itself that may be chosen.
    """

    name: tuple[str, ...] = eqx.field(static=True)
    key: Any
    cost: Float[Array | np.ndarray, " runs"]
    code: Int[Array | np.ndarray, " runs"]
    seconds: Float[Array | np.ndarray, " runs"]
    kept: tuple[bool, ...] = eqx.field(static=True)

    def __str__(self) -> str:
        if np.ndim(self.cost) != 1 or not checks.is_concrete(self.cost, self.code):
            return repr(self)
        width = max(len(name) for name in self.name)
        lines = []
        for name, *numbers in zip(self.name, self.cost, self.code, self.seconds, strict=True):
            cost, code, seconds = (float(number) for number in numbers)
            ending = Code(int(code)).name
            lines.append(f"{name:<{width}}  {cost:12.6g}  {ending:<14} {seconds:8.3f} s")
        return "\n".join(lines)


class Solved(eqx.Module):
    """What `solve` returns: the best `solution`, and all `runs`."""

    solution: Solution
    runs: Runs


@own_arithmetic()
def solve(
    problem: Problem,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    starts: int | None = None,
    init: Any = (),
    record: Record | None = None,
    adjoint: AbstractAdjoint | None = None,
    executor: AbstractExecutor | None = None,
    watch: Watch | None = None,
) -> Solved:
    """Solve a problem in every way that it offers, and keep the solution of lowest cost.

    An anneal (by growth and repair where slots can grow), other stationarities and random starts,
    as in `select.starts.best_of_starts`. Legal inside `jit`, `grad` and `vmap`: which solution is
    chosen has no derivative, the chosen one has that of `adjoint`.

    **Arguments:**

    - `problem`: any `Problem`.
    - `schedule`: of whole anneals; default as in `anneal`.
    - `key`: a JAX random key.
    - `starts`: number of starts; default 2, or 4 where the problem has other ways. Clusters of
        limited size without autonomy, and no `beta_max`, start at random places, 10 by default,
        all in one program; of many entities on a sample, of which the best are solved on all.
    - `init`: params, a `Solution`, or a list of such, to start from besides: the result is never
        worse than they are, so the answer to a restricted problem is a start for a free one.
    - `record`, `adjoint`, `executor`: as in `anneal`.
    - `watch`: told on the host of each solve and stage; not inside `jit`.

    **Returns:** a `Solved`. Costs are hard, with prices those of the soft policy that meets the
    capacities; solutions that failed are chosen only where all did.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> problem = mj.Clustering(four_square(40)[0], 4, autonomy=mj.autonomy.Uniform(0.2))
    >>> solved = mj.solve(problem, key=jax.random.key(0))
    >>> print(solved.runs.name, solved.solution.code)
    ('exact', 'random start') 0

    ```
    """
    key = check_key(key)
    check_problem(problem)
    check_kind("schedule", schedule, AbstractSchedule)
    check_kind("adjoint", adjoint, AbstractAdjoint)
    check_kind("executor", executor, AbstractExecutor)
    if starts is not None:
        checks.check_count("solve", "starts", starts)
    if executor is not None:
        problem = problem.on(executor)
    still, fixed = trees.stop_gradient((problem, schedule))
    if fixed is None or (isinstance(fixed, CriticalJump) and fixed.beta_max is None):
        fixed = _scheduled(still, fixed)
    number = starts
    if number is None:
        limited = sized.suits(still, fixed)
        number = sized.STARTS if limited else default_starts(bool(still.other_ways()))
    found = best_of_starts(
        still,
        fixed,
        jax.random.split(key, number),
        record=record,
        watch=watch,
        init=_given(problem, init),
        measure=lambda problem, solution: Measured(cost_of(problem, solution)),
        ignoring=False,
        course=False,
    )
    solution = _chosen(found.candidates)
    if not checks.is_concrete(problem, schedule):
        final = None if schedule is None else schedule.final_beta()
        if final is not None:
            beta = jax.lax.stop_gradient(solution.beta)
            beta = beta + (final - jax.lax.stop_gradient(final)).astype(beta.dtype)
            solution = eqx.tree_at(lambda s: s.beta, solution, beta)
        solution = with_derivative(problem, solution, adjoint or Implicit())
    return Solved(solution, _table(found.runs, found.candidates))


def _scheduled(problem: Problem, schedule: CriticalJump | None) -> AbstractSchedule:
    """With its last beta known, of which the last stage of other starts has to be."""
    scale = beta_scale(problem)
    if schedule is None:
        return Growth().suited(problem).default_schedule(scale)
    return eqx.tree_at(
        lambda s: s.beta_max, schedule, 1e4 * scale, is_leaf=lambda leaf: leaf is None
    )  # it stays open-ended


def _given(problem: Problem, init: Any) -> tuple[Any, ...]:
    several = init if isinstance(init, tuple | list) else (init,)
    return tuple(
        trees.stop_gradient(start.params if isinstance(start, Solution) else start)
        for start in several
    )


def _chosen(runs: tuple[Run, ...]) -> Solution:
    """The first of lowest cost; one that failed only where all did."""
    solutions = [run.solution for run in runs]
    if checks.is_concrete(*(run.cost for run in runs), *(s.code for s in solutions)):
        return solutions[int(_place(np, runs))]
    place = _place(jnp, runs)
    # Traces differ in length where the last stage is a schedule of another kind.
    length = max(solution.trace.beta.shape[0] for solution in solutions)
    report = solutions[0].input_report
    alike = [
        eqx.tree_at(
            lambda s: (s.trace, s.input_report), one, (_extended(one.trace, length), report)
        )
        for one in solutions
    ]
    arrays, rest = eqx.partition(alike, eqx.is_array)
    picked = jax.tree.map(lambda *each: jnp.stack(each)[place], *arrays)
    return eqx.combine(picked, rest[0])


def _place(xp: Any, runs: tuple[Run, ...]) -> Any:
    cost = xp.stack([xp.asarray(run.cost) for run in runs])
    cost = xp.where(xp.isfinite(cost), cost, xp.inf)
    failing = xp.stack([xp.asarray(run.solution.code >= int(Code.MAX_STEPS)) for run in runs])
    sound = xp.where(failing, xp.inf, cost)
    return xp.argmin(xp.where(xp.any(xp.isfinite(sound)), sound, cost))


def _extended(trace: Trace, length: int) -> Trace:
    """With rows at the end of stages that did not happen."""

    def longer(leaf: Any) -> Any:
        fill = jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else 0
        width = ((0, length - leaf.shape[0]), *((0, 0) for _ in leaf.shape[1:]))
        return jnp.pad(leaf, width, constant_values=fill)

    return jax.tree.map(longer, trace)


def _table(runs: tuple[Run, ...], candidates: tuple[Run, ...]) -> Runs:
    concrete = checks.is_concrete(*(run.cost for run in runs), *(r.solution.code for r in runs))
    xp = np if concrete else jnp
    chosen = {id(run) for run in candidates}
    return Runs(
        name=tuple(run.name for run in runs),
        key=jnp.stack([run.key for run in runs]),
        cost=xp.stack([xp.asarray(run.cost) for run in runs]),
        code=xp.stack([xp.asarray(run.solution.code) for run in runs]),
        seconds=xp.asarray([run.seconds for run in runs]),
        kept=tuple(id(run) in chosen for run in runs),
    )
