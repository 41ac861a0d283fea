"""Solves with a Hessian whose small and negative eigenvalues are replaced by a floor.

Near a phase transition a Newton step is unbounded, and at a saddle it goes uphill. With the
eigenvalues of metric^-1/2 Hess F metric^-1/2 replaced by max(|.|, floor) it does neither.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .spectrum import Pencil, SpectrumOptions, lowest, scaled_matrix

# Up to this many unknowns the matrix is formed.
DENSE_LIMIT = 256
# Steps of conjugate gradients above that, and the relative residual at which they end.
_STEPS = 64
_RTOL = 1e-6


@jax.custom_jvp
def floored_inverse(
    matrix: Float[Array, "size size"], floor: Float[Array, ""]
) -> Float[Array, "size size"]:
    """Inverse of a symmetric matrix with its eigenvalues replaced by max(|eigenvalue|, floor).

    The derivative is that of a function of a matrix (Daleckii and Krein), which exists where
    eigenvalues coincide and those of `eigh` do not.
    """
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    return (vectors / jnp.maximum(jnp.abs(values), floor)) @ vectors.T


@floored_inverse.defjvp
def _floored_inverse_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (matrix, floor), (change, floor_change) = primals, tangents
    values, vectors = jnp.linalg.eigh(matrix, symmetrize_input=False)
    size = jnp.maximum(jnp.abs(values), floor)
    inverse = 1 / size
    slope = jnp.where(jnp.abs(values) > floor, -jnp.sign(values) / size**2, 0.0)
    gap = values[:, None] - values[None, :]
    close = jnp.abs(gap) <= jnp.finfo(values.dtype).eps ** 0.5 * (size[:, None] + size[None, :])
    quotients = (inverse[:, None] - inverse[None, :]) / jnp.where(close, 1.0, gap)
    quotients = jnp.where(close, 0.5 * (slope[:, None] + slope[None, :]), quotients)
    inner = quotients * (vectors.T @ change @ vectors)
    raised = jnp.where(jnp.abs(values) > floor, 0.0, -floor_change / size**2)
    out = (vectors / size) @ vectors.T
    return out, vectors @ (inner + jnp.diag(raised)) @ vectors.T


def floored_solve(
    pencil: Pencil,
    vector: Float[Array, " size"],
    floor: Float[Array, ""],
    *,
    dense_limit: int = DENSE_LIMIT,
) -> Float[Array, " size"]:
    """H_floor^-1 vector: eigenvalues of metric^-1/2 H metric^-1/2 replaced by max(|.|, floor).

    Above `dense_limit` unknowns by preconditioned conjugate gradients, which end at the first
    direction whose curvature is below the floor.

    **Arguments:** `pencil`, symmetric; `vector`, flat; `floor` >= 0.
    """
    if pencil.size > dense_limit:
        return _conjugate_gradients(pencil, vector, floor)
    scaled, half_solve = scaled_matrix(pencil, formed(pencil))
    inner = floored_inverse(scaled, floor) @ half_solve(vector[:, None], False)
    return half_solve(inner, True)[:, 0]


def formed(pencil: Pencil) -> Float[Array, "size size"]:
    """The matrix of a pencil."""
    return jax.vmap(pencil.apply)(jnp.eye(pencil.size, dtype=pencil.dtype)).T


def curvature_and_decrement(
    pencil: Pencil,
    slope: Float[Array, " size"],
    floor: Float[Array, ""],
    start: Float[Array, " size"],
    *,
    dense_limit: int = DENSE_LIMIT,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Lowest eigenvalue, and slope . H_floor^-1 slope / 2: what F is above its minimum near by.

    `start` is the random vector of `lowest`.
    """
    if pencil.size > dense_limit:
        step = _conjugate_gradients(pencil, slope, floor)
        return lowest(pencil, start, SpectrumOptions()).value, 0.5 * slope @ step
    scaled, half_solve = scaled_matrix(pencil, formed(pencil))
    along = half_solve(slope[:, None], False)[:, 0]
    values = jnp.linalg.eigvalsh(jax.lax.stop_gradient(scaled), symmetrize_input=False)
    return values[0], 0.5 * along @ floored_inverse(scaled, floor) @ along


def _conjugate_gradients(
    pencil: Pencil, vector: Float[Array, " size"], floor: Float[Array, ""]
) -> Float[Array, " size"]:
    """A fixed number of steps, so that it can be differentiated in reverse; masked after the end.

    Where already the first direction is below the floor, it is solved as if it were at the floor
    or, if it is negative, at its size.
    """
    first = pencil.project(pencil.solve_metric(vector))
    size = vector @ first

    def step(carry: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        x, residual, direction, product, going, started = carry
        image = pencil.apply(direction)
        length = direction @ pencil.metric(direction)
        safe = jnp.where(length > 0, length, 1.0)
        bend = direction @ image / safe
        high = bend > floor
        # The first direction counts in any case.
        taken = going & (high | ~started) & (length > 0)
        rate = product / (safe * jnp.where(taken, jnp.maximum(jnp.abs(bend), floor), 1.0))
        rate = jnp.where(taken, rate, 0.0)
        x = x + rate * direction
        residual = residual - rate * image
        preconditioned = pencil.project(pencil.solve_metric(residual))
        now = residual @ preconditioned
        going = taken & high & (now > _RTOL**2 * size)
        ratio = jnp.where(going, now / jnp.where(product > 0, product, 1.0), 0.0)
        direction = jnp.where(going, preconditioned + ratio * direction, direction)
        product = jnp.where(going, now, product)
        return (x, residual, direction, product, going, started | taken), None

    start = (jnp.zeros_like(vector), vector, first, size, size > 0, jnp.asarray(False))
    (x, *_), _ = jax.lax.scan(step, start, None, length=min(_STEPS, pencil.size))
    return x
