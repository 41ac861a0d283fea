"""What a group of a scalable clustering computes with, and what that costs."""

import math
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

if TYPE_CHECKING:
    from .problem import ScalableClustering

# Pairs with a smaller exp(-d / (s V)) need not be computed, equation (36) and after.
KEPT = 1e-2
# The reach of a group in units of the total variance stays within these.
SHORTEST, LONGEST = 1e-5, 1e3


class ScalableParams(eqx.Module):
    """Unknowns of a scalable clustering: `centres` (K, d) and `log_reach` (K,).

    exp(log_reach_j) is the squared radius s_j that group j computes within, in units of the total
    variance of the data.
    """

    centres: Float[Array, "k d"]
    log_reach: Float[Array, " k"]


class CostParts(eqx.Module):
    """The three costs of a scalable clustering, whose weighted sum is its distortion.

    **Fields:**

    - `coverage`: F_1, the expected distance, in units of the cost.
    - `interaction`: F_2, the expected distance beyond the reach of the groups, likewise.
    - `computation`: F_3, the expected squared share of the weight that a group computes with.
    - `kept`: share of the pairs of entity and group with exp(-d / (s V)) above 0.01.
    """

    coverage: Float[Array, ""]
    interaction: Float[Array, ""]
    computation: Float[Array, ""]
    kept: Float[Array, ""]


class HardAllocation(eqx.Module):
    """Hard decisions of a scalable clustering.

    **Fields:** `assignments` (N,), the group of each entity; `cost`, the sum of the three costs, D
    at beta -> infinity; `coverage`, the mean distance alone; `kept`, as in `CostParts`.
    """

    assignments: Int[Array, " n"]
    cost: Float[Array, ""]
    coverage: Float[Array, ""]
    kept: Float[Array, ""]


class Exchange(eqx.Module):
    """Distances and shares of all pairs at given centres and reaches.

    With t = d / (s V): `distances` d, `nearness` exp(-t), `ratio` t, `share` n_j, `total` d~.
    """

    distances: Float[Array, "n k"]
    ratio: Float[Array, "n k"]
    nearness: Float[Array, "n k"]
    share: Float[Array, " k"]
    total: Float[Array, "n k"]


def inside(log_reach: Float[Array, " k"]) -> Float[Array, " k"]:
    """Brought into the range of reaches."""
    low, high = math.log(SHORTEST), math.log(LONGEST)
    return jnp.where(log_reach <= low, low, jnp.where(log_reach >= high, high, log_reach))


def exchange(
    distances: Float[Array, "n k"],
    log_reach: Float[Array, " k"],
    shares: Float[Array, " n"],
    variance: Float[Array, ""],
    interaction: Any,
    computation: Any,
) -> Exchange:
    """d~_ij = d + interaction d (1 - exp(-t)) + computation V n_j^2 and its parts."""
    ratio = distances / (jnp.exp(log_reach) * variance)
    nearness = jnp.exp(-ratio)
    share = shares @ nearness
    # expm1 keeps what is small of what is near.
    total = distances * (1 - interaction * jnp.expm1(-ratio)) + computation * variance * share**2
    return Exchange(distances, ratio, nearness, share, total)


def reach_is_held(problem: "ScalableClustering", log_reach: Array, slope: Array) -> Array:
    """Whether a reach is at an end beyond which costs would fall, or nothing acts on it."""
    low, high = math.log(SHORTEST), math.log(LONGEST)
    beyond = ((log_reach <= low) & (slope >= 0)) | ((log_reach >= high) & (slope <= 0))
    return beyond | ((problem.interaction == 0) & (problem.computation == 0))


def best_common_reach(
    distances: Float[Array, "n 1"],
    shares: Float[Array, " n"],
    variance: Float[Array, ""],
    interaction: Any,
    computation: Any,
) -> Float[Array, ""]:
    """log s of least cost for one group that serves all: a grid, then thirds of its best cell."""

    def cost(log_reach: Float[Array, ""]) -> Float[Array, ""]:
        pairs = exchange(distances, log_reach[None], shares, variance, interaction, computation)
        return shares @ pairs.total[:, 0]

    dtype = distances.dtype
    low, high = jnp.log(jnp.asarray(SHORTEST, dtype)), jnp.log(jnp.asarray(LONGEST, dtype))
    grid = jnp.linspace(low, high, 64, dtype=dtype)
    step = grid[1] - grid[0]
    best = grid[jnp.argmin(jax.lax.map(cost, grid))]

    def narrow(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        left, right = ends
        third = (right - left) / 3
        lower = cost(left + third) < cost(right - third)
        return (jnp.where(lower, left, left + third), jnp.where(lower, right - third, right)), None

    ends = (jnp.maximum(best - step, low), jnp.minimum(best + step, high))
    (left, right), _ = jax.lax.scan(narrow, ends, None, length=60)
    middle = 0.5 * (left + right)
    # A cost that falls all the way to an end has its least there, to the bit.
    tried = jnp.stack([middle, low, high])
    return tried[jnp.argmin(jax.lax.map(cost, tried))]


def printed_radius(
    distances: Float[Array, "n k"],
    joint: Float[Array, "n k"],
    shares: Float[Array, " n"],
    interaction: Any,
    computation: Any,
) -> Float[Array, " k"]:
    """sigma of equation (32), (42), in units of the distances; inf where it comes out negative.

    It is meant to solve equation (28) at the joint distribution and does not: of the vectors that
    would solve it the one of least norm is taken, which grows with the distance, while exp(-d /
    sigma) falls. `interaction` and `computation` are beta_2 and beta_3 in a common unit.
    """
    slope = 2 * computation * jnp.sum(joint, axis=0) * shares[:, None] * distances
    target = interaction * jnp.sum(joint * distances**2 * slope, axis=0)
    scale = target / (shares @ slope * jnp.sum(slope**2, axis=0))
    logs = jnp.log(scale) + jnp.log(jnp.where(slope > 0, slope, 1.0))
    inverse = -jnp.sum(distances * logs, axis=0) / jnp.sum(distances**2, axis=0)
    return jnp.where(inverse > 0, 1 / jnp.where(inverse > 0, inverse, 1.0), jnp.inf)
