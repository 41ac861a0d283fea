"""Implicit differentiation: the one derivative rule for solutions, and its linear solve.

A solution satisfies R(params; problem, beta) = 0, so d params = -(dR/dparams)^-1 dR. The rule is
a JVP around a transposable linear solve, hence forward, reverse, Hessians and their `vmap`s all
work, and nothing of the iteration is stored.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from .._core import trees
from .._core.params import dual_of, join_params, split_params
from .equation import Equation

_ON_FAILURE = ("nan", "zero", "pass")


class LinearSolve(eqx.Module):
    """How the implicit system is solved.

    Up to `dense_limit` unknowns the Jacobian is formed and factorised (LU); above it, conjugate
    gradients where the residual is the gradient of F and GMRES elsewhere, both preconditioned
    with the problem's metric and never forming the matrix.

    **Arguments:** `dense_limit`, and for the iterative solvers `rtol` (`None`: 1e-10 in float64,
    1e-6 in float32) and `max_steps`.
    """

    dense_limit: int = eqx.field(static=True, default=256)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=1000)

    def solver(self, size: int, dtype: Any, symmetric: bool) -> lx.AbstractLinearSolver:
        """The lineax solver for a system of `size` unknowns."""
        if size <= self.dense_limit:
            return lx.LU()
        rtol = self.rtol
        if rtol is None:
            rtol = 1e-10 if dtype == jnp.float64 else 1e-6
        if symmetric:
            return lx.CG(rtol=rtol, atol=0.0, max_steps=self.max_steps)
        return lx.GMRES(rtol=rtol, atol=0.0, max_steps=self.max_steps, restart=min(size, 40))


def solve_transposable(
    mv: Callable[[Array], Array],
    rhs: Float[Array, " size"],
    *,
    options: LinearSolve,
    symmetric: bool,
    precondition: Callable[[Array], Array],
) -> Float[Array, " size"]:
    """Solve mv(x) = rhs, differentiable in both modes; NaN where the solve failed.

    The failure shows as NaN in the transposed solve too, where no result code could be seen.
    """
    size = rhs.size
    method = options.solver(size, rhs.dtype, symmetric)
    structure = jax.ShapeDtypeStruct(rhs.shape, rhs.dtype)

    def run(operator: Callable[[Array], Array], b: Array) -> Array:
        tags: tuple[object, ...] = ()
        extra: dict[str, Any] = {}
        if isinstance(method, lx.CG):
            tags = (lx.positive_semidefinite_tag,)
        if not isinstance(method, lx.LU):
            preconditioner = lx.FunctionLinearOperator(
                precondition, structure, lx.positive_semidefinite_tag
            )
            extra = {"preconditioner": preconditioner}
        solution = lx.linear_solve(
            lx.FunctionLinearOperator(operator, structure, tags),
            b,
            method,
            options=extra,
            throw=False,
        )
        solved = (solution.result == lx.RESULTS.successful) & jnp.all(jnp.isfinite(solution.value))
        return solution.value * jnp.where(solved, 1.0, jnp.nan).astype(b.dtype)

    return jax.lax.custom_linear_solve(mv, rhs, run, transpose_solve=run, symmetric=False)


def solve_with_operator(
    mv: Callable[[Array], Array],
    rhs: Float[Array, " size"],
    operator: lx.AbstractLinearOperator,
    solver: lx.AbstractLinearSolver,
    unravel: Callable[[Array], Any],
) -> Float[Array, " size"]:
    """Solve mv(x) = rhs where the same operator is known by its structure; NaN where that failed.

    `operator` acts on vectors as `unravel` shapes them, and is a constant: derivatives are those
    of `mv`.
    """

    def run(operator: lx.AbstractLinearOperator, b: Array) -> Array:
        solution = lx.linear_solve(operator, unravel(b), solver, throw=False)
        value = ravel_pytree(solution.value)[0]
        solved = (solution.result == lx.RESULTS.successful) & jnp.all(jnp.isfinite(value))
        return value * jnp.where(solved, 1.0, jnp.nan).astype(b.dtype)

    return jax.lax.custom_linear_solve(
        mv,
        rhs,
        lambda _, b: run(operator, b),
        transpose_solve=lambda _, b: run(operator.transpose(), b),
        symmetric=False,
    )


def deflate_gauge(
    mv: Callable[[Array], Array], gauge: Float[Array, "directions size"] | None
) -> Callable[[Array], Array]:
    """Make an operator regular along directions that change nothing."""
    if gauge is None:
        return mv
    basis = orthonormal_rows(gauge)
    return lambda v: mv(v) + basis.T @ (basis @ v)


def orthonormal_rows(rows: Float[Array, "directions size"]) -> Float[Array, "directions size"]:
    """Orthonormal basis of the span of `rows`, zero rows for dependent or zero ones."""
    q, r = jnp.linalg.qr(rows.T)
    sizes = jnp.abs(jnp.diag(r))
    kept = sizes > jnp.sqrt(jnp.finfo(rows.dtype).eps) * jnp.max(jnp.abs(rows), initial=0.0)
    return q.T * kept[:, None]


def _flat_gauge(equation: Equation, params: Any) -> Float[Array, "directions size"] | None:
    gauge = equation.gauge(params)
    if gauge is None:
        return None
    return jax.vmap(lambda direction: ravel_pytree(direction)[0])(gauge)


def implicit_tangent(
    params: Any,
    equation: Equation,
    beta: Float[Array, ""],
    tangents: tuple[Any, Any],
    options: LinearSolve,
) -> Any:
    """d params for given tangents of (equation, beta) (`None` leaves are zero)."""
    flat, unravel = ravel_pytree(params)
    arrays, static = eqx.partition((equation, beta), eqx.is_inexact_array)

    def residual(flat_params: Array, arrays: Any) -> Array:
        equation, beta = eqx.combine(arrays, static)
        return ravel_pytree(equation.residual(unravel(flat_params), beta))[0]

    # One linearisation serves both the Jacobian and the right-hand side.
    _, linear = jax.linearize(residual, flat, arrays)
    zeros = jax.tree.map(jnp.zeros_like, arrays)
    filled = jax.tree.map(
        lambda zero, tangent: zero if tangent is None else tangent,
        zeros,
        tangents,
        is_leaf=lambda leaf: leaf is None,
    )
    rhs = linear(jnp.zeros_like(flat), filled)
    mv = deflate_gauge(lambda v: linear(v, zeros), _flat_gauge(equation, params))

    # A preconditioner changes no solution, so it needs no derivative.
    fixed_equation, fixed_params, fixed_beta = trees.stop_gradient((equation, params, beta))

    def precondition(v: Array) -> Array:
        primal, dual = split_params(unravel(v))
        primal = fixed_equation.precondition(fixed_params, fixed_beta, primal)
        return ravel_pytree(join_params(primal, dual))[0]

    jacobian = fixed_equation.jacobian(fixed_params, fixed_beta)
    if jacobian is not None:
        # Of known structure: that of the equation serves both ways.
        solver = fixed_equation.jacobian_solver()
        return unravel(-solve_with_operator(mv, rhs, jacobian, solver, unravel))

    if flat.size <= options.dense_limit:
        # Rows scaled by the metric: masses differ by many orders of magnitude.
        scaled_mv, scaled_rhs = (lambda v: precondition(mv(v))), precondition(rhs)
    else:
        scaled_mv, scaled_rhs = mv, rhs
    change = solve_transposable(
        scaled_mv,
        scaled_rhs,
        options=options,
        symmetric=equation.variational and dual_of(params) is None,
        precondition=precondition,
    )
    return unravel(-change)


def check_on_failure(on_failure: str) -> None:
    """Raise `ValueError` unless `on_failure` is one of the known policies."""
    if on_failure not in _ON_FAILURE:
        raise ValueError(f"`on_failure` must be one of {_ON_FAILURE}; got {on_failure!r}.")


@eqx.filter_custom_jvp
def poison(tree: Any, failing: Bool[Array, ""]) -> Any:
    """Return `tree` unchanged; its derivative is NaN where `failing`, in both modes."""
    del failing
    return tree


@poison.def_jvp
def _poison_jvp(primals: Any, tangents: Any) -> Any:
    tree, failing = primals
    factor = jnp.where(failing, jnp.nan, 1.0)
    scaled = jax.tree.map(lambda t: t * factor.astype(t.dtype), tangents[0])
    return poison(tree, failing), scaled


@eqx.filter_custom_jvp
def attach(
    params: Any,
    equation: Equation,
    beta: Float[Array, ""],
    failing: Bool[Array, ""],
    *,
    options: LinearSolve,
    on_failure: str,
) -> Any:
    """Return `params` unchanged, with the derivative of the solution of `equation.residual`.

    The tangent of the incoming `params` is ignored: a solution does not depend on where its
    iteration started.
    """
    del equation, beta, failing, options, on_failure
    return params


@attach.def_jvp
def _attach_jvp(primals: Any, tangents: Any, *, options: LinearSolve, on_failure: str) -> Any:
    params, equation, beta, failing = primals
    _, equation_tangent, beta_tangent, _ = tangents
    # Attached again, so that a second derivative sees the first one's dependence on params.
    params = attach(params, equation, beta, failing, options=options, on_failure=on_failure)
    change = implicit_tangent(params, equation, beta, (equation_tangent, beta_tangent), options)
    if on_failure == "zero":
        change = trees.where(failing, jax.tree.map(jnp.zeros_like, change), change)
    if on_failure == "nan":
        # A product, not a select: its transpose must carry NaN back to every input.
        factor = jnp.where(failing, jnp.nan, 1.0).astype(trees.dtype_of(params))
        change = jax.tree.map(lambda c: c * factor, change)
    return params, change
