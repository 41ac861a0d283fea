"""The data of a facility network: who travels, what stands, and what the legs cost."""

from typing import Any, Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks, trees
from ..._core.params import join_params, primal_of, split_params
from ..._core.paths import StageCosts
from ..._core.programs import own_arithmetic
from ...engine.problem import Constrained, Growable
from ...exec.base import AbstractExecutor
from ...exec.from_disk import FromDisk, check_suits
from ...exec.in_memory import InMemory
from ...exec.sources import Rows, own_weights
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ..capacity.limits import as_capacity
from ..per_entity import placed
from ..uncertain import Spread, split_spread
from . import on_disk
from .conditions import conditions_of
from .legs import FreeLegs, Legs, as_stage_costs, cost_of, for_places, is_squared
from .links import Links, as_hops, as_links
from .prices import Capacities, Prices, charged
from .uncertain import check_known_enough, expected_costs

_OWNER = "FacilityPath"


class Network(Growable, Constrained):
    """The data of a `FacilityPath`, which documents them, and what follows from them alone."""

    # Nodes on disk are `Rows` here, and `RowWeights` their weights: sums go through them alike.
    nodes: Float[Array, "n d"]
    destinations: Float[Array, "l d"]
    weights: Float[Array, " n"]
    fixed: Float[Array, "f d"] | None
    stage_costs: Legs | tuple[Legs, Legs, Legs]
    links: Links
    max_hops: Int[Array, " n"] | None
    capacities: Capacities
    node_spread: Spread | None
    destination_spread: Spread | None
    # A constant near the nodes, subtracted inside every computation.
    origin: Float[Array, " d"]
    executor: AbstractExecutor
    n_facilities: int = eqx.field(static=True)
    n_stages: int = eqx.field(static=True)
    direct: bool = eqx.field(static=True)
    self_loops: bool = eqx.field(static=True)

    @own_arithmetic()
    def __init__(
        self,
        nodes: Any,
        destinations: Any,
        n_facilities: int,
        *,
        weights: Any = None,
        fixed: Any = None,
        n_stages: int | None = None,
        links: Any = None,
        max_hops: Any = None,
        stage_costs: Any = "sqeuclidean",
        entry_capacity: Any = None,
        facility_capacity: Any = None,
        link_capacity: Any = None,
        direct: bool = False,
        self_loops: bool = False,
    ) -> None:
        self.executor = FromDisk() if isinstance(nodes, Rows) else InMemory()
        checks.check_count(_OWNER, "n_facilities", n_facilities)
        checks.check_count(_OWNER, "n_stages", n_stages, optional=True)
        self.n_facilities = int(n_facilities)
        self.direct = _switch("direct", direct)
        self.self_loops = _switch("self_loops", self_loops)
        nodes, self.node_spread = split_spread(_OWNER, "nodes", nodes, None)
        points: Any = nodes
        self.nodes = points if isinstance(nodes, Rows) else arrays.as_float_array("nodes", nodes)
        if self.nodes.ndim != 2 or 0 in self.nodes.shape:
            raise ValueError(
                f"{_OWNER}: `nodes` must be 2-D, (nodes, coordinates), not empty; "
                f"got shape {self.nodes.shape}."
            )
        n, d = self.nodes.shape
        dtype = self.nodes.dtype
        destinations, self.destination_spread = split_spread(
            _OWNER, "destinations", destinations, dtype
        )
        destinations = arrays.as_data_like("destinations", destinations, dtype)
        if destinations.ndim == 1:
            destinations = destinations[None]
        self.destinations = self._places("destinations", destinations)
        if fixed is not None:
            fixed = self._places("fixed", arrays.as_data_like("fixed", fixed, dtype))
        self.fixed = fixed
        m = self.n_facilities + (0 if fixed is None else fixed.shape[0])
        self.n_stages = m if n_stages is None else int(n_stages)
        if isinstance(self.nodes, Rows):
            self.weights = cast(Any, own_weights(_OWNER, self.nodes, weights))
        else:
            weights = np.ones(n, dtype) if weights is None else weights
            self.weights = arrays.as_data_like("weights", weights, dtype)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `weights` must have shape ({n},) for {n} nodes; "
                f"got {self.weights.shape}."
            )
        self.stage_costs = arrays.cast_floats(as_stage_costs(stage_costs), dtype)
        entry, _, end = self.legs
        check_known_enough(_OWNER, "nodes", self.node_spread, (entry,))
        check_known_enough(_OWNER, "destinations", self.destination_spread, (end, entry))
        self.links = as_links(links)
        self.links.check_shapes(_OWNER, n, m, self.destinations.shape[0], direct=direct)
        self.max_hops = None if max_hops is None else as_hops(_OWNER, max_hops, n)
        self.capacities = Capacities(
            as_capacity(_OWNER, "entry_capacity", entry_capacity, (m,), dtype),
            as_capacity(_OWNER, "facility_capacity", facility_capacity, (m,), dtype),
            as_capacity(_OWNER, "link_capacity", link_capacity, (m, m), dtype),
        )
        if isinstance(self.nodes, Rows):
            on_disk.check_supported(_OWNER, self)
        checks.enforce(self.checks())
        filled = on_disk.legs_for if isinstance(self.nodes, Rows) else for_places
        self.stage_costs = jax.tree.map(
            lambda legs: filled(legs, self.nodes, self.weights),
            self.stage_costs,
            is_leaf=lambda legs: isinstance(legs, Legs),
        )
        self.origin = self._origin(nodes if checks.is_concrete(nodes) else self.nodes)
        if isinstance(self.nodes, Rows):
            on_disk.check_rows(_OWNER, self)

    def _places(self, name: str, places: Array) -> Array:
        d = self.nodes.shape[1]
        if places.ndim != 2 or places.shape[0] == 0 or places.shape[1] != d:
            raise ValueError(
                f"{_OWNER}: `{name}` must have shape (number, {d}) for nodes of {d} coordinates; "
                f"got {places.shape}."
            )
        return places

    def _origin(self, raw: Any) -> Float[Array, " d"]:
        """The weighted mean as a constant, in float64 on the host where that is possible."""
        if isinstance(raw, Rows):
            return self.mean_node()
        if checks.is_concrete(raw, self.weights):
            weights = np.asarray(self.weights, np.float64)
            mean = weights @ np.asarray(raw, np.float64) / np.sum(weights)
            return arrays.as_float_array("origin", mean.astype(self.nodes.dtype), self.nodes.dtype)
        return jax.lax.stop_gradient(self.shares() @ self.nodes)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, usable weights, hop limits in range, and a way out for every node."""
        return conditions_of(_OWNER, self)

    @property
    def locations_shape(self) -> tuple[int, int]:
        """Facilities to place, and coordinates."""
        return self.n_facilities, self.nodes.shape[1]

    def params_at(self, locations: Float[Array, "k d"]) -> Any:
        """Params at these locations, without prices."""
        prices = self.capacities.no_prices() if self.capacities.given else None
        return join_params(locations, prices)

    def at(self, values: Any) -> Any:
        """Params with facilities at given locations, shape (n_facilities, d), and prices zero."""
        values = arrays.as_float_array("locations", values, self.nodes.dtype)
        if values.shape != self.locations_shape:
            raise ValueError(
                f"{_OWNER}: `locations` must have shape {self.locations_shape}; got {values.shape}."
            )
        return self.params_at(values)

    @property
    def total(self) -> int:
        """M, the number of facilities, those that stand already included."""
        return self.n_facilities + (0 if self.fixed is None else self.fixed.shape[0])

    @property
    def n_slots(self) -> int:
        """Number of facilities to place."""
        return self.n_facilities

    @property
    def convex_at_zero(self) -> bool:
        """For squared distance; of other costs nothing is known."""
        return self.all_squared

    @property
    def tied_at_zero(self) -> bool:
        """Where every leg's cost is known to be convex."""
        costs = [cost_of(legs) for legs in self.legs]
        return all(cost is None or cost.convex for cost in costs)

    @property
    def exchangeable(self) -> bool:
        """Unless masks tell facilities apart."""
        masks = self.links.entry, self.links.between, self.links.exit
        if on_disk.has_masks(self.nodes) or self.capacities.given:
            return False
        return all(mask is None for mask in masks)

    @property
    def legs(self) -> tuple[Legs, Legs, Legs]:
        """Costs of entries, links and exits."""
        legs = self.stage_costs
        return legs if isinstance(legs, tuple) else (legs, legs, legs)

    @property
    def all_squared(self) -> bool:
        """Whether every leg costs the squared distance or nothing."""
        return all(isinstance(legs, FreeLegs) or is_squared(legs) for legs in self.legs)

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis on parameterised decisions."""
        return (*super().references, "parameterised_decisions")

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` for squared distance, whose alternation never raises F, else `Armijo`."""
        return FixedPoint() if self.all_squared else Armijo()

    @property
    def scatters(self) -> bool:
        """Starts are places on the way of a node."""
        return True

    def scatter(self, key: Any) -> Any:
        """Facilities at random places on the straight ways of nodes, drawn by weight, to ends."""
        if isinstance(self.nodes, Rows):
            # Of a sample, which is all that may be in memory.
            line, key = jax.random.split(key)
            return on_disk.few_of(self, line).scatter(key)
        which, where, how_far = jax.random.split(key, 3)
        n, k, ends = self.nodes.shape[0], self.n_facilities, self.destinations.shape[0]
        shares = self.executor.everywhere(self.shares())
        rows = jax.random.choice(which, n, (k,), replace=n < k, p=shares)
        end = jax.random.randint(where, (k,), 0, ends)
        t = jax.random.uniform(how_far, (k, 1), self.nodes.dtype)
        return self.at((1 - t) * self.nodes[rows] + t * self.destinations[end])

    def shares(self) -> Float[Array, " n"]:
        """Weights of nodes, summing to one."""
        return self.weights / jnp.sum(self.weights)

    def mean_node(self) -> Float[Array, " d"]:
        """Their weighted mean."""
        if isinstance(self.nodes, Rows):
            return jnp.asarray(self.nodes.source.measures.mean, self.nodes.dtype)
        return self.shares() @ self.nodes

    def locations(self, params: Any) -> Float[Array, "k d"]:
        """Locations of the facilities to place."""
        return primal_of(params)

    def facilities(self, params: Any) -> Float[Array, "m d"]:
        """Locations of all M facilities: those of `params`, then the fixed ones."""
        placed = primal_of(params)
        return placed if self.fixed is None else jnp.concatenate([placed, self.fixed])

    def relative_places(self, params: Any) -> tuple[Array, Array, Array, Array]:
        """Nodes, facilities and destinations relative to the origin, and the origin."""
        origin = jax.lax.stop_gradient(self.origin)
        places = self.nodes, self.facilities(params), self.destinations
        x, y, z = (place - origin for place in places)
        return x, y, z, origin

    def open_links(self, n: int) -> Links:
        """The masks, with what a capacity of zero closes to `n` nodes."""
        capacities, links = self.capacities, self.links
        if not capacities.given:
            return links
        xp: Any = np if checks.is_concrete(capacities, links) else jnp
        entries, between = capacities.closed_entries(xp), capacities.closed_links(xp)
        entry, link = links.entry, links.between
        if entries is not None:
            all_of = xp.broadcast_to(~entries, (n, self.total))
            entry = all_of if entry is None else entry & all_of
        if between is not None:
            link = ~between if link is None else link & ~between
        return Links(entry=entry, between=link, exit=links.exit, direct=links.direct)

    def open_between(self) -> Bool[Array, "m m"] | None:
        """Permitted links between facilities; `None`: all."""
        between = self.open_links(self._listed).between
        if self.self_loops:
            return between
        apart = ~jnp.eye(self.total, dtype=bool)
        return apart if between is None else between & apart

    def leg_costs(self, params: Any) -> StageCosts:
        """Costs of all legs, +inf where forbidden: the argument of `mepjax.paths`.

        Without the prices of capacities.
        """
        x, y, z, origin = self.relative_places(params)
        (entry, link, end), links = self.legs, self.open_links(self._listed)
        here, there = self.node_spread, self.destination_spread
        direct = None
        if self.direct:
            direct = expected_costs(entry, x, z, (here, there), links.direct, origin)
        return StageCosts(
            first=expected_costs(entry, x, y, (here, None), links.entry, origin),
            links=link.pairwise(y, y, self.open_between(), origin),
            last=expected_costs(end, y, z, (None, there), links.exit, origin),
            direct=direct,
            n_stages=self.n_stages,
        )

    def first_costs(
        self, params: Any, *, level: bool = False
    ) -> tuple[Float[Array, "n m"], Float[Array, "n l"] | None]:
        """Costs of entries and of legs straight to a destination, prices included.

        `level`: prices alone, as if all that is permitted cost nothing.
        """
        costs = self.charged_costs(params, level=level)
        return costs.first, costs.direct

    def common_costs(self, params: Any, *, level: bool = False) -> StageCosts:
        """Costs of links and exits, prices included, and of entries for no node at all."""
        return self._of_no_node().charged_costs(params, level=level)

    @property
    def _listed(self) -> int:
        """Nodes in memory."""
        return 0 if isinstance(self.nodes, Rows) else self.nodes.shape[0]

    def _of_no_node(self) -> "Network":
        if isinstance(self.nodes, Rows):
            return on_disk.of_no_node(self)
        return jax.tree.map(lambda leaf, own: leaf[:0] if own else leaf, self, self.by_node())

    def by_node(self) -> Any:
        """Which leaves of the problem have a row for each node."""
        nothing = jax.tree.map(lambda _: False, self)

        def of_nodes(p: "Network") -> list[Any]:
            fields = p.nodes, p.weights, p.max_hops, p.node_spread, p.links.entry, p.links.direct
            return jax.tree.leaves(fields)

        return eqx.tree_at(of_nodes, nothing, replace_fn=lambda _: True)

    def active_prices(self) -> Prices:
        """Which prices there are: those of permitted legs with a limit."""
        between = self.open_between()
        m = self.total
        return self.capacities.active(jnp.ones((m, m), bool) if between is None else between)

    def charged_costs(self, params: Any, *, level: bool = False) -> StageCosts:
        """Costs of all legs, prices included; `level`: prices alone."""
        _, prices = split_params(params)
        costs = self.leg_costs(params)
        if level:
            costs = jax.tree.map(lambda c: jnp.where(jnp.isposinf(c), c, 0.0), costs)
        return costs if prices is None else charged(costs, prices, self.active_prices())

    def size(self) -> Float[Array, ""]:
        """Root mean square distance of nodes and destinations from the nodes' mean; 1 for none."""
        mean = self.mean_node()
        if isinstance(self.nodes, Rows):
            spread = jnp.asarray(np.trace(self.nodes.source.measures.covariance), mean.dtype)
        else:
            spread = self.shares() @ jnp.sum((self.nodes - mean) ** 2, axis=1)
        spread = spread + jnp.mean(jnp.sum((self.destinations - mean) ** 2, axis=1))
        return jax.lax.stop_gradient(jnp.where(spread > 0, jnp.sqrt(spread), 1.0))

    def on(self, executor: AbstractExecutor) -> Self:
        """This problem with its sums over nodes computed by `executor`.

        What is told of every node (`policy`, `traffic`, `stage_policies`, `revisits`) has a row for
        each and stays in memory.

        **Raises:** `TypeError` for nodes on disk without `FromDisk`, and for others with it;
        `ValueError` if the number of nodes does not fit the executor.
        """
        if executor == self.executor:
            return self
        check_suits(_OWNER, self.nodes, executor)
        executor.check(self.nodes.shape[0])
        moved = trees.replaced(self, executor=executor)
        divided = executor.in_blocks and not isinstance(executor, FromDisk)
        return placed(moved, moved.by_node()) if divided else moved


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{_OWNER}: `{name}` must be True or False; got {type(value).__name__} {value!r}."
        )
    return bool(value)
