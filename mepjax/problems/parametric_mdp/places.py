"""Which parameters of states and actions are unknown, and where they stand among the known."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks
from ...mdp.kernels.base import check_indices
from ..uncertain import Spread, split_spread

_OWNER = "ParametricMDP"


class Places(eqx.Module):
    """Unknown parameters where both states and actions have some.

    **Fields:** `states`, shape (unknown states, d); `actions`, shape (unknown actions, e).
    """

    states: Float[Array, "u d"]
    actions: Float[Array, "v e"]


class Unknowns(eqx.Module):
    """Parameters of all states and actions, and the numbers of those that are to be found."""

    states: Float[Array, "s d"]
    actions: Float[Array, "a e"] | None
    state_index: Int[Array, " u"] | None
    action_index: Int[Array, " v"] | None
    # How known parameters of states scatter around `states`; zero for unknown ones.
    spread: Spread | None = None

    @property
    def count(self) -> int:
        """How many parameters are unknown."""
        given = (self.state_index, self.action_index)
        return sum(0 if index is None else index.shape[0] for index in given)

    def checks(self) -> list[checks.Check]:
        """Traced numbers of unknown parameters are in range, and none is there twice."""
        found = []
        for name, index, all_ in (
            ("unknown_states", self.state_index, self.states),
            ("unknown_actions", self.action_index, self.actions),
        ):
            if index is None or all_ is None or checks.is_concrete(index):
                continue
            found.append(check_indices(_OWNER, name, index, all_.shape[0]))
            ordered = jnp.sort(index)
            twice = jnp.append(ordered[1:] == ordered[:-1], False)
            found.append(
                checks.Check(
                    ~jnp.any(twice), ordered[jnp.argmax(twice)],
                    f"{_OWNER}: `{name}` must not name a parameter twice; got {{got}} more than "
                    "once.",
                )
            )  # fmt: skip
        return found

    def split(self, values: Any) -> tuple[Array | None, Array | None]:
        """Unknown parameters of states and of actions."""
        if self.state_index is not None and self.action_index is not None:
            return values.states, values.actions
        return (values, None) if self.action_index is None else (None, values)

    def join(self, states: Array | None, actions: Array | None) -> Any:
        """The inverse of `split`."""
        if states is not None and actions is not None:
            return Places(states, actions)
        return actions if states is None else states

    def filled(self, values: Any) -> tuple[Float[Array, "s d"], Float[Array, "a e"] | None]:
        """Parameters of all states and actions, the unknown ones as given."""
        at_states, at_actions = self.split(values)
        states, actions = self.states, self.actions
        if self.state_index is not None:
            states = states.at[self.state_index].set(at_states)
        if self.action_index is not None and actions is not None:
            actions = actions.at[self.action_index].set(at_actions)
        return states, actions

    def known(self) -> tuple[Bool[Array, " s"], Bool[Array, " a"] | None]:
        """Which states and actions have known parameters."""
        states = jnp.ones((self.states.shape[0],), bool)
        if self.state_index is not None:
            states = states.at[self.state_index].set(False)
        if self.actions is None:
            return states, None
        actions = jnp.ones((self.actions.shape[0],), bool)
        if self.action_index is not None:
            actions = actions.at[self.action_index].set(False)
        return states, actions

    @property
    def structure(self) -> Any:
        """Shapes of the unknown parameters."""

        def of(index: Any, all_: Any) -> Any:
            if index is None:
                return None
            return jax.ShapeDtypeStruct((index.shape[0], all_.shape[1]), all_.dtype)

        return self.join(of(self.state_index, self.states), of(self.action_index, self.actions))

    def rows(self, values: Any) -> Float[Array, "n d"]:
        """Unknown states, then unknown actions, one below the other; both of d coordinates."""
        return jnp.concatenate([part for part in self.split(values) if part is not None])

    def from_rows(self, rows: Float[Array, "n d"]) -> Any:
        """The inverse of `rows`."""
        count = 0 if self.state_index is None else self.state_index.shape[0]
        states = None if self.state_index is None else rows[:count]
        return self.join(states, None if self.action_index is None else rows[count:])

    def numbers(self) -> tuple[Int[Array, " s"], Int[Array, " a"] | None, int]:
        """Row of every state and action among the unknown, their number for known ones."""
        u = 0 if self.state_index is None else self.state_index.shape[0]
        v = 0 if self.action_index is None else self.action_index.shape[0]
        n = u + v
        of_states = jnp.full(self.states.shape[0], n, jnp.int32)
        if self.state_index is not None:
            of_states = of_states.at[self.state_index].set(jnp.arange(u, dtype=jnp.int32))
        if self.actions is None:
            return of_states, None, n
        of_actions = jnp.full(self.actions.shape[0], n, jnp.int32)
        if self.action_index is not None:
            of_actions = of_actions.at[self.action_index].set(jnp.arange(u, n, dtype=jnp.int32))
        return of_states, of_actions, n


def middle(unknowns: Unknowns, *, among_states: bool) -> Any:
    """All unknown parameters at the mean of the known ones, or of all if none is known.

    `among_states`: parameters of actions are places among those of states.
    """

    def of(index: Any, all_: Any) -> Any:
        if index is None:
            return None
        known = jnp.ones((all_.shape[0],), all_.dtype).at[index].set(0.0)
        weights = jnp.where(jnp.sum(known) > 0, known, 1.0)
        mean = weights @ all_ / jnp.sum(weights)
        return jnp.broadcast_to(mean, (index.shape[0], all_.shape[1]))

    states = of(unknowns.state_index, unknowns.states)
    actions = of(unknowns.action_index, unknowns.actions)
    if actions is not None and among_states:
        around = jnp.mean(unknowns.states, axis=0) if states is None else states[0]
        actions = jnp.broadcast_to(around, actions.shape)
    return unknowns.join(states, actions)


def as_unknowns(
    states: Any, unknown_states: Any, actions: Any, unknown_actions: Any, sizes: tuple[int, int]
) -> Unknowns:
    """Check and shape what the user gave; rows of unknown parameters may hold anything finite."""
    n, a = sizes
    states, spread = split_spread(_OWNER, "state_params", states, None)
    states = _as_params("state_params", states, n, None)
    if actions is not None:
        actions = _as_params("action_params", actions, a, states.dtype)
    elif unknown_actions is not None:
        raise ValueError(f"{_OWNER}: `unknown_actions` needs `action_params`.")
    of_states = _as_index("unknown_states", unknown_states, n)
    of_actions = _as_index("unknown_actions", unknown_actions, a)
    if of_states is None and of_actions is None:
        raise ValueError(
            f"{_OWNER}: `unknown_states` or `unknown_actions` must name at least one parameter to "
            "find; got none. With none `mdp.solve` does."
        )
    if spread is not None:
        spread = _of_known(spread, Unknowns(states, actions, of_states, None).known()[0])
    return Unknowns(states, actions, of_states, of_actions, spread)


def _of_known(spread: Spread, known: Bool[Array, " s"]) -> Spread:
    """Unknown parameters, whose rows are ignored, do not scatter."""
    offsets = spread.offsets
    if offsets is not None:
        offsets = jnp.where(known[:, None, None], offsets, 0.0)
    return Spread(jnp.where(known, spread.variance, 0.0), offsets, spread.weights)


def _as_params(name: str, value: Any, n: int, dtype: Any) -> Float[Array, "n d"]:
    given = arrays.as_float_array(name, value, dtype)
    if given.ndim != 2 or given.shape[0] != n or given.shape[1] == 0:
        raise ValueError(
            f"{_OWNER}: `{name}` must have shape ({n}, coordinates); got {given.shape}."
        )
    return given


def _as_index(name: str, value: Any, n: int) -> Int[Array, " u"] | None:
    if value is None:
        return None
    given = value if isinstance(value, jax.Array) else np.asarray(value)
    if given.dtype == bool and given.shape == (n,) and checks.is_concrete(given):
        given = np.flatnonzero(np.asarray(given))
    if given.size == 0:
        return None
    if not jnp.issubdtype(given.dtype, jnp.integer) or given.ndim != 1:
        raise TypeError(
            f"{_OWNER}: `{name}` must be indices, or {n} booleans; got shape {given.shape} of "
            f"dtype {given.dtype}."
        )
    if checks.is_concrete(given):
        checks.enforce([checks.check_range(_OWNER, name, given, low=0.0, high=float(n - 1))])
        numbers, counts = np.unique(np.asarray(given), return_counts=True)
        if counts.max() > 1:
            raise ValueError(
                f"{_OWNER}: `{name}` must not name a parameter twice; got "
                f"{numbers[counts.argmax()]} more than once."
            )
    return jnp.asarray(given, jnp.int32)
