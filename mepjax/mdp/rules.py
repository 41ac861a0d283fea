"""Update rules of tabular learning: what a state is worth, and what to try next."""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import gibbs

Row = Float[Array, " actions"]


class AbstractRule(eqx.Module):
    """Turns tables of action values, shape (tables, states, actions), into values and choices.

    A subclass writes `value` and `log_policy`; those with several tables override `learned`.
    """

    @property
    def n_tables(self) -> int:
        """How many tables are learned."""
        return 1

    @abc.abstractmethod
    def value(self, row: Row, beta: Any, discount: Any) -> Float[Array, ""]:
        """What a state is worth whose action values these are."""

    @abc.abstractmethod
    def log_policy(self, row: Row, beta: Any, discount: Any) -> Row:
        """Log probabilities with which actions are tried; also the policy that was learned."""

    def answer(self, row: Row, beta: Any, discount: Any) -> Row:
        """Log probabilities of the policy that was learned, exploration left out."""
        return self.log_policy(row, beta, discount)

    def combined(self, rows: Float[Array, "tables actions"]) -> Row:
        """One row from those of all tables."""
        return jnp.mean(rows, axis=0)

    def targets(
        self, ahead: Float[Array, "tables actions"], beta: Any, discount: Any, uniform: Any
    ) -> tuple[Float[Array, ""], Float[Array, " tables"]]:
        """What the next state is worth, and the share of the step that every table takes."""
        del uniform
        return self.value(ahead[0], beta, discount), jnp.ones((1,), ahead.dtype)


class SoftQ(AbstractRule):
    """Soft Q-learning at temperature 1/beta.

    With `prior="uniform"` (default) entropy is relative to uniform choice, as in G-learning: a mean
    of exponentials. With `prior=None` entropy is counted, a sum: staying alive is then worth log A
    a step, which is what a short way costs.

    Source: Fox, Pakman and Tishby (2016).
    """

    prior: str | None = eqx.field(static=True, default="uniform")

    def __check_init__(self) -> None:
        if self.prior not in ("uniform", None):
            raise ValueError(f"SoftQ: `prior` must be 'uniform' or None; got {self.prior!r}.")

    def temperature(self, beta: Any, discount: Any) -> Any:
        """1/beta, at which entropy counts action by action."""
        del discount
        return 1 / beta

    def value(self, row: Row, beta: Any, discount: Any) -> Float[Array, ""]:
        """The soft minimum of action values at `temperature`."""
        temperature = self.temperature(beta, discount)
        counted = gibbs.softmin(row, 1 / temperature)
        extra = 0.0 if self.prior is None else temperature * np.log(row.shape[0])
        return counted + extra

    def log_policy(self, row: Row, beta: Any, discount: Any) -> Row:
        """Gibbs weights of actions at `temperature`."""
        return gibbs.masked_log_policy(row, 1 / self.temperature(beta, discount))


class MEP(SoftQ):
    """Algorithm 2 of the thesis: entropy of paths, at temperature discount / beta.

    It is `SoftQ(prior=None)` at beta / discount.

    Source: parameterized sequential decision making, section 3.2.3, (3.13) and (3.8).
    """

    prior: str | None = eqx.field(static=True, default=None)

    def temperature(self, beta: Any, discount: Any) -> Any:
        """discount / beta, at which the entropy of paths counts."""
        return discount / beta


class QLearning(AbstractRule):
    """Q-learning; tries any action with probability `epsilon`, else the best.

    Source: Watkins and Dayan (1992).
    """

    epsilon: Any = 0.1

    def value(self, row: Row, beta: Any, discount: Any) -> Float[Array, ""]:
        """The least action value, as costs are minimised."""
        del beta, discount
        return jnp.min(row)

    def answer(self, row: Row, beta: Any, discount: Any) -> Row:
        """All weight on the action of least value."""
        del beta, discount
        best = jnp.arange(row.shape[0]) == jnp.argmin(row)
        return jnp.where(best, 0.0, -jnp.inf).astype(row.dtype)

    def log_policy(self, row: Row, beta: Any, discount: Any) -> Row:
        """Mostly the best action."""
        del beta, discount
        best = jnp.arange(row.shape[0]) == jnp.argmin(row)
        chance = self.epsilon / row.shape[0] + jnp.where(best, 1 - self.epsilon, 0.0)
        return jnp.log(chance).astype(row.dtype)


class DoubleQ(QLearning):
    """Two tables, one of which chooses and the other judges.

    Source: van Hasselt (2010).
    """

    @property
    def n_tables(self) -> int:
        """Two: each judges what the other chooses."""
        return 2

    def targets(
        self, ahead: Float[Array, "tables actions"], beta: Any, discount: Any, uniform: Any
    ) -> tuple[Float[Array, ""], Float[Array, " tables"]]:
        """The judgement of one table on the other's choice, drawn by `uniform`."""
        del beta, discount
        first = uniform < 0.5
        here = jnp.where(first, ahead[0], ahead[1])
        other = jnp.where(first, ahead[1], ahead[0])
        shares = jnp.stack([first, ~first]).astype(ahead.dtype)
        return other[jnp.argmin(here)], shares
