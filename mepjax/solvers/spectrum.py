"""Lowest curvature of the free energy relative to the problem's metric, and its direction.

`curvature` is the smallest eigenvalue of metric^-1/2 Hess F metric^-1/2 on the primal variables:
1 as beta -> 0, 0 at a phase transition, negative at a saddle. Where the residual is no gradient
it is 1 minus the largest real part of the eigenvalues of d update / d params.

Small problems form the matrix; larger ones use Krylov spaces on Jacobian-vector products, so no
Kd x Kd matrix exists at scale.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._core.params import join_params, primal_of, split_params
from .equation import FreeEnergy
from .implicit import orthonormal_rows

# Eigenvalues this close to the lowest count as degenerate with it when a direction is drawn.
_DEGENERACY = 1e-3


class SpectrumOptions(eqx.Module):
    """Sizes of the eigenvalue computation.

    Up to `dense_limit` unknowns matrices are formed; above it `krylov` Lanczos (or Arnoldi)
    steps are taken.
    """

    dense_limit: int = eqx.field(static=True, default=24)
    krylov: int = eqx.field(static=True, default=24)

    def __check_init__(self) -> None:
        if self.krylov < 2:
            raise ValueError(f"`krylov` must be at least 2; got {self.krylov}.")


class Pencil(eqx.Module):
    """The generalised eigenproblem A v = mu B v on flat primal vectors.

    `apply` is A, `metric` is B, `solve_metric` its inverse, `diagonal` the diagonal of B where B
    is diagonal. `gauge` is a basis, orthonormal in B, of directions to leave out.
    """

    apply: Callable[[Array], Array]
    metric: Callable[[Array], Array]
    solve_metric: Callable[[Array], Array]
    diagonal: Float[Array, " size"] | None
    gauge: Float[Array, "directions size"] | None
    size: int = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)

    def project(self, v: Float[Array, " size"]) -> Float[Array, " size"]:
        """Remove the gauge from a vector: what is left is orthogonal to it in B."""
        return v if self.gauge is None else v - self.gauge.T @ (self.gauge @ self.metric(v))


def primal_pencil(problem: FreeEnergy, params: Any, beta: Float[Array, ""]) -> Pencil:
    """Curvature of F in the primal variables: Schur complement of what is eliminated."""
    primal, dual = split_params(params)
    flat, unravel = ravel_pytree(primal)

    if problem.variational and dual is None:

        def residual(flat_primal: Array) -> tuple[Array, Any]:
            slope, metric = problem.residual_and_metric(unravel(flat_primal), beta)
            return ravel_pytree(slope)[0], metric

        _, apply, metric = jax.linearize(residual, flat, has_aux=True)
    elif problem.variational:
        metric = problem.metric(params, beta)
        apply = _schur_complement(problem, params, beta, primal, dual)
    else:
        metric = problem.metric(params, beta)

        # I - d update, in the metric: the same sign conventions as the Hessian.
        def update(flat_primal: Array) -> Array:
            joined = problem.eliminate(join_params(unravel(flat_primal), dual), beta)
            return ravel_pytree(primal_of(problem.update(joined, beta)))[0]

        _, linear_update = jax.linearize(update, flat)

        def without_update(v: Array) -> Array:
            return ravel_pytree(metric.mv(unravel(v - linear_update(v))))[0]

        apply = without_update

    def metric_mv(v: Array) -> Array:
        return ravel_pytree(metric.mv(unravel(v)))[0]

    def solve_metric(v: Array) -> Array:
        return ravel_pytree(problem.precondition(params, beta, unravel(v)))[0]

    diagonal = ravel_pytree(lx.diagonal(metric))[0] if lx.is_diagonal(metric) else None
    return Pencil(
        apply=apply,
        metric=metric_mv,
        solve_metric=solve_metric,
        diagonal=diagonal,
        gauge=_primal_gauge(problem, params, metric_mv),
        size=flat.size,
        dtype=flat.dtype,
        symmetric=problem.variational,
    )


def _schur_complement(
    problem: FreeEnergy, params: Any, beta: Float[Array, ""], primal: Any, dual: Any
) -> Callable[[Array], Array]:
    """The Hessian in the primal where what is eliminated follows it."""
    flat, unravel = ravel_pytree(primal)
    flat_dual, unravel_dual = ravel_pytree(dual)

    def kkt(flat_primal: Array, flat_dual: Array) -> tuple[Array, Array]:
        joined = join_params(unravel(flat_primal), unravel_dual(flat_dual))
        first, second = split_params(problem.residual(joined, beta))
        return ravel_pytree(first)[0], ravel_pytree(second)[0]

    _, linear = jax.linearize(kkt, flat, flat_dual)
    zero_primal, zero_dual = jnp.zeros_like(flat), jnp.zeros_like(flat_dual)
    own = problem.eliminated_solve(params, beta)
    if own is None:
        # Few, such as one price per constraint: their block may be formed, and be singular.
        unit = jnp.eye(flat_dual.size, dtype=flat_dual.dtype)
        inverse = jnp.linalg.pinv(jax.vmap(lambda a: linear(zero_primal, a)[1])(unit).T)

        def solve(vector: Array) -> Array:
            return inverse @ vector

    else:

        def solve(vector: Array) -> Array:
            return ravel_pytree(own(unravel_dual(vector)))[0]

    def schur(v: Array) -> Array:
        direct, pushed = linear(v, zero_dual)
        followed, _ = linear(zero_primal, solve(pushed))
        return direct - followed

    return schur


def _primal_gauge(
    problem: FreeEnergy, params: Any, metric: Callable[[Array], Array]
) -> Float[Array, "directions size"] | None:
    gauge = problem.gauge(params)
    if gauge is None:
        return None
    rows = jax.vmap(lambda g: ravel_pytree(primal_of(g))[0])(gauge)
    rows = orthonormal_rows(rows)
    gram = rows @ jax.vmap(metric)(rows).T
    # Directions that move only what is eliminated leave nothing here.
    empty = jnp.diag(jnp.where(jnp.diag(gram) > 0, 0.0, 1.0).astype(gram.dtype))
    lower = jnp.linalg.cholesky(gram + empty)
    return jax.scipy.linalg.solve_triangular(lower, rows, lower=True)


class Lowest(eqx.Module):
    """Smallest (real part of an) eigenvalue and its eigenvectors.

    `direction` is real, has unit length in the metric and is random within a (nearly) degenerate
    eigenspace. `right` and `left` are one pair of eigenvectors of `value`, for derivatives.
    """

    value: Float[Array, ""]
    direction: Float[Array, " size"]
    right: Array
    left: Array


def lowest(pencil: Pencil, start: Float[Array, " size"], options: SpectrumOptions) -> Lowest:
    """Lowest eigenvalue of the pencil, NaN (with a zero direction) if it is not finite.

    `start` is a random vector: it picks the direction within a degenerate eigenspace.
    """
    if pencil.size <= options.dense_limit:
        matrix = jax.vmap(pencil.apply)(jnp.eye(pencil.size, dtype=pencil.dtype)).T
        dense = _dense_symmetric if pencil.symmetric else _dense_general
        result = dense(pencil, matrix, start)
    else:
        result = _krylov(pencil, start, min(options.krylov, pencil.size))
    finite = jnp.all(jnp.isfinite(result.direction)) & jnp.isfinite(result.value)
    return eqx.tree_at(
        lambda found: (found.value, found.direction),
        result,
        (jnp.where(finite, result.value, jnp.nan), jnp.where(finite, result.direction, 0.0)),
    )


def along(
    problem: FreeEnergy, params: Any, beta: Float[Array, ""], direction: Float[Array, " size"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """First and second derivative of F along a flat primal direction of unit length.

    A zero direction has slope 0 and curvature 1.
    """
    moving = jnp.any(direction != 0)
    primal, dual = split_params(params)
    flat, unravel = ravel_pytree(primal)
    if problem.variational and dual is None:

        def slope_at(t: Array) -> Array:
            energy = lambda s: problem.free_energy(unravel(flat + s * direction), beta)  # noqa: E731
            return jax.jvp(energy, (t,), (jnp.ones_like(t),))[1]

        zero = jnp.zeros((), flat.dtype)
        slope, second = jax.jvp(slope_at, (zero,), (jnp.ones_like(zero),))
    else:
        residual, _ = split_params(problem.residual(params, beta))
        slope = direction @ ravel_pytree(residual)[0]
        second = direction @ primal_pencil(problem, params, beta).apply(direction)
    return jnp.where(moving, slope, 0.0), jnp.where(moving, second, 1.0)


def _unit(pencil: Pencil, v: Array) -> Array:
    length = jnp.sqrt(v @ pencil.metric(v))
    return v / jnp.where(length > 0, length, 1.0)


def scaled_matrix(pencil: Pencil, matrix: Array) -> tuple[Array, Callable[[Array, bool], Array]]:
    """L^-1 A L^-T with metric = L L^T, the gauge left out, and `_half_solve`."""
    half_solve = _half_solve(pencil)
    scaled = half_solve(half_solve(matrix, False).T, False)
    if pencil.gauge is not None:
        # In these coordinates, too, the gauge is orthonormal. Its directions get eigenvalue 1, the
        # value of a variable that nothing else moves.
        gauge = half_solve(jax.vmap(pencil.metric)(pencil.gauge).T, False).T
        projector = jnp.eye(pencil.size, dtype=pencil.dtype) - gauge.T @ gauge
        scaled = projector @ scaled @ projector + gauge.T @ gauge
    return 0.5 * (scaled + scaled.T), half_solve


def _dense_symmetric(pencil: Pencil, matrix: Array, start: Array) -> Lowest:
    scaled, half_solve = scaled_matrix(pencil, matrix)
    values, vectors = jnp.linalg.eigh(scaled, symmetrize_input=False)
    # `start` projected on the lowest eigenspace: unlike eigenvectors, continuous in the problem,
    # so that nearby problems are kicked onto the same branch.
    weights = jnp.exp(-(values - values[0]) / _DEGENERACY) * (vectors.T @ start)
    back = half_solve(jnp.stack([vectors @ weights, vectors[:, 0]], axis=1), True)
    return Lowest(values[0], _unit(pencil, back[:, 0]), back[:, 1], back[:, 1])


def _half_solve(pencil: Pencil) -> Callable[[Array, bool], Array]:
    """L^-1 a, or L^-T a, with metric = L L^T."""
    if pencil.diagonal is not None:
        scale = jax.lax.rsqrt(pencil.diagonal)
        return lambda a, transpose: scale[:, None] * a
    metric = jax.vmap(pencil.metric)(jnp.eye(pencil.size, dtype=pencil.dtype)).T
    lower = jnp.linalg.cholesky(metric)
    return lambda a, transpose: jax.scipy.linalg.solve_triangular(
        lower, a, lower=True, trans=int(transpose)
    )


def _dense_general(pencil: Pencil, matrix: Array, start: Array) -> Lowest:
    scaled = jax.vmap(pencil.solve_metric, in_axes=1, out_axes=1)(matrix)
    values, vectors = jnp.linalg.eig(scaled)
    # Rows of the inverse are left eigenvectors of metric^-1 A, hence of the pencil after metric^-1.
    inverse = jnp.linalg.inv(vectors)
    lefts = jax.vmap(lambda row: _solve_complex(pencil, row))(inverse)
    return _lowest_of_general(pencil, values, vectors, lefts, inverse @ start)


def _solve_complex(pencil: Pencil, v: Array) -> Array:
    return pencil.solve_metric(jnp.real(v)) + 1j * pencil.solve_metric(jnp.imag(v))


def _lowest_of_general(
    pencil: Pencil, values: Array, rights: Array, lefts: Array, coefficients: Array
) -> Lowest:
    real = jnp.real(values)
    index = jnp.argmin(real)
    mix = jnp.exp(-(real - real[index]) / _DEGENERACY) * coefficients
    direction = _unit(pencil, jnp.real(rights @ mix))
    return Lowest(real[index], direction, rights[:, index], lefts[index])


def _krylov(pencil: Pencil, start: Array, steps: int) -> Lowest:
    """Arnoldi with full reorthogonalisation in the metric; Lanczos where A is symmetric."""
    first = _unit(pencil, pencil.project(start))
    basis = jnp.zeros((steps + 1, pencil.size), pencil.dtype).at[0].set(first)
    # Metric images are kept so that orthogonalising costs no further metric products.
    images = jnp.zeros_like(basis).at[0].set(pencil.metric(first))

    def extend(carry: tuple[Array, Array], index: Array) -> tuple[tuple[Array, Array], Array]:
        basis, images = carry
        v = pencil.project(pencil.solve_metric(pencil.apply(basis[index])))
        coefficients = images @ v
        v = v - basis.T @ coefficients
        again = images @ v
        v = v - basis.T @ again
        image = pencil.metric(v)
        length = jnp.sqrt(jnp.maximum(v @ image, 0.0))
        # An invariant subspace was found: continue with nothing rather than with noise.
        alive = length > 100 * jnp.finfo(pencil.dtype).eps * jnp.linalg.norm(coefficients)
        inverse = jnp.where(alive, 1 / jnp.where(alive, length, 1.0), 0.0)
        basis = basis.at[index + 1].set(v * inverse)
        images = images.at[index + 1].set(image * inverse)
        column = (coefficients + again).at[index + 1].set(jnp.where(alive, length, 0.0))
        return (basis, images), column

    (basis, _), columns = jax.lax.scan(extend, (basis, images), jnp.arange(steps))
    projected = columns[:, :steps].T
    kept = jnp.sum(basis[:steps] ** 2, axis=1) > 0
    # Unused places get eigenvalue 1, like variables that nothing moves.
    projected = jnp.where(kept[:, None] & kept[None, :], projected, 0.0)
    projected = projected + jnp.diag(jnp.where(kept, 0.0, 1.0).astype(pencil.dtype))
    if pencil.symmetric:
        values, vectors = jnp.linalg.eigh(0.5 * (projected + projected.T))
        # The space holds one vector of a degenerate eigenspace, the projection of `start`; its
        # sign is chosen so that it is continuous in the problem.
        sign = jnp.where(vectors[0, 0] < 0, -1.0, 1.0).astype(pencil.dtype)
        direction = _unit(pencil, sign * (basis[:steps].T @ vectors[:, 0]))
        return Lowest(values[0], direction, direction, direction)
    values, vectors = jnp.linalg.eig(projected)
    inverse = jnp.linalg.inv(vectors)
    # Galerkin approximation of the left vectors: exact once the Krylov space is invariant.
    lefts = inverse @ basis[:steps]
    rights = basis[:steps].T @ vectors
    return _lowest_of_general(pencil, values, rights, lefts, inverse[:, 0])


def differentiable_value(pencil: Pencil, found: Lowest) -> Float[Array, ""]:
    """The lowest eigenvalue as a function of the pencil, right to first order.

    left^T A right / left^T B right with both eigenvectors held fixed has the derivative of a
    simple eigenvalue, and needs no derivative of an eigendecomposition.
    """
    left, right = jax.lax.stop_gradient((found.left, found.right))
    if not jnp.iscomplexobj(right):
        return (left @ pencil.apply(right)) / (left @ pencil.metric(right))
    re, im = jnp.real(right), jnp.imag(right)
    applied = pencil.apply(re) + 1j * pencil.apply(im)
    measured = pencil.metric(re) + 1j * pencil.metric(im)
    return jnp.real((left @ applied) / (left @ measured))
