"""Baselines: solve the problem of every frame, anew or from the solution of the last one."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core import arrays, checks, trees
from .._core.codes import Code
from .._core.failures import raise_failed
from .._core.params import primal_of
from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.branching.noise import NoDetector
from ..engine.problem import Problem
from ..engine.schedules import AbstractSchedule, Explicit, Geometric
from ..solvers.adjoints import NoGrad
from ..solvers.base import AbstractSolver
from .arguments import conditions_of, sizes_of, start_of, times_of
from .evaluation import speeds
from .integrators import AbstractIntegrator, Adaptive, Flow
from .moving import AbstractScene, scene_of
from .trajectory import Rows

_OWNER = "every_frame"
# Of a cold anneal.
_FACTOR = 1.1


class Frames(Rows):
    """A scene solved frame by frame: the outcome of `every_frame`.

    **Fields**, each with one entry for each of T times:

    - `times`; `values`, params as in `problem.init`; `beta`, the inverse temperature, a scalar.
    - `free_energy`, `distortion`, in units of the cost.
    - `jump`: how far the slot that moved farthest went since the frame before; 0 in the first.
    - `speed`: `jump` over the time between, what a body would need to follow.
    - `n_steps`: inner steps of the solve. `code`: of the solve; NON_FINITE where the problem is.
    """

    jump: Float[Array, " t"]
    speed: Float[Array, " t"]
    n_steps: Int[Array, " t"]

    def raise_if_failed(self) -> "Frames":
        """Return self, or raise on the host if a frame was not solved.

        **Raises:** `ValueError` for bad input, `SolveError` otherwise.
        """
        self._raise_if_invalid()
        raise_failed(jnp.max(self.code, axis=-1), self.input_report)
        return self


class _Frames(eqx.Module):
    """All that a frame depends on."""

    scene: AbstractScene
    beta: Float[Array, ""]
    schedule: AbstractSchedule
    solver: AbstractSolver | None
    cold: bool = eqx.field(static=True)
    key: Any

    def solved(self, problem: Problem, params: Any, index: Any) -> Any:
        """The solution of a frame: annealed, or from `params` where there are some."""
        key = jax.random.fold_in(self.key, index)
        if params is None:
            return anneal(problem, self.schedule, key=key, solver=self.solver, adjoint=NoGrad())
        return anneal(
            problem, Explicit(self.beta[None]), key=key, solver=self.solver, adjoint=NoGrad(),
            detector=NoDetector(), init=params,
        )  # fmt: skip


@program
def _every_frame(
    frames: _Frames, init: Any, times: Array, integrator: AbstractIntegrator, plan: Any
) -> tuple[Any, ...]:
    scene = frames.scene
    fields = scene.fields()
    first = frames.solved(scene.problem_at(times[0], fields), init, 0)

    def onward(fields: Any, params: Any, ends: Array) -> tuple[Any, Any]:
        """Fields at the end of an interval; unknowns stand still meanwhile."""
        if not fields:
            return fields, jnp.asarray(int(Code.OK), jnp.int32)
        rate = lambda time, state, _: (scene.moving(time, state, lambda _: params).rates, ())  # noqa: E731
        own = sizes_of(scene.problem_at(ends[0], fields), params, fields)[0]
        flown = integrator.run(Flow(rate, trees.stop_gradient(own)), fields, (), ends, plan)
        return jax.tree.map(lambda leaf: leaf[0], flown.states), flown.code

    def frame(now: tuple[Any, Any], at: tuple[Array, Array]) -> tuple[Any, Any]:
        fields, params = now
        ends, index = at
        fields, flow = onward(fields, params, ends)
        problem = scene.problem_at(ends[1], fields)
        solution = frames.solved(problem, None if frames.cold else params, index)
        return (fields, solution.params), (_row(problem, solution, frames.beta, flow), fields)

    ends = jnp.stack([times[:-1], times[1:]], axis=1)
    index = jnp.arange(1, times.shape[0])
    _, rest = jax.lax.scan(frame, (fields, first.params), (ends, index))
    begun = _row(scene.problem_at(times[0], fields), first, frames.beta, jnp.asarray(0)), fields
    rows, moved = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), begun, rest)
    primal = primal_of(rows["values"])
    apart = [
        jnp.max(jax.vmap(speeds)(leaf[1:] - leaf[:-1]).reshape(len(times) - 1, -1), axis=1)
        for leaf in jax.tree.leaves(primal)
    ]
    jump = jnp.concatenate([jnp.zeros_like(times[:1]), jnp.max(jnp.stack(apart), axis=0)])
    speed = jump / jnp.concatenate([jnp.ones_like(times[:1]), times[1:] - times[:-1]])
    return rows, moved, jump, speed


def _row(problem: Problem, solution: Any, beta: Array, flow: Array) -> dict[str, Any]:
    terms = problem.terms(solution.params, beta)
    finite = trees.all_finite((solution.params, terms.free_energy))
    code = jnp.maximum(solution.code, flow.astype(solution.code.dtype))
    told = finite | (code == int(Code.INVALID_INPUT))
    return {
        "values": solution.params, "free_energy": terms.free_energy, "distortion": terms.distortion,
        "code": jnp.where(told, code, int(Code.NON_FINITE)).astype(jnp.int32),
        "n_steps": jnp.sum(solution.trace.steps).astype(jnp.int32),
    }  # fmt: skip


def every_frame(
    problem: Problem,
    times: Any,
    *,
    beta: Any,
    velocity: Any = None,
    at: Any = None,
    traces: Any = None,
    start: str = "warm",
    init: Any = None,
    schedule: AbstractSchedule | None = None,
    solver: AbstractSolver | None = None,
    integrator: AbstractIntegrator | None = None,
    key: Any,
) -> Frames:
    """Solve a scene that moves at every one of `times`: what `track` is to be compared with.

    A cold anneal of every frame is free to jump to another minimum, and costs the most. A warm
    re-solve starts from the solution of the frame before, at the last beta: the fair rival of a
    control law, which jumps too where its minimum ceases to be one. One compiled program.

    **Arguments:**

    - `problem`, `times`, `beta`, and what moves, `velocity`, `at` or `traces`, as in `track`. A
        velocity that reads the unknowns sees them stand still between frames.
    - `start`: `"warm"` or `"cold"`.
    - `init`: a `Solution` or params for the first frame; default a cold anneal. Warm only.
    - `schedule`: of a cold anneal, ending at `beta`; default `Geometric` from half of the first
        transition of `problem`, with a factor of 1.1.
    - `solver`: inner solver; default the problem's own.
    - `integrator`: of what moves by `velocity`: `Adaptive()` (default) or `Euler(step)`.
    - `key`: a JAX random key.

    **Returns:** a `Frames`. It never raises for what happens on the way: look at its `code`.

    **Raises:** `TypeError` or `ValueError` naming the argument.

    Source: parameterized sequential decision making, section 2.7, "frame-by-frame".

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> apart = lambda time, problem, centres: {"x": jnp.sign(problem.x)}
    >>> frames = mj.control.every_frame(
    ...     problem, [0.0, 1.0, 2.0], beta=10.0, velocity=apart, key=jax.random.key(0),
    ...     init=jnp.array([[-1.0], [1.0]]),
    ... )
    >>> print(f"{frames.values[2, 1, 0]:.3f}", frames.speed)
    3.000 [0. 1. 1.]

    ```
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"{_OWNER}: `problem` must be a Problem; got {type(problem).__name__}.")
    if start not in ("warm", "cold"):
        raise ValueError(f'{_OWNER}: `start` must be "warm" or "cold"; got {start!r}.')
    if init is not None and start == "cold":
        raise TypeError(f'{_OWNER}: `init` is for start="warm"; a cold anneal has none.')
    like = eqx.filter_eval_shape(problem.init, jax.random.key(0))
    dtype = trees.dtype_of(primal_of(like))
    if init is not None:
        init = start_of(_OWNER, "init", problem, init)
    times = times_of(_OWNER, times, dtype)
    beta = arrays.as_float_array("beta", beta, dtype)
    integrator = integrator if integrator is not None else Adaptive()
    scene = scene_of(_OWNER, problem, like, times, velocity, at, traces)
    plan = integrator.check_times(times)
    conditions = (*conditions_of(_OWNER, times, beta, None), *scene.checks())
    checks.enforce(conditions)
    report = checks.report((*conditions, *problem.checks()))
    if schedule is None:
        schedule = _cold_schedule(problem, beta)
    frames = _Frames(
        scene, beta, arrays.cast_floats(schedule, dtype), solver, start == "cold", key
    )  # fmt: skip
    rows, moved, jump, speed = _every_frame(frames, init, times, integrator, plan)
    code = jnp.maximum(rows["code"], jnp.asarray(report.code, jnp.int32))
    return Frames(
        times=times, beta=beta, values=rows["values"], free_energy=rows["free_energy"],
        distortion=rows["distortion"], code=code, scene=scene, moved=moved, input_report=report,
        jump=jump, speed=speed, n_steps=rows["n_steps"],
    )  # fmt: skip


def _cold_schedule(problem: Problem, beta: Any) -> AbstractSchedule:
    lowest = 0.5 * problem.beta_scale()
    if checks.is_concrete(lowest, beta) and float(lowest) >= float(beta):
        return Explicit(beta[None])
    return Geometric(lowest, beta, _FACTOR)
