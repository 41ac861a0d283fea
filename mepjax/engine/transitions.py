"""Phase transitions: curvature, critical beta, and derivatives of solutions and energies."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import trees
from .._core.programs import program
from ..solvers.implicit import LinearSolve, implicit_tangent
from ..solvers.spectrum import SpectrumOptions
from .branching.watch import Detector
from .curvature import differentiable_curvature, find_critical_beta, random_start
from .problem import Problem


def _prepare(params: Any, beta: Any) -> tuple[Any, Any]:
    params = jax.tree.map(jnp.asarray, params)
    return params, jnp.asarray(beta, trees.dtype_of(params))


@program
def _curvature(problem: Problem, params: Any, beta: Any, options: SpectrumOptions) -> Any:
    start = random_start(problem, params, jax.random.key(0))
    return differentiable_curvature(problem, params, beta, start, options)


def curvature(
    problem: Problem, params: Any, beta: Any, *, detector: Detector | None = None
) -> Float[Array, ""]:
    """Smallest eigenvalue of metric^-1/2 Hess F metric^-1/2 in the primal variables.

    1 as beta -> 0, 0 at a phase transition, negative at a saddle; at a stationary point it equals
    1 - lambda, with lambda the contraction rate of the fixed-point iteration. With frozen
    stationarity it is 1 minus the largest real part of the eigenvalues of d update / d params.
    Prices are eliminated (Schur complement), gauge directions and undetermined slots left out.

    **Arguments:** `problem`; `params` as in `problem.init`; `beta`, scalar; `detector`, sizes of
    the eigenvalue computation.

    **Returns:** a scalar, differentiable where the eigenvalue is simple.

    Source: autonomy-aware clustering, Theorem 2 and Appendix C (with the Hessian's factor 2).

    **Example:** at coincident centres without autonomy it is 1 - beta / beta_cr.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> print(f"{mj.curvature(problem, jnp.zeros((2, 1)), 0.25):.4f}")
    0.5000

    ```
    """
    params, beta = _prepare(params, beta)
    return _curvature(problem, params, beta, (detector or Detector()).options)


@program
def _critical_beta(problem: Problem, params: Any, beta: Any, options: SpectrumOptions) -> Any:
    start = random_start(problem, params, jax.random.key(0))
    root = find_critical_beta(problem, params, beta, start, options)
    finite = jnp.isfinite(root)
    safe = jnp.where(finite, root, beta)
    fixed = jax.lax.stop_gradient(safe)

    # One Newton step whose value is the root and whose derivative is the implicit function's.
    still_problem, still_params = trees.stop_gradient((problem, params))

    def along_beta(trial: Array) -> Array:
        return differentiable_curvature(still_problem, still_params, trial, start, options)

    slope = jax.lax.stop_gradient(jax.grad(along_beta)(fixed))
    value = differentiable_curvature(problem, params, fixed, start, options)
    change = (value - jax.lax.stop_gradient(value)) / jnp.where(finite, slope, 1.0)
    return jnp.where(finite, fixed - change, jnp.inf)


def critical_beta(
    problem: Problem, params: Any, beta: Any, *, detector: Detector | None = None
) -> Float[Array, ""]:
    """Nearest beta' at which the curvature is zero, with params fixed.

    The Gibbs policy is recomputed at every trial beta'. Searched upward where the curvature at
    `beta` is positive and downward where it is negative; inf if none lies within a factor 1e6.
    At a phase transition this is the critical beta of Theorem 2; away from one it predicts it.

    **Arguments:** as in `curvature`.

    **Returns:** a scalar, differentiable (first order) where the eigenvalue is simple.

    Source: autonomy-aware clustering, Theorem 2, equation (4).

    **Example:** beta_cr = 1 / (2 x the largest variance) at coincident centres.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> print(f"{mj.critical_beta(problem, jnp.zeros((2, 1)), 0.1):.4f}")
    0.5000

    ```
    """
    params, beta = _prepare(params, beta)
    return _critical_beta(problem, params, beta, (detector or Detector()).options)


@program
def _sensitivity(problem: Problem, params: Any, beta: Any, linear: LinearSolve) -> Any:
    still = jax.tree.map(lambda _: None, problem)
    return implicit_tangent(params, problem, beta, (still, jnp.ones_like(beta)), linear)


def sensitivity(
    problem: Problem, params: Any, beta: Any, *, linear: LinearSolve | None = None
) -> Any:
    """d params / d beta at a solution, NaN where the linear system is singular.

    It grows as 1 / curvature near a transition and is small between transitions.

    **Arguments:** `problem`; `params`, a solution at `beta`; `linear`, how the system is solved.

    **Returns:** a pytree shaped like `params`, in units of params per unit of beta.

    Source: autonomy-aware clustering, Theorem 3 and Appendix D (as corrected).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> mj.sensitivity(problem, jnp.zeros((2, 1)), 0.25).shape
    (2, 1)

    ```
    """
    params, beta = _prepare(params, beta)
    return _sensitivity(problem, params, beta, linear or LinearSolve())


@program
def _gradients(problem: Problem, params: Any, beta: Any) -> Any:
    return eqx.filter_grad(lambda p: p.free_energy(params, beta))(problem)


def gradients(problem: Problem, params: Any, beta: Any) -> Any:
    """dF / d(every array of the problem) with params and beta held, by the envelope theorem.

    At a solution with exact stationarity this is the full derivative of the optimal free energy.

    **Arguments:** as in `sensitivity`.

    **Returns:** a pytree shaped like `problem`: `gradients(...).x`, `.weights`, `.autonomy.kappa`.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> mj.gradients(problem, jnp.zeros((2, 1)), 0.25).x.shape
    (2, 1)

    ```
    """
    params, beta = _prepare(params, beta)
    return _gradients(problem, params, beta)
