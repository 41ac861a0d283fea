"""The same network with other arguments of its construction."""

from typing import Any

from ..._core import trees
from ...engine.problem import check_fields
from ...exec.sources import Rows
from ..capacity.limits import Capacity, Equal
from .legs import CostLegs, Legs
from .network import Network


def arguments(network: Network) -> dict[str, Any]:
    """What `FacilityPath` was built from, but for how uncertain places scatter."""
    capacities = network.capacities
    legs = network.stage_costs
    stays = isinstance(network.nodes, Rows)
    costs = tuple(map(_as_given, legs)) if isinstance(legs, tuple) else _as_given(legs)
    return {
        "nodes": network.nodes,
        "destinations": network.destinations,
        "n_facilities": network.n_facilities,
        "weights": None if stays else network.weights,
        "fixed": network.fixed,
        "n_stages": network.n_stages,
        "links": network.links,
        "max_hops": network.max_hops,
        "stage_costs": costs,
        "entry_capacity": _limits(capacities.entry),
        "facility_capacity": _limits(capacities.facility),
        "link_capacity": _limits(capacities.link),
        "direct": network.direct,
        "self_loops": network.self_loops,
    }


def rebuilt(network: Any, fields: dict[str, Any]) -> Any:
    """`FacilityPath.replace`: places that are not replaced scatter as they did."""
    now = arguments(network)
    check_fields(type(network).__name__, fields, now)
    new = type(network)(**(now | fields))
    kept = {
        f"{kind}_spread": getattr(network, f"{kind}_spread")
        for kind in ("node", "destination")
        if f"{kind}s" not in fields
    }
    new = trees.replaced(new, **kept)
    # Nodes that go to disk, or come from there, have another executor.
    same = isinstance(new.nodes, Rows) == isinstance(network.nodes, Rows)
    return new.on(network.executor) if same else new


def _as_given(legs: Legs) -> Any:
    return CostLegs(legs.cost.as_given()) if isinstance(legs, CostLegs) else legs


def _limits(capacity: Capacity | None) -> Any:
    if capacity is None:
        return None
    return Equal(capacity.limit) if capacity.equality else capacity.limit
