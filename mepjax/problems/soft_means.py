"""Clustering by squared distance in passes over the data, block by block, centres by entities.

For no autonomy and for uniform autonomy alike: entity i told to join cluster j costs
a_i |x_i - y_j|^2 + f_i sum_k |x_i - y_k|^2, and cluster j receives the share a_i policy_ij + f_i
of it. Without autonomy a = 1 and f = 0, with uniform autonomy a = 1 - kappa K / (K - 1) and
f = kappa / (K - 1).
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import gibbs
from .._core.blocks import block_rows, block_sum
from .._core.distances import squared_euclidean
from .._core.types import Scalar
from ..engine.slot_spectrum import SlotSpectrum
from .cluster_sizes import Totals, totals_of
from .costs.base import live, means_of

_HIGHEST = jax.lax.Precision.HIGHEST
# Up to this many features sums of differences are exact and faster than products.
_FEW_FEATURES = 4
# The means of the two sides, and one refinement.
_PASSES = 2


def _product(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision=_HIGHEST)


def _with_ones(x: Float[Array, "n d"]) -> Float[Array, "n d+1"]:
    return jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)


class _Pair(eqx.Module):
    """Two centres in the place of one: what they gain, the first one's share, and where."""

    gain: Float[Array, " k"]
    share: Float[Array, " k"]
    first: Float[Array, "k d"]
    second: Float[Array, "k d"]


class SoftMeans(eqx.Module):
    """The data of such a clustering; `firmness` is a and `floor` is f, scalar or one per entity.

    Centres are in the units of `x`; distances are computed relative to `origin`. `prices` are added
    to the costs of being told to join each cluster.
    """

    x: Float[Array, "n d"]
    weights: Float[Array, " n"]
    firmness: Float[Array, "*n"]
    floor: Float[Array, "*n"]
    origin: Float[Array, " d"]
    prices: Float[Array, " k"] | None = None

    def _sum(self, part: Callable[..., Any], columns: int) -> Any:
        """Sum of part(shares, x, a, f) over the data, by shares of weight."""
        total = jnp.sum(self.weights)

        def centred(weights: Array, x: Array, a: Array, f: Array) -> Any:
            return part(weights, x - self.origin, a, f)

        data = (self.weights, self.x, self.firmness, self.floor)
        sums = block_sum(centred, *data, rows=block_rows(columns))
        return jax.tree.map(lambda a: a / total, sums)

    def _average(self, y: Float[Array, "k d"], x: Array, a: Array, f: Array) -> Array:
        costs = squared_euclidean(y, x)
        return a * costs + f * jnp.sum(costs, axis=0)

    def _priced(self, costs: Float[Array, "k n"]) -> Float[Array, "k n"]:
        return costs if self.prices is None else costs + self.prices[:, None]

    def free_energy(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """F."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> Array:
            costs = self._priced(self._average(y, x, a, f))
            return gibbs.free_energy(costs, shares, beta, axis=0)

        return self._sum(part, y.shape[0])

    def distortion_and_entropy(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """D and H."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> tuple[Array, Array]:
            return gibbs.distortion_and_entropy(self._average(y, x, a, f), shares, beta, axis=0)

        return self._sum(part, y.shape[0])

    def update(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        """The mean of what each cluster receives; without mass a centre stays."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> Array:
            policy = gibbs.policy(self._priced(a * squared_euclidean(y, x)), beta, axis=0)
            return _product((a * shares) * policy + f * shares, _with_ones(x))

        received = self._sum(part, y.shape[0])
        return means_of(received[:, :-1], received[:, -1], y) + self.origin

    # With prices.

    def totals(self, y: Float[Array, "k d"], beta: Scalar) -> Totals:
        """F, what is told to join each cluster, and the second moments of the policy."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> Totals:
            return totals_of(self._priced(self._average(y, x, a, f)), shares, beta)

        return self._sum(part, y.shape[0])

    def priced_terms(
        self, y: Float[Array, "k d"], beta: Scalar
    ) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, " k"]]:
        """D, which leaves prices out, H, and what is told to join each cluster."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> tuple[Array, Array, Array]:
            costs = self._average(y, x, a, f)
            _, entropy = gibbs.distortion_and_entropy(self._priced(costs), shares, beta, axis=0)
            told = shares * gibbs.policy(self._priced(costs), beta, axis=0)
            return jnp.sum(told * costs), entropy, jnp.sum(told, axis=1)

        return self._sum(part, y.shape[0])

    def masses(self, y: Float[Array, "k d"], beta: Scalar) -> Float[Array, " k"]:
        """The share of the weight that each cluster receives."""
        y = y - self.origin

        def part(shares: Array, x: Array, a: Array, f: Array) -> Array:
            policy = gibbs.policy(self._priced(a * squared_euclidean(y, x)), beta, axis=0)
            return jnp.sum((a * shares) * policy + f * shares, axis=1)

        return self._sum(part, y.shape[0])

    def slot_spectrum(self, y: Float[Array, "k d"], beta: Scalar) -> SlotSpectrum:
        """`Problem.slot_spectrum`: exact critical betas, gains and removal costs as estimates.

        Two tied slots separate where 2 beta times the largest eigenvalue of
        sum_i shares_i a_i^2 policy_ij (x_i - y_j) (x_i - y_j)^T over the mass they receive is one.
        The pair is then found by a soft two-means of what they are told to take, from the two
        halves along the eigenvector, or from the centre and the entities farthest from it if that
        gains more.
        """
        y = y - self.origin
        k, d = y.shape

        def part(shares: Array, x: Array, a: Array, f: Array) -> Any:
            costs = squared_euclidean(y, x)
            told = shares * gibbs.policy(a * costs, beta, axis=0)
            both = _with_ones(x)
            everywhere = jnp.sum((shares * f)[:, None] * both, axis=0)
            return (
                _second_moments(told * a * a, x, y),
                _removal_costs(shares * a, costs),
                _product(told * a, both),
                everywhere,
                _product(told * costs**2, both),
            )

        spread, removal, told, every, distant = self._sum(part, max(k, d * d))
        mass = told[:, -1] + every[-1]
        alive = live(mass)
        values, vectors = jnp.linalg.eigh(spread / jnp.where(alive, mass, 1.0)[:, None, None])
        largest = jnp.where(alive, values[:, -1], 0.0)
        safe = jnp.where(largest > 0, largest, 1.0)
        critical = jnp.where(largest > 0, 0.5 / safe, jnp.inf)

        # So steep that a half-space remains.
        normal = jnp.where(largest > 0, 1e3 / jnp.sqrt(safe), 0.0)[:, None] * vectors[:, :, -1]
        halved = self._pair(y, beta, told, every, normal, jnp.sum(normal * y, axis=1))
        # A few entities far away hardly turn the eigenvector, but they dominate this mean.
        far = means_of(distant[:, :-1], distant[:, -1], y)
        apart = self._pair(y, beta, told, every, *_bisector(far, y, beta))
        better = apart.gain > halved.gain

        def best(other: Array, own: Array) -> Array:
            return jnp.where(better.reshape(-1, *[1] * (own.ndim - 1)), other, own)

        pair = jax.tree.map(best, apart, halved)
        return SlotSpectrum(
            mass=mass,
            critical_beta=critical,
            gain=pair.gain,
            removal=removal,
            first=pair.first + self.origin,
            second=pair.second + self.origin,
            share=pair.share,
        )

    def _pair(
        self,
        y: Float[Array, "k d"],
        beta: Scalar,
        told: Float[Array, "k d+1"],
        every: Float[Array, " d+1"],
        normal: Float[Array, "k d"],
        offset: Float[Array, " k"],
    ) -> _Pair:
        """Two for each centre, from the two sides of a hyperplane."""

        def sides(normal: Array, offset: Array) -> tuple[Array, Array]:
            def part(shares: Array, x: Array, a: Array, f: Array) -> Array:
                del f
                policy = gibbs.policy(a * squared_euclidean(y, x), beta, axis=0)
                side = jax.nn.sigmoid(_product(normal, x.T) - offset[:, None])
                return _product((shares * a) * policy * side, _with_ones(x))

            first = self._sum(part, y.shape[0])
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


def _removal_costs(shares: Float[Array, " n"], costs: Float[Array, "k n"]) -> Float[Array, " k"]:
    """What those nearest to a centre lose if they have to go to the second nearest."""
    lowest = jnp.min(costs, axis=0)
    nearest = costs == lowest
    second = jnp.min(jnp.where(nearest, jnp.inf, costs), axis=0)
    alone = jnp.sum(nearest, axis=0) == 1
    lost = jnp.where(alone & jnp.isfinite(second), second - lowest, 0.0)
    return jnp.sum(jnp.where(nearest, shares * lost, 0.0), axis=1)


def _second_moments(
    weights: Float[Array, "k n"], x: Float[Array, "n d"], y: Float[Array, "k d"]
) -> Float[Array, "k d d"]:
    """sum_i weights_ki (x_i - y_k) (x_i - y_k)^T."""
    d = x.shape[1]
    if d <= _FEW_FEATURES:
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
