"""What the data of a facility network must fulfil."""

from typing import TYPE_CHECKING

import equinox as eqx
import jax
import numpy as np

from ..._core import checks
from ...exec.sources import Rows
from ..uncertain import checks_of as checks_of_spread
from . import on_disk
from .legs import checks_of as checks_of_legs
from .links import reachability

if TYPE_CHECKING:
    from .network import Network


def conditions_of(owner: str, network: "Network") -> tuple[checks.Check, ...]:
    """Finite data, usable weights, hop limits in range, and a way out for every node."""
    nodes, ends = network.nodes, network.destinations
    stays = isinstance(nodes, Rows)
    found = [] if stays else [checks.check_finite(owner, "nodes", nodes)]
    found += [checks.check_finite(owner, "destinations", ends)]
    if not stays:
        found += checks.check_weights(owner, "weights", network.weights)
    found += checks_of_spread(owner, "nodes", network.node_spread)
    found += checks_of_spread(owner, "destinations", network.destination_spread)
    if network.fixed is not None:
        found += [checks.check_finite(owner, "fixed", network.fixed)]
    found += [
        checks.check_finite(owner, "stage_costs", leaf)
        for leaf in jax.tree.leaves(eqx.filter(network.stage_costs, eqx.is_inexact_array))
    ]
    # Nodes on disk were checked when they were measured.
    found += (
        on_disk.checks_of(owner, network) if stays else checks_of_legs(network.legs, nodes, ends)
    )
    limits = np.asarray(network.n_stages)
    if network.max_hops is not None:
        limits = network.max_hops
        low, high = (0.0 if network.direct else 1.0), float(network.n_stages)
        found += [checks.check_range(owner, "max_hops", limits, low=low, high=high)]
    found += network.capacities.checks(owner, n_stages=network.n_stages, direct=network.direct)
    # Of nodes on disk none has masks of its own.
    count = 1 if stays else nodes.shape[0]
    found += [
        reachability(
            owner, network.open_links(count), (count, network.total, ends.shape[0]), limits,
            n_stages=network.n_stages, direct=network.direct, self_loops=network.self_loops,
        )
    ]  # fmt: skip
    return tuple(found)
