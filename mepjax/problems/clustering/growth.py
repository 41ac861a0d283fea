"""Where clusters of squared distances split in two, what that gains, and what one is worth."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import gibbs
from ..._core.distances import DIFFERENCE_FORM_LIMIT, relative_squared_euclidean
from ..._core.linear import for_each, orientation
from ..._core.types import Scalar
from ...engine.slot_spectrum import SlotSpectrum
from ..costs.entities import live, means_of
from ..mean_spectrum import removal_costs
from .soft_means import Block, SoftMeans, product, with_ones

# The means of the two sides, and one refinement.
_PASSES = 2


class _Pair(eqx.Module):
    """Two centres in the place of one: what they gain, the first one's share, and where."""

    gain: Float[Array, " k"]
    share: Float[Array, " k"]
    first: Float[Array, "k d"]
    second: Float[Array, "k d"]


def slot_spectrum(means: SoftMeans, y: Float[Array, "k d"], beta: Scalar) -> SlotSpectrum:
    """`Problem.slot_spectrum`: exact critical betas, gains and removal costs as estimates.

    Two tied slots separate where 2 beta times the largest eigenvalue of
    sum_i shares_i a_i^2 policy_ij (x_i - y_j) (x_i - y_j)^T over the mass they receive is one.
    The pair is then found by a soft two-means of what they are told to take, from the two
    halves along the eigenvector, or from the centre and the entities farthest from it if that
    gains more.
    """
    y = y - means.origin
    d = y.shape[1]

    def part(block: Block) -> Any:
        x, a = block.x, block.firmness
        costs, offset = relative_squared_euclidean(block.y, x)
        told = block.shares * gibbs.policy(a * costs, block.beta, axis=0)
        both = with_ones(x)
        squares = costs if offset is None else costs + offset
        return (
            _second_moments(told * a * a, x, block.y),
            removal_costs(block.shares * a, costs),
            product(told * a, both),
            block.everywhere() + jnp.zeros_like(both[0]),
            product(told * squares**2, both),
        )

    spread, removal, told, every, distant = means.sum_blocks(part, y, beta, columns=d * d)
    mass = told[:, -1] + every[-1]
    alive = live(mass)
    spread = spread / jnp.where(alive, mass, 1.0)[:, None, None]
    values, vectors = for_each(jnp.linalg.eigh, spread)
    largest = jnp.where(alive, values[:, -1], 0.0)
    safe = jnp.where(largest > 0, largest, 1.0)
    critical = jnp.where(largest > 0, 0.5 / safe, jnp.inf)

    # So steep that a half-space remains.
    along = vectors[:, :, -1]
    length = jnp.where(largest > 0, 1e3 / jnp.sqrt(safe), 0.0) * orientation(along)
    normal = length[:, None] * along
    halves = normal, jnp.sum(normal * y, axis=1)
    # A few entities far away hardly turn the eigenvector, but they dominate this mean.
    far = means_of(distant[:, :-1], distant[:, -1], y)
    planes = jax.tree.map(lambda *both: jnp.stack(both), halves, _bisector(far, y, beta))
    # One after the other, since a trial takes long to compile.
    trials = jax.lax.map(lambda plane: _pair(means, y, beta, told, every, *plane), planes)
    better = trials.gain[1] > trials.gain[0]

    def best(both: Array) -> Array:
        return jnp.where(better.reshape(-1, *[1] * (both.ndim - 2)), both[1], both[0])

    pair = jax.tree.map(best, trials)
    return SlotSpectrum(
        mass=mass,
        critical_beta=critical,
        gain=pair.gain,
        removal=removal,
        first=pair.first + means.origin,
        second=pair.second + means.origin,
        share=pair.share,
    )


def _pair(
    means: SoftMeans,
    y: Float[Array, "k d"],
    beta: Scalar,
    told: Float[Array, "k d+1"],
    every: Float[Array, " d+1"],
    normal: Float[Array, "k d"],
    offset: Float[Array, " k"],
) -> _Pair:
    """Two for each centre, from the two sides of a hyperplane."""

    def sides(normal: Array, offset: Array) -> tuple[Array, Array]:
        def part(block: Block, plane: tuple[Array, Array]) -> Array:
            normal, offset = plane
            side = jax.nn.sigmoid(product(normal, block.x.T) - offset[:, None])
            firm = block.shares * block.firmness
            return product(firm * block.policy() * side, with_ones(block.x))

        first = means.sum_with(part, y, beta, (normal, offset))
        return first, told - first

    def centre(sums: Array) -> Array:
        total = sums + every
        return means_of(total[:, :-1], total[:, -1], y)

    def refined(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        one, other = sides(*state[:2])
        return *_bisector(centre(one), centre(other), beta), one, other

    state = (normal, offset, told, told)
    _, _, one, other = jax.lax.fori_loop(0, _PASSES, refined, state)
    first, second = centre(one), centre(other)
    alive = live(told[:, -1])
    mass = jnp.where(alive, told[:, -1], 1.0)
    gain = one[:, -1] * other[:, -1] / mass * jnp.sum((first - second) ** 2, axis=1)
    return _Pair(
        gain=jnp.where(alive, gain, 0.0),
        share=jnp.where(alive, one[:, -1] / mass, 0.5),
        first=first,
        second=second,
    )


def _bisector(
    first: Float[Array, "k d"], second: Float[Array, "k d"], beta: Scalar
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    """beta (|x - second|^2 - |x - first|^2) as normal x - offset."""
    squares = jnp.sum(first * first, axis=1) - jnp.sum(second * second, axis=1)
    return 2 * beta * (first - second), beta * squares


def _second_moments(
    weights: Float[Array, "k n"], x: Float[Array, "n d"], y: Float[Array, "k d"]
) -> Float[Array, "k d d"]:
    """sum_i weights_ki (x_i - y_k) (x_i - y_k)^T."""
    d = x.shape[1]
    if d <= DIFFERENCE_FORM_LIMIT:
        offsets = [x[None, :, f] - y[:, f, None] for f in range(d)]
        rows = [
            [jnp.sum(weights * offsets[min(f, g)] * offsets[max(f, g)], axis=1) for g in range(d)]
            for f in range(d)
        ]
        return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    squares = (x[:, :, None] * x[:, None, :]).reshape(x.shape[0], d * d)
    second = product(weights, squares).reshape(-1, d, d)
    first = product(weights, x)
    cross = y[:, :, None] * first[:, None, :]
    total = jnp.sum(weights, axis=1)[:, None, None]
    return second - cross - jnp.swapaxes(cross, 1, 2) + total * y[:, :, None] * y[:, None, :]
