"""Learning a policy from interactions with a table that only answers."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks
from .._core.failures import raise_failed
from .model import MDP
from .rules import AbstractRule
from .transitions import solve_chain

_OWNER = "mdp.learn"
# Steps for which numbers are drawn at once, and actions of which running sums are a product.
_BLOCK, _FEW = 256, 32


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
    # Whether costs may have any: else none is drawn.
    noisy: bool = eqx.field(static=True)

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
        self.noisy = not (checks.is_concrete(given) and not np.any(np.asarray(given)))

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
    episode, shape (episodes, states, actions), `None` unless recorded; `code` and `input`, of bad
    input that was traced.
    """

    action_values: Float[Array, "states actions"]
    log_policy: Float[Array, "states actions"]
    beta: Float[Array, " episodes"]
    steps: Int[Array, " episodes"]
    cost: Float[Array, " episodes"]
    history: Float[Array, "episodes states actions"] | None
    input: checks.InputReport

    @property
    def code(self) -> Int[Array, "..."]:
        """`OK`, or that of bad input that was traced."""
        return self.input.code

    def raise_if_failed(self) -> None:
        """Raise `ValueError` for bad input that was traced; on the host."""
        raise_failed(self.code, self.input)


class _State(eqx.Module):
    tables: Float[Array, "tables states actions"]
    visits: Float[Array, "states actions"]
    state: Int[Array, ""]
    episode: Int[Array, ""]
    step: Int[Array, ""]
    factor: Float[Array, ""]
    cost: Float[Array, ""]
    steps: Int[Array, " episodes"]
    costs: Float[Array, " episodes"]
    history: Float[Array, "episodes states actions"] | None


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
    found = [
        checks.check_range(_OWNER, "omega", omega, low=0.0, high=1.0),
        checks.check_range(_OWNER, "discount", discount, low=0.0, high=1.0, open_low=True),
    ]
    if not callable(beta):
        found += [checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True)]
    checks.enforce(found)
    given = checks.report(found)
    return _learn(
        env, rule, key, beta, omega, discount, int(episodes), int(max_steps), record, given
    )


@eqx.filter_jit
def _learn(
    env: Environment, rule: AbstractRule, key: Any, beta: Any, omega: Any, discount: Any,
    episodes: int, max_steps: int, record: bool, given: checks.InputReport,
) -> Learned:  # fmt: skip
    n, a, _ = env.next.shape
    dtype = env.costs.dtype
    schedule: Callable[[Any], Any] = beta if callable(beta) else (lambda e: beta * e)
    counted = jnp.arange(1, episodes + 1).astype(dtype)
    betas = jax.vmap(lambda e: jnp.asarray(schedule(e), dtype))(counted)
    starts = jnp.cumsum(env.start)
    # One stream of steps, whatever the lengths of episodes, in blocks that draw at once: lanes of
    # a vmap then do not wait for each other's episodes, nor are tables copied at every step.
    block = min(_BLOCK, episodes * max_steps)

    def first(uniform: Any) -> Int[Array, ""]:
        return _picked(starts, uniform * starts[-1])

    def step(s: _State, drawn: Any) -> tuple[_State, None]:
        uniforms, normal = drawn
        learns = s.episode < episodes
        b = betas[jnp.minimum(s.episode, episodes - 1)]
        # An episode may start where all ends.
        acts = learns & ~env.terminal[s.state]
        rows = rule.combined(s.tables[:, s.state])
        chances = _cumulated(jnp.exp(rule.log_policy(rows, b, discount)))
        action = _picked(chances, uniforms[0] * chances[-1])
        after, cost = env.step(uniforms[1], s.state, action)
        seen = cost if normal is None else cost + env.noise_of(s.state, action) * normal
        worth, shares = rule.targets(s.tables[:, after], b, discount, uniforms[-1])
        ends = env.terminal[after]
        target = seen + discount * jnp.where(ends, 0.0, worth)
        count = s.visits[s.state, action] + 1
        old = s.tables[:, s.state, action]
        new = old + shares * count**-omega * (target - old)
        # What lies outside is not written.
        where = jnp.where(acts, s.state, n)
        tables = s.tables.at[:, where, action].set(new, mode="drop")
        taken = s.step + acts.astype(jnp.int32)
        paid = s.cost + jnp.where(acts, s.factor * cost, 0.0)
        over = learns & (~acts | ends | (taken >= max_steps))
        place = jnp.where(over, s.episode, episodes)
        history = s.history
        if history is not None:
            history = history.at[place].set(jnp.mean(tables, axis=0), mode="drop")
        return _State(
            tables,
            s.visits.at[where, action].set(count, mode="drop"),
            jnp.where(over, first(uniforms[2]), jnp.where(acts, after, s.state).astype(jnp.int32)),
            s.episode + over.astype(jnp.int32),
            jnp.where(over, 0, taken),
            jnp.where(over, 1.0, s.factor * discount).astype(dtype),
            jnp.where(over, 0.0, paid).astype(dtype),
            s.steps.at[place].set(taken, mode="drop"),
            s.costs.at[place].set(paid, mode="drop"),
            history,
        ), None

    def steps(carry: tuple[Any, _State]) -> tuple[Any, _State]:
        index, state = carry
        how, other = jax.random.split(jax.random.fold_in(key, index))
        # Action, next state, next start; where tables take turns, whose it is.
        uniforms = jax.random.uniform(how, (block, 3 if rule.n_tables == 1 else 4), dtype)
        normals = jax.random.normal(other, (block,), dtype) if env.noisy else None
        return index + 1, jax.lax.scan(step, state, (uniforms, normals))[0]

    begin, key = jax.random.split(key)
    zero, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
    state = _State(
        jnp.zeros((rule.n_tables, n, a), dtype), jnp.zeros((n, a), dtype),
        first(jax.random.uniform(begin, (), dtype)), count, count, zero + 1, zero,
        jnp.zeros((episodes,), jnp.int32), jnp.zeros((episodes,), dtype),
        jnp.zeros((episodes, n, a), dtype) if record else None,
    )  # fmt: skip
    _, end = jax.lax.while_loop(lambda c: c[1].episode < episodes, steps, (count, state))
    values = jnp.mean(end.tables, axis=0)
    policy = jax.vmap(lambda row: rule.answer(row, betas[-1], discount))(values)
    return Learned(values, policy, betas, end.steps, end.costs, end.history, given)


def _cumulated(row: Float[Array, " many"]) -> Float[Array, " many"]:
    """Running sums: of a few numbers by a product, which a vmap makes one of matrices."""
    if row.size > _FEW:
        return jnp.cumsum(row)
    below = np.triu(np.ones((row.size, row.size)))
    return jnp.matmul(row, jnp.asarray(below, row.dtype), precision="highest")


def _picked(cumulated: Float[Array, " many"], uniform: Any) -> Int[Array, ""]:
    """The first place at which the running sum exceeds the number."""
    place = jnp.sum(cumulated <= uniform, dtype=jnp.int32)
    return jnp.minimum(place, cumulated.size - 1)


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
