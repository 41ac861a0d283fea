"""What a population does under a policy: paths, rewards along time, where it settles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.checks import check_count
from .._core.codes import Code, SolveError
from .._core.keys import check_key
from .._core.programs import program
from .._core.types import Scalar, Tracer
from ..solvers.equation import Equation
from ..solvers.fixed_point import FixedPoint
from ..solvers.loop import solve_stage
from .arrangement import arrange, check_labels
from .clustered import ClusteredMDP
from .factored import FactoredMDP


class Path(NamedTuple):
    """A run of a population: `states` (steps + 1, N), `signals` of all agents, `rewards`."""

    states: Int[Array, "steps1 agents"]
    signals: Int[Array, "steps agents"]
    rewards: Float[Array, " steps"]


def simulate(
    model: FactoredMDP, labels: Any, policy: Any, key: Any, steps: int, *, start: Any = None
) -> Path:
    """One run of the population under a policy; vmap over keys for many.

    **Arguments:** `model` and `labels` as for `steer`; `policy` (|X|, C); `key`, a JAX random key;
    `steps`; `start`, the states of all agents (N,), by default drawn uniformly.

    **Returns:** a `Path`. Signals of agents that are not steered are 0.

    **Example:**

    ```python
    >>> import jax
    >>> from mepjax import datasets, mdp
    >>> game = datasets.channel_game(3)
    >>> found = mdp.steer(game, [0, 0, 1])
    >>> mdp.simulate(game, [0, 0, 1], found.policy, jax.random.key(0), 5).states.shape
    (6, 3)

    ```
    """
    check_count("simulate", "steps", steps)
    operator = _operator("simulate", model, labels, policy)
    first, key = jax.random.split(check_key(key))
    if start is None:
        index = jax.random.randint(first, (), 0, model.n_states)
    else:
        digits = tuple(jnp.asarray(start)[n] for n in range(model.n_agents))
        index = jnp.ravel_multi_index(digits, model.sizes, mode="clip")
    return _simulate(operator, jnp.asarray(policy, jnp.int32), key, index, steps)


def _moved(
    operator: ClusteredMDP, signals: Array, key: Any, index: Array
) -> tuple[Array, Array, Array]:
    """(next states of all agents, signals they heard, reward) after signals of clusters."""
    model = operator.model
    place = operator.place(index[None])
    heard = operator.heard_under(signals[None])
    earned = operator.reward(place, heard[:, None])[0, 0]
    states = jnp.zeros(model.n_agents, jnp.int32)
    keys = jax.random.split(key, len(model.factors))
    for factor, agents in enumerate(model.factors):
        rows = operator.rows_of(place, [factor], heard[:, None])[0, 0]
        drawn = jax.random.categorical(keys[factor], jnp.log(rows))
        own = jnp.unravel_index(drawn, tuple(model.sizes[agent] for agent in agents))
        states = states.at[np.asarray(agents)].set(jnp.stack(own).astype(jnp.int32))
    return states, heard[0], earned


@program
def transition(operator: ClusteredMDP, signals: Any, key: Any, index: Any) -> tuple[Array, Array]:
    """Next states of all agents and the reward, from signals of clusters and a joint state."""
    states, _, earned = _moved(operator, jnp.asarray(signals), key, jnp.asarray(index))
    return states, earned


@program
def _simulate(operator: ClusteredMDP, policy: Array, key: Any, index: Array, steps: int) -> Path:
    sizes = operator.model.sizes

    def step(index: Array, key: Any) -> tuple[Array, Any]:
        states, heard, earned = _moved(operator, policy[index], key, index)
        following = jnp.ravel_multi_index(tuple(states), sizes, mode="clip")
        now = operator.place(index[None]).digits[0]
        return following.astype(index.dtype), (now, heard, earned)

    last, (states, signals, rewards) = jax.lax.scan(step, index, jax.random.split(key, steps))
    end = operator.place(last[None]).digits
    return Path(jnp.concatenate([states, end]), signals, rewards)


def expected_rewards(
    model: FactoredMDP, labels: Any, policy: Any, steps: int, *, weights: Any = None
) -> Float[Array, " steps"]:
    """Expected reward of each of the first `steps` steps under a policy, exactly.

    **Arguments:** as for `simulate`; `weights`, the distribution of the first state (|X|,),
    default uniform.
    """
    check_count("expected_rewards", "steps", steps)
    operator = _operator("expected_rewards", model, labels, policy)
    if weights is None:
        weights = np.full(model.n_states, 1 / model.n_states)
    return _expected(operator, jnp.asarray(policy, jnp.int32), jnp.asarray(weights), steps)


@program
def _expected(operator: ClusteredMDP, policy: Array, weights: Array, steps: int) -> Array:
    earned = operator.rewards(policy)

    def step(ahead: Array, _: None) -> tuple[Array, Array]:
        return _move(operator, policy, earned)(ahead), weights.astype(ahead.dtype) @ ahead

    return jax.lax.scan(step, earned, None, length=steps)[1]


def _move(operator: ClusteredMDP, policy: Array, earned: Array) -> Any:
    """V -> P V under a policy."""
    return lambda values: (operator.apply(values, policy) - earned) / operator.model.discount


class Settled(Equation):
    """d = P^T d, for the distribution of states under a policy."""

    operator: ClusteredMDP
    policy: Int[Array, "states clusters"]

    def moved(self, params: Float[Array, " states"]) -> Float[Array, " states"]:
        """The distribution one step later."""
        earned = self.operator.rewards(self.policy)
        (moved,) = jax.linear_transpose(lambda v: self._linear(v, earned), jnp.zeros_like(params))(
            params
        )
        return moved

    def _linear(self, values: Array, earned: Array) -> Array:
        _, moved = jax.jvp(_move(self.operator, self.policy, earned), (earned,), (values,))
        return moved

    def residual(self, params: Float[Array, " states"], beta: Scalar) -> Float[Array, " states"]:
        """What one step changes."""
        del beta
        return params - self.moved(params)

    def update(self, params: Float[Array, " states"], beta: Scalar) -> Float[Array, " states"]:
        """Half a step, so that populations that go in circles settle too."""
        return params - 0.5 * self.residual(params, beta)

    def params_scale(self, params: Float[Array, " states"]) -> Float[Array, ""]:
        """Probabilities have the size one."""
        return jnp.ones((), params.dtype)


def stationary(
    model: FactoredMDP, labels: Any, policy: Any, *, weights: Any = None
) -> Float[Array, " states"]:
    """How often each joint state is visited in the long run under a policy.

    From a first state drawn by `weights` (default uniform), on which it depends where the
    population can settle in several ways. A population that goes in circles gets the share of time
    that each state has.

    **Raises:** `SolveError` (outside `jit`) if it does not settle within 100,000 steps.
    """
    operator = _operator("stationary", model, labels, policy)
    if weights is None:
        weights = np.full(model.n_states, 1 / model.n_states)
    start = jnp.asarray(weights, model.dtype)
    found, code = _settle(operator, jnp.asarray(policy, jnp.int32), start)
    if not isinstance(code, Tracer) and Code(int(code)).is_failing:
        raise SolveError(
            f"[{Code(int(code)).name}] stationary: the population has not settled after 100,000 "
            "steps: some states are left very slowly."
        )
    return found


@program
def _settle(operator: ClusteredMDP, policy: Array, start: Array) -> tuple[Array, Array]:
    dtype = start.dtype
    result = solve_stage(
        Settled(operator, policy),
        start,
        jnp.ones((), dtype),
        FixedPoint(),
        rtol=jnp.asarray(1e-12 if dtype == jnp.float64 else 1e-6, dtype),
        max_steps=jnp.asarray(100_000, jnp.int32),
    )
    return result.params, result.code


def _operator(owner: str, model: FactoredMDP, labels: Sequence[int] | Any, policy: Any) -> Any:
    shape = jnp.shape(policy)
    if len(shape) != 2 or shape[0] != model.n_states:
        raise ValueError(
            f"{owner}: `policy` must have shape ({model.n_states}, C), one row per joint state; "
            f"got {shape}."
        )
    full, count = check_labels(model, np.asarray(labels), shape[1])
    return ClusteredMDP(model, arrange(model, full, count))
