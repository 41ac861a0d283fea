"""`anneal`: follow the minimiser of the free energy from small beta to large."""

from typing import Any

from .._core.programs import own_arithmetic
from ..exec.base import AbstractExecutor
from ..solvers.adjoints import AbstractAdjoint
from ..solvers.base import AbstractSolver
from .branching.base import AbstractBranching
from .monitor import Monitor
from .pieces import begin
from .problem import Problem
from .record import Record
from .repair import Repair
from .schedules import AbstractSchedule
from .solution import Solution
from .stages import completed
from .state import check_kind, check_problem


@own_arithmetic()
def anneal(
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
    executor: AbstractExecutor | None = None,
    monitor: Monitor | None = None,
) -> Solution:
    """Minimise the free energy F = D - H / beta at a rising sequence of beta.

    Every stage starts from the solution of the one before; where that has become unstable, slots
    at one place are split, or it is kicked along its unstable direction. Compiled as a whole; legal
    inside `jit`, `grad`, `vmap`. To stop it on the way and go on later, to the same bits, see
    `begin`; where only the best answer counts, see `solve`.

    **Arguments:**

    - `problem`: a `Problem`, such as `Clustering`.
    - `schedule`: a schedule; default `CriticalJump()`, from 0.5 b to 1e4 b with b the problem's
        first transition (a constant for derivatives), with factors of at least 1.1 with `Growth`.
        Where nothing foretells transitions, with `NoDetector` or where F has no second
        derivatives (`problem.smooth` is false), it is `Geometric(0.5 b, 1e4 b, 1.02)`.
    - `key`: a JAX random key, for the directions of the kicks and for samples.
    - `solver`: inner solver; default the problem's own.
    - `detector`: what is done about transitions. Default `Growth()` where slots can grow
        (exchangeable ones that have a slot spectrum, see there), else `Detector()`, whose kicks
        follow the exact solution of every stage: ask for it where the path counts and not only
        its end. With many slots kicks may put several on one branch, and end tens of per cent
        above what `Growth()` and `Repair()` find in a fraction of the time. `NoDetector()` is the
        printed algorithm.
    - `repair`: `Repair()` moves slots to better places after the last stage; default none.
    - `adjoint`: how the solution is differentiated; default `Implicit()`.
    - `record`: what the trace keeps besides scalars; default `Record()`.
    - `init`: params or a `Solution` to continue from, or a function of problem and key that gives
        params, such as `lambda problem, key: problem.scatter(key)`; default `problem.init`.
    - `executor`: where sums over data are computed: `InMemory()` (default), `Streaming()` with
        memory of one block, or `Sharded()` on several devices.
    - `monitor`: a function called on the host after each stage, such as `print_progress`; where
        stages are short, after some at a time.

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
    check_problem(problem)
    check_kind("executor", executor, AbstractExecutor)
    if executor is not None:
        problem = problem.on(executor)
    state = begin(
        problem,
        schedule,
        key=key,
        solver=solver,
        detector=detector,
        repair=repair,
        adjoint=adjoint,
        record=record,
        init=init,
        monitor=monitor,
    )
    return completed(problem, state)
