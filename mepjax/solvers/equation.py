"""What a solution satisfies, as the loop, the adjoints and the duals see it."""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .._core import trees
from .._core.linear import solve_symmetric
from .._core.types import Scalar


class Equation(eqx.Module):
    """residual(params, beta) = 0, with what it takes to solve it and to differentiate its solution.

    Array fields are what a solution is differentiated in. A subclass writes `residual`; every
    `Problem` is one, and so are the conditions that prices or values alone satisfy.
    """

    @abc.abstractmethod
    def residual(self, params: Any, beta: Scalar) -> Any:
        """Shaped like params and zero at every solution.

        Implicit derivatives differentiate this and nothing else.
        """

    @property
    def variational(self) -> bool:
        """Whether `residual` is the gradient of a function, so that its Jacobian is symmetric."""
        return False

    def params_scale(self, params: Any) -> Any:
        """Characteristic size of each leaf of params, broadcastable to it.

        Steps and errors are measured relative to it, so it should not depend on the origin.
        """
        return jax.tree.map(lambda leaf: 1 + jnp.max(jnp.abs(leaf)), params)

    def precondition(self, params: Any, beta: Scalar, vector: Any) -> Any:
        """Roughly the solution of a system with the residual's Jacobian in the primal variables."""
        del params, beta
        return vector

    def gauge(self, params: Any) -> Any:
        """Directions that change nothing, stacked along a new leading axis; `None`: none."""
        del params
        return None

    def jacobian(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator | None:
        """d residual / d params where its structure is known, on vectors shaped like params.

        Implicit derivatives solve with it and its transpose by `jacobian_solver`, whatever its
        size; with `None` it is found by linearising the residual. It is taken as a constant, and
        there is then no gauge.
        """
        del params, beta
        return None

    def jacobian_solver(self) -> lx.AbstractLinearSolver:
        """The lineax solver for `jacobian`; default: by its structure, LU for a plain matrix."""
        return lx.AutoLinearSolver(well_posed=True)

    def update(self, params: Any, beta: Scalar) -> Any:
        """One sweep of the fixed-point map; default: a preconditioned step against the residual."""
        step = self.precondition(params, beta, self.residual(params, beta))
        return trees.subtract(params, step)


class FreeEnergy(Equation):
    """The equation of a free energy: its residual is the gradient unless a subclass says otherwise.

    What descent, Newton's method and the spectrum of the Hessian are computed from.
    """

    @property
    def variational(self) -> bool:
        """Whether `residual` is the gradient of `free_energy`."""
        return True

    @abc.abstractmethod
    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """F = D - H / beta at the Gibbs policy; stationary in what is eliminated."""

    @abc.abstractmethod
    def metric(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator:
        """Positive definite operator on the primal, equal to Hess F as beta -> 0."""

    def residual(self, params: Any, beta: Scalar) -> Any:
        """The equation a solution satisfies, shaped like params; default: grad F.

        Implicit gradients differentiate this and nothing else.
        """
        return jax.grad(self.free_energy)(params, beta)

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """Params with what is eliminated solved for at the same primal; default: there is none."""
        del beta
        return params

    def eliminated_solve(self, params: Any, beta: Scalar) -> Callable[[Any], Any] | None:
        """Solve with the block of what is eliminated, or `None` to have it formed, if it is small.

        The block is the derivative of the residual's dual part in the dual; the function that is
        returned takes and gives pytrees shaped like the dual.
        """
        del params, beta
        return None

    def residual_and_metric(
        self, params: Any, beta: Scalar
    ) -> tuple[Any, lx.AbstractLinearOperator]:
        """`residual` and `metric`; override where one pass over the data gives both."""
        return self.residual(params, beta), self.metric(params, beta)

    def precondition(self, params: Any, beta: Scalar, vector: Any) -> Any:
        """Solve with `metric` on the primal; override where its structure makes that cheap."""
        return solve_symmetric(self.metric(params, beta), vector)

    def update(self, params: Any, beta: Scalar) -> Any:
        """One sweep of the fixed-point map; default: a metric-preconditioned gradient step."""
        gradient = jax.grad(self.free_energy)(params, beta)
        return trees.subtract(params, self.precondition(params, beta, gradient))
