"""Derivatives of the free energy of a scalable clustering: equations (26) to (28)."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..._core import gibbs, trees
from ..._core.types import Scalar
from ..costs.entities import live, safe_masses
from .shares import Exchange, ScalableParams, inside, reach_is_held

if TYPE_CHECKING:
    from .problem import ScalableClustering


class Slopes(eqx.Module):
    """grad F in `centres` and `reach` (log s), and what goes with it.

    `weights` is the joint distribution of entity and group, `masses` its sum by group, `curvature`
    a positive size of the second derivative in log s, `held` where a reach stays at its end and
    `alive` where a group has mass.
    """

    centres: Float[Array, "k d"]
    reach: Float[Array, " k"]
    weights: Float[Array, "n k"]
    masses: Float[Array, " k"]
    curvature: Float[Array, " k"]
    held: Bool[Array, " k"]
    alive: Bool[Array, " k"]


def reach_slope(
    pairs: Exchange, weights: Float[Array, "n k"], shares: Float[Array, " n"], prices: Any
) -> Float[Array, " k"]:
    """dF / d log s: equation (28), zero where a reach is best."""
    interaction, computing = prices
    pull = pairs.ratio * pairs.nearness
    beyond = interaction * jnp.sum(weights * pairs.distances * pull, axis=0)
    return 2 * computing * jnp.sum(weights, axis=0) * pairs.share * (shares @ pull) - beyond


def _curvature(
    pairs: Exchange, weights: Float[Array, "n k"], shares: Float[Array, " n"], prices: Any
) -> Float[Array, " k"]:
    """Second derivative of the same, the policy held, with every entity's sign dropped."""
    interaction, computing = prices
    pull = pairs.ratio * pairs.nearness
    bend = pull * jnp.abs(pairs.ratio - 1)
    beyond = interaction * jnp.sum(weights * pairs.distances * bend, axis=0)
    masses = jnp.sum(weights, axis=0)
    return beyond + 2 * computing * masses * ((shares @ pull) ** 2 + pairs.share * (shares @ bend))


def slopes(problem: "ScalableClustering", params: ScalableParams, beta: Scalar) -> Slopes:
    """All of them in one pass over the pairs."""
    shares, origin, variance = problem.shares(), problem.origin(), problem.variance()
    prices = (problem.interaction, problem.computation * variance)
    still, values = trees.stop_gradient((problem, params))
    pairs = still.exchange(values)
    weights = shares[:, None] * gibbs.policy(pairs.total, beta)
    slope = reach_slope(pairs, weights, shares, prices)
    held = reach_is_held(problem, params.log_reach, slope)
    # To the rest of the problem a reach that is held is a constant.
    seen = jnp.where(held, values.log_reach, params.log_reach)

    x = problem.x - origin
    distances, back = jax.vjp(lambda y: problem.cost.pairwise(x, y), params.centres - origin)
    pairs = problem.exchange_of(distances, seen)
    weights = shares[:, None] * gibbs.policy(pairs.total, beta)
    masses = jnp.sum(weights, axis=0)
    # dF / dd_ij: W of equation (27), and what distances do to the shares.
    interaction, computing = prices
    direct = weights * (1 + interaction * (1 + (pairs.ratio - 1) * pairs.nearness))
    length = jnp.exp(inside(seen)) * variance
    through = shares[:, None] * pairs.nearness * (2 * computing * masses * pairs.share / length)
    (centres,) = back(direct - through)
    curvature = _curvature(pairs, weights, shares, prices)
    # A reach that hardly matters must not leap, nor creep.
    rounding = float(jnp.finfo(x.dtype).eps) ** 0.5
    least = rounding * safe_masses(masses) * (variance * interaction + computing)
    alive = live(masses)
    curvature = jnp.where(held | ~alive, 1.0, curvature + least)
    return Slopes(
        centres,
        reach_slope(pairs, weights, shares, prices),
        weights,
        masses,
        jax.lax.stop_gradient(curvature),
        held,
        alive,
    )
