"""Rewards of a factored MDP: per agent, per state, or any function of state and signals."""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core.arrays import as_parameter
from .._core.checks import Check, check_finite, check_function
from .behaviours import Place, check_scope


class AbstractReward(eqx.Module):
    """What the planner earns in a state under the signals it sends."""

    @abc.abstractmethod
    def of_states(self, place: Place) -> Float[Array, " states"]:
        """The part that no signal changes."""

    @abc.abstractmethod
    def of_agents(
        self, place: Place, agents: Sequence[int], signals: Int[Array, "states variants agents"]
    ) -> Float[Array, "states variants"] | None:
        """Sum of the parts that belong to these agents; `None` where nothing belongs to agents."""

    @abc.abstractmethod
    def jointly(
        self, place: Place, signals: Int[Array, "states variants agents"]
    ) -> Float[Array, "states variants"] | None:
        """The part that no sum over agents gives, for signals of all agents; `None`: no such."""

    @abc.abstractmethod
    def checks(self, owner: str, sizes: tuple[int, ...], signals: tuple[int, ...]) -> list[Check]:
        """Conditions on its numbers; raises at once where shapes disagree."""

    def separable(self) -> bool:
        """Whether it is a sum of parts that depend on one agent's state and signal each."""
        return False

    @property
    def joint(self) -> bool:
        """Whether there is a part that no sum over agents gives."""
        return False


class Separable(AbstractReward):
    """A sum over agents, r(x, signals) = sum_n r_n(x_n, signal_n).

    **Arguments:** `tables`, one of shape (|X_n|, M_n) per agent; `scopes`, one tuple of agents per
    table where r_n looks at other agents' states too: table n has then one row per joint state of
    its scope, the last agent's state fastest.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax import mdp
    >>> len(mdp.Separable([np.eye(2), np.eye(2)]).tables)
    2

    ```
    """

    tables: tuple[Float[Array, "scope signals"], ...]
    scopes: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    def __init__(self, tables: Sequence[Any], scopes: Sequence[Sequence[int]] | None = None):
        self.tables = tuple(as_parameter("tables", table) for table in tables)
        own = [(agent,) for agent in range(len(self.tables))]
        self.scopes = tuple(tuple(int(a) for a in scope) for scope in scopes or own)

    def of_states(self, place: Place) -> Array:
        """Zero: every part depends on signals."""
        return jnp.zeros(place.index.shape, self.tables[0].dtype)

    def of_agents(self, place: Place, agents: Sequence[int], signals: Array) -> Array:
        """Sum of the tables of these agents."""
        total = jnp.zeros(signals.shape[:2], self.tables[0].dtype)
        for column, agent in enumerate(agents):
            states = place.within(self.scopes[agent])
            total = total + self.tables[agent][states[:, None], signals[..., column]]
        return total

    def jointly(self, place: Place, signals: Array) -> None:
        """`None`: there is no part that sums over agents do not give."""
        return None

    def checks(self, owner: str, sizes: tuple[int, ...], signals: tuple[int, ...]) -> list[Check]:
        """One finite table per agent, of its shape."""
        if len(self.tables) != len(sizes) or len(self.scopes) != len(sizes):
            raise ValueError(
                f"{owner}: a separable `reward` needs one table (and scope) per agent, "
                f"{len(sizes)}; got {len(self.tables)} ({len(self.scopes)})."
            )
        checks = []
        for agent, (table, scope) in enumerate(zip(self.tables, self.scopes, strict=True)):
            check_scope(owner, f"the scope of reward {agent}", scope, len(sizes))
            states = 1
            for member in scope:
                states *= sizes[member]
            if table.shape != (states, signals[agent]):
                raise ValueError(
                    f"{owner}: the reward of agent {agent} must have shape "
                    f"{(states, signals[agent])} (states, signals); got {table.shape}."
                )
            checks.append(check_finite(owner, f"reward of agent {agent}", table))
        return checks

    def separable(self) -> bool:
        """Whether every table looks at its own agent only."""
        return all(scope == (agent,) for agent, scope in enumerate(self.scopes))


class StateReward(AbstractReward):
    """A table over joint states, r(x), shape (|X|,)."""

    table: Float[Array, " states"]

    def __init__(self, table: Any):
        self.table = as_parameter("reward", table)

    def of_states(self, place: Place) -> Array:
        """Entries of the table."""
        return self.table[place.index]

    def of_agents(self, place: Place, agents: Sequence[int], signals: Array) -> None:
        """`None`: nothing belongs to single agents."""
        return None

    def jointly(self, place: Place, signals: Array) -> None:
        """`None`: there is no part that sums over agents do not give."""
        return None

    def checks(self, owner: str, sizes: tuple[int, ...], signals: tuple[int, ...]) -> list[Check]:
        """Finite, over |X| states."""
        states = 1
        for size in sizes:
            states *= size
        if self.table.shape != (states,):
            raise ValueError(
                f"{owner}: `reward` must have shape ({states},), one per joint state; "
                f"got {self.table.shape}."
            )
        return [check_finite(owner, "reward", self.table)]


class JointReward(AbstractReward):
    """Any function of the states and the signals of all agents.

    **Arguments:** `function(x, signals)` -> a number, for integers x (N,) and signals (N,). Make
    it an `equinox.Module` if it holds arrays to differentiate.
    """

    function: Callable[[Array, Array], Array]

    def __init__(self, function: Callable[[Array, Array], Array]):
        check_function("JointReward", "function", function, "(x, signals)")
        self.function = function

    @property
    def joint(self) -> bool:
        """True: the function may couple all signals."""
        return True

    def of_states(self, place: Place) -> Array:
        """Zero: every part depends on signals."""
        return jnp.zeros(place.index.shape)

    def of_agents(self, place: Place, agents: Sequence[int], signals: Array) -> None:
        """`None`: nothing belongs to single agents."""
        return None

    def jointly(self, place: Place, signals: Array) -> Array:
        """The function, over states and signals."""
        return jax.vmap(jax.vmap(self.function, (None, 0)))(place.digits, signals)

    def checks(self, owner: str, sizes: tuple[int, ...], signals: tuple[int, ...]) -> list[Check]:
        """Finite at the first state under the first signals."""
        zeros = jnp.zeros(len(sizes), jnp.int32)
        value = jnp.asarray(self.function(zeros, zeros))
        if value.shape != ():
            raise ValueError(
                f"{owner}: `reward` must return a scalar for x and signals of shape "
                f"({len(sizes)},); got shape {value.shape}."
            )
        return [check_finite(owner, "reward", value)]


def as_reward(reward: Any) -> AbstractReward:
    """A reward from what a user passes: one already, an array over states, or a function."""
    if isinstance(reward, AbstractReward):
        return reward
    function: Any = reward
    return JointReward(function) if callable(reward) else StateReward(reward)
