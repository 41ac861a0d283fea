"""Where training a network begins: levels of beta and first centres."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...engine.anneal import anneal
from ...engine.schedules import Explicit, Geometric
from ...problems.clustering import Clustering
from ...solvers.adjoints import NoGrad
from .learnt_costs import units

# First beta in units of one over the squared spacing, and how much it grows where it is held, as
# levels of a schedule must differ.
_FIRST, _HELD = 1.5, 1e-4
# Number of clusters from which no start is at the mean of the data.
_MANY = 10
# Noise on starts, in spacings.
_NOISE = 0.05


def rising_then_held(
    scale: Float[Array, ""], problem: Clustering, before: int, cycles: int
) -> Explicit:
    """Levels `before` centres move, then rising for three quarters of the cycles, then held."""
    _, spacing = units(problem)
    first = jnp.maximum(scale, _FIRST / spacing**2)
    last = jnp.maximum(1e4 * scale, 10 * first)
    rising = max(3 * cycles // 4, 1)
    share = np.clip((np.arange(before + cycles) - before) / rising, 0, 1)
    slow = _HELD * np.arange(before + cycles)
    return Explicit(first * jnp.exp(jnp.log(last / first) * share + slow))


def ignoring_and_others(problem: Clustering, starts: int, key: Any) -> Float[Array, "starts k d"]:
    """Half where autonomy is ignored, half at the mean, or scattered for many clusters."""
    place, draw, noise = jax.random.split(key, 3)
    _, spacing = units(problem)
    ignoring = anneal(problem, _quick(problem), key=place, adjoint=NoGrad()).params
    ignoring = problem.centres(ignoring)
    kicks = jax.random.normal(noise, (starts, *ignoring.shape), ignoring.dtype)
    if problem.k >= _MANY:
        scatter = lambda key: problem.centres(problem.scatter(key))  # noqa: E731
        others = jax.vmap(scatter)(jax.random.split(draw, starts))
    else:
        others = jnp.broadcast_to(problem.centres(problem.init(draw)), kicks.shape)
    half = (jnp.arange(starts) < (starts + 1) // 2)[:, None, None]
    return jnp.where(half, ignoring, others) + _NOISE * spacing * kicks


def _quick(problem: Clustering) -> Geometric:
    """A schedule that is good enough for a start."""
    scale = problem.beta_scale().astype(problem.x.dtype)
    stages = Geometric(0.5, 1e3, 1.3).max_stages
    return Geometric(0.5 * scale, 1e3 * scale, 1.3, max_stages=stages)
