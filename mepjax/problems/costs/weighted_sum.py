"""The weighted sums sum_i weights_ik d(x_i, y_k) of any smooth cost: derivatives and descent.

Centres do not interact in them, so one derivative of the total serves all, and Hessians are K
blocks of d x d. Nothing larger than the cost's own intermediates is formed.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import trees
from ..._core.linear import for_each
from ...solvers.backtracking import backtrack
from ...solvers.equation import Equation
from ...solvers.fixed_point import FixedPoint
from ...solvers.loop import solve_stage
from .entities import Entities

# Columns of a Hessian that are computed at once.
_BLOCK = 8
_MAX_HALVINGS = 40
_MAX_STEPS = 10_000
_HIGHEST = jax.lax.Precision.HIGHEST

Pairwise = Callable[[Float[Array, "n d"], Float[Array, "k d"]], Float[Array, "n k"]]


def totals(
    weights: Float[Array, "n k"], x: Float[Array, "n d"], cost: Any, y: Float[Array, "k d"]
) -> Float[Array, " k"]:
    """For `Entities.sum`: sum_i weights_ik d(x_i, y_k)."""
    return jnp.sum(weights * cost.pairwise(x, y), axis=0)


def _curvatures(
    weights: Float[Array, "n k"], x: Float[Array, "n d"], cost: Any, y: Float[Array, "k d"]
) -> Float[Array, "k d d"]:
    """For `Entities.sum`: sum_i weights_ik Hess_y d(x_i, y_k)."""
    slope = jax.grad(lambda centres: jnp.sum(totals(weights, x, cost, centres)))
    _, linear = jax.linearize(slope, y)
    columns = jax.lax.map(
        # Of the type of y, which varies among devices inside `shard_map`.
        lambda direction: linear(0 * y + direction),
        jnp.eye(y.shape[1], dtype=y.dtype),
        batch_size=_BLOCK,
    )
    return jnp.moveaxis(columns, 0, -1)


def gradients(
    pairwise: Pairwise, x: Float[Array, "n d"], y: Float[Array, " d"]
) -> Float[Array, "n d"]:
    """grad_y d(x_i, y) of every entity at one centre."""
    _, linear = jax.linearize(lambda centre: pairwise(x, centre[None])[:, 0], y)
    directions = jnp.eye(y.size, dtype=y.dtype)
    return jax.lax.map(lambda v: linear(0 * y + v), directions, batch_size=_BLOCK).T


def squared_slopes(
    weights: Float[Array, "n 1"], x: Float[Array, "n d"], cost: Any, y: Float[Array, " d"]
) -> Float[Array, "d d"]:
    """For `Entities.sum`: sum_i weights_i g_i g_i^T with g_i = grad_y d(x_i, y)."""
    slopes = gradients(cost.pairwise, x, y)
    return jnp.matmul((weights * slopes).T, slopes, precision=_HIGHEST)


def hessians(cost: Any, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d d"]:
    """sum_i weights_ik Hess_y d(x_i, y_k), made positive definite; identity without mass."""
    return positive_definite(entities.sum(_curvatures, cost, y))


def positive_definite(blocks: Float[Array, "k d d"]) -> Float[Array, "k d d"]:
    """Symmetric blocks with eigenvalues made positive: by sign, and by a floor near zero.

    Positive definite blocks come back unchanged, and derivatives are those of the blocks given,
    since an eigendecomposition has none where eigenvalues coincide.
    """
    blocks = 0.5 * (blocks + jnp.swapaxes(blocks, 1, 2))
    values, vectors = for_each(jnp.linalg.eigh, jax.lax.stop_gradient(blocks))
    largest = jnp.max(jnp.abs(values), axis=1, keepdims=True)
    info = jnp.finfo(blocks.dtype)
    empty = largest <= float(info.tiny) ** 0.5
    floor = jnp.where(empty, 1.0, float(info.eps) ** 0.5 * largest)
    change = jnp.where(values > floor, 0.0, jnp.maximum(jnp.abs(values), floor) - values)
    correction = jnp.einsum("kab,kb,kcb->kac", vectors, change, vectors, precision=_HIGHEST)
    return blocks + jax.lax.stop_gradient(correction)


def solve_blocks(blocks: Float[Array, "k d d"], vector: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Solve with every block."""
    return for_each(jnp.linalg.solve, blocks, vector)


def newton_step(cost: Any, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """One Newton step per centre, each halved until its weighted sum has fallen enough.

    Hessians and step lengths are constants for derivatives: at a fixed point, where the step is
    zero, they contribute none.
    """
    still_cost, still = trees.stop_gradient((cost, entities))

    def sums(centres: Float[Array, "k d"]) -> Float[Array, " k"]:
        return still.sum(totals, still_cost, centres)

    slopes = jax.grad(lambda centres: jnp.sum(entities.sum(totals, cost, centres)))(y)
    blocks = jax.lax.stop_gradient(hessians(cost, entities, y))
    move = -solve_blocks(blocks, slopes)
    length = jax.lax.stop_gradient(_step_lengths(sums, *jax.lax.stop_gradient((y, slopes, move))))
    return y + length[:, None] * move


def _step_lengths(
    sums: Callable[[Array], Array],
    y: Float[Array, "k d"],
    slopes: Float[Array, "k d"],
    move: Float[Array, "k d"],
) -> Float[Array, " k"]:
    """For every centre the first of 1, 1/2, 1/4, ... that lowers its sum; 0 if none does."""
    before = sums(y)
    descent = jnp.sum(slopes * move, axis=1)
    # Below rounding of the sum a decrease cannot be seen.
    slack = 8 * jnp.finfo(y.dtype).eps * jnp.abs(before)

    def attempt(length: Array) -> tuple[Array, None]:
        after = sums(y + length[:, None] * move)
        return after <= before + 1e-4 * length * descent + slack, None

    ones = jnp.ones_like(before)
    end = backtrack(attempt, ones, None, retry=lambda length: 0.5 * length, most=_MAX_HALVINGS)
    # NaN in the data is no reason to stand still: it is to be seen.
    return jnp.where(end.accepted | jnp.isnan(before), end.size, 0.0)


class _Sums(Equation):
    """The weighted sums alone, whose fixed point the inner loop finds."""

    cost: Any
    entities: Entities
    scale: Float[Array, ""]

    def residual(self, params: Float[Array, "k d"], beta: Any) -> Float[Array, "k d"]:
        """Zero where the cost's own step leads nowhere."""
        return params - self.update(params, beta)

    def update(self, params: Float[Array, "k d"], beta: Any) -> Float[Array, "k d"]:
        """The cost's own step."""
        return self.cost.step(self.entities, params)

    def params_scale(self, params: Float[Array, "k d"]) -> Float[Array, ""]:
        """Spread of the data."""
        return self.scale


def minimise(
    cost: Any,
    entities: Entities,
    start: Float[Array, "k d"],
    scale: Float[Array, ""],
) -> Float[Array, "k d"]:
    """Repeat the cost's step from `start` until converged; no derivatives."""
    problem = _Sums(cost, entities, scale)
    double = start.dtype == jnp.float64
    result = solve_stage(
        problem,
        start,
        jnp.ones((), start.dtype),
        FixedPoint(),
        rtol=jnp.asarray(1e-12 if double else 1e-6, start.dtype),
        max_steps=jnp.asarray(_MAX_STEPS, jnp.int32),
    )
    return result.params
