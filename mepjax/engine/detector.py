"""Phase transitions: curvature, critical beta, and derivatives of solutions and energies."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.params import join_params, primal_of, split_params
from .._core.programs import program
from ..solvers import spectrum
from ..solvers.implicit import LinearSolve, implicit_tangent

# Growth of the bracket in the search for a sign change of the curvature.
_BRACKET_GROWTH = 1.25


class Detector(eqx.Module):
    """Watches the curvature of F along an anneal and kicks the iterate off saddles.

    **Arguments:**

    - `dense_limit`: up to this many unknowns Hessians are formed, above it Lanczos is used.
    - `krylov`: Lanczos or Arnoldi steps.
    - `kick`: size of a perturbation along the unstable direction, relative to the data's size.
    - `max_kicks`: kicks per stage before a saddle is reported (STALLED at the last stage).
    """

    dense_limit: int = eqx.field(static=True, default=24)
    krylov: int = eqx.field(static=True, default=24)
    kick: float = eqx.field(static=True, default=1e-3)
    max_kicks: int = eqx.field(static=True, default=8)

    def __check_init__(self) -> None:
        if not self.kick > 0:
            raise ValueError(f"Detector: `kick` must be > 0; got {self.kick}.")

    @property
    def options(self) -> spectrum.SpectrumOptions:
        """Sizes of the eigenvalue computation."""
        return spectrum.SpectrumOptions(self.dense_limit, self.krylov)


class NoDetector(eqx.Module):
    """No curvature; every stage starts from an isotropic perturbation of size `noise` instead.

    This is the printed Algorithm 1. The trace's curvature is NaN and no transitions are found.
    """

    noise: float = eqx.field(static=True, default=1e-3)


def near_critical_threshold(dtype: Any) -> float:
    """Curvatures smaller than this in size cannot be told from zero."""
    return 10 * float(jnp.finfo(dtype).eps) ** 0.5


def lowest_curvature(
    problem: Any, params: Any, beta: Float[Array, ""], start: Array, detector: Detector
) -> spectrum.Lowest:
    """Lowest eigenvalue and unstable direction at (params, beta), without derivatives."""
    problem, params, beta = trees.stop_gradient((problem, params, beta))
    pencil = spectrum.primal_pencil(problem, params, beta)
    return spectrum.lowest(pencil, start, detector.options)


def differentiable_curvature(
    problem: Any, params: Any, beta: Float[Array, ""], start: Array, detector: Detector
) -> Float[Array, ""]:
    """The curvature, differentiable where the eigenvalue is simple."""
    found = lowest_curvature(problem, params, beta, start, detector)
    pencil = spectrum.primal_pencil(problem, params, beta)
    value = spectrum.differentiable_value(pencil, found)
    # The eigenvalue itself, with the derivative of the quotient.
    return found.value + value - jax.lax.stop_gradient(value)


def random_start(problem: Any, params: Any, key: Any) -> Float[Array, " size"]:
    """The random vector from which eigenvectors are sought, of the size of the primal."""
    flat, _ = ravel_pytree(primal_of(params))
    return jax.random.normal(key, flat.shape, flat.dtype)


class Bracket(eqx.Module):
    """Search in beta for a sign change of a curvature: positive below, non-positive above.

    Bracketing and narrowing are one step, `narrowed`, because the evaluation between steps is
    what takes long to compile. `stable` and `unstable` are betas of known sign, NaN while unknown,
    with the curvatures `above` and `below` zero there; `trial` is where to look next, `low` and
    `high` bound the search. A closed bracket narrows by the Illinois rule,
    since curvatures are costly and close to linear near the root, and is bisected after three steps
    (`slow`) that have not halved it.
    """

    stable: Float[Array, ""]
    unstable: Float[Array, ""]
    above: Float[Array, ""]
    below: Float[Array, ""]
    was_stable: Bool[Array, ""]
    slow: Int[Array, ""]
    trial: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    failed: Bool[Array, ""]
    rtol: float = eqx.field(static=True)

    @staticmethod
    def around(beta: Float[Array, ""], *, limit: float, rtol: float) -> "Bracket":
        """Nothing known yet; look at `beta` first and within a factor `limit` of it."""
        unknown = jnp.full_like(beta, jnp.nan)
        no = jnp.asarray(False)
        return Bracket(
            stable=unknown, unstable=unknown, above=unknown, below=unknown, was_stable=no,
            slow=jnp.zeros((), jnp.int32), trial=beta, low=beta / limit, high=beta * limit,
            failed=no, rtol=rtol,
        )  # fmt: skip

    @property
    def _closed(self) -> Bool[Array, ""]:
        return jnp.isfinite(self.stable) & jnp.isfinite(self.unstable)

    @property
    def _middle(self) -> Float[Array, ""]:
        return jnp.sqrt(self.stable) * jnp.sqrt(self.unstable)

    @property
    def searching(self) -> Bool[Array, ""]:
        """Whether `trial` still has to be looked at."""
        gap = jnp.abs(jnp.log(self.unstable / self.stable))
        exhausted = (self.stable >= self.high) | (self.unstable <= self.low)
        open_ended = jnp.where(self._closed, gap > self.rtol, ~exhausted)
        return ~self.failed & jnp.isfinite(self.trial) & open_ended

    def narrowed(self, curvature: Float[Array, ""]) -> "Bracket":
        """The bracket after the curvature at `trial` has been seen."""
        positive = curvature > 0
        stable = jnp.where(positive, self.trial, self.stable)
        unstable = jnp.where(curvature <= 0, self.trial, self.unstable)
        # An end that stays twice counts half, so that the next trial falls beyond the root.
        kept = jnp.where(positive == self.was_stable, 0.5, 1.0).astype(self.trial.dtype)
        above = jnp.where(positive, curvature, kept * self.above)
        below = jnp.where(curvature <= 0, curvature, kept * self.below)
        outward = jnp.where(
            jnp.isfinite(stable),
            jnp.minimum(stable * _BRACKET_GROWTH, self.high),
            jnp.maximum(unstable / _BRACKET_GROWTH, self.low),
        )
        # NaN while open, which is not slow.
        hardly = jnp.abs(unstable - stable) > 0.5 * jnp.abs(self.unstable - self.stable)
        slow = jnp.where(hardly & (self.slow < 3), self.slow + 1, 0)
        new = Bracket(
            stable=stable, unstable=unstable, above=above, below=below, was_stable=positive,
            slow=slow, trial=outward, low=self.low, high=self.high,
            failed=jnp.isnan(curvature), rtol=self.rtol,
        )  # fmt: skip
        trial = jnp.where(new._closed, new._inside, outward).astype(self.trial.dtype)
        return eqx.tree_at(lambda bracket: bracket.trial, new, trial)

    @property
    def _inside(self) -> Float[Array, ""]:
        """Where a closed bracket is looked at next: never so near an end that it hardly shrinks."""
        span = jnp.log(self.unstable / self.stable)
        share = self.above / (self.above - self.below)
        margin = jnp.minimum(0.4 * self.rtol / jnp.maximum(jnp.abs(span), self.rtol), 0.4)
        share = jnp.clip(jnp.where(jnp.isnan(share), 0.5, share), margin, 1 - margin)
        secant = self.stable + share * (self.unstable - self.stable)
        return jnp.where(self.slow == 3, self._middle, secant)

    @property
    def root(self) -> Float[Array, ""]:
        """Where the sign changes, inf if it was not found."""
        found = self._closed & ~self.failed
        return jnp.where(found, self._middle, jnp.inf).astype(self.trial.dtype)


def critical_bracket(beta: Float[Array, ""]) -> Bracket:
    """The search of `find_critical_beta`, for loops that have their own evaluation."""
    return Bracket.around(beta, limit=1e6, rtol=1e-12 if beta.dtype == jnp.float64 else 1e-6)


def find_critical_beta(
    problem: Any,
    params: Any,
    beta: Float[Array, ""],
    start: Float[Array, " size"],
    detector: Detector,
) -> Float[Array, ""]:
    """Nearest beta' within a factor 1e6 where the curvature at fixed params is zero, or inf.

    Searched upward where the curvature is positive and downward where it is negative. No
    derivatives.
    """
    problem, params, beta = trees.stop_gradient((problem, params, beta))
    return _search(
        critical_bracket(beta),
        lambda trial: lowest_curvature(problem, params, trial, start, detector).value,
    )


def _search(bracket: Bracket, function: Callable[[Array], Array]) -> Float[Array, ""]:
    bracket = jax.lax.while_loop(
        lambda bracket: bracket.searching,
        lambda bracket: bracket.narrowed(function(bracket.trial)),
        bracket,
    )
    return bracket.root


def _prepare(params: Any, beta: Any) -> tuple[Any, Any]:
    params = jax.tree.map(jnp.asarray, params)
    return params, jnp.asarray(beta, trees.dtype_of(params))


@program
def _curvature(problem: Any, params: Any, beta: Any, detector: Detector) -> Any:
    start = random_start(problem, params, jax.random.key(0))
    return differentiable_curvature(problem, params, beta, start, detector)


def curvature(
    problem: Any, params: Any, beta: Any, *, detector: Detector | None = None
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
    return _curvature(problem, params, beta, detector or Detector())


@program
def _critical_beta(problem: Any, params: Any, beta: Any, detector: Detector) -> Any:
    start = random_start(problem, params, jax.random.key(0))
    root = find_critical_beta(problem, params, beta, start, detector)
    finite = jnp.isfinite(root)
    safe = jnp.where(finite, root, beta)
    fixed = jax.lax.stop_gradient(safe)

    # One Newton step whose value is the root and whose derivative is the implicit function's.
    still_problem, still_params = trees.stop_gradient((problem, params))

    def along_beta(trial: Array) -> Array:
        return differentiable_curvature(still_problem, still_params, trial, start, detector)

    slope = jax.lax.stop_gradient(jax.grad(along_beta)(fixed))
    value = differentiable_curvature(problem, params, fixed, start, detector)
    change = (value - jax.lax.stop_gradient(value)) / jnp.where(finite, slope, 1.0)
    return jnp.where(finite, fixed - change, jnp.inf)


def critical_beta(
    problem: Any, params: Any, beta: Any, *, detector: Detector | None = None
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
    return _critical_beta(problem, params, beta, detector or Detector())


@program
def _sensitivity(problem: Any, params: Any, beta: Any, linear: LinearSolve) -> Any:
    still = jax.tree.map(lambda _: None, problem)
    return implicit_tangent(params, problem, beta, (still, jnp.ones_like(beta)), linear)


def sensitivity(problem: Any, params: Any, beta: Any, *, linear: LinearSolve | None = None) -> Any:
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
def _gradients(problem: Any, params: Any, beta: Any) -> Any:
    return eqx.filter_grad(lambda p: p.free_energy(params, beta))(problem)


def gradients(problem: Any, params: Any, beta: Any) -> Any:
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


def flat_direction(params: Any, problem: Any, direction: Float[Array, " size"]) -> Any:
    """A flat primal direction as a change of params (prices unchanged)."""
    primal, dual = split_params(params)
    _, unravel = ravel_pytree(primal)
    still = None if dual is None else jax.tree.map(jnp.zeros_like, dual)
    return join_params(unravel(direction), still)
