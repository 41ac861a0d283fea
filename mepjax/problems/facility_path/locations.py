"""Where facilities stand best at fixed traffic: stiffness, metric and the equation they solve."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float

from ..._core.linear import solve_symmetric
from ..._core.params import Params, join_params, split_params
from ..._core.paths import StageCosts
from ..._core.types import Scalar
from ...solvers.duals import solve_dual
from ..costs import weighted_sum
from .dual import dual_at, price_residual
from .legs import FreeLegs
from .network import Network
from .traffic import flow_and_entered, own_hessians, sums_of, worth_of

_HIGHEST = jax.lax.Precision.HIGHEST


def pull_of(network: Network, flow: StageCosts) -> tuple[Array, Array, Array]:
    """Traffic on entries, exits and (both ways, between different facilities) links.

    Without the legs that cost nothing, which hold no facility in place.
    """
    entry, link, end = (0.0 if isinstance(legs, FreeLegs) else 1.0 for legs in network.legs)
    apart = 1 - jnp.eye(network.total, dtype=flow.links.dtype)
    return entry * flow.first, end * flow.last, link * apart * (flow.links + flow.links.T)


def stiffness_of(
    network: Network, flow: StageCosts
) -> tuple[Float[Array, "k k"], Float[Array, "k f"], Bool[Array, " k"]]:
    """S of the facilities to place, their traffic with fixed ones, and who has traffic.

    S is half the Hessian of D at fixed traffic; a facility without traffic has stiffness one.
    """
    k = network.n_facilities
    entries, exits, both_ways = pull_of(network, flow)
    held = jnp.sum(entries, axis=0) + jnp.sum(exits, axis=1) + jnp.sum(both_ways, axis=1)
    # NaN counts as traffic, to be seen.
    live = ~(held[:k] <= float(jnp.finfo(held.dtype).tiny) ** 0.5)
    coupled = live[:, None] & live[None, :]
    stiffness = jnp.diag(held[:k]) - both_ways[:k, :k]
    stiffness = jnp.where(coupled, stiffness, jnp.eye(k, dtype=stiffness.dtype))
    return stiffness, jnp.where(live[:, None], both_ways[:k, k:], 0.0), live


def placed_for(
    network: Network, flow: StageCosts, entered: Float[Array, "m d"], params: Any
) -> Float[Array, "k d"]:
    """Minimiser of the squared legs at fixed traffic; without traffic a place stays."""
    stiffness, pull = balance_of(network, flow, entered, params)
    return _solve(stiffness, pull) + jax.lax.stop_gradient(network.origin)


def balance_of(
    network: Network, flow: StageCosts, entered: Float[Array, "m d"], params: Any
) -> tuple[Float[Array, "k k"], Float[Array, "k d"]]:
    """Stiffness S and pull b of the squared legs: dD/dy = 2 (S y - b), y from the origin."""
    origin = jax.lax.stop_gradient(network.origin)
    y, z = network.facilities(params) - origin, network.destinations - origin
    k = network.n_facilities
    stiffness, to_fixed, live = stiffness_of(network, flow)
    _, exits, _ = pull_of(network, flow)
    entry, _, _ = network.legs
    pull = jnp.zeros_like(entered) if isinstance(entry, FreeLegs) else entered
    pull = pull + jnp.matmul(exits, z, precision=_HIGHEST)
    pull = pull[:k] + jnp.matmul(to_fixed, y[k:], precision=_HIGHEST)
    return stiffness, jnp.where(live[:, None], pull, jax.lax.stop_gradient(y[:k]))


def slope_of(
    network: Network, params: Any, beta: Scalar, flow: StageCosts, entered: Float[Array, "m d"]
) -> Float[Array, "k d"]:
    """Gradient of F in the locations, by the chain rule from traffic: no second recursion.

    Block by block other costs than squares, whose traffic is not kept, are gone through again.
    """
    locations, prices = split_params(params)
    if network.executor.in_blocks and not network.all_squared:
        return sums_of(network).slope(params, beta)
    if network.executor.in_blocks:
        stiffness, pull = balance_of(network, flow, entered, params)
        y = locations - jax.lax.stop_gradient(network.origin)
        return 2 * (jnp.matmul(stiffness, y, precision=_HIGHEST) - pull)
    _, pull = jax.vjp(lambda y: network.leg_costs(join_params(y, prices)), locations)
    return pull(flow)[0]


def equation_at(
    network: Network, params: Any, beta: Scalar, flow: StageCosts, entered: Float[Array, "m d"]
) -> Any:
    """`Problem.residual`, given the traffic there."""
    locations, prices = split_params(params)
    _, _, live = stiffness_of(network, flow)
    stays = locations - jax.lax.stop_gradient(locations)
    slope = jnp.where(live[:, None], slope_of(network, params, beta, flow, entered), stays)
    if prices is None:
        return slope
    return Params(slope, price_residual(network, prices, flow, beta))


def metric_at(
    network: Network, params: Any, beta: Scalar, flow: StageCosts
) -> lx.AbstractLinearOperator:
    """`Problem.metric`, given the traffic there."""
    if network.all_squared:
        stiffness, _, _ = stiffness_of(network, flow)

        def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
            return 2 * jnp.matmul(stiffness, v, precision=_HIGHEST)

    else:
        hessian = hessian_at(network, params, beta, flow)

        def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
            return jnp.matmul(hessian, v.ravel(), precision=_HIGHEST).reshape(v.shape)

    structure = jax.ShapeDtypeStruct(network.locations_shape, network.nodes.dtype)
    return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)


def solve_metric(
    network: Network, params: Any, beta: Scalar, flow: StageCosts, vector: Float[Array, "k d"]
) -> Float[Array, "k d"]:
    """Solve with the metric: one small factorisation."""
    if network.all_squared:
        stiffness, _, _ = stiffness_of(network, flow)
        return _solve(2 * stiffness, vector)
    hessian = hessian_at(network, params, beta, flow)
    return _solve(hessian, vector.reshape(-1, 1)).reshape(vector.shape)


def hessian_at(
    network: Network, params: Any, beta: Scalar, flow: StageCosts
) -> Float[Array, "size size"]:
    """Hessian of D in the flat locations at fixed traffic, made positive definite."""
    locations, prices = split_params(params)
    _, link, _ = network.legs
    _, _, live = stiffness_of(network, flow)

    in_blocks = network.executor.in_blocks

    def ends(locations: Float[Array, "k d"]) -> Float[Array, ""]:
        at = join_params(locations, prices)
        if in_blocks:
            return worth_of(network.common_costs(at).last, flow.last)
        costs = network.leg_costs(at)
        return worth_of(costs.first, flow.first) + worth_of(costs.last, flow.last)

    def between(locations: Float[Array, "k d"]) -> Float[Array, ""]:
        origin = jax.lax.stop_gradient(network.origin)
        y = network.facilities(join_params(locations, prices)) - origin
        return worth_of(link.pairwise(y, y, network.open_between(), origin), flow.links)

    axes = jnp.eye(locations.shape[1], dtype=locations.dtype)
    own = own_hessians(ends, locations, axes)
    if in_blocks:
        own = own + sums_of(network).entry_hessians(params, beta)
    return location_hessian(own, between, locations, live)


def init_at(network: Network, key: Any) -> Any:
    """`Problem.init`."""
    middle = jnp.mean(network.destinations, axis=0) + network.mean_node()
    start = network.params_at(jnp.broadcast_to(middle / 2, network.locations_shape))
    if isinstance(start, Params):
        dual, flat, shaped = dual_at(network, start, 1.0, level=True)
        start = Params(start.primal, shaped(solve_dual(dual, flat)))
    placed = placed_for(network, *flow_and_entered(network, start, 1.0, level=True), start)
    if not network.all_squared:
        scale = network.size()
        placed = placed + 0.01 * scale * jax.random.normal(key, placed.shape, placed.dtype)
    return network.params_at(placed)


def location_hessian(
    own: Float[Array, "k d d"],
    between: Callable[[Float[Array, "k d"]], Array],
    locations: Float[Array, "k d"],
    live: Bool[Array, " k"],
) -> Float[Array, "size size"]:
    """Hessian of all legs, made positive definite, in the flat locations.

    **Arguments:** `own`, the Hessians of entries and exits, in which facilities do not interact;
    `between`, the cost of links; `live`, False where a facility has no traffic, which gets the
    identity.
    """
    k, d = locations.shape
    same = jnp.eye(k, dtype=locations.dtype)
    hessian = jnp.einsum("kab,kj->kajb", own, same) + jax.hessian(between)(locations)
    coupled = (live[:, None] & live[None, :])[:, None, :, None]
    identity = jnp.eye(k * d, dtype=locations.dtype)
    hessian = jnp.where(coupled, hessian, 0.0).reshape(k * d, k * d)
    hessian = jnp.where(jnp.repeat(live, d)[:, None], hessian, identity)
    return weighted_sum.positive_definite(hessian[None])[0]


def _solve(matrix: Float[Array, "k k"], vectors: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Solve with a positive definite matrix whose rows may differ by orders of magnitude."""
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    scaled = matrix * scale[:, None] * scale[None, :]
    operator = lx.MatrixLinearOperator(scaled, lx.positive_semidefinite_tag)
    columns = jax.vmap(lambda v: solve_symmetric(operator, v), in_axes=1, out_axes=1)
    return scale[:, None] * columns(scale[:, None] * vectors)
