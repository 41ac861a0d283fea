"""The one inner loop of the library: iterate a solver's step at fixed beta until converged."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core import loops, trees
from .._core.codes import Code, as_code
from .base import AbstractSolver, Convergence
from .equation import Equation

# So many moves that are neither the smallest so far nor the largest since wander within rounding.
_PATIENCE = 30


class StageResult(eqx.Module):
    """Outcome of one stage: where it ended, after how many steps, how, and the solver's state."""

    params: Any
    steps: Int[Array, ""]
    code: Int[Array, ""]
    state: Any


class _LoopState(eqx.Module):
    params: Any
    solver_state: Any
    steps: Int[Array, ""]
    code: Int[Array, ""]
    move: Float[Array, ""]
    rate: Float[Array, ""]
    smallest: Float[Array, ""]
    largest: Float[Array, ""]
    since_record: Int[Array, ""]


_RUNNING = -1


def solve_stage(
    problem: Equation,
    params: Any,
    beta: Float[Array, ""],
    solver: AbstractSolver,
    *,
    rtol: Float[Array, ""],
    max_steps: Int[Array, ""],
    key: Any = None,
) -> StageResult:
    """Run `solver` at fixed beta until it says that it has arrived.

    By default that is where the estimated relative error is below `rtol`.

    A small step is not a small error: near a phase transition steps shrink by a factor close to
    one. The error left after a step s with observed contraction r is about s r / (1 - r); that,
    and the step, are what is compared with `rtol`. While r >= 1 (a perturbation is still growing)
    the loop goes on, unless steps are at rounding level: where F is nearly flat that is far above
    the rounding of params, and shows in steps within `rtol` that neither shrink nor grow.

    **Arguments:** `problem`, an `Equation` with what the solver asks of it; `key` for a solver
    that is stochastic.
    """
    if solver.stochastic and key is None:
        raise TypeError(f"{type(solver).__name__} draws at random and needs a `key`; got None.")
    drawing = {"key": key} if solver.stochastic else {}
    dtype = trees.dtype_of(params)
    scale = problem.params_scale(params)
    eps = jnp.finfo(dtype).eps
    # Rounding of params themselves bounds how small a step can become, e.g. data far from zero.
    floor = 2 * eps * (1 + solver.norm(params, scale))

    def proceed(loop: _LoopState) -> Any:
        return (loop.code == _RUNNING) & (loop.steps < max_steps)

    def body(loop: _LoopState) -> _LoopState:
        new, solver_state, info = solver.step(problem, loop.params, beta, loop.solver_state)
        move = solver.norm(info.move, scale).astype(dtype)
        rate = jnp.where(loop.move > 0, move / loop.move, jnp.inf)
        # The larger of two successive rates: a lucky short step alone proves nothing.
        safe_rate = jnp.maximum(rate, loop.rate)
        contracting = safe_rate < 1
        # Never less than the step itself: line searches make contraction look better than it is.
        left = jnp.maximum(safe_rate / jnp.where(contracting, 1 - safe_rate, 1), 1)
        error = jnp.where(contracting, move * left, jnp.inf)
        improved = move < loop.smallest
        largest = jnp.where(improved, move, jnp.maximum(move, loop.largest))
        since = jnp.where(improved | (move > loop.largest), 0, loop.since_record + 1)
        wandering = (since >= _PATIENCE) & (move <= jnp.maximum(rtol, 16 * floor))
        at_rounding = (move <= floor) | wandering
        finite = trees.all_finite(new)
        # A line search that finds nothing within the tolerance asked for has arrived.
        arrived = move <= jnp.maximum(rtol, 64 * floor)
        ended = solver.terminate(
            problem,
            new,
            beta,
            solver_state,
            info,
            Convergence(move, error, rtol, at_rounding, arrived),
        )
        stopped = jnp.where(info.stalled, int(Code.STALLED), _RUNNING)
        code = jnp.where(ended, int(Code.OK), stopped)
        code = jnp.where(finite, code, int(Code.NON_FINITE)).astype(jnp.int32)
        return _LoopState(
            params=trees.where(finite, new, loop.params),
            solver_state=solver_state,
            steps=loop.steps + 1,
            code=code,
            move=move,
            rate=rate.astype(dtype),
            smallest=jnp.minimum(move, loop.smallest),
            largest=largest,
            since_record=since,
        )

    infinite = jnp.asarray(jnp.inf, dtype)
    start = _LoopState(
        params=params,
        solver_state=solver.init(problem, params, beta, **drawing),
        steps=jnp.zeros((), jnp.int32),
        code=jnp.asarray(_RUNNING, jnp.int32),
        move=infinite,
        rate=infinite,
        smallest=infinite,
        largest=infinite,
        since_record=jnp.zeros((), jnp.int32),
    )
    end = loops.while_loop(proceed, body, start)
    code = jnp.where(end.code == _RUNNING, as_code(Code.MAX_STEPS), end.code)
    return StageResult(end.params, end.steps, code, end.solver_state)
