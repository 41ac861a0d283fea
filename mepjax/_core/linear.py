"""Linear algebra that neither raises nor hangs inside compiled code."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

_MAX_POWER_STEPS = 1_000


def solve_symmetric(operator: lx.AbstractLinearOperator, vector: Any) -> Any:
    """Solve with a symmetric operator; NaN in gives NaN out, in every derivative too.

    lineax's own transpose raises on NaN even where the solve was told not to, which would take
    down all lanes of a `vmap` for one that failed.
    """
    return jax.lax.custom_linear_solve(
        operator.mv,
        vector,
        lambda _, b: lx.linear_solve(operator, b, throw=False).value,
        symmetric=True,
    )


def orientation(vectors: Any) -> Any:
    """1 or -1 for each vector along the last axis, so that the product does not depend on rounding.

    Eigenvectors have no sign of their own; vectors along an axis or between two have one here.
    """
    generic = 1 / jnp.sqrt(jnp.arange(1, vectors.shape[-1] + 1, dtype=vectors.dtype))
    return jnp.where(jnp.sum(vectors * generic, axis=-1) < 0, -1, 1).astype(vectors.dtype)


def for_each(function: Callable[..., Any], *batches: Any) -> Any:
    """`function` of every matrix of a batch, and of every row of further batches.

    On a CPU one after the other: jaxlib 0.10 hands the matrices of a batch to the very threads
    that wait for them, and with few cores, or several devices on them, it may wait for ever.
    """

    def in_turn(*batches: Any) -> Any:
        return jax.lax.map(lambda rows: function(*rows), batches)

    return jax.lax.platform_dependent(*batches, cpu=in_turn, default=jax.vmap(function))


def power_iteration(
    apply: Any, start: Array, *, groups: tuple[Array, int] | None = None
) -> Float[Array, " k"]:
    """Largest eigenvalues of positive semidefinite operators that act on separate vectors.

    Vectors are rows of `start`, or with `groups` = (labels, k) parts of one. The quotients are
    differentiable where eigenvalues are simple.
    """

    def inner(a: Array, b: Array) -> Array:
        if groups is None:
            return jnp.sum(a * b, axis=1)
        return jax.ops.segment_sum(a * b, groups[0], groups[1])

    def scaled(v: Array, by: Array) -> Array:
        return v * (by[:, None] if groups is None else by[groups[0]])

    def unit(v: Array) -> Array:
        length = jnp.sqrt(inner(v, v))
        return scaled(v, 1 / jnp.where(length > 0, length, 1.0))

    rtol = 4 * jnp.finfo(start.dtype).eps

    def proceed(state: tuple[Array, ...]) -> Array:
        _, now, before, step = state
        moving = jnp.abs(now - before) > rtol * jnp.max(now)
        return jnp.any(moving) & (step < _MAX_POWER_STEPS)

    def body(state: tuple[Array, ...]) -> tuple[Array, ...]:
        v, now, _, step = state
        image = apply(v)
        return unit(image), inner(v, image), now, step + 1

    first = unit(start)
    zero = jnp.zeros_like(inner(first, first))
    state = (first, zero, zero - 1, jnp.zeros((), jnp.int32))
    v = jax.lax.stop_gradient(jax.lax.while_loop(proceed, body, jax.lax.stop_gradient(state))[0])
    return inner(v, apply(v))


def solve_scaled(matrix: Float[Array, "k k"], vectors: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Solve with a positive definite matrix whose rows may differ by orders of magnitude."""
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    scaled = matrix * scale[:, None] * scale[None, :]
    operator = lx.MatrixLinearOperator(scaled, lx.positive_semidefinite_tag)
    columns = jax.vmap(lambda v: solve_symmetric(operator, v), in_axes=1, out_axes=1)
    return scale[:, None] * columns(scale[:, None] * vectors)
