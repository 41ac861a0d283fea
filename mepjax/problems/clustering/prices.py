"""The prices at which a clustering meets its capacity at given centres, and their derivative."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import trees
from ..._core.types import Scalar
from ...solvers.implicit import LinearSolve, attach
from ..capacity.prices import ClusterParams, Totals


def price_slope(problem: Any, params: ClusterParams, beta: Scalar) -> Float[Array, " k"]:
    """What is told to join each cluster less its capacity: the gradient of F in the prices."""

    def energy(prices: Array) -> Array:
        return problem.free_energy(ClusterParams(params.centres, prices), beta)

    return jax.grad(energy)(params.prices)


def settled(
    problem: Any, totals: Callable[[Array], Totals], params: ClusterParams, beta: Scalar
) -> ClusterParams:
    """The same centres with the prices that suit them; `totals` as in `ClusterCapacity.solve`."""
    still, prices = trees.stop_gradient((problem.capacity, params.prices))
    prices = attach(
        still.solve(totals, prices, beta),
        _PriceEquation(problem, params.centres),
        jnp.asarray(beta, prices.dtype),
        jnp.asarray(False),
        options=LinearSolve(),
        on_failure="pass",
    )
    return ClusterParams(params.centres, prices)


class _PriceEquation(eqx.Module):
    """What prices solve at given centres, as the derivative rule sees a problem."""

    problem: Any
    centres: Float[Array, "k d"]

    # Bounds make the system unsymmetric.
    variational = False

    def residual(self, prices: Float[Array, " k"], beta: Scalar) -> Float[Array, " k"]:
        gap = price_slope(self.problem, ClusterParams(self.centres, prices), beta)
        return self.problem.capacity.condition(prices, gap, beta)

    def gauge(self, params: Float[Array, " k"]) -> Float[Array, "1 k"]:
        return self.problem.capacity.gauge()

    def split_params(self, params: Float[Array, " k"]) -> tuple[Float[Array, " k"], None]:
        return params, None

    def join_params(self, primal: Float[Array, " k"], dual: None) -> Float[Array, " k"]:
        return primal

    def precondition(
        self, params: Float[Array, " k"], beta: Scalar, vector: Float[Array, " k"]
    ) -> Float[Array, " k"]:
        return vector
