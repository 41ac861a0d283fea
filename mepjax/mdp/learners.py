"""Learning a policy from interactions with a table that only answers."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks
from .model import MDP
from .rules import AbstractRule
from .transitions import solve_chain

_OWNER = "mdp.learn"


class Environment(eqx.Module):
    """Answers of an `MDP`: next state, cost and whether that was the end.

    **Arguments:** `model`, with concrete transitions; `noise`, standard deviation of the cost, one
    number or by state and action, of a shape that broadcasts to (states, actions).

    Every state and action has its own short list of outcomes, from which a uniform number picks.
    """

    next: Int[Array, "states actions outcomes"]
    cumulated: Float[Array, "states actions outcomes"]
    costs: Float[Array, "states actions outcomes"]
    terminal: Any
    start: Float[Array, " states"]
    discount: Float[Array, ""]
    noise: Any

    def __init__(self, model: MDP, *, noise: Any = 0.0) -> None:
        if not isinstance(model, MDP):
            raise TypeError(f"Environment: `model` must be an MDP; got {type(model).__name__}.")
        state, action, after = model.kernel.graph()
        p, found = np.asarray(model.kernel.probabilities()), model.kernel.outcomes()
        shape = np.broadcast_shapes(p.shape, *(i.shape for i in found))
        chance = np.broadcast_to(p, shape)
        costs = np.asarray(model.costs)
        plain = costs.shape == (model.n_states, model.n_actions)
        if plain:
            each = costs[np.asarray(found.state), np.asarray(found.action)]
        else:
            each = costs
        each, possible = np.broadcast_to(each, shape), chance > 0
        pair = state.astype(np.int64) * model.n_actions + action
        order = np.argsort(pair, kind="stable")
        pair = pair[order]
        first = np.searchsorted(pair, np.arange(model.n_states * model.n_actions))
        place = np.arange(len(pair)) - first[pair]
        width = int(place.max()) + 1
        size = (model.n_states * model.n_actions, width)
        table = np.zeros(size, np.int32), np.zeros(size), np.zeros(size)
        for into, values in zip(
            table, (after, chance[possible], each[possible]), strict=True
        ):  # fmt: skip
            into[pair, place] = values[order]
        cumulated = np.cumsum(table[1], axis=1)
        cumulated = cumulated / np.maximum(cumulated[:, -1:], 1e-300)
        shape3 = (model.n_states, model.n_actions, width)
        dtype = model.costs.dtype
        self.next = jnp.asarray(table[0].reshape(shape3))
        self.cumulated = jnp.asarray(cumulated.reshape(shape3), dtype)
        self.costs = jnp.asarray(table[2].reshape(shape3), dtype)
        self.terminal, self.start, self.discount = model.terminal, model.start, model.discount
        given = arrays.as_data_like("noise", noise, dtype)
        if given.shape != ():
            whole = (model.n_states, model.n_actions)
            try:
                given = jnp.broadcast_to(given, whole)
            except ValueError:
                raise ValueError(
                    f"Environment: `noise` must be a number or broadcast to {whole}; "
                    f"got shape {given.shape}."
                ) from None
        self.noise = given

    def noise_of(self, state: Any, action: Any) -> Float[Array, ""]:
        """Standard deviation of the cost of an action in a state."""
        return self.noise if self.noise.ndim == 0 else self.noise[state, action]

    def step(self, uniform: Any, state: Any, action: Any) -> tuple[Array, Array]:
        """Next state and its cost, without noise."""
        rows = self.cumulated[state, action]
        place = jnp.minimum(jnp.sum(rows <= uniform), rows.shape[0] - 1)
        return self.next[state, action, place], self.costs[state, action, place]


class Learned(eqx.Module):
    """What was learned, and on the way.

    **Fields:** `action_values` (states, actions), of several tables the mean; `log_policy`; `beta`,
    `steps` and `cost` of every episode, the cost discounted; `history`, action values after every
    episode, shape (episodes, states, actions), `None` unless recorded.
    """

    action_values: Float[Array, "states actions"]
    log_policy: Float[Array, "states actions"]
    beta: Float[Array, " episodes"]
    steps: Int[Array, " episodes"]
    cost: Float[Array, " episodes"]
    history: Float[Array, "episodes states actions"] | None


class _State(eqx.Module):
    tables: Float[Array, "tables states actions"]
    visits: Float[Array, "states actions"]
    state: Int[Array, ""]
    step: Int[Array, ""]
    factor: Float[Array, ""]
    cost: Float[Array, ""]
    done: Any


def learn(
    env: Environment,
    rule: AbstractRule,
    *,
    key: Any,
    episodes: int,
    beta: Any = 0.1,
    max_steps: int = 200,
    omega: Any = 0.6,
    discount: Any = None,
    record: bool = False,
) -> Learned:
    """Learn by trying: after every step the value of what was done moves towards what it cost.

    The value of an action that was taken n times moves by n^-omega. An episode starts at a state
    drawn from the model's start distribution and ends where all ends, or after `max_steps`.

    **Arguments:**

    - `env`: an `Environment`.
    - `rule`: `MEP()`, `SoftQ()`, `SoftQ(prior=None)`, `QLearning()` or `DoubleQ()`.
    - `key`: a JAX random key.
    - `episodes`, `max_steps`: counts.
    - `beta`: sigma, for beta = sigma x episode (from 1 on), or a function of the episode.
    - `omega`: in [0, 1].
    - `discount`: default that of the model.
    - `record`: whether to keep the action values after every episode.

    **Returns:** `Learned`. All of it vmaps over keys, `beta`, `omega`, `discount` and environments.

    **Raises:** `TypeError` or `ValueError` naming the argument.

    Source: parameterized sequential decision making, Algorithm 2.

    **Example:** a corridor of three steps.

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Deterministic([[1, 0], [2, 0], [3, 1], [3, 3]])
    >>> model = mdp.MDP(kernel, jnp.ones((4, 2)), discount=0.9, terminal=[3])
    >>> env = mdp.Environment(model)
    >>> found = mdp.learn(env, mdp.SoftQ(), key=jax.random.key(0), episodes=100, beta=1.0)
    >>> print(found.action_values[:3].argmin(axis=1))
    [0 0 0]

    ```
    """
    if not isinstance(env, Environment):
        raise TypeError(f"{_OWNER}: `env` must be an Environment; got {type(env).__name__}.")
    if not isinstance(rule, AbstractRule):
        raise TypeError(
            f"{_OWNER}: `rule` must be a rule such as mdp.SoftQ(); got {type(rule).__name__}."
        )
    checks.check_count(_OWNER, "episodes", episodes)
    checks.check_count(_OWNER, "max_steps", max_steps)
    dtype = env.costs.dtype
    discount = env.discount if discount is None else jnp.asarray(discount, dtype)
    omega = arrays.as_data_like("omega", omega, dtype)
    if not callable(beta):
        beta = arrays.as_data_like("beta", beta, dtype)
        checks.enforce([checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True)])
    found = [
        checks.check_range(_OWNER, "omega", omega, low=0.0, high=1.0),
        checks.check_range(_OWNER, "discount", discount, low=0.0, high=1.0, open_low=True),
    ]
    checks.enforce(found)
    return _learn(env, rule, key, beta, omega, discount, int(episodes), int(max_steps), record)


@eqx.filter_jit
def _learn(
    env: Environment, rule: AbstractRule, key: Any, beta: Any, omega: Any, discount: Any,
    episodes: int, max_steps: int, record: bool,
) -> Learned:  # fmt: skip
    n, a, _ = env.next.shape
    dtype = env.costs.dtype
    schedule: Callable[[Any], Any] = beta if callable(beta) else (lambda e: beta * e)
    starts = jnp.cumsum(env.start)

    def step(state: _State, drawn: Any, b: Any) -> _State:
        uniforms, normal = drawn
        rows = rule.combined(state.tables[:, state.state])
        chances = jnp.cumsum(jnp.exp(rule.log_policy(rows, b, discount)))
        action = jnp.minimum(jnp.sum(chances <= uniforms[0] * chances[-1]), a - 1)
        after, cost = env.step(uniforms[1], state.state, action)
        seen = cost + env.noise_of(state.state, action) * normal
        worth, shares = rule.targets(state.tables[:, after], b, discount, uniforms[2])
        ends = env.terminal[after]
        target = seen + discount * jnp.where(ends, 0.0, worth)
        count = state.visits[state.state, action] + 1
        old = state.tables[:, state.state, action]
        new = old + shares * count**-omega * (target - old)
        return _State(
            state.tables.at[:, state.state, action].set(new),
            state.visits.at[state.state, action].set(count),
            after.astype(jnp.int32), state.step + 1, state.factor * discount,
            state.cost + state.factor * cost, ends,
        )  # fmt: skip

    def episode(carry: Any, index: Any) -> tuple[Any, Any]:
        tables, visits = carry
        b = jnp.asarray(schedule((index + 1).astype(dtype)), dtype)
        first, second, third = jax.random.split(jax.random.fold_in(key, index), 3)
        uniforms = jax.random.uniform(first, (max_steps, 3), dtype)
        normals = jax.random.normal(second, (max_steps,), dtype)
        chosen = jax.random.uniform(third, (), dtype) * starts[-1]
        where = jnp.minimum(jnp.sum(starts <= chosen), n - 1).astype(jnp.int32)
        zero = jnp.zeros((), dtype)
        start = _State(
            tables, visits, where, jnp.zeros((), jnp.int32), zero + 1, zero, env.terminal[where]
        )
        end = jax.lax.while_loop(
            lambda s: ~s.done & (s.step < max_steps),
            lambda s: step(s, (uniforms[s.step], normals[s.step]), b),
            start,
        )
        kept = rule_mean(end.tables) if record else None
        return (end.tables, end.visits), (b, end.step, end.cost, kept)

    def rule_mean(tables: Array) -> Array:
        return jnp.mean(tables, axis=0)

    tables = jnp.zeros((rule.n_tables, n, a), dtype)
    (tables, _), (betas, steps, costs, history) = jax.lax.scan(
        episode, (tables, jnp.zeros((n, a), dtype)), jnp.arange(episodes)
    )
    values = rule_mean(tables)
    policy = jax.vmap(lambda row: rule.answer(row, betas[-1], discount))(values)
    return Learned(values, policy, betas, steps, costs, history)


def learning_curve(
    model: MDP, learned: Learned, rule: AbstractRule, *, optimal: Float[Array, " states"]
) -> Float[Array, " episodes"]:
    """Mean relative error, over states that do not end, of what the learned policies cost.

    Mean over states of |J^policy - J*| / |J*| after every episode: (3.27) of the thesis, which sums
    over states instead and divides by zero at the end.

    **Arguments:** `learned`, recorded; `optimal`, values of `mdp.solve(model)`.
    """
    if learned.history is None:
        raise ValueError("learning_curve: `learned` must be of learn(..., record=True).")
    costs, discount = model.expected_costs(), model.discount
    goes_on = ~model.terminal

    def error(values: Float[Array, "states actions"], beta: Any) -> Float[Array, ""]:
        policy = jax.vmap(lambda row: jnp.exp(rule.answer(row, beta, discount)))(values)
        transitions = model.kernel.under(policy).masked(goes_on.astype(costs.dtype))
        paid = jnp.where(goes_on, jnp.sum(policy * costs, axis=1), 0.0)
        found = solve_chain(transitions, discount, paid, paid)
        off = jnp.where(goes_on, jnp.abs(found - optimal) / jnp.abs(optimal), 0.0)
        return jnp.sum(off) / jnp.sum(goes_on)

    return jax.lax.map(lambda pair: error(*pair), (learned.history, learned.beta), batch_size=64)
