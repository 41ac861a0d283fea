"""Networks of nodes that stay on disk: what is asked of them beside sums."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks, paths, trees
from ...exec.files import writing_rows
from ...exec.in_memory import InMemory
from ...exec.sources import Rows, check_no_others, few_rows
from ..costs.euclidean import Euclidean
from ..costs.function import CostFunction
from ..costs.quadratic import Mahalanobis, SquaredEuclidean
from .legs import CostLegs, FreeLegs
from .links import reachability

# Nodes that tell where facilities separate and where they may start.
_FEW = 10_000
# Costs of which one pass measures all that they take from the data.
_COSTS = (SquaredEuclidean, Mahalanobis, Euclidean, CostFunction)


# What has a row for each node, and is read with it.
_BY_NODE = "max_hops", "links.entry", "links.direct"


def check_supported(owner: str, network: Any) -> None:
    """Raise `TypeError` for what needs a row for each node in memory, and for unknown columns."""
    given = network.max_hops, network.links.entry, network.links.direct
    for name, value in zip(_BY_NODE, given, strict=True):
        if value is not None:
            raise TypeError(
                f"{owner}: with nodes on disk, `{name}` must be left out, as it has a row for each "
                f"node; name its columns in Rows(..., also={{{name!r}: columns}})."
            )
    check_no_others(f"{owner}: with nodes on disk,", network.nodes, _BY_NODE)
    for legs in network.legs:
        if isinstance(legs, CostLegs) and not isinstance(legs.cost, _COSTS):
            names = ", ".join(kind.__name__ for kind in _COSTS)
            raise TypeError(
                f"{owner}: with nodes on disk, `stage_costs` must be free, a function, or one of "
                f"{names}; got {type(legs.cost).__name__}."
            )


def has_masks(nodes: Any) -> bool:
    """Whether masks of entries are read with the nodes."""
    return isinstance(nodes, Rows) and "links.entry" in dict(nodes.source.also)


def legs_for(legs: Any, rows: Any, weights: Any) -> Any:
    """`legs.for_places`, of what was measured."""
    del weights
    if not isinstance(legs, CostLegs) or not isinstance(legs.cost, Euclidean):
        return legs
    spread = np.float64(rows.source.measures.spread)
    return CostLegs(legs.cost.for_spread(spread, rows.dtype))


def checks_of(owner: str, network: Any) -> list[checks.Check]:
    """Of costs, and of squares to destinations; nodes were checked when they were measured."""
    found = [
        check
        for legs in network.legs
        if isinstance(legs, CostLegs)
        for check in legs.cost.check(network.nodes.shape[1])
    ]
    if not network.all_squared:
        return found
    mean = np.asarray(network.nodes.source.measures.mean, network.nodes.dtype)[None]
    ends = network.destinations
    xp: Any = np if checks.is_concrete(ends) else jnp
    return [*found, checks.check_squares(owner, "destinations", xp.concatenate([mean, ends]))]


def in_memory(network: Any, read: Float[Array, "n width"], weights: Float[Array, " n"]) -> Any:
    """The network of the nodes that were read, with all that was measured of its own."""
    nodes, others = network.nodes.source.parts(read)
    masks = {name: others[f"links.{name}"] > 0.5 for name in ("entry", "direct")
             if f"links.{name}" in others}  # fmt: skip
    hops = others.get("max_hops")
    return trees.replaced(
        network, nodes=nodes, weights=weights, executor=InMemory(),
        links=trees.replaced(network.links, **masks) if masks else network.links,
        max_hops=None if hops is None else hops[:, 0].astype(jnp.int32),
    )  # fmt: skip


def of_no_node(network: Any) -> Any:
    """The network without nodes."""
    rows = network.nodes
    return in_memory(network, jnp.zeros((0, rows.width), rows.dtype), jnp.zeros(0, rows.dtype))


def check_rows(owner: str, network: Any) -> None:
    """Raise `ValueError` for the first node whose limits are none, or which reaches nothing."""
    source = network.nodes.source
    sizes = {"max_hops": 1, "links.entry": network.total,
             "links.direct": network.destinations.shape[0]}  # fmt: skip
    for name, count in source.also:
        if count != sizes[name]:
            raise ValueError(
                f"{owner}: `also[{name!r}]` must name {sizes[name]} columns; got {count}."
            )
    if source.also and dict(source.also).get("links.direct") and not network.direct:
        raise ValueError(f"{owner}: `also['links.direct']` needs `direct=True`.")
    low = 0 if network.direct else 1
    for first, x, weights in source.slabs() if source.also else ():
        for name, values in source.parts(x)[1].items():
            least, most = (low, network.n_stages) if name == "max_hops" else (0, 1)
            wrong = (values != np.round(values)) | (values < least) | (values > most)
            if np.any(wrong):
                row, column = np.argwhere(wrong)[0]
                raise ValueError(
                    f"{owner}: `also[{name!r}]` must be whole numbers from {least} to {most}; got "
                    f"{values[row, column]:g} in row {first + row}."
                )
        block = in_memory(network, jnp.asarray(x), jnp.asarray(weights))
        count = len(x)
        check = reachability(
            owner, block.open_links(count), (count, network.total, sizes["links.direct"]),
            np.asarray(network.n_stages) if block.max_hops is None else block.max_hops,
            n_stages=network.n_stages, direct=network.direct, self_loops=network.self_loops,
        )  # fmt: skip
        if not bool(check.ok):
            raise ValueError(check.message(float(check.got) + first))


def sampled(network: Any, key: Any, n: int) -> Any:
    """The same network of `n` of its nodes, in memory; of all with their weights if fewer."""
    return in_memory(network, *few_rows(network.nodes, key, n))


def few_of(network: Any, key: Any = None) -> Any:
    """The network of a few of its nodes, without a key the same each time."""
    few = max(_FEW, network.n_facilities)
    return sampled(network, jax.random.key(0) if key is None else key, few)


def mean_entry_cost(network: Any, params: Any) -> Float[Array, ""]:
    """Mean over nodes and facilities of what entries cost, zero for those that are closed."""
    measures, dtype = network.nodes.source.measures, network.nodes.dtype
    if isinstance(network.legs[0], FreeLegs):
        return jnp.zeros((), dtype)
    mean = jnp.asarray(measures.mean, dtype)
    squares = jnp.sum((network.facilities(params) - mean) ** 2, axis=1)
    costs = squares + jnp.asarray(np.trace(measures.covariance), dtype)
    closed = network.capacities.closed_entries(jnp)
    return jnp.mean(costs if closed is None else jnp.where(closed, 0.0, costs))


@eqx.filter_jit
def _routes(network: Any, params: Any) -> tuple[Array, Array]:
    """Facilities in order, -1 after the last, then the destination; and what the routes cost."""
    found = paths.shortest(network.leg_costs(params), network.max_hops)
    routes = paths.without_cycles(found.states)
    return jnp.concatenate([routes, found.destinations[:, None]], axis=1), found.costs


def routes_to(network: Any, path: Any, params: Any) -> float:
    """Write routes to an NPY file, whole or not at all; their cost, summed in float64."""
    owner = "FacilityPath.harden_to"
    if not isinstance(network.nodes, Rows):
        raise TypeError(
            f"{owner}: the nodes must be `mepjax.exec.Rows`; of nodes in memory `harden` returns "
            "the routes."
        )
    if not checks.is_concrete(network, params):
        raise TypeError(f"{owner}: it writes a file, so it must be called outside `jit`.")
    source = network.nodes.source
    at = network.at(network.locations(params))
    cost = total = 0.0
    with writing_rows(path, (source.n, network.n_stages + 1)) as write:
        for _, count, x, weights in source.even_slabs():
            block = in_memory(network, jnp.asarray(x), jnp.asarray(weights))
            routes, costs = _routes(block, at)
            write(np.asarray(routes)[:count])
            wide = weights[:count].astype(np.float64)
            cost += float(wide @ np.asarray(costs, np.float64)[:count])
            total += float(wide.sum())
    return cost / total
