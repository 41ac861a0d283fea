"""The soft Bellman operator of a table of costs: entropy of the policy, or of whole paths."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from .._core import gibbs
from .._core.types import Scalar
from .bellman import AbstractBellman, AbstractChain
from .kernels.base import AbstractKernel
from .transitions import chain_operator, chain_solver, solve_chain

# Above this beta soft and hard are one in any precision; it keeps inf out of products.
_LARGEST_BETA = 1e30
ENTROPIES = ("prior", "policy", "paths")


class SoftChain(AbstractChain):
    """Costs (entropy included) and transitions under a policy."""

    cost: Float[Array, " states"]
    transitions: Any
    discount: Float[Array, ""]

    def sweep(self, values: Float[Array, " states"]) -> Float[Array, " states"]:
        """Cost of one step, and the discounted values of where it leads."""
        return self.cost + self.discount * self.transitions.mv(values)

    def values(self, guess: Float[Array, " states"]) -> Float[Array, " states"]:
        """Values of going on for ever, by a solve that starts from `guess`."""
        return solve_chain(self.transitions, self.discount, self.cost, guess)

    def operator(self) -> lx.AbstractLinearOperator:
        """I - discount P."""
        return chain_operator(self.transitions, self.discount, self.cost)

    def improved(
        self, values: Float[Array, " states"], updated: Float[Array, " states"]
    ) -> Float[Array, " states"]:
        """Without entropy / beta, which small beta would blow up with its rounding error."""
        change = updated - values
        return values + solve_chain(self.transitions, self.discount, change, change)


class SoftBellman(AbstractBellman):
    """T V = softmin over actions of c + discount E V, for states among themselves.

    - with a `log_prior` q: -(1/beta) log sum_a q(a) exp(-beta Q(a)), entropy relative to q;
    - without: -(1/beta) log sum_a exp(-beta Q(a)), which counts; with `noise`, the entropy of the
        next state, this is the entropy of paths;
    - `hard`: the least Q, at any beta.

    A state that `ends` has value zero. `proper` is a policy that ends, where there is need of one.
    `log_prior` is -inf and `costs` is +inf where an action is not permitted.
    """

    costs: Float[Array, "states actions"]
    kernel: AbstractKernel
    discount: Float[Array, ""]
    log_prior: Float[Array, "states actions"] | None
    noise: Float[Array, "states actions"] | None
    ends: Bool[Array, " states"] | None
    proper: Int[Array, " states"] | None = None
    hard: bool = eqx.field(static=True, default=False)

    def _step_costs(self, beta: Scalar) -> Float[Array, "states actions"]:
        if self.noise is None or self.hard:
            return self.costs
        return self.costs - self.noise / self._beta(beta)

    def _beta(self, beta: Scalar) -> Array:
        return jnp.minimum(jnp.asarray(beta, self.costs.dtype), _LARGEST_BETA)

    def action_values(
        self, values: Float[Array, " states"], beta: Scalar
    ) -> Float[Array, "states actions"]:
        """Q: cost of an action and the discounted values after it; +inf if not permitted."""
        return self._step_costs(beta) + self.discount * self.kernel.expect(values)

    def decide(
        self, action_values: Float[Array, "states actions"], beta: Scalar
    ) -> tuple[Float[Array, " states"], Any]:
        """Values and policy of given Q: actions where `hard`, log probabilities elsewhere."""
        if self.hard:
            allowed = action_values
            if self.log_prior is not None:
                allowed = jnp.where(jnp.isneginf(self.log_prior), jnp.inf, action_values)
            values, policy = jnp.min(allowed, axis=1), jnp.argmin(allowed, axis=1)
            policy = policy.astype(jnp.int32)
        elif self.log_prior is None:
            beta = self._beta(beta)
            values = gibbs.softmin(action_values, beta)
            policy = gibbs.masked_log_policy(action_values, beta)
        else:
            values, policy = gibbs.relative(action_values, self.log_prior, self._beta(beta))
        return (values if self.ends is None else jnp.where(self.ends, 0.0, values)), policy

    def backup(
        self, values: Float[Array, " states"], beta: Scalar
    ) -> tuple[Float[Array, " states"], Any]:
        """T values, and its policy: actions where `hard`, log probabilities elsewhere."""
        return self.decide(self.action_values(values, beta), beta)

    def memory(self, values: Float[Array, " states"], beta: Scalar) -> Int[Array, " states"] | None:
        """Where `hard`, the policy: a proper one, or the greedy one."""
        if not self.hard:
            return None
        return self.backup(values, beta)[1] if self.proper is None else self.proper

    def improve(
        self, values: Float[Array, " states"], beta: Scalar, memory: Any
    ) -> tuple[Float[Array, " states"], Any, Any]:
        """As `backup`; where `hard`, an action is kept that is as good as the best, to rounding.

        Staying where that is free is as good as going on, without ever ending.
        """
        action_values = self.action_values(values, beta)
        updated, policy = self.decide(action_values, beta)
        if memory is None:
            return updated, policy, None
        kept = jnp.take_along_axis(action_values, memory[:, None], axis=1)[:, 0]
        slack = 64 * jnp.finfo(values.dtype).eps * self.params_scale(values)
        policy = jnp.where(kept <= updated + slack, memory, policy)
        return updated, policy, policy

    def under(
        self, policy: Int[Array, " states"] | Float[Array, "states actions"], beta: Scalar
    ) -> SoftChain:
        """The chain under actions, or under log probabilities of actions."""
        costs, beta = self._step_costs(beta), self._beta(beta)
        if policy.ndim == 1:
            cost = jnp.take_along_axis(costs, policy[:, None], axis=1)[:, 0]
            if self.log_prior is not None and not self.hard:
                log_q = jnp.take_along_axis(self.log_prior, policy[:, None], axis=1)[:, 0]
                cost = cost - log_q / beta
            transitions = self.kernel.under(policy)
        else:
            taken = ~jnp.isneginf(policy)
            log_ratio = jnp.where(taken, policy, 0.0)
            if self.log_prior is not None:
                log_ratio = log_ratio - jnp.where(taken, self.log_prior, 0.0)
            mu = jnp.exp(policy)
            paid = jnp.where(taken, costs, 0.0)
            cost = jnp.sum(mu * paid, axis=1)
            if not self.hard:
                cost = cost + jnp.sum(mu * log_ratio, axis=1) / beta
            transitions = self.kernel.under(mu)
        if self.ends is not None:
            goes_on = (~self.ends).astype(costs.dtype)
            cost, transitions = jnp.where(self.ends, 0.0, cost), transitions.masked(goes_on)
        return SoftChain(cost, transitions, self.discount)

    def shifted(
        self, values: Float[Array, " states"], by: Float[Array, ""]
    ) -> Float[Array, " states"]:
        """Values moved by a constant; what ends stays at zero."""
        return values + (by if self.ends is None else jnp.where(self.ends, 0.0, by))

    @property
    def passes_constants(self) -> Bool[Array, ""]:
        """Not where something ends."""
        return jnp.asarray(True) if self.ends is None else ~jnp.any(self.ends)

    # What the derivative rule asks.

    def jacobian(self, params: Float[Array, " states"], beta: Scalar) -> lx.AbstractLinearOperator:
        """I - discount P under the policy of these values: the derivative of V - T V."""
        _, policy = self.backup(params, beta)
        return self.under(policy, beta).operator()

    def jacobian_solver(self) -> lx.AbstractLinearSolver:
        """As chains are solved."""
        return chain_solver(self.costs.shape[0], self.costs.dtype)


def upper_start(model: SoftBellman, beta: Scalar) -> Float[Array, " states"]:
    """Where policy iteration starts: values of a proper policy, which T only lowers, else zero.

    From there it stays proper without discount. The prior's values are no such start: where it
    drifts away from the end they may be so large that nothing of them is right.
    """
    zero = jnp.zeros(model.costs.shape[:1], model.costs.dtype)
    return zero if model.proper is None else model.under(model.proper, beta).values(zero)


def stopped(model: SoftBellman) -> SoftBellman:
    """The model as constants for derivatives."""
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)
