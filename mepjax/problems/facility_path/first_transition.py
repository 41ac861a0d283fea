"""The first transition of a facility network, in closed form where there is one."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import trees
from ...exec.sources import Rows
from .legs import FreeLegs, cost_of
from .network import Network
from .on_disk import few_of

_HIGHEST = jax.lax.Precision.HIGHEST


def first_transition(network: Network) -> Float[Array, ""]:
    """The first transition for one destination, squared distance and all paths permitted.

    stiff / (2 lambda_max(Cov(x) + 2 (1 - rbar) m m^T)) with m half of what separates nodes
    from destination; elsewhere (masks, hop limits, direct legs, fixed facilities, several
    destinations) the same number serves as a reference. Other costs are taken as squared
    distances between `AbstractCost.embed` of the places. 1 for data at one point.
    """
    stiff, rbar = _coincident(network.total, network.n_stages, network.self_loops)
    entry, _, end = (not isinstance(legs, FreeLegs) for legs in network.legs)
    scatter, z = _seen_from_nodes(trees.stop_gradient(network))
    centre = jnp.mean(z, axis=0)
    pull = scatter if entry else jnp.zeros_like(scatter)
    if end:
        apart = z - centre
        pull = pull + jnp.matmul(apart.T, apart, precision=_HIGHEST) / z.shape[0]
    if entry and end:
        pull = pull + (1 - rbar) / 2 * jnp.outer(centre, centre)
    else:
        stiff = stiff / 2  # exact for one stage with a free exit, which is clustering
    largest = jnp.linalg.eigvalsh(pull)[-1]
    return jnp.where(largest > 0, stiff / (2 * jnp.where(largest > 0, largest, 1.0)), 1.0)


def _seen_from_nodes(network: Network) -> tuple[Float[Array, "d d"], Float[Array, "l d"]]:
    """Covariance of the nodes, and destinations from their mean, where costs are like squares."""
    if isinstance(network.nodes, Rows) and not network.all_squared:
        network = few_of(network)
    if isinstance(network.nodes, Rows):
        covariance = jnp.asarray(network.nodes.source.measures.covariance, network.nodes.dtype)
        return covariance, network.destinations - network.mean_node()
    shares = network.shares()
    x, z = as_squared(network, shares)
    origin = shares @ x
    x, z = x - origin, z - origin
    x = x - shares @ x
    return jnp.matmul((shares[:, None] * x).T, x, precision=_HIGHEST), z


def as_squared(network: Network, shares: Float[Array, " n"]) -> tuple[Array, Array]:
    """Nodes and destinations between which squared distance is like the costs."""
    entry, _, end = (cost_of(legs) for legs in network.legs)
    cost = entry if end is None else end if entry is None else entry
    assert cost is not None
    places = jnp.concatenate([network.nodes, network.destinations])
    if cost.translation_invariant:
        places = places - network.origin
    # Seen from between the nodes: what is near a destination has a kink there.
    count = network.destinations.shape[0]
    start, ends = jnp.zeros_like(shares), jnp.full((count,), 1 / count, places.dtype)
    weights = (start, ends) if entry is None else (shares, 0 * ends)
    embedded = cost.embed(places, jnp.concatenate(weights))
    # A function with a kink where the nodes' centre is has no such coordinates.
    embedded = jnp.where(jnp.all(jnp.isfinite(embedded)), embedded, places)
    return embedded[:-count], embedded[-count:]


def _coincident(m: int, k: int, self_loops: bool) -> tuple[float, float]:
    """`stiff` and `rbar` of the first transition: averages over paths by their length q."""
    q = np.arange(1, k + 1, dtype=np.float64)
    if self_loops:
        log_count, same_ends, bend = q * math.log(m), np.where(q == 1, 1.0, 0.0), 2.0
    elif m == 1:
        return 2.0, 1.0
    else:
        log_count, same_ends = (q - 1) * math.log(m - 1), (-1.0 / (m - 1)) ** (q - 1)
        bend = 2 + 2 / (m - 1)
    share = np.exp(log_count - np.max(log_count))
    share = share / np.sum(share)
    return float(share @ (2 + (q - 1) * bend)), float(share @ same_ends)
