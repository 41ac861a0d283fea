"""Descent along a problem's own update with a backtracking line search."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import trees
from .._core.params import along_primal
from .backtracking import backtrack
from .base import AbstractSolver, StepInfo
from .equation import FreeEnergy


class Armijo(AbstractSolver[FreeEnergy]):
    """Line search along `update(params) - params`, falling back to the negative gradient.

    The free energy falls at every step, whether or not the update alone would lower it, so this
    is the solver for autonomy that depends on the centres. The first trial step is the exact
    minimiser of the quadratic seen along the previous direction; it is halved until
    F(new) <= F + `decrease` step slope (Armijo) or, where F can no longer tell because of
    rounding, until the slope itself has fallen enough (the approximate Wolfe condition).

    Source: autonomy-aware clustering, Algorithm 3, with the direction of equation (3).

    **Arguments:** `decrease` (Armijo constant), `shrink` (backtracking factor),
    `max_backtracks`, and the stopping numbers of `AbstractSolver`.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.Armijo(shrink=0.3).shrink
    0.3

    ```
    """

    decrease: float = eqx.field(static=True, default=1e-4)
    shrink: float = eqx.field(static=True, default=0.5)
    max_backtracks: int = eqx.field(static=True, default=30)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=20_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=500)

    def __check_init__(self) -> None:
        if not 0 < self.decrease < 0.5:
            raise ValueError(f"Armijo: `decrease` must be in (0, 1/2); got {self.decrease}.")
        if not 0 < self.shrink < 1:
            raise ValueError(f"Armijo: `shrink` must be in (0, 1); got {self.shrink}.")

    def init(self, problem: FreeEnergy, params: Any, beta: Float[Array, ""]) -> Float[Array, ""]:
        """The first trial step."""
        return jnp.ones((), trees.dtype_of(params))

    def direction(
        self, problem: FreeEnergy, params: Any, beta: Float[Array, ""], gradient: Any
    ) -> Any:
        """Where to search, shaped like params."""
        del gradient
        return trees.subtract(problem.update(params, beta), params)

    def following(self, suggested: Float[Array, ""]) -> Float[Array, ""]:
        """The next trial step, from the one that the search along this direction suggests."""
        return suggested

    def step(
        self, problem: FreeEnergy, params: Any, beta: Float[Array, ""], state: Float[Array, ""]
    ) -> tuple[Any, Float[Array, ""], StepInfo]:
        """One accepted descent step; the state is the next trial step."""

        def evaluate(params: Any) -> tuple[Any, Array, Any]:
            # With prices it is their best value that descends, a function of the primal.
            params = problem.eliminate(params, beta)
            energy, gradient = jax.value_and_grad(problem.free_energy)(params, beta)
            return params, energy, along_primal(gradient)

        dtype = state.dtype
        params, energy, gradient = evaluate(params)
        move = along_primal(self.direction(problem, params, beta, gradient))
        slope = trees.dot(gradient, move)
        size = jnp.sqrt(trees.dot(gradient, gradient) * trees.dot(move, move))
        descends = slope < -1e-10 * size
        move = trees.where(descends, move, jax.tree.map(jnp.negative, gradient))
        slope = jnp.where(descends, slope, -trees.dot(gradient, gradient))
        slack = 8 * jnp.finfo(dtype).eps * jnp.abs(energy)

        def attempt(size: Array) -> tuple[Array, Any]:
            new, new_energy, new_gradient = evaluate(trees.axpy(size, move, params))
            new_slope = trees.dot(new_gradient, move)
            # Below rounding of F only slopes can tell; for a quadratic both tests are the same.
            armijo = new_energy <= energy + self.decrease * size * slope
            flat = (new_energy <= energy + slack) & (new_slope <= (2 * self.decrease - 1) * slope)
            sufficient = jnp.where(-size * slope > slack, armijo, flat)
            return sufficient & jnp.isfinite(new_energy), (new, new_slope)

        trial = backtrack(
            attempt,
            state,
            (params, slope),
            retry=lambda size: self.shrink * size,
            most=self.max_backtracks,
        )
        found, found_slope = trial.found
        stationary = slope >= 0
        stalled = ~trial.accepted & ~stationary
        new = trees.where(trial.accepted, found, params)
        # Exact minimiser of the quadratic through both slopes; doubling where it curves down.
        bend = found_slope - slope
        suggested = jnp.where(
            bend > 0, -trial.size * slope / jnp.where(bend > 0, bend, 1.0), jnp.inf
        )
        next_step = jnp.clip(jnp.minimum(suggested, 4 * trial.size), 1e-4, 1e4)
        next_step = jnp.where(trial.accepted, next_step, 1.0).astype(dtype)
        return new, self.following(next_step), StepInfo(move, stalled)
