"""What every transition kernel p(s' | s, a) offers.

All offer one interface. What differs by outcome, such as a cost c(s, a, s'), is an array over the
kernel's *outcomes*: `Dense` has one for every next state, `Deterministic` one, `Sparse` its edges,
`Functional` its events. A next state equal to the number of columns lies outside and counts for
nothing, which is how kernels among some of the states are written.
"""

import abc
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import checks

Policy = Int[Array, " states"] | Float[Array, "states actions"]


class Outcomes(NamedTuple):
    """State, action and next state of every outcome: integer arrays that broadcast together."""

    state: Int[Array, "..."]
    action: Int[Array, "..."]
    next: Int[Array, "..."]


class Part(eqx.Module):
    """Some rows and columns of a kernel, as integer arrays that only the kernel reads."""

    arrays: tuple[Int[Array, "..."], ...]
    n_rows: int = eqx.field(static=True)
    n_columns: int = eqx.field(static=True)


class AbstractKernel(eqx.Module):
    """Transition probabilities of `n_states` states under `n_actions` actions.

    Rows are the states from which one goes, `n_columns` counts those to which: they differ only in
    parts (`take`).
    """

    n_states: eqx.AbstractVar[int]
    n_actions: eqx.AbstractVar[int]
    n_columns: eqx.AbstractVar[int]

    @abc.abstractmethod
    def outcomes(self) -> Outcomes:
        """Where every outcome starts and ends."""

    @abc.abstractmethod
    def probabilities(self) -> Float[Array, "..."]:
        """Probability of every outcome."""

    @abc.abstractmethod
    def mean(self, per_outcome: Float[Array, "..."]) -> Float[Array, "states actions"]:
        """Expectation, for every state and action, of what differs by outcome."""

    def expect(self, values: Float[Array, " columns"]) -> Float[Array, "states actions"]:
        """Expected value of the next state."""
        if self.n_columns == 0:
            return jnp.zeros((self.n_states, self.n_actions), values.dtype)
        return self.mean(jnp.take(values, self.outcomes().next, mode="fill", fill_value=0.0))

    @abc.abstractmethod
    def under(self, policy: Policy) -> Any:
        """The chain's transitions under a policy: actions, or probabilities of actions.

        **Returns:** an object with `mv(values)`, shape (states,), and `matrix()`.
        """

    @abc.abstractmethod
    def sample(self, uniform: Any, state: Any, action: Any) -> Int[Array, ""]:
        """The next state, by inversion of a uniform number in [0, 1)."""

    @abc.abstractmethod
    def part(self, rows: np.ndarray, columns: np.ndarray) -> Part:
        """What `take` needs for a kernel from some states to some: integer arrays."""

    @abc.abstractmethod
    def take(self, part: Part) -> "AbstractKernel":
        """The kernel of a `part`; ends elsewhere lie outside."""

    def entropy(self) -> Float[Array, "states actions"]:
        """Entropy of the next state, -sum p log p, in nats."""
        p = self.probabilities()
        return self.mean(jnp.where(p > 0, -jnp.log(jnp.where(p > 0, p, 1.0)), 0.0))

    def graph(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """State, action and next state of all outcomes that can happen, on the host."""
        found = self.outcomes()
        p = np.asarray(self.probabilities())
        state, action, after, p = (
            np.broadcast_to(a, np.broadcast_shapes(p.shape, *(np.shape(i) for i in found)))
            for a in (*map(np.asarray, found), p)
        )
        possible = p > 0
        return state[possible], action[possible], after[possible]

    def leads(self) -> Bool[Array | np.ndarray, "states actions"] | None:
        """Which actions lead somewhere; `None` where all do."""
        return None

    def checks(self, owner: str) -> list[checks.Check]:
        """Conditions on the probabilities."""
        del owner
        return []


def lookup(rows: np.ndarray, n: int) -> np.ndarray:
    """Place of every state in `rows`, len(rows) for those that are not there."""
    table = np.full(n + 1, len(rows), np.int32)
    table[rows] = np.arange(len(rows), dtype=np.int32)
    return table


def as_indices(name: str, value: Any, ndim: int) -> Int[Array, "..."]:
    """An integer array of so many axes, or a clear error."""
    value = value if isinstance(value, jax.Array) else np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(f"`{name}` must be integers; got dtype {value.dtype}.")
    if value.ndim != ndim or 0 in value.shape:
        raise ValueError(f"`{name}` must have {ndim} axes, not empty; got shape {value.shape}.")
    if not checks.is_concrete(value):
        return jnp.asarray(value, jnp.int32)
    # Constants stay concrete where traced, so that their graph can be read there too.
    with jax.ensure_compile_time_eval():
        return jnp.asarray(value, jnp.int32)


def check_indices(owner: str, name: str, value: Any, n: int) -> checks.Check:
    """Check that indices are in 0..n-1."""
    return checks.check_range(owner, name, value, low=0.0, high=float(n - 1))
