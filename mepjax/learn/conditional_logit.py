"""Where those go who override: a conditional logit in two numbers, by Newton's method."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core.codes import Code
from .evidence import Evidence

_MAX_STEPS = 60
# A step of Newton's method that gains less than this many roundings is the last.
_ENOUGH = 1e3
# Information per override, in units of squared mean distances, below which there is none.
_NO_INFORMATION = 1e2
# A coordinate of a direction without information that counts.
_SHARE = 1e-3


class Logit(eqx.Module):
    """The (zeta, gamma) of largest likelihood, their covariance, and whether the data tell them."""

    slope: Float[Array, "2"]
    covariance: Float[Array, "2 2"]
    identified: Bool[Array, "2"]
    code: Int[Array, ""]


class _Point(eqx.Module):
    """Mean log-likelihood of an override, its gradient and minus its Hessian."""

    value: Float[Array, ""]
    gradient: Float[Array, "2"]
    information: Float[Array, "2 2"]


class _Search(eqx.Module):
    slope: Float[Array, "2"]
    point: _Point
    length: Float[Array, ""]
    steps: Int[Array, ""]
    code: Int[Array, ""]


def slopes(evidence: Evidence, slope: Float[Array, "2"]) -> tuple[Array, Array]:
    """log softmax_{k != j}(-(zeta pull + gamma reach)), and the two distances, (2, m, K)."""
    assert evidence.pull is not None and evidence.reach is not None
    distances = jnp.stack([evidence.pull, evidence.reach])
    own = jnp.arange(distances.shape[2]) == evidence.prescribed[:, None]
    exponents = jnp.where(own, -jnp.inf, -(slope[0] * distances[0] + slope[1] * distances[1]))
    return jax.nn.log_softmax(exponents, axis=1), distances


def _point(
    evidence: Evidence, weights: Float[Array, " m"], scale: Float[Array, "2"], slope: Array
) -> _Point:
    log_weights, distances = slopes(evidence, slope / scale)
    chance = jnp.exp(log_weights)
    features = distances / scale[:, None, None]
    means = jnp.sum(chance * features, axis=2)
    chosen = evidence.realised[:, None]
    taken = jnp.take_along_axis(features, jnp.broadcast_to(chosen, (2, *chosen.shape)), axis=2)
    strayed = weights > 0
    logs = jnp.where(strayed, jnp.take_along_axis(log_weights, chosen, axis=1)[:, 0], 0.0)
    # Centred before they are multiplied: differences of squares would lose all digits.
    apart = features - means[:, :, None]
    information = jnp.einsum("m,mk,amk,bmk->ab", weights, chance, apart, apart)
    return _Point(jnp.sum(weights * logs), (means - taken[:, :, 0]) @ weights, information)


def maximise_likelihood(
    evidence: Evidence, start: Float[Array, "2"], *, steps: int = _MAX_STEPS
) -> Logit:
    """Newton's method from `start`, with backtracking; `steps=1` is one whole step.

    Directions without information are not moved along.
    """
    dtype = start.dtype
    eps = float(jnp.finfo(dtype).eps)
    weights = evidence.times * (evidence.realised != evidence.prescribed)
    overrides = jnp.sum(weights)
    weights = weights / jnp.maximum(overrides, 1e-30)
    assert evidence.pull is not None and evidence.reach is not None
    counted = evidence.times / jnp.maximum(jnp.sum(evidence.times), 1e-30)
    scale = jnp.stack(
        [counted @ jnp.mean(evidence.pull, axis=1), counted @ jnp.mean(evidence.reach, axis=1)]
    )
    scale = jnp.where(scale > 0, scale, 1.0)

    def evaluate(slope: Array) -> _Point:
        return _point(evidence, weights, scale, slope)

    def direction(point: _Point) -> Array:
        inverse, _ = _inverse(point.information, eps)
        return inverse @ point.gradient

    start = start * scale
    if steps == 1:
        slope = start + direction(evaluate(start))
        return Logit(slope / scale, jnp.zeros((2, 2), dtype), jnp.ones(2, bool), _code(Code.OK))

    def step(search: _Search) -> _Search:
        ahead = direction(search.point)
        gain = ahead @ search.point.gradient
        trial = search.slope + search.length * ahead
        at = evaluate(trial)
        better = at.value >= search.point.value - 4 * eps * jnp.abs(search.point.value)
        before = (search.slope, search.point)
        slope, point = jax.tree.map(lambda a, b: jnp.where(better, a, b), (trial, at), before)
        length = jnp.where(better, jnp.minimum(2 * search.length, 1.0), 0.25 * search.length)
        small = gain <= _ENOUGH * eps
        # A rising direction along which nothing rises is at rounding level, or wrong.
        stuck = length < 1e-6
        code = jnp.where(stuck & ~small, int(Code.STALLED), _RUNNING)
        code = jnp.where(small, int(Code.OK), code)
        code = jnp.where(jnp.isfinite(at.value), code, int(Code.NON_FINITE)).astype(jnp.int32)
        return _Search(slope, point, length, search.steps + 1, code)

    first = _Search(
        start, evaluate(start), jnp.ones((), dtype), jnp.zeros((), jnp.int32), _code(_RUNNING)
    )
    end = jax.lax.while_loop(
        lambda search: (search.code == _RUNNING) & (search.steps < steps), step, first
    )
    inverse, identified = _inverse(end.point.information, eps)
    identified = identified & (overrides > 0)
    covariance = inverse / jnp.maximum(overrides, 1e-30) / (scale[:, None] * scale[None, :])
    both = identified[:, None] & identified[None, :]
    unknown = jnp.where(jnp.eye(2, dtype=bool), jnp.inf, 0.0)
    covariance = jnp.where(both, covariance, unknown)
    code = jnp.where(end.code == _RUNNING, int(Code.MAX_STEPS), end.code).astype(jnp.int32)
    return Logit(end.slope / scale, covariance, identified, code)


_RUNNING = -1


def _code(code: int) -> Int[Array, ""]:
    return jnp.asarray(int(code), jnp.int32)


def _inverse(information: Float[Array, "2 2"], eps: float) -> tuple[Any, Any]:
    """Pseudo-inverse, and which coordinates no direction without information has a part in."""
    values, vectors = _eigen(information)
    known = values > _NO_INFORMATION * eps
    inverse = (vectors * jnp.where(known, 1 / jnp.where(known, values, 1.0), 0.0)) @ vectors.T
    unknown = jnp.any(~known & (jnp.abs(vectors) > _SHARE), axis=1)
    return inverse, ~unknown


def _eigen(matrix: Float[Array, "2 2"]) -> tuple[Float[Array, "2"], Float[Array, "2 2"]]:
    """Eigenvalues and vectors (columns) of a symmetric 2 x 2 matrix, by one rotation."""
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[1, 1]
    angle = 0.5 * jnp.arctan2(2 * b, a - c)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    first = a * cos**2 + 2 * b * cos * sin + c * sin**2
    second = a * sin**2 - 2 * b * cos * sin + c * cos**2
    return jnp.stack([first, second]), jnp.stack([jnp.stack([cos, -sin]), jnp.stack([sin, cos])])
