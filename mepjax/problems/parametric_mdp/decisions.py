"""Soft decisions at given costs: one Bellman equation among the states that are entered."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import trees
from ..._core.types import Scalar
from ...mdp.soft import SoftBellman
from ...mdp.solve import solve_values
from .staged import decide_staged

if TYPE_CHECKING:
    from .process import Process

Costs = Float[Array, "s a"]


class Decisions(eqx.Module):
    """Everything at given costs: Q, values and log policy of all states, and the solve's code.

    Where hard, `policy` are actions.
    """

    action_values: Float[Array, "*stages s a"]
    values: Float[Array, " s"]
    policy: Any
    code: Int[Array, ""]


def started(problem: "Process", values: Float[Array, " s"]) -> Float[Array, ""]:
    """Mean of values over the start; what is never started from may have none."""
    on = problem.start > 0
    return jnp.sum(jnp.where(on, problem.start * jnp.where(on, values, 0.0), 0.0))


def operators(
    problem: "Process", costs: Costs, *, hard: bool = False
) -> tuple[SoftBellman, SoftBellman]:
    """The Bellman operators among inner states, and from all states to those."""
    log_prior = problem.log_prior() if problem.entropy == "prior" or hard else None
    if problem.permitted is not None:
        costs = jnp.where(problem.permitted, costs, jnp.inf)
    kernel, structure, ends = problem.kernel, problem.structure, problem.terminal
    noise = kernel.entropy() if problem.entropy == "paths" else None
    if structure.among is None or structure.onward is None:
        whole = SoftBellman(
            costs=costs, kernel=kernel, discount=problem.discount, log_prior=log_prior,
            noise=noise, ends=ends, proper=structure.proper, hard=hard,
        )  # fmt: skip
        return whole, whole

    def inner(table: Any) -> Any:
        return None if table is None else table[structure.inner]

    among = SoftBellman(
        costs=inner(costs), kernel=kernel.take(structure.among), discount=problem.discount,
        log_prior=inner(log_prior), noise=inner(noise), ends=None, proper=inner(structure.proper),
        hard=hard,
    )  # fmt: skip
    onward = SoftBellman(
        costs=costs, kernel=kernel.take(structure.onward), discount=problem.discount,
        log_prior=log_prior, noise=noise, ends=ends, hard=hard,
    )  # fmt: skip
    return among, onward


def decide(problem: "Process", costs: Costs, beta: Scalar, *, hard: bool = False) -> Decisions:
    """Solve the Bellman equation, and take one backup from everywhere.

    With a horizon one backup for every stage; Q and policy then have a leading axis of stages, as
    `costs` may have.
    """
    if problem.horizon is not None:
        return Decisions(*decide_staged(problem, costs, beta, hard=hard))
    among, onward = operators(problem, costs, hard=hard)
    inner, code = jnp.zeros((0,), costs.dtype), jnp.zeros((), jnp.int32)
    memory, index = None, problem.structure.inner
    if index.shape[0]:
        inner, stage = solve_values(among, beta, on_failure="pass")
        code, memory = stage.code, stage.state
    action_values = onward.action_values(inner, beta)
    values, policy = onward.decide(action_values, beta)
    if not hard:
        # Nothing is decided at the end.
        policy = jnp.where(problem.terminal[:, None], problem.log_prior(), policy)
    elif memory is not None:
        policy = policy.at[index].set(memory)
    return Decisions(action_values, values, policy, code)


def prior_traffic(problem: "Process", costs: Costs) -> Costs:
    """Traffic under the prior policy, which no cost moves; ones where it is beyond all numbers.

    With a horizon that of policies as beta -> 0, all ways that end as they should.
    """
    if problem.horizon is not None:
        at_end = problem.end_costs
        assert at_end is not None
        free = jnp.where(jnp.isposinf(at_end), at_end, jnp.zeros_like(at_end))
        problem = trees.replaced(problem, end_costs=free)

        def level(costs: Costs) -> Float[Array, ""]:
            return started(problem, decide(problem, costs, 1.0).values)

        return jax.grad(level)(jnp.zeros_like(costs))
    among, onward = operators(problem, jnp.zeros_like(costs), hard=True)
    log_prior, index = problem.log_prior(), problem.structure.inner
    mu = jnp.exp(log_prior)

    def energy(costs: Costs) -> Float[Array, ""]:
        mean = jnp.sum(mu * costs, axis=1)
        inner = jnp.zeros((index.shape[0],), costs.dtype)
        if index.shape[0]:
            chain = among.under(log_prior[index], 1.0)
            paid = mean[index]
            if problem.structure.among is None:
                paid = jnp.where(problem.terminal, 0.0, paid)
            inner = eqx.tree_at(lambda c: c.cost, chain, paid).values(paid)
        ahead = jnp.sum(mu * onward.kernel.expect(inner), axis=1)
        values = mean + problem.discount * ahead
        return problem.start @ jnp.where(problem.terminal, 0.0, values)

    traffic = jax.grad(energy)(costs)
    return jnp.where(jnp.all(jnp.isfinite(traffic)), traffic, jnp.ones_like(traffic))
