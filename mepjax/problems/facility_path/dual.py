"""The prices at which use meets capacity at given locations, and their derivative."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..._core import trees
from ..._core.params import Params, split_params
from ..._core.paths import StageCosts
from ..._core.types import Scalar
from ...engine.problem import Terms
from ...solvers.duals import Dual, constraint_code, optimality, solve_dual
from ...solvers.equation import Equation
from ...solvers.implicit import LinearSolve, attach, orthonormal_rows
from .network import Network
from .prices import Prices, charged, gaps, use, worth
from .traffic import energy_of, flow_and_entered, free_energy_at, sums_of


def price_gauge(network: Network) -> Prices | None:
    """Changes of the prices that change nothing, stacked; `None` if there are none."""
    return network.capacities.gauge(
        network.active_prices(), direct=network.direct, n_stages=network.n_stages
    )


def dual_at(
    network: Network, params: Any, beta: Scalar, *, level: bool = False
) -> tuple[Dual, Array, Callable[[Array], Prices]]:
    """The dual at fixed locations, the present prices, flat, and how to shape them."""
    locations, prices = split_params(params)
    costs = None if network.executor.in_blocks else network.charged_costs(locations, level=level)
    flat, shaped = ravel_pytree(prices)
    active = network.active_prices()

    def value(flat: Array) -> Array:
        prices = shaped(flat)
        if costs is None:
            energy = sums_of(network).energy(Params(locations, prices), beta, level=level)
        else:
            energy = energy_of(network, charged(costs, prices, active), beta)
        return energy - worth(prices, network.capacities.limits, active)

    rows = price_gauge(network)
    if rows is not None:
        rows = orthonormal_rows(jax.vmap(lambda row: ravel_pytree(row)[0])(rows))
    dual = Dual(
        value_and_gap=jax.value_and_grad(value),
        free=ravel_pytree(network.capacities.free(network.direct))[0],
        active=ravel_pytree(active)[0],
        shifts=rows,
        beta=jnp.asarray(beta, flat.dtype),
    )
    return dual, flat, shaped


def price_residual(network: Network, prices: Prices, flow: StageCosts, beta: Scalar) -> Prices:
    """What prices solve: use less limit, or -beta price below a bound."""
    difference, active = gaps_of(network, flow)
    free = network.capacities.free(network.direct)

    def condition(price: Array, gap: Array, on: Array, either: Array) -> Array:
        return optimality(price, gap, on, either, beta)

    return jax.tree.map(condition, prices, difference, active, free)


def gaps_of(network: Network, flow: StageCosts) -> tuple[Prices, Prices]:
    """Use less limit where there is one, and where that is."""
    limits, active = network.capacities.limits, network.active_prices()
    return gaps(use(flow, limits), limits, active), active


class _PriceEquation(Equation):
    """What prices solve at given locations. Bounds make its Jacobian unsymmetric."""

    network: Network
    locations: Float[Array, "k d"]

    def residual(self, params: Prices, beta: Scalar) -> Prices:
        flow, _ = flow_and_entered(self.network, Params(self.locations, params), beta)
        return price_residual(self.network, params, flow, beta)

    def gauge(self, params: Prices) -> Prices | None:
        del params
        return price_gauge(self.network)


def eliminated(network: Network, params: Params, beta: Scalar) -> Params:
    """The same locations with the prices at which use meets capacity there."""
    locations, prices = split_params(params)
    still, start = trees.stop_gradient((network, params))
    dual, flat, shaped = dual_at(still, start, beta)
    prices = attach(
        shaped(solve_dual(dual, flat)),
        _PriceEquation(network, locations),
        jnp.asarray(beta, flat.dtype),
        jnp.asarray(False),
        options=LinearSolve(),
        on_failure="pass",
    )
    return Params(locations, prices)


def directions_at(network: Network) -> Params | None:
    """`Problem.gauge`: changes of the prices alone."""
    rows = price_gauge(network) if network.capacities.given else None
    if rows is None:
        return None
    count = jax.tree.leaves(rows)[0].shape[0]
    return Params(jnp.zeros((count, *network.locations_shape), network.nodes.dtype), rows)


def code_at(network: Network, params: Params, beta: Scalar) -> Int[Array, ""]:
    """`Problem.constraint_code` with prices."""
    flow, _ = flow_and_entered(network, params, beta)
    difference, active = gaps_of(network, flow)
    free, limits = network.capacities.free(network.direct), network.capacities.limits
    return constraint_code(params.dual, difference, limits, active, free, beta)


def scale_at(network: Network, params: Any) -> Any:
    """`Problem.params_scale`: the data's size, and for prices the mean cost of an entry."""
    size = network.size()
    if not isinstance(params, Params):
        return size
    if network.executor.in_blocks:
        mean = jax.lax.stop_gradient(sums_of(network).mean_entry_cost(params))
    else:
        first = jax.lax.stop_gradient(network.leg_costs(params).first)
        mean = jnp.mean(jnp.where(jnp.isposinf(first), 0.0, jnp.abs(first)))
    cost = jnp.where(mean > 0, mean, 1.0)
    return Params(size, jax.tree.map(lambda _: cost, params.dual))


def terms_at(network: Network, params: Any, beta: Scalar) -> Terms:
    """`Problem.terms`, from one pass; H = beta^2 dF/dbeta."""
    beta = jnp.asarray(beta, network.nodes.dtype)
    if network.executor.in_blocks:
        energy, slope = jax.value_and_grad(lambda b: sums_of(network).energy(params, b))(beta)
        flow, _ = flow_and_entered(network, params, beta)
    else:
        energy, (flow, slope) = eqx.filter_value_and_grad(lambda pair: energy_of(network, *pair))(
            (network.charged_costs(params), beta)
        )
    distortion, entropy = energy + beta * slope, beta**2 * slope
    _, prices = split_params(params)
    if prices is None:
        return Terms(energy, distortion, entropy)
    difference, active = gaps_of(network, flow)
    paid = worth(prices, use(flow, prices), active)
    whole = free_energy_at(network, params, beta)
    return Terms(whole, distortion - paid, entropy, difference)
