"""How the solution of an anneal is differentiated: a value passed in, never a flag of a solver."""

import abc
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float

from .._core import trees
from .equation import Equation
from .implicit import LinearSolve, attach, check_on_failure, poison


class AbstractAdjoint(eqx.Module):
    """Turns solved params, which carry no derivative, into what the solution returns."""

    @abc.abstractmethod
    def apply(
        self, params: Any, problem: Equation, beta: Float[Array, ""], failing: Bool[Array, ""]
    ) -> Any:
        """Params with this adjoint's derivative with respect to `problem` and `beta`."""


class Implicit(AbstractAdjoint):
    """Implicit function theorem at the solution (default).

    Forward mode, reverse mode, Hessians and their `vmap`s; memory does not grow with stages or
    steps. Warm starts carry no gradient, which equals differentiating the whole schedule.

    **Arguments:**

    - `linear`: a `LinearSolve` (dense LU up to 256 unknowns, iterative above).
    - `on_failure`: what the derivative is where the solve (or the implicit linear solve) failed:
        `"nan"` (default), `"zero"` or `"pass"`. A gradient at an unconverged point is finite and
        wrong, so `"pass"` is for debugging.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> x = jax.random.normal(jax.random.key(0), (20, 2))
    >>> def cost(x):
    ...     problem = mj.Clustering(x, 2)
    ...     schedule = mj.Geometric(0.3, 3.0, 1.5)
    ...     return mj.anneal(problem, schedule, key=jax.random.key(1)).free_energy
    >>> jax.grad(cost)(x).shape
    (20, 2)

    ```
    """

    linear: LinearSolve = eqx.field(default_factory=LinearSolve)
    on_failure: str = eqx.field(static=True, default="nan")

    def __check_init__(self) -> None:
        check_on_failure(self.on_failure)

    def apply(
        self, params: Any, problem: Equation, beta: Float[Array, ""], failing: Bool[Array, ""]
    ) -> Any:
        """Attach the implicit derivative."""
        return attach(
            params, problem, beta, failing, options=self.linear, on_failure=self.on_failure
        )


class Envelope(AbstractAdjoint):
    """Derivative of the free energy alone, by the envelope theorem: no linear solve.

    `solution.free_energy` has the right gradient, since dF/dparams is zero at a solution;
    everything else in the solution has none. Refused where the residual is not the gradient of F
    (frozen stationarity), because then the theorem does not hold.
    """

    def apply(
        self, params: Any, problem: Equation, beta: Float[Array, ""], failing: Bool[Array, ""]
    ) -> Any:
        """Params without a derivative, which no array of the problem has a part in."""
        if not problem.variational:
            raise ValueError(
                f"Envelope: {type(problem).__name__} with this stationarity does not make the "
                "gradient of F zero, so the envelope theorem does not hold; use `Implicit()`."
            )
        return jax.lax.stop_gradient(params)


class Unroll(AbstractAdjoint):
    """Differentiate `steps` further updates at the last beta, started from the solution.

    A fixed-length scan of rematerialised steps; forward and reverse mode. Converges to the
    implicit derivative as the contraction rate to the power `steps`. For checking, and for
    problems whose residual is not available.

    **Arguments:** `steps`, and `damping` in (0, 1] for updates that overshoot.
    """

    steps: int = eqx.field(static=True, default=100)
    damping: float = eqx.field(static=True, default=1.0)

    def __check_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"Unroll: `steps` must be at least 1; got {self.steps}.")
        if not 0 < self.damping <= 1:
            raise ValueError(f"Unroll: `damping` must be in (0, 1]; got {self.damping}.")

    def apply(
        self, params: Any, problem: Equation, beta: Float[Array, ""], failing: Bool[Array, ""]
    ) -> Any:
        """Params after differentiable updates."""

        @jax.checkpoint
        def update(params: Any, _: None) -> tuple[Any, None]:
            move = trees.subtract(problem.update(params, beta), params)
            return trees.axpy(self.damping, move, params), None

        params, _ = jax.lax.scan(update, jax.lax.stop_gradient(params), length=self.steps)
        return poison(params, failing)


class NoGrad(AbstractAdjoint):
    """The solution is a constant: no derivative at all."""

    def apply(
        self, params: Any, problem: Equation, beta: Float[Array, ""], failing: Bool[Array, ""]
    ) -> Any:
        """Params without a derivative, which no array of the problem has a part in."""
        return jax.lax.stop_gradient(params)
