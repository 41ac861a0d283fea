"""What an inner solver supplies; the loop that drives it is `solvers.loop`."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from .._core import trees
from .equation import Equation

Solved = TypeVar("Solved", bound=Equation)


class StepInfo(eqx.Module):
    """What the loop needs to know of one step.

    `move` is shaped like params and measures how far the iterate is from a fixed point;
    `stalled` says that the solver could not move although it wanted to.
    """

    move: Any
    stalled: Bool[Array, ""]


class Convergence(eqx.Module):
    """What the loop has seen of the moves so far, as `AbstractSolver.norm` measures them.

    **Fields:** `move`, of the last step; `error`, the estimate of what is left, inf while moves do
    not contract; `rtol`, the error asked for; `rounding`, whether moves are as small as rounding
    lets them be; `arrived`, whether the last is within `rtol` or near rounding.
    """

    move: Float[Array, ""]
    error: Float[Array, ""]
    rtol: Float[Array, ""]
    rounding: Bool[Array, ""]
    arrived: Bool[Array, ""]


class AbstractSolver(eqx.Module, Generic[Solved]):
    """An inner solver at fixed beta: `init` and `step`, plus its stopping numbers.

    `AbstractSolver[FreeEnergy]` is one of problems with a free energy, and so on.

    A solver with a test of its own for the end (a certified bound, a policy that no longer
    changes) overrides `terminate`; one that draws at random sets `stochastic`, and `init` then
    gets a key to keep in its state.

    **Fields:**

    - `rtol`: relative error asked of the last stage; `None` is 1e-10 in float64 and 1e-6 in
        float32. Errors are measured against `problem.params_scale`.
    - `max_steps`: step limit of the last stage; reaching it gives the code MAX_STEPS.
    - `stage_rtol`: relative error asked of earlier stages; `None` is 1e-6 and 1e-5.
    - `stage_max_steps`: step limit of earlier stages. Reaching it is recorded in the trace only,
        since every later stage starts from where this one ended.
    """

    rtol: eqx.AbstractVar[float | None]
    max_steps: eqx.AbstractVar[int]
    stage_rtol: eqx.AbstractVar[float | None]
    stage_max_steps: eqx.AbstractVar[int]

    @property
    def stochastic(self) -> bool:
        """Whether `init` takes a keyword argument `key`, without which it cannot be used."""
        return False

    def draw(self, key: Any, number: Any) -> Any:
        """The key of solve `number` of several; `None` where the solver draws nothing."""
        return jax.random.fold_in(key, number) if self.stochastic else None

    @abc.abstractmethod
    def init(self, problem: Solved, params: Any, beta: Float[Array, ""]) -> Any:
        """State carried between steps; its shapes must not change."""

    @abc.abstractmethod
    def step(
        self, problem: Solved, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """One step: new params, new state and what the loop needs to know."""

    def norm(self, change: Any, scale: Any) -> Float[Array, ""]:
        """Size of a change of params relative to `params_scale`; default: its largest entry."""
        return trees.max_abs(jax.tree.map(lambda leaf, size: leaf / size, change, scale))

    def terminate(
        self,
        problem: Solved,
        params: Any,
        beta: Float[Array, ""],
        state: Any,
        info: StepInfo,
        convergence: Convergence,
    ) -> Bool[Array, ""]:
        """Whether these params are the answer, which ends the loop with the code OK.

        Default: where the estimated error is within `rtol`, where rounding permits no less, and
        where nothing more is found from a point that has arrived.
        """
        del problem, params, beta, state
        stuck = info.stalled & convergence.arrived
        return (convergence.error <= convergence.rtol) | convergence.rounding | stuck
