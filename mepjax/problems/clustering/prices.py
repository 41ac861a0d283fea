"""The prices at which a clustering meets its capacity at given centres, and their derivative."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import trees
from ..._core.params import Params
from ..._core.types import Scalar
from ...solvers.equation import Equation
from ...solvers.implicit import LinearSolve, attach
from ..capacity.prices import ClusterCapacity, Totals

if TYPE_CHECKING:
    from .problem import Clustering


def price_slope(problem: "Clustering", params: Params, beta: Scalar) -> Float[Array, " k"]:
    """What is told to join each cluster less its capacity: the gradient of F in the prices."""

    def energy(prices: Array) -> Array:
        return problem.free_energy(Params(params.primal, prices), beta)

    return jax.grad(energy)(params.dual)


def eliminated(
    problem: "Clustering", totals: Callable[[Array], Totals], params: Params, beta: Scalar
) -> Params:
    """The same centres with the prices that suit them; `totals` as in `ClusterCapacity.solve`."""
    still, prices = trees.stop_gradient((problem.capacity, params.dual))
    prices = attach(
        still.solve(totals, prices, beta),
        _PriceEquation(problem, params.primal),
        jnp.asarray(beta, prices.dtype),
        jnp.asarray(False),
        options=LinearSolve(),
        on_failure="pass",
    )
    return Params(params.primal, prices)


class _PriceEquation(Equation):
    """What prices solve at given centres. Bounds make its Jacobian unsymmetric."""

    problem: "Clustering"
    centres: Float[Array, "k d"]

    def residual(self, params: Float[Array, " k"], beta: Scalar) -> Float[Array, " k"]:
        gap = price_slope(self.problem, Params(self.centres, params), beta)
        return self._capacity.condition(params, gap, beta)

    def gauge(self, params: Float[Array, " k"]) -> Float[Array, "1 k"]:
        return self._capacity.gauge()

    @property
    def _capacity(self) -> ClusterCapacity:
        assert self.problem.capacity is not None
        return self.problem.capacity
