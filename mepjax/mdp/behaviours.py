"""How one agent reacts to the state and to its signal: rows p_n(x_n' | x, signal).

Agents move independently given the state and the signals, so these rows are all that a
transition-independent MDP needs; its joint kernel is never formed.
"""

import abc
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.arrays import as_parameter
from .._core.checks import Check, check_finite, check_function, is_concrete, on_host

# States at which a function's rows are looked at when the model is built.
_LOOKED_AT = 64
# Numbers of a table above which a message says how large it would be (1 GiB in float64).
_LARGE = 2**27
# Signals up to which rows of a whole table are put together from slices.
_SLICED = 32


class Place(eqx.Module):
    """A block of joint states, as behaviours and rewards want to see them.

    **Fields:** `index`, places in 0..|X|-1 (the last agent's state runs fastest); `digits`, the
    state of every agent there; `sizes`, |X_n| of every agent.
    """

    index: Int[Array, " states"]
    digits: Int[Array, "states agents"]
    sizes: tuple[int, ...] = eqx.field(static=True)

    @staticmethod
    def of(index: Int[Array, " states"], sizes: Sequence[int]) -> "Place":
        """The states with these numbers."""
        digits = jnp.unravel_index(index, tuple(sizes))
        return Place(index, jnp.stack(digits, -1).astype(jnp.int32), tuple(sizes))

    def within(self, agents: Sequence[int]) -> Int[Array, " states"]:
        """Number of the joint state of a few agents, the last one fastest."""
        number = jnp.zeros_like(self.index)
        for agent in agents:
            number = number * self.sizes[agent] + self.digits[:, agent]
        return number


class AbstractBehaviour(eqx.Module):
    """Next-state rows of one agent (or of a `Group`) for blocks of states and signals."""

    @abc.abstractmethod
    def rows(
        self, place: Place, agents: tuple[int, ...], signals: Int[Array, "states variants"]
    ) -> Float[Array, "states variants own"]:
        """p(x_n' | x, signal) for every state of the block and every signal asked."""

    def all_rows(
        self, place: Place, agents: tuple[int, ...], heard: Int[np.ndarray, " variants"]
    ) -> Float[Array, "states variants own"]:
        """The same for all joint states in order, and signals that are the same in each."""
        signals = jnp.broadcast_to(jnp.asarray(heard), (place.index.shape[0], len(heard)))
        return self.rows(place, agents, signals)

    @abc.abstractmethod
    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Conditions on its numbers; raises at once where shapes disagree."""

    @property
    def local(self) -> bool:
        """Whether the next state depends on the own state and signal only."""
        return False


class Table(AbstractBehaviour):
    """One row for every joint state and signal.

    **Arguments:** `p`, shape (|X|, M, |X_n|), rows over the last axis.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax import mdp
    >>> mdp.Table(np.full((4, 2, 2), 0.5)).p.shape
    (4, 2, 2)

    ```
    """

    p: Float[Array, "states signals own"]

    def __init__(self, p: Any):
        self.p = as_parameter("p", p)

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """Rows of the table."""
        return self.p[place.index[:, None], signals]

    def all_rows(
        self, place: Place, agents: tuple[int, ...], heard: Int[np.ndarray, " variants"]
    ) -> Float[Array, "states variants own"]:
        """Slices of the table: XLA gathers rows one number at a time on a CPU."""
        if len(heard) > _SLICED:
            return super().all_rows(place, agents, heard)
        if heard.tolist() == list(range(self.p.shape[1])):
            return self.p
        return jnp.stack([self.p[:, signal] for signal in heard.tolist()], axis=1)

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Its rows sum to one, over |X| states."""
        return _check_rows(owner, self.p, _joint(sizes), signals, _own(sizes, agents), agents)


class Local(AbstractBehaviour):
    """Rows that depend on the agent's own state and signal only.

    With a separable reward, systems of such agents fall apart into independent ones per cluster,
    and clustered value iteration is exact (Theorem 5 as corrected).

    **Arguments:** `p`, shape (|X_n|, M, |X_n|).
    """

    p: Float[Array, "own signals own"]

    def __init__(self, p: Any):
        self.p = as_parameter("p", p)

    @property
    def local(self) -> bool:
        """True: an agent's move depends on its own state and signal."""
        return True

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """Rows of the table at the agent's own state."""
        return self.p[place.within(agents)[:, None], signals]

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Its rows sum to one, over |X_n| states."""
        own = _own(sizes, agents)
        return _check_rows(owner, self.p, own, signals, own, agents)


class Scoped(AbstractBehaviour):
    """Rows that depend on the states of a few parents and on the signal, as in factored MDPs.

    **Arguments:** `p`, shape (product of the parents' sizes, M, |X_n|), the last parent's state
    fastest; `parents`, agents by number.
    """

    p: Float[Array, "parents signals own"]
    parents: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, p: Any, parents: Sequence[int]):
        self.p = as_parameter("p", p)
        self.parents = tuple(int(agent) for agent in parents)

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """Rows of the table at the parents' states."""
        return self.p[place.within(self.parents)[:, None], signals]

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Its rows sum to one, over the parents' states."""
        check_scope(owner, f"parents of {name_agents(agents)}", self.parents, len(sizes))
        scope = _joint([sizes[parent] for parent in self.parents])
        return _check_rows(owner, self.p, scope, signals, _own(sizes, agents), agents)

    @property
    def local(self) -> bool:
        """Not known here: the model compares parents with the agent."""
        return False


class NextState(AbstractBehaviour):
    """Deterministic: the next state itself, for every joint state and signal.

    **Arguments:** `table`, integers of shape (|X|, M), each in 0..|X_n|-1.
    """

    table: Int[Array, "states signals"]

    def __init__(self, table: Any):
        array: Any = np.asarray(table) if is_concrete(table) else table
        if not jnp.issubdtype(array.dtype, jnp.integer):
            raise TypeError(f"NextState: `table` must hold integers; got dtype {array.dtype}.")
        # Under an outer trace plain `jnp.asarray` would stage the constant and hide its values.
        with jax.ensure_compile_time_eval():
            self.table = jnp.asarray(array, jnp.int32)

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """One-hot rows."""
        following = self.table[place.index[:, None], signals]
        return jax.nn.one_hot(following, _own(place.sizes, agents))

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Every entry is a state of the agent."""
        _check_shape(owner, self.table, (_joint(sizes), signals), agents)
        xp, table = on_host(self.table)
        own = _own(sizes, agents)
        wrong = (table < 0) | (table >= own)
        return [
            Check(
                ~xp.any(wrong),
                table.reshape(-1)[xp.argmax(wrong.reshape(-1))],
                f"{owner}: next states of {name_agents(agents)} must be in 0..{own - 1}; "
                "got {got}.",
            )
        ]


class Rows(AbstractBehaviour):
    """Rows computed where they are needed and never stored.

    **Arguments:** `function(x, signal)` -> probabilities (|X_n|,), for the states x (N,) of all
    agents, integers. Make it an `equinox.Module` if it holds arrays to differentiate. Its rows
    are looked at in up to 64 states when the model is built.
    """

    function: Callable[[Array, Array], Array]

    def __init__(self, function: Callable[[Array, Array], Array]):
        check_function("Rows", "function", function, "(x, signal)")
        self.function = function

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """The function, over states and signals."""
        over_signals = jax.vmap(self.function, (None, 0))
        return jax.vmap(over_signals)(place.digits, signals)

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Its rows sum to one in a few states."""
        states = _joint(sizes)
        index = jnp.arange(min(states, _LOOKED_AT)) * (states // min(states, _LOOKED_AT))
        every = jnp.broadcast_to(jnp.arange(signals), (index.shape[0], signals))
        rows = self.rows(Place.of(index, sizes), agents, every)
        return _check_rows(owner, rows, index.shape[0], signals, _own(sizes, agents), agents)


class Group(AbstractBehaviour):
    """Agents that talk to each other: one joint factor, which a clustering may not cut.

    The cluster-independent systems of Definition 4. All its agents share a signal.

    **Arguments:** `agents`, by number; `p`, shape (|X|, M, product of the agents' sizes), the
    last agent's next state fastest, or any other behaviour over that product.
    """

    agents: tuple[int, ...] = eqx.field(static=True)
    behaviour: AbstractBehaviour

    def __init__(self, agents: Sequence[int], p: Any):
        self.agents = tuple(int(agent) for agent in agents)
        self.behaviour = p if isinstance(p, AbstractBehaviour) else Table(p)

    @property
    def local(self) -> bool:
        """Whether the group looks at itself only."""
        return self.behaviour.local

    def rows(self, place: Place, agents: tuple[int, ...], signals: Array) -> Array:
        """Rows over the joint next state of the group."""
        return self.behaviour.rows(place, agents, signals)

    def checks(
        self, owner: str, sizes: tuple[int, ...], agents: tuple[int, ...], signals: int
    ) -> list[Check]:
        """Those of its joint behaviour."""
        return self.behaviour.checks(owner, sizes, agents, signals)


def composed(policy: Any, environment: Any) -> Table:
    """Behaviour of an agent whose state is a pair (environment state, own action).

    p(s', a' | x, signal) = policy(a' | x, signal) environment(s' | x, signal): action and
    environment move independently given the state and the signal. Equation (1) of the paper with
    the s' that its second line drops from the policy.

    **Arguments:** `policy`, shape (|X|, M, actions); `environment`, shape (|X|, M, states).

    **Returns:** a `Table` over |X_n| = states times actions, the action fastest.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax import mdp
    >>> mdp.composed(np.full((6, 2, 3), 1 / 3), np.full((6, 2, 2), 0.5)).p.shape
    (6, 2, 6)

    ```
    """
    policy, environment = (
        as_parameter("policy", policy),
        as_parameter("environment", environment),
    )
    if policy.ndim != 3 or environment.ndim != 3 or policy.shape[:2] != environment.shape[:2]:
        raise ValueError(
            "composed: `policy` and `environment` must have shapes (|X|, M, actions) and (|X|, M, "
            f"states); got {policy.shape} and {environment.shape}."
        )
    joint = environment[..., :, None] * policy[..., None, :]
    return Table(joint.reshape(*policy.shape[:2], -1))


def name_agents(agents: Sequence[int]) -> str:
    """`agent 3` or `agents 3, 4`."""
    kind = "agent" if len(agents) == 1 else "agents"
    return f"{kind} {', '.join(map(str, agents))}"


def check_scope(owner: str, what: str, scope: Sequence[int], agents: int) -> None:
    """Raise `ValueError` unless these are distinct agents."""
    wrong = [agent for agent in scope if not 0 <= agent < agents]
    if wrong or len(set(scope)) < len(scope):
        raise ValueError(
            f"{owner}: {what} must be distinct agents in 0..{agents - 1}; got {tuple(scope)}."
        )


def _joint(sizes: Sequence[int]) -> int:
    return int(np.prod(np.asarray(sizes, dtype=object)))


def _own(sizes: Sequence[int], agents: Sequence[int]) -> int:
    return _joint([sizes[agent] for agent in agents])


def _check_shape(owner: str, array: Any, shape: tuple[int, ...], agents: Sequence[int]) -> None:
    if array.shape != shape:
        numbers = _joint(shape)
        large = (
            f" A table of that shape holds {numbers:.3g} numbers ({numbers * 8 / 2**30:.3g} GiB in "
            "float64); `Local`, `Scoped` and `Rows` store less."
            if numbers > _LARGE
            else ""
        )
        raise ValueError(
            f"{owner}: the behaviour of {name_agents(agents)} must have shape {shape} (states, "
            f"signals{', next states' if len(shape) == 3 else ''}); got {array.shape}.{large}"
        )


def _check_rows(
    owner: str, p: Any, states: int, signals: int, own: int, agents: Sequence[int]
) -> list[Check]:
    """Shape, finite numbers, no negative ones, and rows that sum to one."""
    _check_shape(owner, p, (states, signals, own), agents)
    name = f"p of {name_agents(agents)}"
    xp, p = on_host(p)
    gaps = xp.abs(xp.sum(p, axis=-1) - 1)
    tolerance = 1e-5 if p.dtype == jnp.float32 else 1e-8
    sentence = f"{owner}: rows of `{name}` must sum to one; got a row that sums to {{got}}"
    worst = xp.argmax(gaps.reshape(-1))
    if is_concrete(p):
        state, signal = np.unravel_index(int(worst), gaps.shape)
        sentence += f" (state {state}, signal {signal})"
    least = xp.min(p)
    return [
        check_finite(owner, name, p),
        Check(least >= 0, least, f"{owner}: `{name}` must be >= 0; got {{got}}."),
        Check(xp.all(gaps <= tolerance), xp.sum(p, axis=-1).reshape(-1)[worst], sentence + "."),
    ]
