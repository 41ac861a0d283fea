"""Processes whose states are vectors, which only answer."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .processes import AbstractProcess


class AbstractVectorProcess(eqx.Module):
    """A process with parameters whose states are vectors, such as places in continuous patches.

    `n_actions` is the number of actions.
    """

    n_actions: eqx.AbstractVar[int]

    @abc.abstractmethod
    def reset(self, key: Any) -> Float[Array, " d"]:
        """The state in which an episode begins."""

    @abc.abstractmethod
    def step(
        self, key: Any, state: Float[Array, " d"], action: Int[Array, ""], params: Any
    ) -> tuple[Float[Array, " d"], Float[Array, ""], Bool[Array, ""]]:
        """Next state, cost, and whether that was the end."""

    def permitted(self, state: Float[Array, " d"]) -> Bool[Array, " actions"]:
        """Which actions may be taken, at least one; default all."""
        del state
        return jnp.ones((self.n_actions,), bool)

    def observe(self, state: Float[Array, " d"], params: Any) -> Float[Array, " features"]:
        """What a network is shown of a state and of parameters; default both, one after the other.

        Its derivative in the parameters is asked for.
        """
        return jnp.concatenate([state, ravel_pytree(params)[0].astype(state.dtype)])


class Indicators(AbstractVectorProcess):
    """A process with numbered states as one with vectors: a one where it is, zeros elsewhere.

    **Arguments:** `env`, an `AbstractProcess`.

    **Example:**

    ```python
    >>> import jax
    >>> from mepjax import learn
    >>> from mepjax.datasets import small_cells
    >>> env = learn.Indicators(learn.SimulatedProcess(small_cells(2, 1).problem()))
    >>> print(env.reset(jax.random.key(1)).shape, env.n_actions)
    (4,) 2

    ```
    """

    env: AbstractProcess
    n_actions: int = eqx.field(static=True)

    def __init__(self, env: AbstractProcess) -> None:
        if not isinstance(env, AbstractProcess):
            raise TypeError(
                f"Indicators: `env` must be an AbstractProcess; got {type(env).__name__}."
            )
        self.env, self.n_actions = env, env.n_actions

    def _vector(self, state: Int[Array, ""]) -> Float[Array, " states"]:
        return jax.nn.one_hot(state, self.env.n_states, dtype=float)

    def reset(self, key: Any) -> Float[Array, " states"]:
        """The indicator of the first state."""
        return self._vector(self.env.reset(key))

    def step(
        self, key: Any, state: Float[Array, " states"], action: Int[Array, ""], params: Any
    ) -> tuple[Float[Array, " states"], Float[Array, ""], Bool[Array, ""]]:
        """The process's own answer; a state that it does not have is no number."""
        after, cost, ended = self.env.step(key, jnp.argmax(state), action, params)
        known = (after >= 0) & (after < self.env.n_states)
        return jnp.where(known, self._vector(after), jnp.nan), cost, ended

    def permitted(self, state: Float[Array, " states"]) -> Bool[Array, " actions"]:
        """As the process says."""
        if self.env.permitted is None:
            return super().permitted(state)
        return self.env.permitted[jnp.argmax(state)]
