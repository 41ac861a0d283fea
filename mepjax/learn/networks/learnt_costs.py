"""A network with its parameters, as a function for average costs in the units of the data."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from ...problems.clustering import Clustering


class LearntCosts(eqx.Module):
    """Average costs as a network has learnt them: a function of any entities and any centres."""

    network: Any
    params: Any
    origin: Float[Array, " d"]
    spacing: Float[Array, ""]

    def __call__(self, x: Float[Array, "n d"], centres: Float[Array, "k d"]) -> Array:
        """d_avg(i, j), in the units of the cost."""
        at = lambda a: (a - self.origin) / self.spacing  # noqa: E731
        return self.spacing**2 * self.network(self.params, at(x), at(centres), None, True)


class Frozen(eqx.Module):
    """A network as a function of its parameters."""

    build: Callable[[], Any] = eqx.field(static=True)

    def __call__(self, params: Any, x: Array, centres: Array, key: Any, clipped: bool) -> Array:
        """Costs in the network's own units; see `ADEN`."""
        graph, _ = nnx.split(nnx.eval_shape(self.build))
        return nnx.merge(graph, params)(x, centres, key=key, clipped=clipped)


class Build(eqx.Module):
    """Makes the network, the same for the same settings."""

    network: Any = eqx.field(static=True)
    options: tuple[tuple[str, Any], ...] = eqx.field(static=True)
    features: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)

    def __call__(self, key: Any = None) -> Any:
        """A network whose parameters are drawn by `key`."""
        rngs = nnx.Rngs(params=jax.random.key(0) if key is None else key)
        return self.network(self.features, dtype=self.dtype, rngs=rngs, **dict(self.options))


def units(problem: Clustering) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Mean of the data, and total standard deviation over K^(1/d)."""
    shares = problem.weights / jnp.sum(problem.weights)
    origin = jax.lax.stop_gradient(problem.origin)
    variance = jnp.sum(shares @ (problem.x - origin) ** 2)
    deviation = jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 1.0)
    return origin, jax.lax.stop_gradient(deviation / problem.k ** (1 / problem.x.shape[1]))
