"""Anderson acceleration of a problem's own update, safeguarded by the free energy."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from .base import AbstractSolver, StepInfo
from .equation import FreeEnergy


class _History(eqx.Module):
    iterates: Float[Array, "memory size"]
    moves: Float[Array, "memory size"]
    count: Int[Array, ""]


class Anderson(AbstractSolver[FreeEnergy]):
    """Combine the last `memory` updates so that their combined move is least.

    Near a phase transition plain iteration slows down as 1 / (1 - lambda); this does not. A
    combination that raises the free energy is dropped for the plain update, and the history is
    restarted, so F never rises where the plain update lowers it. Problems whose residual is no
    gradient (`variational` False) have no such monitor and use the combination as it is.

    **Arguments:** `memory` (number of past moves), `regularisation` (relative to the largest
    move in memory), and the stopping numbers of `AbstractSolver`.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.Anderson(memory=4).memory
    4

    ```
    """

    memory: int = eqx.field(static=True, default=5)
    regularisation: float = eqx.field(static=True, default=1e-10)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=5_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=500)

    def __check_init__(self) -> None:
        if self.memory < 1:
            raise ValueError(f"Anderson: `memory` must be at least 1; got {self.memory}.")

    def init(self, problem: FreeEnergy, params: Any, beta: Float[Array, ""]) -> _History:
        """A history of no steps."""
        flat, _ = ravel_pytree(params)
        empty = jnp.zeros((self.memory, flat.size), flat.dtype)
        return _History(empty, empty, jnp.zeros((), jnp.int32))

    def step(
        self, problem: FreeEnergy, params: Any, beta: Float[Array, ""], state: _History
    ) -> tuple[Any, _History, StepInfo]:
        """One combined update, or the plain one where the combination is no better."""
        flat, unravel = ravel_pytree(params)
        updated, _ = ravel_pytree(problem.update(params, beta))
        move = updated - flat
        slot = state.count % self.memory
        history = _History(
            state.iterates.at[slot].set(flat),
            state.moves.at[slot].set(move),
            state.count + 1,
        )
        filled = jnp.arange(self.memory) < history.count
        # Weights alpha summing to one that minimise |sum alpha move|: solve G alpha = 1, rescale.
        moves = jnp.where(filled[:, None], history.moves, 0.0)
        gram = moves @ moves.T
        size = jnp.max(jnp.diag(gram))
        size = jnp.where(size > 0, size, 1.0)
        ridge = jnp.where(filled, self.regularisation + 4 * jnp.finfo(flat.dtype).eps, 1.0)
        ones = filled.astype(flat.dtype)
        alpha = jnp.linalg.solve(gram / size + jnp.diag(ridge), ones) * ones
        alpha = alpha / jnp.sum(alpha)
        combined = alpha @ (history.iterates + history.moves)

        usable = jnp.all(jnp.isfinite(combined)) & (history.count > 1)
        combined = jnp.where(usable, combined, updated)
        if problem.variational:
            before = problem.free_energy(params, beta)
            after = problem.free_energy(unravel(combined), beta)
            slack = 8 * jnp.finfo(flat.dtype).eps * jnp.maximum(1.0, jnp.abs(before))
            usable = usable & (after <= before + slack)
        new = jnp.where(usable, combined, updated)
        restart = (history.count > 1) & ~usable
        history = _History(history.iterates, history.moves, jnp.where(restart, 0, history.count))
        return unravel(new), history, StepInfo(unravel(move), jnp.asarray(False))
