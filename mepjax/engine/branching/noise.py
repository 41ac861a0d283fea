"""Noise: every stage starts from a perturbation at random, and nothing is watched."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ..._core import trees
from ...solvers.loop import solve_stage
from ..carry import Carry
from ..problem import Problem
from ..schedules import Stage
from .base import AbstractBranching, Ask, StageEnd, scaled_step


class NoDetector(AbstractBranching):
    """No curvature; every stage starts from an isotropic perturbation of size `noise` instead.

    This is the printed Algorithm 1. The trace's curvature is NaN and no transitions are found.
    """

    noise: float = eqx.field(static=True, default=1e-3)

    @property
    def foretells(self) -> bool:
        """Nothing is known of transitions."""
        return False

    def begin(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Any, Any]:
        """The params as they are; there is nothing to remember."""
        del problem, given
        return params, None

    def solve(self, problem: Problem, carry: Carry, stage: Stage, seen: Any, ask: Ask) -> StageEnd:
        """Perturb, then solve once."""
        del seen
        dtype = trees.dtype_of(carry.params)
        rtol, max_steps = ask.limits(stage, dtype)
        noise = trees.normal_like(ask.key, carry.params)
        step = scaled_step(problem, carry.params, noise, self.noise * ask.length(stage))
        result = solve_stage(
            problem,
            trees.add(carry.params, step),
            stage.beta,
            ask.solver,
            rtol=rtol,
            max_steps=max_steps,
            key=ask.draw(0),
        )
        return StageEnd(
            params=result.params,
            curvature=jnp.asarray(jnp.nan, dtype),
            memory=None,
            code=result.code,
            steps=result.steps,
            crossed=jnp.zeros((1,), bool),
            critical=jnp.full((1,), jnp.inf, dtype),
        )
