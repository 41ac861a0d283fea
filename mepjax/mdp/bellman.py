"""What a Bellman operator has to offer so that the methods in `mdp.methods` solve it.

Costs are minimised; a model of rewards passes costs = -rewards. The limit beta = inf is the hard
operator. Any operator T here is monotone and moves by discount times a constant where all values
move by that constant, which is what its bounds rest on.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._core.types import Scalar
from ..solvers.equation import Equation


class AbstractChain(eqx.Module):
    """The Markov chain with costs that a fixed policy makes of a model."""

    @abc.abstractmethod
    def sweep(self, values: Float[Array, " states"]) -> Float[Array, " states"]:
        """Cost of one step and the discounted values after it."""

    @abc.abstractmethod
    def values(self, guess: Float[Array, " states"]) -> Float[Array, " states"]:
        """The fixed point of `sweep`: what the policy costs. An iterative solve starts at `guess`.

        Not finite where the policy never ends and there is no discount.
        """

    def improved(
        self, values: Float[Array, " states"], updated: Float[Array, " states"]
    ) -> Float[Array, " states"]:
        """`values(updated)`, where `updated` is one sweep of `values`.

        Override it where the difference of the two is known better than the costs are.
        """
        del values
        return self.values(updated)


class AbstractBellman(Equation):
    """A Bellman operator T on values, shape (states,), and the policies that attain it."""

    discount: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def backup(
        self, values: Float[Array, " states"], beta: Scalar
    ) -> tuple[Float[Array, " states"], Any]:
        """T values, and the policy (any pytree of arrays) that attains it."""

    def memory(self, values: Float[Array, " states"], beta: Scalar) -> Any:
        """What policy iteration has to remember between steps, such as its policy; `None`: nothing.

        Where several policies are as good, some of which never end, it has to keep one that does.
        """
        del values, beta

    def improve(
        self, values: Float[Array, " states"], beta: Scalar, memory: Any
    ) -> tuple[Float[Array, " states"], Any, Any]:
        """T values, a policy that attains it (to rounding), and the new memory."""
        return (*self.backup(values, beta), memory)

    @abc.abstractmethod
    def under(self, policy: Any, beta: Scalar) -> AbstractChain:
        """The chain under a policy, entropy of the policy included in its costs."""

    def shifted(
        self, values: Float[Array, " states"], by: Float[Array, ""]
    ) -> Float[Array, " states"]:
        """Values moved by a constant where they are not known, as at a terminal state."""
        return values + by

    @property
    def passes_constants(self) -> Bool[Array, ""]:
        """Whether T (V + c) = T V + discount c, as is so where nothing ends."""
        return jnp.asarray(True)

    def residual(self, params: Float[Array, " states"], beta: Scalar) -> Float[Array, " states"]:
        """V - T V, zero at the values sought."""
        return params - self.backup(params, beta)[0]

    def params_scale(self, params: Float[Array, " states"]) -> Float[Array, ""]:
        """The size relative to which values are solved: the largest of them."""
        return 1 + jnp.max(jnp.abs(params))


def certify(
    model: AbstractBellman, values: Float[Array, " states"], updated: Float[Array, " states"]
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """How far T values (`updated`) is from the fixed point, from T values - values.

    **Returns:** (low, high, error). With discount d < 1 the fixed point lies between updated + low
    and updated + high, d / (1 - d) times the smallest and the largest change (MacQueen); `error`
    is half of what is between. Without discount there are no such bounds: both are zero, and
    `error` is the largest change.
    """
    change = updated - values
    smallest, largest = jnp.min(change), jnp.max(change)
    discounted = model.discount < 1
    left = jnp.where(discounted, model.discount, 0.0)
    factor = (left / (1 - left)).astype(values.dtype)
    error = factor * 0.5 * (largest - smallest)
    return (
        factor * smallest,
        factor * largest,
        jnp.where(discounted, error, jnp.max(jnp.abs(change))),
    )


def rounding(values: Float[Array, " states"], discount: Float[Array, ""]) -> Float[Array, ""]:
    """How far rounding may move bounds: that of a backup, over 1 - discount; zero without one."""
    left = jnp.where(discount < 1, 1 - discount, jnp.inf)
    one_backup = 4 * float(jnp.finfo(values.dtype).eps) * jnp.max(jnp.abs(values))
    return (one_backup / left).astype(values.dtype)


def bounds(
    model: AbstractBellman, values: Float[Array, " states"], beta: Scalar
) -> tuple[Float[Array, " states"], Float[Array, " states"]]:
    """Certified lower and upper bounds of the fixed point, from one backup of any values.

    They leave room for rounding, which 1 / (1 - discount) blows up as it does every other error.
    Without discount they are values themselves where one backup shows that these are a lower
    (T V >= V) or an upper (T V <= V) solution, and infinite where it does not.
    """
    updated, _ = model.backup(values, beta)
    low, high, _ = certify(model, values, updated)
    wider = rounding(updated, model.discount)
    low, high = low - wider, high + wider
    change = updated - values
    discounted = model.discount < 1
    from_below = jnp.where(jnp.all(change >= 0), updated, -jnp.inf)
    from_above = jnp.where(jnp.all(change <= 0), updated, jnp.inf)
    return (
        jnp.where(discounted, model.shifted(updated, low), from_below),
        jnp.where(discounted, model.shifted(updated, high), from_above),
    )
