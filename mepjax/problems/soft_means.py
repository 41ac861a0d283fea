"""One pass over the data of clusterings by squared distance, centres by entities, in blocks.

For no autonomy and for uniform autonomy alike: the policy is softmax_j(-beta a_i |x_i - y_j|^2)
and cluster j receives the share a_i policy_ij + f_i of entity i, with a = 1 and f = 0 without
autonomy, a = 1 - kappa K / (K - 1) and f = kappa / (K - 1) with uniform.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.blocks import block_rows, block_sum
from .._core.types import Scalar
from ..engine.slot_spectrum import SlotSpectrum

_HIGHEST = jax.lax.Precision.HIGHEST
# Up to this many features differences are exact and faster than products.
_DIFFERENCE_FORM_LIMIT = 4
# The half-space means, and one refinement.
_PASSES = 2


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)


def _distances(x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "k n"]:
    """|x_i - y_k|^2 up to a number for each entity; centres first, which vectorises."""
    features = x.shape[1]
    if features <= _DIFFERENCE_FORM_LIMIT:
        return sum(
            ((y[:, f, None] - x[None, :, f]) ** 2 for f in range(1, features)),
            (y[:, 0, None] - x[None, :, 0]) ** 2,
        )
    return jnp.sum(y * y, axis=1)[:, None] - 2 * _product(y, x.T)


def _policy(costs: Float[Array, "k n"], slope: Array) -> Float[Array, "k n"]:
    exponents = slope * costs
    weights = jnp.exp(exponents - jax.lax.stop_gradient(jnp.max(exponents, axis=0)))
    return weights / jnp.sum(weights, axis=0)


def _with_ones(x: Float[Array, "n d"]) -> Float[Array, "n d+1"]:
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


def _mean(function: Any, weights: Float[Array, " n"], *arrays: Array, rows: int) -> Any:
    """Sum over the data by shares of weight, without an array of shares."""
    total = jnp.sum(weights)
    return jax.tree.map(lambda a: a / total, block_sum(function, weights, *arrays, rows=rows))


def masses_and_sums(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    firmness: Float[Array, "*n"],
    floor: Float[Array, "*n"],
    y: Float[Array, "k d"],
    beta: Scalar,
    origin: Float[Array, " d"],
) -> tuple[Float[Array, " k"], Float[Array, "k d"]]:
    """What each cluster receives: its mass, and the sum of shares times x - origin."""

    def part(shares: Array, x: Array, a: Array, f: Array) -> Array:
        x = x - origin
        policy = _policy(_distances(x, y), -beta * a)
        return _product((a * shares) * policy + f * shares, _with_ones(x))

    rows = block_rows(y.shape[0])
    sums = _mean(part, weights, x, firmness, floor, rows=rows)
    return sums[:, -1], sums[:, :-1]


def free_energy_and_distortion(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    firmness: Float[Array, "*n"],
    floor: Float[Array, "*n"],
    y: Float[Array, "k d"],
    beta: Scalar,
    origin: Float[Array, " d"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """F and D; the entropy is beta (D - F)."""

    def part(shares: Array, x: Array, a: Array, f: Array) -> tuple[Array, Array]:
        x = x - origin
        costs = _distances(x, y)
        if x.shape[1] > _DIFFERENCE_FORM_LIMIT:
            squares = costs + jnp.sum(x * x, axis=1)
            # Clipped in value only, to keep the Hessian of coincident pairs.
            costs = squares + jax.lax.stop_gradient(jnp.maximum(squares, 0.0) - squares)
        exponents = -beta * a * costs
        highest = jax.lax.stop_gradient(jnp.max(exponents, axis=0))
        weights = jnp.exp(exponents - highest)
        total = jnp.sum(weights, axis=0)
        everywhere = f * jnp.sum(costs, axis=0)
        energy = everywhere - (highest + jnp.log(total)) / beta
        distortion = everywhere + a * jnp.sum(weights * costs, axis=0) / total
        return jnp.sum(shares * energy), jnp.sum(shares * distortion)

    return _mean(part, weights, x, firmness, floor, rows=block_rows(y.shape[0]))


def slot_spectrum(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    firmness: Float[Array, "*n"],
    floor: Float[Array, "*n"],
    y: Float[Array, "k d"],
    beta: Scalar,
    origin: Float[Array, " d"],
) -> SlotSpectrum:
    """`Problem.slot_spectrum`: exact critical betas, gains and removal costs as estimates.

    Two tied slots separate where 2 beta times the largest eigenvalue of
    sum_i shares_i a_i^2 policy_ij (x_i - y_j) (x_i - y_j)^T over the mass they receive is one. The
    pair is then found by a soft two-means of what they are told to take, from the two halves along
    the eigenvector, or from the centre and the entities farthest from it if that gains more.
    """
    k, d = y.shape
    rows = block_rows(max(k, d * d))

    def moments(shares: Array, x: Array, a: Array, f: Array) -> Any:
        x = x - origin
        costs = _distances(x, y)
        told = shares * _policy(costs, -beta * a)
        spread = _second_moments(told * a * a, x, y)
        lowest = jnp.min(costs, axis=0)
        nearest = costs == lowest
        second = jnp.min(jnp.where(nearest, jnp.inf, costs), axis=0)
        alone = jnp.sum(nearest, axis=0) == 1
        lost = jnp.where(alone & jnp.isfinite(second), second - lowest, 0.0)
        removal = jnp.sum(jnp.where(nearest, shares * a * lost, 0.0), axis=1)
        both = _with_ones(x)
        everywhere = jnp.sum((shares * f)[:, None] * both, axis=0)
        squares = costs if d <= _DIFFERENCE_FORM_LIMIT else costs + jnp.sum(x * x, axis=1)
        distant = _product(told * squares**2, both)
        return spread, removal, _product(told * a, both), everywhere, distant

    spread, removal, told, every, distant = _mean(moments, weights, x, firmness, floor, rows=rows)
    mass = told[:, -1] + every[-1]
    alive = mass > float(jnp.finfo(y.dtype).tiny) ** 0.5
    safe = jnp.where(alive, mass, 1.0)
    values, vectors = jnp.linalg.eigh(spread / safe[:, None, None])
    largest = jnp.where(alive, values[:, -1], 0.0)
    critical = jnp.where(largest > 0, 0.5 / jnp.where(largest > 0, largest, 1.0), jnp.inf)

    def halves(normal: Array, offset: Array) -> tuple[Array, Array]:
        def part(shares: Array, x: Array, a: Array) -> Array:
            x = x - origin
            policy = _policy(_distances(x, y), -beta * a)
            side = jax.nn.sigmoid(_product(normal, x.T) - offset[:, None])
            return _product((shares * a) * policy * side, _with_ones(x))

        first = _mean(part, weights, x, firmness, rows=block_rows(k))
        return first, told - first

    def centre(sums: Array) -> Array:
        total = sums + every
        some = total[:, -1:] > 0
        return jnp.where(some, total[:, :-1] / jnp.where(some, total[:, -1:], 1.0), y)

    def refined(_: Any, state: tuple[Array, ...]) -> tuple[Array, ...]:
        normal, offset = state[:2]
        one, other = halves(normal, offset)
        a, b = centre(one), centre(other)
        normal = 2 * beta * (a - b)
        offset = beta * (jnp.sum(a * a, axis=1) - jnp.sum(b * b, axis=1))
        return normal, offset, one, other

    def pair(normal: Array, offset: Array) -> tuple[Array, Array, Array, Array]:
        """What two would gain that start from the two sides of a hyperplane; and the two."""
        state = (normal, offset, told, told)
        _, _, one, other = jax.lax.fori_loop(0, _PASSES, refined, state)
        a, b = centre(one), centre(other)
        received = jnp.where(alive & (told[:, -1] > 0), told[:, -1], 1.0)
        between = one[:, -1] * other[:, -1] / received * jnp.sum((a - b) ** 2, axis=1)
        share = jnp.where(alive, one[:, -1] / received, 0.5)
        return jnp.where(alive, between, 0.0), share, a, b

    # So steep that a half-space remains.
    steep = 1e3 * jnp.sqrt(jnp.where(largest > 0, 1 / jnp.where(largest > 0, largest, 1.0), 0.0))
    normal = steep[:, None] * vectors[:, :, -1]
    halved = pair(normal, jnp.sum(normal * y, axis=1))
    # A few entities far away count little in the eigenvector; the mean that they dominate does not.
    seen = distant[:, -1:] > 0
    far = jnp.where(seen, distant[:, :-1] / jnp.where(seen, distant[:, -1:], 1.0), y)
    offset = beta * (jnp.sum(far * far, axis=1) - jnp.sum(y * y, axis=1))
    apart = pair(2 * beta * (far - y), offset)
    better = apart[0] > halved[0]
    gain, share = (jnp.where(better, v, u) for u, v in zip(halved[:2], apart[:2], strict=True))
    a, b = (jnp.where(better[:, None], v, u) for u, v in zip(halved[2:], apart[2:], strict=True))
    return SlotSpectrum(mass, critical, gain, removal, a + origin, b + origin, share)


def _second_moments(
    weights: Float[Array, "k n"], x: Float[Array, "n d"], y: Float[Array, "k d"]
) -> Float[Array, "k d d"]:
    """sum_i weights_ki (x_i - y_k) (x_i - y_k)^T."""
    d = x.shape[1]
    if d <= _DIFFERENCE_FORM_LIMIT:
        offsets = [x[None, :, f] - y[:, f, None] for f in range(d)]
        rows = [
            [jnp.sum(weights * offsets[min(f, g)] * offsets[max(f, g)], axis=1) for g in range(d)]
            for f in range(d)
        ]
        return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    squares = (x[:, :, None] * x[:, None, :]).reshape(x.shape[0], d * d)
    second = _product(weights, squares).reshape(-1, d, d)
    first = _product(weights, x)
    cross = y[:, :, None] * first[:, None, :]
    total = jnp.sum(weights, axis=1)[:, None, None]
    return second - cross - jnp.swapaxes(cross, 1, 2) + total * y[:, :, None] * y[:, None, :]
