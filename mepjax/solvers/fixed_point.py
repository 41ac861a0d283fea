"""Picard iteration of a problem's own update."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import trees
from .base import AbstractSolver, StepInfo
from .equation import Equation


class FixedPoint(AbstractSolver[Equation]):
    """Repeat `params <- params + damping (problem.update(params) - params)`.

    For autonomy that does not depend on the centres every step lowers the free energy, for any
    damping in (0, 2). Source: autonomy-aware clustering, Algorithm 1, equations (1) and (2).

    **Arguments:** `damping`, and the stopping numbers of `AbstractSolver`.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.FixedPoint(max_steps=500).max_steps
    500

    ```
    """

    damping: float = eqx.field(static=True, default=1.0)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=20_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=500)

    def __check_init__(self) -> None:
        if not 0 < self.damping < 2:
            raise ValueError(f"FixedPoint: `damping` must be in (0, 2); got {self.damping}.")

    def init(self, problem: Equation, params: Any, beta: Float[Array, ""]) -> Any:
        """`None`: nothing is carried from step to step."""
        return None

    def step(
        self, problem: Equation, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """A step of size `damping` along the problem's own update."""
        move = trees.subtract(problem.update(params, beta), params)
        new = trees.axpy(self.damping, move, params)
        return new, state, StepInfo(move, jnp.asarray(False))
