"""All probabilities in one array."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import arrays, checks, trees
from ..transitions import Matrix
from .base import AbstractKernel, Outcomes, Part, Policy


class Dense(AbstractKernel):
    """All probabilities in one array p[s, a, s'].

    **Arguments:** `p`, shape (states, actions, states); rows sum to one.

    **Raises:** `ValueError` for another shape.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Dense(jnp.array([[[0.5, 0.5]], [[0.0, 1.0]]]))
    >>> print(kernel.expect(jnp.array([0.0, 4.0])).ravel())
    [2. 4.]

    ```
    """

    p: Float[Array, "states actions columns"]
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)

    def __init__(self, p: Any) -> None:
        self.p = arrays.as_float_array("p", p)
        if self.p.ndim != 3 or 0 in self.p.shape:
            raise ValueError(
                "Dense: `p` must have shape (states, actions, states), not empty; "
                f"got {self.p.shape}."
            )
        self.n_states, self.n_actions, self.n_columns = self.p.shape

    def outcomes(self) -> Outcomes:
        """Shapes (S, 1, 1), (1, A, 1) and (1, 1, S)."""
        s, a, n = (jnp.arange(size, dtype=jnp.int32) for size in self.p.shape)
        return Outcomes(s[:, None, None], a[None, :, None], n[None, None, :])

    def probabilities(self) -> Float[Array, "..."]:
        """p itself, shape (states, actions, next states)."""
        return self.p

    def mean(self, per_outcome: Float[Array, "..."]) -> Float[Array, "states actions"]:
        """Sum over next states; what broadcasts to (S, A, S) will do."""
        if per_outcome.ndim == 3 and per_outcome.shape[1] == 1 and self.n_actions > 1:
            return jnp.einsum("san,sn->sa", self.p, per_outcome[:, 0], precision="highest")
        return jnp.sum(self.p * per_outcome, axis=-1)

    def expect(self, values: Float[Array, " columns"]) -> Float[Array, "states actions"]:
        """Expected value of the next state, by one matrix product."""
        return jnp.matmul(self.p, values, precision="highest")

    def under(self, policy: Policy) -> Matrix:
        """Rows of the actions, or their mixture."""
        if policy.ndim == 1:
            chosen = jnp.take_along_axis(self.p, policy[:, None, None], axis=1)[:, 0]
            return Matrix(chosen)
        return Matrix(jnp.einsum("sa,san->sn", policy, self.p, precision="highest"))

    def sample(self, uniform: Any, state: Any, action: Any) -> Int[Array, ""]:
        """The first state at which the cumulated probability exceeds the number."""
        cumulated = jnp.cumsum(self.p[state, action])
        place = jnp.sum(cumulated <= uniform * cumulated[-1])
        return jnp.minimum(place, self.n_columns - 1).astype(jnp.int32)

    def part(self, rows: np.ndarray, columns: np.ndarray) -> Part:
        """The numbers of rows and columns that are kept."""
        picked = jnp.asarray(rows, jnp.int32), jnp.asarray(columns, jnp.int32)
        return Part(picked, len(rows), len(columns))

    def take(self, part: Part) -> "Dense":
        """A block of the array, whose rows may sum to less than one."""
        rows, columns = part.arrays
        p = self.p[rows][:, :, columns]
        return trees.replaced(self, p=p, n_states=part.n_rows, n_columns=part.n_columns)

    def checks(self, owner: str) -> list[checks.Check]:
        """Finite, nonnegative, rows that sum to one."""
        return list(checks.check_stochastic(owner, "p", self.p))
