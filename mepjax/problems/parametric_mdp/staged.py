"""Decisions within a horizon: one backward recursion, a policy for every stage."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core.codes import Code, as_code
from ..._core.types import Scalar
from ...mdp.soft import SoftBellman
from .hard import HardPlan

if TYPE_CHECKING:
    from .process import Process


def all_stages(traffic: Float[Array, "*k s a"]) -> Float[Array, "s a"]:
    """The sum over stages, where there are."""
    return traffic if traffic.ndim == 2 else jnp.sum(traffic, axis=0)


def decide_staged(
    process: "Process", costs: Float[Array, "..."], beta: Scalar, *, hard: bool = False
) -> tuple[Float[Array, "k s a"], Float[Array, " s"], Any, Int[Array, ""]]:
    """Q by stage, values at the first stage, policies by stage, and a code.

    From the end costs backwards. What leads to where nothing can end as it should, which is where
    `end_costs` are +inf, is not permitted; the code is INFEASIBLE where a start is such a state,
    whose value is then +inf.

    **Arguments:** `costs`, of every action in every state, (s, a), or by stage, (k, s, a).
    """
    k = process.horizon
    assert k is not None and process.end_costs is not None
    ends = process.terminal
    permitted, log_prior = process.permitted, process.log_prior()
    open_ = ~jnp.isneginf(log_prior)
    if permitted is not None:
        open_ = open_ & permitted
    staged = jnp.broadcast_to(costs, (k, *log_prior.shape))
    noise = process.kernel.entropy() if process.entropy == "paths" else None
    dead = jnp.isposinf(process.end_costs) & ~ends
    last = jnp.where(ends | dead, 0.0, process.end_costs)

    def back(carry: tuple[Array, Array], cost: Array) -> tuple[Any, Any]:
        values, lost = carry
        closed = process.kernel.expect(lost.astype(values.dtype)) > 0
        allowed = open_ & ~closed
        some = jnp.any(allowed, axis=1)
        # A state without a way out decides as if all were permitted, and counts for nothing.
        usable = jnp.where(some[:, None], allowed, open_)
        operator = SoftBellman(
            costs=jnp.where(usable, cost, jnp.inf), kernel=process.kernel,
            discount=process.discount, ends=ends, noise=noise, hard=hard,
            log_prior=jnp.where(usable, log_prior, -jnp.inf)
            if process.entropy == "prior" or hard else None,
        )  # fmt: skip
        action_values = operator.action_values(values, beta)
        new, policy = operator.decide(action_values, beta)
        lost = ~some & ~ends
        if not hard:
            policy = jnp.where(ends[:, None], log_prior, policy)
        return (jnp.where(lost, 0.0, new), lost), (action_values, policy)

    (values, lost), (action_values, policy) = jax.lax.scan(back, (last, dead), staged, reverse=True)
    code = jnp.where(
        jnp.any(lost & (process.start > 0)), as_code(Code.INFEASIBLE), as_code(Code.OK)
    )
    return action_values, jnp.where(lost, jnp.inf, values), policy, code


def staged_routes(
    after: Int[Array, "states actions"], plan: HardPlan, terminal: Any
) -> Int[Array, "states stages"]:
    """States visited after each state by a deterministic plan, -1 after the end."""

    def advance(state: Array, actions: Array) -> tuple[Array, Array]:
        inside = jnp.maximum(state, 0)
        new = after[inside, actions[inside]]
        new = jnp.where((state < 0) | terminal[inside], -1, new)
        return new, new

    start = jnp.arange(after.shape[0], dtype=after.dtype)
    return jax.lax.scan(advance, start, plan.actions)[1].T
