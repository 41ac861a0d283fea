"""Processes with parameters that answer where an action leads and what it costs."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, sampling
from ..problems.parametric_mdp import ParametricMDP


class AbstractProcess(eqx.Module):
    """A process with parameters that answers where an action leads and what it costs.

    `n_states` and `n_actions` are their numbers; `permitted`, boolean (states, actions) or `None`.
    """

    n_states: eqx.AbstractVar[int]
    n_actions: eqx.AbstractVar[int]
    permitted: eqx.AbstractVar[Bool[Array, "states actions"] | None]

    @abc.abstractmethod
    def reset(self, key: Any) -> Int[Array, ""]:
        """The state in which an episode begins."""

    @abc.abstractmethod
    def step(
        self, key: Any, state: Int[Array, ""], action: Int[Array, ""], params: Any
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Next state, cost, and whether that was the end.

        With the same key the next state is the same whatever `params` are: two environments that
        differ in a parameter alone are asked for the derivative of the cost.
        """


class SimulatedProcess(AbstractProcess):
    """The answers of a `ParametricMDP`, which the learner does not see.

    **Arguments:** `problem`, without horizon and capacities; `noise`, standard deviation of the
    cost, the same with the same key.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax import learn
    >>> from mepjax.datasets import small_cells
    >>> env = learn.SimulatedProcess(small_cells(6, 2).problem())
    >>> after, cost, ended = env.step(jax.random.key(0), 7, 2, jnp.zeros((2, 2)))
    >>> print(after, ended)
    8 True

    ```
    """

    problem: ParametricMDP
    noise: Any
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    permitted: Bool[Array, "states actions"] | None

    def __init__(self, problem: ParametricMDP, *, noise: Any = 0.0) -> None:
        if not isinstance(problem, ParametricMDP):
            raise TypeError(
                "SimulatedProcess: `problem` must be a ParametricMDP; "
                f"got {type(problem).__name__}."
            )
        if problem.horizon is not None or problem.limits is not None:
            raise ValueError("SimulatedProcess: `problem` must have no horizon and no capacities.")
        self.problem, self.permitted = problem, problem.permitted
        self.noise = arrays.as_data_like("noise", noise, problem.dtype)
        self.n_states, self.n_actions = problem.kernel.n_states, problem.kernel.n_actions

    def reset(self, key: Any) -> Int[Array, ""]:
        """A state drawn from the start distribution."""
        return sampling.by_inverse(jax.random.uniform(key, ()), self.problem.start)

    def step(
        self, key: Any, state: Int[Array, ""], action: Int[Array, ""], params: Any
    ) -> tuple[Int[Array, ""], Float[Array, ""], Bool[Array, ""]]:
        """Next state, cost with `noise`, and whether that state is terminal."""
        which, how = jax.random.split(key)
        problem = self.problem
        after = problem.kernel.sample(jax.random.uniform(which, ()), state, action)
        states, actions = problem.parameters(params)
        place = None if actions is None else actions[action]
        cost = problem.step.of_one(states[state], place, states[after])
        if problem.extra_costs is not None:
            cost = cost + problem.extra_costs[state, action]
        cost = cost + self.noise * jax.random.normal(how, (), cost.dtype)
        return after, cost, problem.terminal[after]


def check_answers(owner: str, env: Any, params: Any) -> None:
    """Raise `ValueError` unless an environment answers in the shapes of its interface."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = eqx.filter_eval_shape(env.reset, key)
    action = jax.ShapeDtypeStruct((), jnp.int32)
    got = eqx.filter_eval_shape(env.step, key, state, action, params)
    if not isinstance(got, tuple) or len(got) != 3:
        raise ValueError(
            f"{owner}: `env.step` must answer (next state, cost, whether that was the end); got "
            f"{got!r:.60}."
        )
    expected = state.shape, (), ()
    for name, answer, shape in zip(("next state", "cost", "end"), got, expected, strict=True):
        if jnp.shape(answer) != shape:
            raise ValueError(
                f"{owner}: `env.step` must answer a {name} of shape {shape}; got "
                f"{jnp.shape(answer)}."
            )
