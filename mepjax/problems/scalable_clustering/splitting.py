"""Where groups of a scalable clustering separate, and what that gains."""

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import gibbs
from ..._core.linear import for_each, orientation
from ..._core.types import Scalar
from ...engine.slot_spectrum import SlotSpectrum
from ..costs.entities import WeightedEntities, safe_masses
from .shares import reach_is_held

if TYPE_CHECKING:
    from .problem import ScalableClustering

_HIGHEST = jax.lax.Precision.HIGHEST


def _costs(problem: "ScalableClustering", place: Float[Array, " d+1"]) -> Float[Array, " n"]:
    """d~_i of one group whose centre, relative to the origin, and log reach are given."""
    origin = problem.origin()
    distances = problem.cost.pairwise(problem.x - origin, place[None, :-1])
    return problem.exchange_of(distances, place[-1:]).total[:, 0]


def _critical(
    problem: "ScalableClustering",
    place: Float[Array, " d+1"],
    weights: Float[Array, " n"],
) -> tuple[Float[Array, ""], Float[Array, " d+1"], Float[Array, " n"]]:
    """(critical beta, direction, slope of every d~_i along it) of one group with these weights."""
    directions = jnp.eye(place.size, dtype=place.dtype)
    _, linear = jax.linearize(lambda p: _costs(problem, p), place)
    slopes = jax.vmap(linear)(directions).T
    total = jnp.sum(weights)
    share = weights / jnp.where(total > 0, total, 1.0)
    mean = share @ slopes
    centred = slopes - mean
    covariance = jnp.matmul((share[:, None] * centred).T, centred, precision=_HIGHEST)
    hessian = jax.hessian(lambda p: share @ _costs(problem, p))(place)
    held = reach_is_held(problem, place[-1], mean[-1])
    free = jnp.ones_like(place).at[-1].set(jnp.where(held, 0.0, 1.0))
    covariance = covariance * free[:, None] * free[None, :]
    # Twins separate in the directions that are left alone.
    hessian = hessian * free[:, None] * free[None, :] + jnp.diag(1 - free)
    values, vectors = jnp.linalg.eigh(0.5 * (hessian + hessian.T))
    # A group that is no minimum of its own cost is unstable at every beta.
    least = jnp.finfo(place.dtype).eps * jnp.max(jnp.abs(values))
    roots = vectors * jax.lax.rsqrt(jnp.maximum(values, jnp.where(least > 0, least, 1.0)))
    pencil = roots.T @ covariance @ roots
    gains, along = jnp.linalg.eigh(0.5 * (pencil + pencil.T))
    largest = gains[-1]
    critical = jnp.where(largest > 0, 1 / jnp.where(largest > 0, largest, 1.0), jnp.inf)
    direction = roots @ along[:, -1]
    direction = direction * orientation(direction[:-1])
    return critical, direction, centred @ direction


def first_transition(problem: "ScalableClustering", params: Any) -> Float[Array, ""]:
    """beta at which coincident groups separate; 1 for constant data."""
    place = _places(problem, params)[0]
    critical, _, _ = _critical(problem, place, problem.shares())
    return jnp.where(jnp.isfinite(critical), critical, 1.0)


def _places(problem: "ScalableClustering", params: Any) -> Float[Array, "k d+1"]:
    relative = params.centres - problem.origin()
    return jnp.concatenate([relative, params.log_reach[:, None]], axis=1)


def slot_spectrum(problem: "ScalableClustering", params: Any, beta: Scalar) -> SlotSpectrum:
    """Per group its critical beta, and what two in its place would gain."""
    origin, shares = problem.origin(), problem.shares()
    pairs = problem.exchange(params)
    weights = shares[:, None] * gibbs.policy(pairs.total, beta)
    masses = jnp.sum(weights, axis=0)
    places = _places(problem, params)
    critical, _, sides = for_each(lambda p, w: _critical(problem, p, w), places, weights.T)
    on_first = (sides > 0).T
    halves = jnp.concatenate([weights * on_first, weights * ~on_first], axis=1)
    sizes = jnp.sum(halves, axis=0)
    entities = WeightedEntities(halves, problem.x - origin)
    twice = jnp.concatenate([places[:, :-1]] * 2)
    centres = jnp.where((sizes > 0)[:, None], problem.cost.minimise(entities), twice)
    reach = jnp.concatenate([params.log_reach] * 2)
    two = problem.exchange_of(problem.cost.pairwise(problem.x - origin, centres), reach).total
    first, second = jnp.split(two, 2, axis=1)
    gain = jnp.sum(weights * (pairs.total - jnp.minimum(first, second)), axis=0)
    removal = jnp.sum(weights * (_second_best(pairs.total) - pairs.total), axis=0)
    one, other = jnp.split(centres + origin, 2)
    return SlotSpectrum(
        mass=masses,
        critical_beta=critical,
        gain=jnp.maximum(gain, 0.0),
        removal=jnp.maximum(removal, 0.0),
        first=type(params)(one, params.log_reach),
        second=type(params)(other, params.log_reach),
        share=sizes[: masses.size] / safe_masses(masses),
    )


def _second_best(costs: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Least cost of every entity among the other groups; of one group alone its own."""
    if costs.shape[1] == 1:
        return costs
    least = jnp.argmin(costs, axis=1)[:, None]
    others = jnp.where(jnp.arange(costs.shape[1])[None] == least, jnp.inf, costs)
    best = jnp.min(costs, axis=1, keepdims=True)
    second = jnp.min(others, axis=1, keepdims=True)
    return jnp.where(jnp.arange(costs.shape[1])[None] == least, second, best)
