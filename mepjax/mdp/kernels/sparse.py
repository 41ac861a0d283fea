"""An edge list of the transitions that can happen."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks, trees
from ..transitions import Edges
from .base import AbstractKernel, Outcomes, Part, Policy, as_indices, check_indices, lookup


class Sparse(AbstractKernel):
    """An edge list: only transitions that can happen, in the order of states, then actions (CSR).

    **Arguments:**

    - `state`, `action`, `next`: integers of shape (edges,), in any order if concrete.
    - `p`: probability of each edge, shape (edges,); those of a state and action sum to one.
    - `n_states`, `n_actions`: default one more than the largest index.

    **Raises:** `ValueError` where shapes differ; traced indices must come sorted.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Sparse([0, 0, 1], [0, 0, 0], [0, 1, 1], jnp.array([0.5, 0.5, 1.0]))
    >>> print(kernel.expect(jnp.array([0.0, 4.0])).ravel())
    [2. 4.]

    ```
    """

    p: Float[Array, " edges"]
    pair: Int[Array, " edges"]
    next: Int[Array, " edges"]
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)

    def __init__(
        self, state: Any, action: Any, next: Any, p: Any, *,
        n_states: int | None = None, n_actions: int | None = None,
    ) -> None:  # fmt: skip
        state, action = as_indices("state", state, 1), as_indices("action", action, 1)
        after, p = as_indices("next", next, 1), arrays.as_float_array("p", p)
        for name, value in (("action", action), ("next", after), ("p", p)):
            if value.shape != state.shape:
                raise ValueError(
                    f"Sparse: `{name}` must have shape {state.shape}, as `state` has; "
                    f"got {value.shape}."
                )
        if n_states is None or n_actions is None:
            if not checks.is_concrete(state, action, after):
                raise ValueError("Sparse: traced edges need `n_states` and `n_actions`.")
            most = int(max(np.max(np.asarray(state)), np.max(np.asarray(after)))) + 1
            n_states = most if n_states is None else n_states
            n_actions = int(np.max(np.asarray(action))) + 1 if n_actions is None else n_actions
        checks.check_count("Sparse", "n_states", n_states)
        checks.check_count("Sparse", "n_actions", n_actions)
        if checks.is_concrete(state, action, after):
            for name, value, n in (
                ("state", state, n_states), ("action", action, n_actions), ("next", after, n_states)
            ):  # fmt: skip
                checks.enforce([check_indices("Sparse", name, value, n)])
            pair = np.asarray(state, np.int64) * n_actions + np.asarray(action)
            order = np.argsort(pair, kind="stable")
            if not np.array_equal(order, np.arange(order.size)):
                pair, after, p = pair[order], after[order], p[order]
            self.pair = jnp.asarray(pair, jnp.int32)
        else:
            known = (state >= 0) & (state < n_states) & (action >= 0) & (action < n_actions)
            # For `checks`: the number of a pair does not tell that its action was out of range.
            self.pair = jnp.where(known, state * n_actions + action, -1)
        self.p, self.next = p, after
        self.n_states, self.n_actions, self.n_columns = int(n_states), int(n_actions), int(n_states)

    def outcomes(self) -> Outcomes:
        """One of each for every edge."""
        return Outcomes(self.pair // self.n_actions, self.pair % self.n_actions, self.next)

    def probabilities(self) -> Float[Array, "..."]:
        """The probability of each edge."""
        return self.p

    def mean(self, per_outcome: Float[Array, "..."]) -> Float[Array, "states actions"]:
        """Sums of consecutive edges."""
        size = self.n_states * self.n_actions
        sums = jax.ops.segment_sum(
            self.p * per_outcome, self.pair, size, indices_are_sorted=True, mode="drop"
        )
        return sums.reshape(self.n_states, self.n_actions)

    def under(self, policy: Policy) -> Edges:
        """The same edges, those of an action times its probability."""
        found = self.outcomes()
        if policy.ndim == 1:
            chosen = (policy[found.state] == found.action).astype(self.p.dtype)
        else:
            chosen = policy[found.state, found.action]
        return Edges(found.state, self.next, self.p * chosen, self.n_states, self.n_columns)

    def sample(self, uniform: Any, state: Any, action: Any) -> Int[Array, ""]:
        """By going along the edges of the pair, whose own sums keep every digit."""
        pair = state * self.n_actions + action
        first = jnp.searchsorted(self.pair, pair, side="left")
        last = jnp.searchsorted(self.pair, pair, side="right") - 1

        def beyond(carry: Any) -> Any:
            place, left = carry
            return (place < last) & (left >= self.p[place])

        def onward(carry: Any) -> Any:
            place, left = carry
            return place + 1, left - self.p[place]

        start = (first, jnp.asarray(uniform, self.p.dtype))
        return self.next[jax.lax.while_loop(beyond, onward, start)[0]]

    def part(self, rows: np.ndarray, columns: np.ndarray) -> Part:
        """Edges that are kept, and their new numbers."""
        pair, after = np.asarray(self.pair), np.asarray(self.next)
        row = lookup(rows, self.n_states)[pair // self.n_actions]
        column = lookup(columns, self.n_columns)[after]
        kept = np.flatnonzero((row < len(rows)) & (column < len(columns)))
        new = row[kept].astype(np.int64) * self.n_actions + pair[kept] % self.n_actions
        order = np.argsort(new, kind="stable")
        numbers = (kept[order], new[order], column[kept][order])
        picked = tuple(jnp.asarray(a, jnp.int32) for a in numbers)
        return Part(picked, len(rows), len(columns))

    def take(self, part: Part) -> "Sparse":
        """Some of the edges."""
        kept, pair, after = part.arrays
        return trees.replaced(
            self, p=self.p[kept], pair=pair, next=after, n_states=part.n_rows,
            n_columns=part.n_columns,
        )  # fmt: skip

    def leads(self) -> Bool[Array | np.ndarray, "states actions"]:
        """Where there is an edge."""
        return self._sums() > 0

    def _sums(self) -> Any:
        shape = (self.n_states, self.n_actions)
        if checks.is_concrete(self.p, self.pair):
            pair, p = np.asarray(self.pair), np.asarray(self.p)
            return np.bincount(pair, p, self.n_states * self.n_actions).reshape(shape)
        return self.mean(jnp.ones_like(self.p))

    def checks(self, owner: str) -> list[checks.Check]:
        """Indices in range and sorted; `p` nonnegative, of sum one over edges of a pair if any."""
        sums = self._sums().ravel()
        xp: Any = np if isinstance(sums, np.ndarray) else jnp
        off = xp.where(sums == 0, 0.0, xp.abs(sums - 1))
        tolerance = 1e-5 if self.p.dtype == jnp.float32 else 1e-8
        worst = xp.where(xp.max(off) <= tolerance, 1.0, sums[xp.argmax(off)])
        sentence = f"{owner}: edges of a state and action must have `p` of sum one; got {{got}}."
        at, pair = checks.on_host(self.pair)
        astray, back = at.sum(pair < 0), at.sum(pair[1:] < pair[:-1])
        of_edges = f"Sparse: edges must have `state` below {self.n_states} and `action` below "
        return [
            checks.Check(
                astray == 0, astray, f"{of_edges}{self.n_actions}, from 0 on; got {{got}} others."
            ),
            checks.Check(
                back == 0,
                back,
                "Sparse: traced edges must come sorted by state, then action; got {got} that "
                "come too late.",
            ),
            check_indices("Sparse", "next", self.next, self.n_columns),
            checks.check_finite(owner, "p", self.p),
            checks.check_range(owner, "p", self.p, low=0.0),
            checks.Check(xp.max(off) <= tolerance, worst, sentence),
        ]
