"""Action values of a process with vectors as states, as a network says them."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ..._core import gibbs, sampling
from ..vectors import AbstractVectorProcess
from .shapes import perceptron


class DeepValues(eqx.Module):
    """Action values as a network has learnt them, of a process's states and parameters."""

    env: AbstractVectorProcess
    layers: Any
    scale: Float[Array, ""]
    widths: tuple[int, ...] = eqx.field(static=True)

    def __call__(self, states: Float[Array, "n d"], params: Any) -> Float[Array, "n actions"]:
        """Action values of states at the same parameters; +inf where not permitted."""
        seen = jax.vmap(lambda state: self.env.observe(state, params))(states)
        values = self.scale * pass_through(self.widths, seen.dtype)(self.layers, seen)
        return jnp.where(jax.vmap(self.env.permitted)(states), values, jnp.inf)

    def log_policy(
        self, states: Float[Array, "n d"], params: Any, beta: Any
    ) -> Float[Array, "n actions"]:
        """Log probabilities of actions, relative to uniform choice; -inf where not permitted."""
        values = self(states, params)
        return gibbs.relative(values, uniform_prior(jnp.isfinite(values), values.dtype), beta)[1]

    def sampled_cost(
        self, params: Any, beta: Any, *, key: Any, episodes: int = 1_000, max_steps: int = 30,
        discount: Any = 1.0,
    ) -> Float[Array, ""]:  # fmt: skip
        """Mean discounted cost of episodes under the policy, as the environment says.

        What an episode that is not over after `max_steps` would cost from there on is left out.
        """
        begin, key = jax.random.split(key)
        states = jax.vmap(self.env.reset)(jax.random.split(begin, episodes))
        ask = jax.vmap(lambda k, x, u: self.env.step(k, x, u, params))

        def step(carry: Any, key: Any) -> tuple[Any, Array]:
            states, live, factor = carry
            choose, how = jax.random.split(key)
            chances = jnp.exp(self.log_policy(states, params, beta))
            drawn = jax.random.uniform(choose, (episodes,), chances.dtype)
            actions = sampling.by_inverse(drawn, chances)
            after, costs, ended = ask(jax.random.split(how, episodes), states, actions)
            paid = jnp.mean(jnp.where(live, factor * costs, 0.0))
            return (after, live & ~ended, factor * discount), paid

        start = states, jnp.ones((episodes,), bool), jnp.ones((), states.dtype)
        return jnp.sum(jax.lax.scan(step, start, jax.random.split(key, max_steps))[1])


def pass_through(widths: tuple[int, ...], dtype: Any) -> Any:
    """A pass through layers, as a function of them and of what is seen."""
    build = lambda: perceptron(widths, dtype, nnx.Rngs(0))  # noqa: E731
    graph, _ = nnx.split(nnx.eval_shape(build))
    return lambda layers, seen: nnx.merge(graph, layers)(seen)


def uniform_prior(permitted: Any, dtype: Any) -> Float[Array, "... actions"]:
    """Log of uniform choice among permitted actions."""
    number = jnp.maximum(jnp.sum(permitted, axis=-1, keepdims=True), 1).astype(dtype)
    return jnp.where(permitted, -jnp.log(number), -jnp.inf)
