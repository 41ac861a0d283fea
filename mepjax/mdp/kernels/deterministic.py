"""One next state for every state and action."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks, trees
from ..transitions import Rows
from .base import AbstractKernel, Outcomes, Part, Policy, as_indices, check_indices, lookup


class Deterministic(AbstractKernel):
    """One next state for every state and action.

    **Arguments:** `next`, integers of shape (states, actions).

    **Raises:** `TypeError` or `ValueError` for other dtypes or shapes.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.Deterministic([[1, 0], [1, 1]]).n_actions
    2

    ```
    """

    next: Int[Array, "states actions"]
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)

    def __init__(self, next: Any) -> None:
        self.next = as_indices("next", next, 2)
        self.n_states, self.n_actions = self.next.shape
        self.n_columns = self.n_states

    def outcomes(self) -> Outcomes:
        """Shapes (S, 1), (1, A) and (S, A)."""
        s, a = (jnp.arange(size, dtype=jnp.int32) for size in self.next.shape)
        return Outcomes(s[:, None], a[None, :], self.next)

    def probabilities(self) -> Float[Array, "..."]:
        """Ones, as every outcome is certain."""
        return jnp.ones(self.next.shape, jnp.float32)

    def mean(self, per_outcome: Float[Array, "..."]) -> Float[Array, "states actions"]:
        """What differs by outcome, as there is one for each action."""
        return jnp.broadcast_to(per_outcome, self.next.shape)

    def entropy(self) -> Float[Array, "states actions"]:
        """Zero, as the next state is certain."""
        return jnp.zeros(self.next.shape, jnp.float32)

    def under(self, policy: Policy) -> Rows:
        """One next state for each row, or one for each action."""
        if policy.ndim == 1:
            chosen = jnp.take_along_axis(self.next, policy[:, None], axis=1)
            return Rows(chosen, jnp.ones(chosen.shape, jnp.float32), self.n_columns)
        return Rows(self.next, policy, self.n_columns)

    def sample(self, uniform: Any, state: Any, action: Any) -> Int[Array, ""]:
        """The one next state there is; the number is not used."""
        del uniform
        return self.next[state, action]

    def part(self, rows: np.ndarray, columns: np.ndarray) -> Part:
        """Next states of the rows as places among the columns."""
        places = lookup(columns, self.n_columns)
        picked = jnp.asarray(places[np.asarray(self.next)[rows]])
        return Part((picked,), len(rows), len(columns))

    def take(self, part: Part) -> "Deterministic":
        """The same transitions with other numbers."""
        return trees.replaced(
            self, next=part.arrays[0], n_states=part.n_rows, n_columns=part.n_columns
        )

    def checks(self, owner: str) -> list[checks.Check]:
        """That next states are numbers of states."""
        return [check_indices(owner, "next", self.next, self.n_columns)]
