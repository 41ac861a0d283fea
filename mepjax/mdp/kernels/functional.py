"""Transitions that a function computes."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import arrays, checks
from ..transitions import Rows
from .base import AbstractKernel, Outcomes, Part, Policy, check_indices


class Functional(AbstractKernel):
    """Transitions that a function computes where they are needed; nothing is stored.

    **Arguments:**

    - `next_state`: function of (state, action, event), integers, that gives the next state.
    - `event_probabilities`: shape (events,), the same everywhere, or a function of (state, action)
        that gives them; sum one.
    - `n_states`, `n_actions`.
    - `n_events`: needed where the probabilities are a function.

    **Raises:** `TypeError` unless the function is callable, `ValueError` for missing sizes.

    **Example:** a walk on a ring whose step fails one time in ten.

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> def next_state(state, action, event):
    ...     return (state + jnp.where(event == 0, 2 * action - 1, 0)) % 5
    >>> kernel = mdp.Functional(next_state, jnp.array([0.9, 0.1]), n_states=5, n_actions=2)
    >>> print(kernel.expect(jnp.arange(5.0))[2].round(1))
    [1.1 2.9]

    ```
    """

    next_state: Callable[..., Any]
    event_probabilities: Any
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)
    events: int = eqx.field(static=True)

    def __init__(
        self, next_state: Callable[..., Any], event_probabilities: Any, *,
        n_states: int, n_actions: int, n_events: int | None = None,
    ) -> None:  # fmt: skip
        checks.check_function("Functional", "next_state", next_state, "(state, action, event)")
        checks.check_count("Functional", "n_states", n_states)
        checks.check_count("Functional", "n_actions", n_actions)
        self.next_state = next_state
        if callable(event_probabilities):
            checks.check_count("Functional", "n_events", n_events)
            self.event_probabilities, self.events = event_probabilities, int(n_events or 0)
        else:
            p = arrays.as_float_array("event_probabilities", event_probabilities)
            if p.ndim != 1 or p.size == 0:
                raise ValueError(
                    "Functional: `event_probabilities` must have shape (events,) or be a "
                    f"function; got shape {p.shape}."
                )
            self.event_probabilities, self.events = p, p.size
        self.n_states, self.n_actions, self.n_columns = int(n_states), int(n_actions), int(n_states)

    def _each(self, function: Callable[[Any, Any], Any]) -> Any:
        over = jax.vmap(jax.vmap(function, in_axes=(None, 0)), in_axes=(0, None))
        states, actions = jnp.arange(self.n_states), jnp.arange(self.n_actions)
        return over(states.astype(jnp.int32), actions.astype(jnp.int32))

    def _events_of(self, state: Any, action: Any) -> Int[Array, " events"]:
        events = jnp.arange(self.events, dtype=jnp.int32)
        after = jax.vmap(lambda event: self.next_state(state, action, event))(events)
        return jnp.asarray(after, jnp.int32)

    def _chances_of(self, state: Any, action: Any) -> Float[Array, " events"]:
        if callable(self.event_probabilities):
            return jnp.asarray(self.event_probabilities(state, action))
        return self.event_probabilities

    def outcomes(self) -> Outcomes:
        """Shapes (S, 1, 1), (1, A, 1) and (S, A, events)."""
        s, a = (jnp.arange(size, dtype=jnp.int32) for size in (self.n_states, self.n_actions))
        return Outcomes(s[:, None, None], a[None, :, None], self._each(self._events_of))

    def probabilities(self) -> Float[Array, "..."]:
        """Shape (S, A, events)."""
        shape = (self.n_states, self.n_actions, self.events)
        return jnp.broadcast_to(self._each(self._chances_of), shape)

    def mean(self, per_outcome: Float[Array, "..."]) -> Float[Array, "states actions"]:
        """The sum over events, each by its probability."""
        return jnp.sum(self.probabilities() * per_outcome, axis=-1)

    def under(self, policy: Policy) -> Rows:
        """Events of the actions taken, or of all."""
        if policy.ndim == 1:
            states = jnp.arange(self.n_states, dtype=jnp.int32)
            after = jax.vmap(self._events_of)(states, policy)
            p = jnp.broadcast_to(jax.vmap(self._chances_of)(states, policy), after.shape)
            return Rows(after, p, self.n_states)
        after, p = self.outcomes().next, self.probabilities() * policy[..., None]
        return Rows(after.reshape(self.n_states, -1), p.reshape(self.n_states, -1), self.n_states)

    def sample(self, uniform: Any, state: Any, action: Any) -> Int[Array, ""]:
        """By inversion over the events."""
        cumulated = jnp.cumsum(self._chances_of(state, action))
        event = jnp.minimum(jnp.sum(cumulated <= uniform * cumulated[-1]), self.events - 1)
        return jnp.asarray(self.next_state(state, action, event.astype(jnp.int32)), jnp.int32)

    def part(self, rows: np.ndarray, columns: np.ndarray) -> Part:
        """Nothing can be left out of a function."""
        raise NotImplementedError("Functional: it has no parts; use `sparse()` first.")

    def take(self, part: Part) -> "AbstractKernel":
        """Not possible, as there is no `part`."""
        raise NotImplementedError("Functional: it has no parts; use `sparse()` first.")

    def checks(self, owner: str) -> list[checks.Check]:
        """States in range and probabilities that sum to one, where that fits in memory."""
        if self.n_states * self.n_actions * self.events > 10_000_000:
            return []
        after, p = self.outcomes().next, self.probabilities()
        return [
            checks.check_finite(owner, "event_probabilities", p),
            checks.check_range(owner, "event_probabilities", p, low=0.0),
            checks.check_rows_sum_to_one(owner, "event_probabilities", p),
            check_indices(owner, "next_state", after, self.n_states),
        ]
