"""The interface of what is done about phase transitions; the loop that asks it is `engine.run`."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._core import trees
from ...solvers.base import AbstractSolver
from ..carry import Carry
from ..critical_jump import CriticalJump
from ..ending import temperature_length
from ..problem import Problem
from ..schedules import AbstractSchedule, Geometric, Stage


class Ask(eqx.Module):
    """How a stage is to be solved, besides its problem and where it starts.

    **Fields:** `solver`; `key`, of this stage; `start`, the random vector from which eigenvectors
    are sought; `unit`, the problem's `beta_scale`; `relaxing`, whether an easier problem is solved
    on the way to the first beta.
    """

    solver: AbstractSolver
    key: Any
    start: Float[Array, " primal"]
    unit: Float[Array, ""]
    relaxing: Bool[Array, ""]

    def length(self, stage: Stage) -> Float[Array, ""]:
        """The temperature's, in units of the data's size; at most 1.

        Longer perturbations would throw slots out of what is about to separate.
        """
        return temperature_length(self.unit, stage.beta)

    def draw(self, number: Any) -> Any:
        """The key of solve `number` of the stage; `None` where the solver draws nothing."""
        return self.solver.draw(self.key, number)

    def limits(self, stage: Stage, dtype: Any) -> tuple[Float[Array, ""], Int[Array, ""]]:
        """The relative error asked for and the solver's steps allowed; the last stage has its own.

        The error has the dtype of params.
        """
        solver, last = self.solver, stage.last & ~self.relaxing
        double = dtype == jnp.float64
        stage_rtol = (1e-6 if double else 1e-5) if solver.stage_rtol is None else solver.stage_rtol
        rtol = (1e-10 if double else 1e-6) if solver.rtol is None else solver.rtol
        tolerance = jnp.where(last, rtol, stage_rtol).astype(dtype)
        return tolerance, jnp.where(last, solver.max_steps, solver.stage_max_steps)


class StageEnd(eqx.Module):
    """What solving a stage ends with; the transitions `critical[c]` count where `crossed[c]`.

    `split` is where slots that are at one place next separate, looked at there after what may be
    the last stage; `None`: nothing here tells.
    """

    params: Any
    curvature: Float[Array, ""]
    memory: Any
    code: Int[Array, ""]
    steps: Int[Array, ""]
    crossed: Bool[Array, " c"]
    critical: Float[Array, " c"]
    split: Float[Array, ""] | None = None


class AbstractBranching(eqx.Module):
    """What is done about phase transitions: `mj.Detector`, `mj.NoDetector`, `mj.Growth`.

    A subclass writes three functions. `begin` gives the params before the first stage and a memory
    that is handed on from stage to stage; `look` chooses the next stage and sees what is there;
    `solve` solves it. All are traced, so shapes stay.
    """

    @property
    def foretells(self) -> bool:
        """Whether `look` tells schedules where the next transition is."""
        return True

    @property
    def sample_size(self) -> int | None:
        """Number of data on which all stages but the last are solved; `None`: all."""
        return None

    @property
    def at_end(self) -> "AbstractBranching | None":
        """What solves the last stage again, on all data; `None` where nothing need be."""
        return None

    def suited(self, problem: Problem) -> "AbstractBranching":
        """What is done where the problem does not permit this; itself where it does."""
        del problem
        return self

    def default_schedule(self, scale: Float[Array, ""]) -> AbstractSchedule:
        """From half the first transition `scale` to 10^4 times it.

        And on, while anything is undecided there.
        """
        first, last = 0.5 * scale, 1e4 * scale
        if self.foretells:
            return CriticalJump(first, last, open_ended=True)
        # The default spans a fixed ratio, so its stage count is known before b is.
        stages = Geometric(0.5, 1e4, 1.02, open_ended=True).max_stages
        return Geometric(first, last, 1.02, max_stages=stages, open_ended=True)

    @abc.abstractmethod
    def begin(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Any, Any]:
        """Params and memory before the first stage; `given`: the params are the user's."""

    def look(
        self,
        problem: Problem,
        carry: Carry,
        following: Callable[[Float[Array, ""]], Stage],
        *,
        horizon: float | None,
        waiting: Bool[Array, ""],
    ) -> tuple[Stage, Any]:
        """The stage that `following(predicted)` gives, and what `solve` wants to know of it.

        Default: no transition is predicted, and nothing is looked at. `horizon`: how far ahead the
        schedule asks, as a factor; `waiting`: it goes no further while easier problems are solved.
        """
        del problem, horizon, waiting
        return following(jnp.full_like(carry.stage.beta, jnp.inf)), None

    @abc.abstractmethod
    def solve(self, problem: Problem, carry: Carry, stage: Stage, seen: Any, ask: Ask) -> StageEnd:
        """Solve the stage from where `carry` is.

        `seen` is what `look` saw, `None` where the stage is the one of `carry` again, so that no
        transition can be crossed.
        """


def scaled_step(problem: Problem, params: Any, change: Any, size: Any) -> Any:
    """`change` with its largest entry made `size` relative to the params' own scale."""
    scale = problem.params_scale(params)
    length = trees.max_abs(jax.tree.map(jnp.divide, change, scale))
    factor = jnp.where(length > 0, size / jnp.where(length > 0, length, 1.0), 0.0)
    factor = factor.astype(trees.dtype_of(params))
    return jax.tree.map(lambda leaf: factor * leaf, change)
