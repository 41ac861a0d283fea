"""The Bellman equation of a clustering, as the inner loop and the adjoint see it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core.types import Scalar
from ..solvers.equation import Equation
from ..solvers.implicit import LinearSolve
from .bellman import AbstractBellman, AbstractChain
from .clustered import ClusteredMDP, PolicyRows

Policy = Int[Array, "states clusters"]


class SteeredChain(AbstractChain):
    """The population under a fixed policy, with costs = -rewards.

    `rows` of the policy are looked up once for all sweeps, where they fit.
    """

    operator: ClusteredMDP
    policy: Policy
    rows: PolicyRows | None

    def sweep(self, values: Float[Array, " states"]) -> Float[Array, " states"]:
        """One step under the policy, then `values`."""
        if self.rows is None:
            return -self.operator.apply(-values, self.policy)
        return -self.operator.apply_rows(-values, self.rows)

    def values(self, guess: Float[Array, " states"]) -> Float[Array, " states"]:
        """What the policy costs, from a linear solve."""
        del guess
        return -self.operator.evaluate(self.policy, LinearSolve(dense_limit=1024))


class Steered(AbstractBellman):
    """All that the methods need: the operators and where the search of policies starts.

    Values of the loop are costs, -V, as for every Bellman operator here.

    **Fields:** `operator`; `discount`; `start`, the policy that one-cluster methods improve;
    `order` of the clusters; `tolerance` of values, absolute; `slack`, by how much signals may
    differ and still tie; `ties`, "first" or "stay".
    """

    operator: ClusteredMDP
    discount: Float[Array, ""]
    start: Policy
    order: Int[Array, " clusters"]
    tolerance: Float[Array, ""]
    slack: Float[Array, ""]
    ties: str = eqx.field(static=True)

    @property
    def clusters(self) -> int:
        """C, the number of clusters, each of which gets one signal."""
        return self.operator.arrangement.clusters

    def backup(
        self, values: Float[Array, " states"], beta: Scalar
    ) -> tuple[Float[Array, " states"], Policy]:
        """T values and the greedy policy."""
        del beta
        updated, policy = self.operator.backup(-values)
        return -updated, policy

    def under(self, policy: Any, beta: Scalar) -> SteeredChain:
        """The population under a policy."""
        del beta
        return SteeredChain(self.operator, policy, self.operator.rows_under(policy))

    def cluster_backup(
        self, values: Float[Array, " states"], policy: Policy, turn: Int[Array, ""]
    ) -> tuple[Float[Array, " states"], Policy]:
        """T_c of costs for the cluster whose turn it is, and the policy so improved."""
        cluster = self.order[turn % self.clusters]
        updated, policy = self.operator.cluster_backup(
            -values, policy, cluster, self.slack, self.ties
        )
        return -updated, policy

    def params_scale(self, params: Float[Array, " states"]) -> Float[Array, ""]:
        """What makes a relative error of the loop absolute: methods here know their tolerance."""
        del params
        return jnp.ones((), self.tolerance.dtype)


class UnderPolicy(Equation):
    """V = T_policy V for the policy that was found: what gradients of values are taken of.

    The policy is piecewise constant, so its values have the derivative of the optimal ones
    wherever it is the only best.
    """

    operator: ClusteredMDP
    policy: Policy

    def residual(self, params: Float[Array, " states"], beta: Scalar) -> Float[Array, " states"]:
        """V - T_policy V."""
        del beta
        return params - self.operator.apply(params, self.policy)


def as_data(values: Array, earned: Float[Array, " states"]) -> Float[Array, " states"]:
    """The same values, as numbers that XLA does not know to be equal.

    jaxlib 0.10 fuses a product of matrices of which one is a broadcast scalar, with the sum after
    it, into a kernel for CPUs that reads memory it has not written.
    """
    return values + 0 * earned


def start_values(operator: ClusteredMDP, policy: Policy) -> Float[Array, " states"]:
    """The largest constant that is known to lie below what the policy is worth.

    min r / (1 - discount) under the policy, so that V <= T_policy V and all later values rise.
    """
    earned = operator.rewards(policy)
    return as_data(jnp.min(earned) / (1 - operator.model.discount), earned)


def value_scale(operator: ClusteredMDP, values: Float[Array, " states"], policy: Policy) -> Array:
    """Size of values to which relative tolerances refer, from values and one step."""
    change = operator.apply(values, policy) - values
    ahead = jnp.max(jnp.abs(change)) / (1 - operator.model.discount)
    scale = jnp.maximum(jnp.max(jnp.abs(values)), ahead)
    return jax.lax.stop_gradient(jnp.where(scale > 0, scale, 1.0))
