"""Newton's method with the linear systems solved roughly by conjugate gradients."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._core.params import along_primal, dual_of, join_params, primal_of
from .armijo import Armijo
from .equation import FreeEnergy
from .spectrum import Pencil, primal_pencil


class NewtonKrylov(Armijo):
    """Descent along truncated Newton directions, with the line search of `Armijo`.

    The Hessian of F is only multiplied with vectors. Its system is solved by conjugate gradients,
    preconditioned with the problem's metric, up to `krylov` steps or until the residual is
    `forcing` times the gradient; where a direction of negative curvature is met, what was found
    before it is searched, so that F falls at saddles too. With prices the Hessian is that of the
    primal at the best prices. Close to a transition, where each update of `FixedPoint` moves
    little, it takes few steps, each of some `krylov` updates' cost. Where the residual is no
    gradient (frozen stationarity) it searches along the update, as `Armijo` does, and can stall.

    **Arguments:** `krylov`, `forcing`, and those of `Armijo`.

    **Raises:** `ValueError` for numbers out of range.

    Source: Nocedal and Wright, Numerical Optimization, algorithm 7.1 (Steihaug's test).

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), 2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0), solver=mj.NewtonKrylov())
    >>> print(jnp.round(jnp.sort(sol.params[:, 0]), 4))
    [-1.  1.]

    ```
    """

    krylov: int = eqx.field(static=True, default=24, kw_only=True)
    forcing: float = eqx.field(static=True, default=1e-2, kw_only=True)

    def __check_init__(self) -> None:
        if self.krylov < 1:
            raise ValueError(f"NewtonKrylov: `krylov` must be at least 1; got {self.krylov}.")
        if not 0 < self.forcing < 1:
            raise ValueError(f"NewtonKrylov: `forcing` must be in (0, 1); got {self.forcing}.")

    def direction(
        self, problem: FreeEnergy, params: Any, beta: Float[Array, ""], gradient: Any
    ) -> Any:
        """-Hess F^-1 grad F, roughly; downhill in any case."""
        if not problem.variational:
            return super().direction(problem, params, beta, gradient)
        flat, unravel = ravel_pytree(primal_of(gradient))
        step = unravel(self._newton_step(primal_pencil(problem, params, beta), flat))
        return join_params(step, dual_of(along_primal(params)))

    def following(self, suggested: Float[Array, ""]) -> Float[Array, ""]:
        """One: Newton's step has its own length."""
        return jnp.ones_like(suggested)

    def _newton_step(self, pencil: Pencil, gradient: Float[Array, " size"]) -> Array:
        tiny = float(jnp.finfo(gradient.dtype).eps)

        def preconditioned(residual: Array) -> Array:
            return pencil.project(pencil.solve_metric(residual))

        def proceed(state: _Conjugate) -> Array:
            wanted = self.forcing**2 * first.size
            return ~state.stopped & (state.count < self.krylov) & (state.size > wanted)

        def body(state: _Conjugate) -> _Conjugate:
            image = pencil.project(pencil.apply(state.direction))
            curvature = jnp.vdot(state.direction, image)
            length = jnp.vdot(state.direction, pencil.metric(state.direction))
            flat = curvature <= tiny * length
            rate = jnp.where(flat, 0.0, state.size / jnp.where(flat, 1.0, curvature))
            # Where the very first direction curves down, go along it.
            rate = jnp.where(flat & (state.count == 0), 1.0, rate)
            residual = state.residual - jnp.where(flat, 0.0, rate) * image
            scaled = preconditioned(residual)
            size = jnp.vdot(residual, scaled)
            kept = size / jnp.where(state.size > 0, state.size, 1.0)
            return _Conjugate(
                step=state.step + rate * state.direction,
                residual=residual,
                direction=scaled + kept * state.direction,
                size=size,
                count=state.count + 1,
                stopped=flat,
            )

        residual = -pencil.project(gradient)
        start = preconditioned(residual)
        first = _Conjugate(
            step=jnp.zeros_like(gradient),
            residual=residual,
            direction=start,
            size=jnp.vdot(residual, start),
            count=jnp.zeros((), jnp.int32),
            stopped=jnp.asarray(False),
        )
        return jax.lax.while_loop(proceed, body, first).step


class _Conjugate(eqx.Module):
    step: Float[Array, " size"]
    residual: Float[Array, " size"]
    direction: Float[Array, " size"]
    # Squared length of the residual in the metric's inverse.
    size: Float[Array, ""]
    count: Int[Array, ""]
    stopped: Bool[Array, ""]
