"""Watching: a stage that ends at a saddle is kicked off it and solved again."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..._core import loops, trees
from ..._core.codes import Code, as_code
from ..._core.params import dual_of, primal_of
from ...solvers.loop import solve_stage
from ...solvers.spectrum import SpectrumOptions
from ..bracket import Bracket, critical_bracket
from ..carry import Carry
from ..curvature import flat_direction, lowest_curvature, near_critical_threshold
from ..prediction import Probe, next_stage
from ..problem import Problem
from ..schedules import Stage
from .base import AbstractBranching, Ask, StageEnd, scaled_step
from .noise import NoDetector

# A kick is at most this many times the detector's smallest.
_LONGEST_FALL = 2.0**10
# Perturbation of every stage where F has no curvature: kinks undo smaller ones.
_ROUGH_NOISE = 0.1


class _Attempt(eqx.Module):
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


class Detector(AbstractBranching):
    """Watches the curvature of F along an anneal and kicks the iterate off saddles.

    **Arguments:**

    - `dense_limit`: up to this many unknowns Hessians are formed, above it Lanczos is used.
    - `krylov`: Lanczos or Arnoldi steps.
    - `kick`: size of a perturbation along the unstable direction, relative to the data's size.
    - `max_kicks`: kicks per stage before a saddle is reported (STALLED at the last stage).
    """

    dense_limit: int = eqx.field(static=True, default=24)
    krylov: int = eqx.field(static=True, default=24)
    kick: float = eqx.field(static=True, default=1e-3)
    max_kicks: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        if not self.kick > 0:
            raise ValueError(f"Detector: `kick` must be > 0; got {self.kick}.")

    @property
    def options(self) -> SpectrumOptions:
        """Sizes of the eigenvalue computation."""
        return SpectrumOptions(self.dense_limit, self.krylov)

    def suited(self, problem: Problem) -> AbstractBranching:
        """Noise where F has no second derivatives."""
        return self if problem.smooth else NoDetector(noise=_ROUGH_NOISE)

    def begin(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Any, Any]:
        """The params as they are; the memory is a direction of the curvature seen last."""
        del problem, given
        primal, _ = ravel_pytree(primal_of(params))
        return params, jnp.zeros_like(primal)

    def look(
        self,
        problem: Problem,
        carry: Carry,
        following: Callable[[Float[Array, ""]], Stage],
        *,
        horizon: float | None,
        waiting: Bool[Array, ""],
    ) -> tuple[Stage, Probe]:
        """The next stage, with slope and curvature there along the direction remembered."""
        return next_stage(
            problem,
            carry.params,
            carry.stage.beta,
            carry.memory,
            following,
            horizon=horizon,
            sought=~waiting,
            # Past a transition others may be near, as where the curvature is unknown.
            unforeseen=carry.crossed | jnp.isnan(carry.curvature),
        )

    def solve(
        self, problem: Problem, carry: Carry, stage: Stage, seen: Probe | None, ask: Ask
    ) -> StageEnd:
        """Solve; while that ends at a saddle, kick along the unstable direction and repeat.

        A transition was crossed where the solution of the stage before has negative curvature at
        this beta, or the first solve ended at a saddle. Its critical beta is then sought at the
        params that became unstable.
        """
        dtype = trees.dtype_of(carry.params)
        beta = stage.beta
        tolerance, max_steps = ask.limits(stage, dtype)
        threshold = near_critical_threshold(dtype)
        kick = self.kick * ask.length(stage)
        lost = jnp.asarray(False)
        if seen is not None:
            # The look tells whether the last solution is unstable at the new beta, before a
            # solve that rounding could carry off the saddle unnoticed.
            slope, along = seen.slope, seen.curvature
            # Where F slopes that way the solution merely drifts, and needs no kick; at a transition
            # the slope is zero, since coincident slots can separate either way.
            scale = problem.params_scale(carry.params)
            unit = flat_direction(carry.params, problem, carry.memory)
            reach = trees.max_abs(jax.tree.map(jnp.divide, unit, scale))
            drifting = jnp.abs(slope) * reach > kick * jnp.abs(along)
            lost = (along < -threshold) & ~drifting

        first_stage = carry.n_stages == 0
        was_stable = ~first_stage & (carry.curvature >= -threshold)
        # A stage that stopped on its way off a saddle would meet the same transition again.
        countable = ~ask.relaxing & ~carry.unsettled & (first_stage | was_stable)

        def solving(attempt: _Attempt) -> Any:
            retry = attempt.saddle & (attempt.code != int(Code.NON_FINITE))
            return (attempt.tries == 0) | (retry & (attempt.tries <= self.max_kicks))

        def crossed(attempt: _Attempt) -> Any:
            return countable & (lost | (attempt.tries > 1))

        def proceed(attempt: _Attempt) -> Any:
            if seen is None:
                return solving(attempt)
            return solving(attempt) | (crossed(attempt) & attempt.bracket.searching)

        def body(attempt: _Attempt) -> _Attempt:
            # Solving and locating share this body, since a curvature takes long to compile; with no
            # steps allowed the solve returns what it was given.
            solve = True if seen is None else solving(attempt)
            change = flat_direction(attempt.params, problem, attempt.direction)
            step = scaled_step(problem, attempt.params, change, kick)
            kicked = _kicked(problem, attempt.params, step, beta, solve & attempt.kicking)
            at = jnp.where(solve, beta, attempt.bracket.trial)
            result = solve_stage(
                problem,
                trees.where(solve, kicked, attempt.critical_params),
                at,
                ask.solver,
                rtol=tolerance,
                max_steps=jnp.where(solve, max_steps, 0),
                key=ask.draw(attempt.tries),
            )
            found = lowest_curvature(problem, result.params, at, ask.start, self.options)
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
            if seen is None:
                return solved
            narrowed = attempt.bracket.narrowed(found.value)
            located = eqx.tree_at(lambda a: a.bracket, attempt, narrowed)
            return trees.where(solve, solved, located)

        first = _Attempt(
            params=carry.params,
            curvature=carry.curvature,
            direction=carry.memory,
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
        over = jnp.asarray(False) if seen is None else crossed(end)
        return StageEnd(
            params=end.params,
            curvature=end.curvature,
            memory=end.direction,
            code=code,
            steps=end.steps,
            crossed=over[None],
            critical=end.bracket.root[None],
        )
