"""What an inner solver supplies; the loop that drives it is `solvers.loop`."""

import abc
from typing import Any

import equinox as eqx
from jaxtyping import Array, Bool, Float


class StepInfo(eqx.Module):
    """What the loop needs to know of one step.

    `move` is shaped like params and measures how far the iterate is from a fixed point;
    `stalled` says that the solver could not move although it wanted to.
    """

    move: Any
    stalled: Bool[Array, ""]


class AbstractSolver(eqx.Module):
    """An inner solver at fixed beta: `init` and `step`, plus its stopping numbers.

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

    @abc.abstractmethod
    def init(self, problem: Any, params: Any, beta: Float[Array, ""]) -> Any:
        """State carried between steps; its shapes must not change."""

    @abc.abstractmethod
    def step(
        self, problem: Any, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """One step: new params, new state and what the loop needs to know."""
