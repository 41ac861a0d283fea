"""Facility location with path optimisation: where to build, and how to travel through it."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from ..._core import arrays, checks, paths, sampling, trees
from ..._core.codes import Code, as_code
from ..._core.linear import solve_symmetric
from ..._core.params import Params, join_params, primal_of, split_params
from ..._core.paths import Policies, StageCosts
from ..._core.types import Scalar
from ...engine.problem import Problem, Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...exec.base import AbstractExecutor
from ...exec.in_memory import InMemory
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.duals import Dual, constraint_code, optimality, solve_dual
from ...solvers.equation import Equation
from ...solvers.fixed_point import FixedPoint
from ...solvers.implicit import LinearSolve, attach, orthonormal_rows
from ..capacity.limits import as_capacity
from ..per_entity import placed
from .growth import slot_spectrum
from .hard import HardPaths, assign
from .legs import FreeLegs, Legs, as_stage_costs, cost_of, for_places, is_squared
from .legs import checks_of as checks_of_legs
from .links import Links, as_links, reachability
from .location_hessian import location_hessian
from .prices import Capacities, Prices, charged, gaps, use, worth
from .sensitivities import Sensitivities, find_sensitivities
from .traffic import NodeSums
from .uncertain import Spread, check_known_enough, checks_of, expected_costs, split_spread

_OWNER = "FacilityPath"
_HIGHEST = jax.lax.Precision.HIGHEST


class FacilityPath(Problem):
    """M facilities for N weighted nodes that travel through them to a destination.

    Minimises sum_i weights_i cost(path_i) over the locations and over every node's path
    node -> facility -> ... -> facility -> destination of at most `n_stages` facilities, through
    the free energy -(1/beta) sum_i weights_i log sum_paths exp(-beta cost(path)). Paths are never
    listed: time O(N M + n_stages M^2). A path ends at any destination open to its last facility.
    params is the array of unknown locations, shape (n_facilities, d); with capacities it is a
    `Params`, whose primal are the locations and whose dual the `Prices`, and `.locations(params)`
    reads the locations of either.

    **Arguments:**

    - `nodes`: shape (N, d), in any units; those are the units of the locations. Nodes known by a
        distribution are `mepjax.paths.Samples` or `mepjax.paths.Covariance`; of uncertain weights
        and costs only the means matter.
    - `destinations`: shape (L, d), or (d,) for one; uncertain ones as nodes are.
    - `n_facilities`: number of facilities to place.
    - `weights`: relative importance of the nodes, shape (N,), >= 0; normalised to sum one.
        Default equal.
    - `fixed`: locations of facilities that stand already, shape (F, d); they count as facilities
        n_facilities, n_facilities + 1, ... so that M = n_facilities + F.
    - `n_stages`: most facilities on a path; default M.
    - `links`: `mepjax.paths.Links`, or the boolean (M, M) mask between facilities alone. A
        facility from which no destination can be reached is never used.
    - `max_hops`: most facilities on the path of each node, an int or shape (N,); default n_stages.
    - `stage_costs`: the name of a cost, such as `"sqeuclidean"`, `"euclidean"` or
        `"great_circle"` (of longitudes and latitudes in degrees, in km), an instance of a smooth
        one from `mepjax.costs`, or a function of two points (d,) that gives the cost of the leg
        from the first to the second, differentiable where the points differ. To differentiate
        its parameters make it an `equinox.Module`. Three of these,
        (entry, link, exit), where legs differ in kind, with `None` for legs that are free; what
        goes straight to a destination costs as an entry does.
    - `entry_capacity`: share of the weight that may enter at each facility, shape (M,); its sum
        must be at least 1 (without `direct`). Here and below a bare array is an upper bound,
        `Equal(array)` has to be met exactly, +inf is no limit and 0 closes what it limits.
    - `facility_capacity`: visits to each facility per unit of weight, shape (M,). They add up to
        the mean number of facilities on a path, so the sum must be at least 1.
    - `link_capacity`: uses of each link between facilities per unit of weight, shape (M, M), from
        row to column.
    - `direct`: whether a node may go straight to a destination.
    - `self_loops`: whether a path may stay at a facility for several stages. With squared
        distance staying is free, which multiplies the paths without changing the best of them.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected; a node that cannot reach a destination is named. Values that are traced become a
    result code instead.

    Capacities hold for the soft policy at every beta, through prices that solve the concave dual
    at fixed locations. What only the solve can tell to be impossible has the code INFEASIBLE.

    Source: parameterized sequential decision making, chapter 2, with an absorbing destination.

    **Example:** two towns share a road: one facility gathers them, the next is on the way.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> nodes = jnp.array([[0.0, 1.0], [0.0, -1.0]])
    >>> problem = mj.FacilityPath(nodes, jnp.array([6.0, 0.0]), 2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(problem.harden(sol.params).routes.shape, f"{problem.harden(sol.params).cost:.2f}")
    (2, 2) 13.00

    ```
    """

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
        self.executor = InMemory()
        checks.check_count(_OWNER, "n_facilities", n_facilities)
        checks.check_count(_OWNER, "n_stages", n_stages, optional=True)
        self.n_facilities = int(n_facilities)
        self.direct = _switch("direct", direct)
        self.self_loops = _switch("self_loops", self_loops)
        nodes, self.node_spread = split_spread(_OWNER, "nodes", nodes, None)
        self.nodes = arrays.as_float_array("nodes", nodes)
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
        if weights is None:
            weights = np.ones(n, dtype)
        self.weights = arrays.as_data_like("weights", weights, dtype)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `weights` must have shape ({n},) for {n} nodes; "
                f"got {self.weights.shape}."
            )
        self.stage_costs = arrays.cast_floats(as_stage_costs(stage_costs), dtype)
        entry, _, end = self._legs
        check_known_enough(_OWNER, "nodes", self.node_spread, (entry,))
        check_known_enough(_OWNER, "destinations", self.destination_spread, (end, entry))
        self.links = as_links(links)
        self.links.check_shapes(_OWNER, n, m, self.destinations.shape[0], direct=direct)
        self.max_hops = None if max_hops is None else self._hops(max_hops)
        self.capacities = Capacities(
            as_capacity(_OWNER, "entry_capacity", entry_capacity, (m,), dtype),
            as_capacity(_OWNER, "facility_capacity", facility_capacity, (m,), dtype),
            as_capacity(_OWNER, "link_capacity", link_capacity, (m, m), dtype),
        )
        checks.enforce(self.checks())
        self.stage_costs = jax.tree.map(
            lambda legs: for_places(legs, self.nodes, self.weights),
            self.stage_costs,
            is_leaf=lambda legs: isinstance(legs, Legs),
        )
        self.origin = self._origin(nodes if checks.is_concrete(nodes) else self.nodes)

    def _places(self, name: str, places: Array) -> Array:
        d = self.nodes.shape[1]
        if places.ndim != 2 or places.shape[0] == 0 or places.shape[1] != d:
            raise ValueError(
                f"{_OWNER}: `{name}` must have shape (number, {d}) for nodes of {d} coordinates; "
                f"got {places.shape}."
            )
        return places

    def _hops(self, max_hops: Any) -> Array:
        n = self.nodes.shape[0]
        hops = max_hops if isinstance(max_hops, jax.Array) else np.asarray(max_hops)
        if not jnp.issubdtype(hops.dtype, jnp.integer) or hops.shape not in ((), (n,)):
            raise ValueError(
                f"{_OWNER}: `max_hops` must be an int or {n} of them, one per node; got shape "
                f"{hops.shape} of dtype {hops.dtype}."
            )
        if checks.is_concrete(hops):
            with jax.ensure_compile_time_eval():
                return jnp.asarray(np.broadcast_to(np.asarray(hops), (n,)), jnp.int32)
        return jnp.broadcast_to(hops, (n,)).astype(jnp.int32)

    def _origin(self, raw: Any) -> Float[Array, " d"]:
        """The weighted mean as a constant, in float64 on the host where that is possible."""
        if checks.is_concrete(raw, self.weights):
            weights = np.asarray(self.weights, np.float64)
            mean = weights @ np.asarray(raw, np.float64) / np.sum(weights)
            return arrays.as_float_array("origin", mean.astype(self.nodes.dtype), self.nodes.dtype)
        return jax.lax.stop_gradient(self._shares() @ self.nodes)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, usable weights, hop limits in range, and a way out for every node."""
        found = [checks.check_finite(_OWNER, "nodes", self.nodes)]
        found += [checks.check_finite(_OWNER, "destinations", self.destinations)]
        found += checks.check_weights(_OWNER, "weights", self.weights)
        found += checks_of(_OWNER, "nodes", self.node_spread)
        found += checks_of(_OWNER, "destinations", self.destination_spread)
        if self.fixed is not None:
            found += [checks.check_finite(_OWNER, "fixed", self.fixed)]
        found += [
            checks.check_finite(_OWNER, "stage_costs", leaf)
            for leaf in jax.tree.leaves(eqx.filter(self.stage_costs, eqx.is_inexact_array))
        ]
        for legs, places in zip(
            self._legs, (self.nodes, self.nodes, self.destinations), strict=True
        ):
            found += checks_of_legs(legs, places)
        limits = np.asarray(self.n_stages)
        if self.max_hops is not None:
            limits = self.max_hops
            low, high = (0.0 if self.direct else 1.0), float(self.n_stages)
            found += [checks.check_range(_OWNER, "max_hops", limits, low=low, high=high)]
        found += self.capacities.checks(_OWNER, n_stages=self.n_stages, direct=self.direct)
        sizes = self.nodes.shape[0], self.total, self.destinations.shape[0]
        found += [
            reachability(
                _OWNER, self._open_links(), sizes, limits,
                n_stages=self.n_stages, direct=self.direct, self_loops=self.self_loops,
            )
        ]  # fmt: skip
        return tuple(found)

    # What the problem is.

    @property
    def _shape(self) -> tuple[int, int]:
        return self.n_facilities, self.nodes.shape[1]

    def _join(self, locations: Float[Array, "k d"]) -> Any:
        """Params at these locations, without prices."""
        prices = self.capacities.no_prices() if self.capacities.given else None
        return join_params(locations, prices)

    @property
    def total(self) -> int:
        """M, the number of facilities, those that stand already included."""
        return self.n_facilities + (0 if self.fixed is None else self.fixed.shape[0])

    @property
    def _legs(self) -> tuple[Legs, Legs, Legs]:
        """Costs of entries, links and exits."""
        legs = self.stage_costs
        return legs if isinstance(legs, tuple) else (legs, legs, legs)

    @property
    def _squared(self) -> bool:
        """Whether every leg costs the squared distance or nothing."""
        return all(isinstance(legs, FreeLegs) or is_squared(legs) for legs in self._legs)

    @property
    def convex_at_zero(self) -> bool:
        """For squared distance; of other costs nothing is known."""
        return self._squared

    @property
    def tied_at_zero(self) -> bool:
        """Where every leg's cost is known to be convex."""
        costs = [cost_of(legs) for legs in self._legs]
        return all(cost is None or cost.convex for cost in costs)

    @property
    def exchangeable(self) -> bool:
        """Unless masks tell facilities apart."""
        masks = self.links.entry, self.links.between, self.links.exit
        return all(mask is None for mask in masks) and not self.capacities.given

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis on parameterised decisions."""
        return (*super().references, "parameterised_decisions")

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

    def locations(self, params: Any) -> Float[Array, "k d"]:
        """Locations of the facilities to place."""
        return primal_of(params)

    def facilities(self, params: Any) -> Float[Array, "m d"]:
        """Locations of all M facilities: those of `params`, then the fixed ones."""
        placed = primal_of(params)
        return placed if self.fixed is None else jnp.concatenate([placed, self.fixed])

    def _relative(self, params: Any) -> tuple[Array, Array, Array, Array]:
        """Nodes, facilities and destinations relative to the origin, and the origin."""
        origin = jax.lax.stop_gradient(self.origin)
        places = self.nodes, self.facilities(params), self.destinations
        x, y, z = (place - origin for place in places)
        return x, y, z, origin

    def _open_links(self) -> Links:
        """The masks, with what a capacity of zero closes."""
        capacities, links = self.capacities, self.links
        if not capacities.given:
            return links
        xp: Any = np if checks.is_concrete(capacities, links) else jnp
        entries, between = capacities.closed_entries(xp), capacities.closed_links(xp)
        entry, link = links.entry, links.between
        if entries is not None:
            n, m = self.nodes.shape[0], self.total
            entry = xp.broadcast_to(~entries, (n, m)) if entry is None else entry & ~entries
        if between is not None:
            link = ~between if link is None else link & ~between
        return Links(entry=entry, between=link, exit=links.exit, direct=links.direct)

    def _between(self) -> Bool[Array, "m m"] | None:
        between = self._open_links().between
        if self.self_loops:
            return between
        apart = ~jnp.eye(self.total, dtype=bool)
        return apart if between is None else between & apart

    def leg_costs(self, params: Any) -> StageCosts:
        """Costs of all legs, +inf where forbidden: the argument of `mepjax.paths`.

        Without the prices of capacities.
        """
        x, y, z, origin = self._relative(params)
        (entry, link, end), links = self._legs, self._open_links()
        here, there = self.node_spread, self.destination_spread
        direct = None
        if self.direct:
            direct = expected_costs(entry, x, z, (here, there), links.direct, origin)
        return StageCosts(
            first=expected_costs(entry, x, y, (here, None), links.entry, origin),
            links=link.pairwise(y, y, self._between(), origin),
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
        costs = self._charged(params, level=level)
        return costs.first, costs.direct

    def common_costs(self, params: Any, *, level: bool = False) -> StageCosts:
        """Costs of links and exits, prices included, and of entries for no node at all."""
        return self._of_no_node()._charged(params, level=level)

    def _of_no_node(self) -> "FacilityPath":
        nothing = jax.tree.map(
            lambda leaf, by_node: leaf[:0] if by_node else leaf, self, self.by_node()
        )
        return nothing

    def by_node(self) -> Any:
        """Which leaves of the problem have a row for each node."""
        nothing = jax.tree.map(lambda _: False, self)

        def of_nodes(p: "FacilityPath") -> list[Any]:
            fields = p.nodes, p.weights, p.max_hops, p.node_spread, p.links.entry, p.links.direct
            return jax.tree.leaves(fields)

        return eqx.tree_at(of_nodes, nothing, replace_fn=lambda _: True)

    @property
    def _sums(self) -> NodeSums:
        """What computes sums over nodes block by block."""
        return NodeSums(self.on(InMemory()), self.executor)

    def _active(self) -> Prices:
        between = self._between()
        m = self.total
        return self.capacities.active(jnp.ones((m, m), bool) if between is None else between)

    def _charged(self, params: Any, *, level: bool = False) -> StageCosts:
        """Costs of all legs, prices included; `level`: prices alone."""
        _, prices = split_params(params)
        costs = self.leg_costs(params)
        if level:
            costs = jax.tree.map(lambda c: jnp.where(jnp.isposinf(c), c, 0.0), costs)
        return costs if prices is None else charged(costs, prices, self._active())

    def _price_gauge(self) -> Prices | None:
        return self.capacities.gauge(self._active(), direct=self.direct, n_stages=self.n_stages)

    def _dual(
        self, params: Any, beta: Scalar, *, level: bool = False
    ) -> tuple[Dual, Array, Callable[[Array], Prices]]:
        """The dual at fixed locations, the present prices, flat, and how to shape them."""
        locations, prices = split_params(params)
        costs = None if self.executor.in_blocks else self._charged(locations, level=level)
        flat, shaped = ravel_pytree(prices)
        active = self._active()

        def value(flat: Array) -> Array:
            prices = shaped(flat)
            if costs is None:
                energy = self._sums.energy(Params(locations, prices), beta, level=level)
            else:
                energy = self._energy(charged(costs, prices, active), beta)
            return energy - worth(prices, self.capacities.limits, active)

        rows = self._price_gauge()
        if rows is not None:
            rows = orthonormal_rows(jax.vmap(lambda row: ravel_pytree(row)[0])(rows))
        dual = Dual(
            value_and_gap=jax.value_and_grad(value),
            free=ravel_pytree(self.capacities.free(self.direct))[0],
            active=ravel_pytree(active)[0],
            shifts=rows,
            beta=jnp.asarray(beta, flat.dtype),
        )
        return dual, flat, shaped

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """The prices at which use meets capacity, at these locations."""
        locations, prices = split_params(params)
        if prices is None:
            return params
        dual, flat, shaped = trees.stop_gradient(self)._dual(trees.stop_gradient(params), beta)
        prices = attach(
            shaped(solve_dual(dual, flat)),
            _PriceEquation(self, locations),
            jnp.asarray(beta, flat.dtype),
            jnp.asarray(False),
            options=LinearSolve(),
            on_failure="pass",
        )
        return Params(locations, prices)

    def _energy(self, costs: StageCosts, beta: Scalar) -> Float[Array, ""]:
        return jnp.sum(self._shares() * paths.values(costs, beta, self.max_hops))

    def _flow(self, costs: StageCosts, beta: Scalar) -> StageCosts:
        return eqx.filter_grad(lambda c: self._energy(c, beta))(costs)

    def _flow_and_entered(
        self, params: Any, beta: Scalar, *, level: bool = False
    ) -> tuple[StageCosts, Float[Array, "m d"]]:
        """Traffic, and the sum over nodes of entries times where the node is.

        Block by block the traffic of all nodes together is in one row.
        """
        if self.executor.in_blocks:
            return self._sums.flow(params, beta, level=level)
        flow = self._flow(self._charged(params, level=level), beta)
        x = self.nodes - jax.lax.stop_gradient(self.origin)
        return flow, jnp.matmul(flow.first.T, x, precision=_HIGHEST)

    def traffic(self, params: Any, beta: Scalar) -> StageCosts:
        """Expected use of every leg per unit of weight: the gradient of F in its cost."""
        return self._flow(self._charged(params), beta)

    def usage(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Expected visits of every facility per unit of weight; they sum to the mean hops."""
        return _visits(self._flow_and_entered(params, beta)[0])

    def entry_shares(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Share of the weight that enters at every facility."""
        return jnp.sum(self._flow_and_entered(params, beta)[0].first, axis=0)

    def revisits(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Share of the weight whose path visits a facility more than once, for every facility.

        No recursion over stages can forbid it. Where legs cost something it fades as beta grows;
        negative prices of capacities, which only `Equal` ones have, reward it.
        """
        costs = self._charged(params)
        energy = paths.values(costs, beta, self.max_hops)

        def once(j: Array) -> Array:
            at_most_once = paths.values(paths.once_through(costs, j), beta, self.max_hops)
            return 1 - jnp.exp(-beta * (at_most_once - energy))

        return jax.lax.map(once, jnp.arange(self.total)) @ self._shares()

    def stage_policies(self, params: Float[Array, "k d"], beta: Scalar) -> Policies:
        """Log Gibbs policies of every choice along the path, as in `mepjax.paths.policies`."""
        return Policies(*paths.log_policies(self._charged(params), beta, self.max_hops))

    def _pull(self, flow: StageCosts) -> tuple[Array, Array, Array]:
        """Traffic on entries, exits and (both ways, between different facilities) links.

        Without the legs that cost nothing, which hold no facility in place.
        """
        entry, link, end = (0.0 if isinstance(legs, FreeLegs) else 1.0 for legs in self._legs)
        apart = 1 - jnp.eye(self.total, dtype=flow.links.dtype)
        return entry * flow.first, end * flow.last, link * apart * (flow.links + flow.links.T)

    def _stiffness(
        self, flow: StageCosts
    ) -> tuple[Float[Array, "k k"], Float[Array, "k f"], Bool[Array, " k"]]:
        """S of the facilities to place, their traffic with fixed ones, and who has traffic.

        S is half the Hessian of D at fixed traffic; a facility without traffic has stiffness one.
        """
        k = self.n_facilities
        entries, exits, both_ways = self._pull(flow)
        held = jnp.sum(entries, axis=0) + jnp.sum(exits, axis=1) + jnp.sum(both_ways, axis=1)
        # NaN counts as traffic, to be seen.
        live = ~(held[:k] <= float(jnp.finfo(held.dtype).tiny) ** 0.5)
        coupled = live[:, None] & live[None, :]
        stiffness = jnp.diag(held[:k]) - both_ways[:k, :k]
        stiffness = jnp.where(coupled, stiffness, jnp.eye(k, dtype=stiffness.dtype))
        return stiffness, jnp.where(live[:, None], both_ways[:k, k:], 0.0), live

    # The contract.

    def init(self, key: Any) -> Any:
        """The location step at equal weight on all permitted paths, the minimiser as beta -> 0.

        With capacities, at the weights closest to equal that meet them. For costs other than
        squared distance facilities are then spread by 1 % of the data's size, since a distance
        has no derivative where places coincide.
        """
        middle = jnp.mean(self.destinations, axis=0) + self._shares() @ self.nodes
        start = self._join(jnp.broadcast_to(middle / 2, self._shape))
        if isinstance(start, Params):
            dual, flat, shaped = self._dual(start, 1.0, level=True)
            start = Params(start.primal, shaped(solve_dual(dual, flat)))
        placed = self._placed(*self._flow_and_entered(start, 1.0, level=True), start)
        if not self._squared:
            scale = self._size()
            placed = placed + 0.01 * scale * jax.random.normal(key, placed.shape, placed.dtype)
        return self._join(placed)

    @property
    def scatters(self) -> bool:
        """Starts are places on the way of a node."""
        return True

    def scatter(self, key: Any) -> Any:
        """Facilities at random places on the straight ways of nodes, drawn by weight, to ends."""
        which, where, how_far = jax.random.split(key, 3)
        n, k, ends = self.nodes.shape[0], self.n_facilities, self.destinations.shape[0]
        shares = self.executor.everywhere(self._shares())
        rows = jax.random.choice(which, n, (k,), replace=n < k, p=shares)
        end = jax.random.randint(where, (k,), 0, ends)
        t = jax.random.uniform(how_far, (k, 1), self.nodes.dtype)
        return self.at((1 - t) * self.nodes[rows] + t * self.destinations[end])

    def _placed(
        self, flow: StageCosts, entered: Float[Array, "m d"], params: Any
    ) -> Float[Array, "k d"]:
        """Minimiser of the squared legs at fixed traffic; without traffic a place stays."""
        stiffness, pull = self._balance(flow, entered, params)
        return _solve(stiffness, pull) + jax.lax.stop_gradient(self.origin)

    def _balance(
        self, flow: StageCosts, entered: Float[Array, "m d"], params: Any
    ) -> tuple[Float[Array, "k k"], Float[Array, "k d"]]:
        """Stiffness S and pull b of the squared legs: dD/dy = 2 (S y - b), y from the origin."""
        origin = jax.lax.stop_gradient(self.origin)
        y, z = self.facilities(params) - origin, self.destinations - origin
        k = self.n_facilities
        stiffness, to_fixed, live = self._stiffness(flow)
        _, exits, _ = self._pull(flow)
        entry, _, _ = self._legs
        pull = jnp.zeros_like(entered) if isinstance(entry, FreeLegs) else entered
        pull = pull + jnp.matmul(exits, z, precision=_HIGHEST)
        pull = pull[:k] + jnp.matmul(to_fixed, y[k:], precision=_HIGHEST)
        return stiffness, jnp.where(live[:, None], pull, jax.lax.stop_gradient(y[:k]))

    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum over paths of exp(-beta cost).

        With capacities costs include prices, and what all capacity costs is taken off.
        """
        if self.executor.in_blocks:
            energy = self._sums.energy(params, beta)
        else:
            energy = self._energy(self._charged(params), beta)
        _, prices = split_params(params)
        if prices is None:
            return energy
        return energy - worth(prices, self.capacities.limits, self._active())

    def _slope(
        self, params: Any, flow: StageCosts, entered: Float[Array, "m d"]
    ) -> Float[Array, "k d"]:
        """Gradient of F in the locations, by the chain rule from traffic: no second recursion."""
        locations, prices = split_params(params)
        if self.executor.in_blocks:
            stiffness, pull = self._balance(flow, entered, params)
            y = locations - jax.lax.stop_gradient(self.origin)
            return 2 * (jnp.matmul(stiffness, y, precision=_HIGHEST) - pull)
        _, pull = jax.vjp(lambda y: self.leg_costs(join_params(y, prices)), locations)
        return pull(flow)[0]

    def update(self, params: Any, beta: Scalar) -> Any:
        """The best locations for the present traffic, then the prices that suit them.

        For other costs than squared distance one step of Newton's method towards them.
        """
        locations, prices = split_params(params)
        flow, entered = self._flow_and_entered(params, beta)
        if self._squared:
            new = self._placed(flow, entered, params)
        else:
            move = self._solve_metric(params, flow, self._slope(params, flow, entered))
            new = locations - move
        return self.eliminate(join_params(new, prices), beta)

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F in the locations; for capacities, use less limit, or -beta price below a bound.

        A facility without traffic is undetermined, stays, and carries no derivative.
        """
        return self._equation(params, beta, *self._flow_and_entered(params, beta))

    def _equation(
        self, params: Any, beta: Scalar, flow: StageCosts, entered: Float[Array, "m d"]
    ) -> Any:
        locations, prices = split_params(params)
        _, _, live = self._stiffness(flow)
        stays = locations - jax.lax.stop_gradient(locations)
        slope = jnp.where(live[:, None], self._slope(params, flow, entered), stays)
        if prices is None:
            return slope
        return Params(slope, self._price_residual(prices, flow, beta))

    def _price_residual(self, prices: Prices, flow: StageCosts, beta: Scalar) -> Prices:
        difference, active = self._gaps(flow)
        free = self.capacities.free(self.direct)

        def condition(price: Array, gap: Array, on: Array, either: Array) -> Array:
            return optimality(price, gap, on, either, beta)

        return jax.tree.map(condition, prices, difference, active, free)

    def _gaps(self, flow: StageCosts) -> tuple[Prices, Prices]:
        limits, active = self.capacities.limits, self._active()
        return gaps(use(flow, limits), limits, active), active

    def metric(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator:
        """The Hessian of D in the locations at fixed traffic, made positive definite.

        For squared distance it is 2 S in every coordinate, with S the Laplacian of the traffic.
        """
        return self._metric_at(params, self._flow_and_entered(params, beta)[0])

    def residual_and_metric(
        self, params: Any, beta: Scalar
    ) -> tuple[Any, lx.AbstractLinearOperator]:
        """In one pass over the nodes."""
        flow, entered = self._flow_and_entered(params, beta)
        return self._equation(params, beta, flow, entered), self._metric_at(params, flow)

    def _metric_at(self, params: Any, flow: StageCosts) -> lx.AbstractLinearOperator:
        if self._squared:
            stiffness, _, _ = self._stiffness(flow)

            def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
                return 2 * jnp.matmul(stiffness, v, precision=_HIGHEST)

        else:
            hessian = self._hessian(params, flow)

            def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
                return jnp.matmul(hessian, v.ravel(), precision=_HIGHEST).reshape(v.shape)

        structure = jax.ShapeDtypeStruct(self._shape, self.nodes.dtype)
        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def precondition(
        self, params: Any, beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`: one small factorisation."""
        return self._solve_metric(params, self._flow_and_entered(params, beta)[0], vector)

    def _solve_metric(
        self, params: Any, flow: StageCosts, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        if self._squared:
            stiffness, _, _ = self._stiffness(flow)
            return _solve(2 * stiffness, vector)
        return _solve(self._hessian(params, flow), vector.reshape(-1, 1)).reshape(vector.shape)

    def _hessian(self, params: Any, flow: StageCosts) -> Float[Array, "size size"]:
        locations, prices = split_params(params)
        _, link, _ = self._legs
        _, _, live = self._stiffness(flow)

        def cost(legs: Float[Array, "a b"], traffic: Float[Array, "a b"]) -> Float[Array, ""]:
            return jnp.sum(traffic * jnp.where(jnp.isposinf(legs), 0.0, legs))

        def ends(locations: Float[Array, "k d"]) -> Float[Array, ""]:
            costs = self.leg_costs(join_params(locations, prices))
            return cost(costs.first, flow.first) + cost(costs.last, flow.last)

        def between(locations: Float[Array, "k d"]) -> Float[Array, ""]:
            _, y, _, origin = self._relative(join_params(locations, prices))
            return cost(link.pairwise(y, y, self._between(), origin), flow.links)

        return location_hessian(ends, between, locations, live)

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "n choices"]:
        """Log probability of each node's first facility, then of each destination if `direct`."""
        return self.stage_policies(params, beta).first

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """Expected cost and path entropy of the Gibbs policy; H = beta^2 dF/dbeta."""
        beta = jnp.asarray(beta, self.nodes.dtype)
        if self.executor.in_blocks:
            energy, slope = jax.value_and_grad(lambda b: self._sums.energy(params, b))(beta)
            flow, _ = self._flow_and_entered(params, beta)
        else:
            energy, (flow, slope) = eqx.filter_value_and_grad(lambda pair: self._energy(*pair))(
                (self._charged(params), beta)
            )
        distortion, entropy = energy + beta * slope, beta**2 * slope
        _, prices = split_params(params)
        if prices is None:
            return Terms(distortion, entropy)
        difference, active = self._gaps(flow)
        paid = worth(prices, use(flow, prices), active)
        return Terms(distortion - paid, entropy, difference)

    def gauge(self, params: Any) -> Any:
        """Changes of the prices that change nothing."""
        rows = self._price_gauge() if self.capacities.given else None
        if rows is None:
            return None
        count = jax.tree.leaves(rows)[0].shape[0]
        return Params(jnp.zeros((count, *self._shape), self.nodes.dtype), rows)

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """INFEASIBLE where use misses a capacity, WEAKLY_ACTIVE at a tight bound without price."""
        _, prices = split_params(params)
        if prices is None:
            return as_code(Code.OK)
        flow, _ = self._flow_and_entered(params, beta)
        difference, active = self._gaps(flow)
        free = self.capacities.free(self.direct)
        return constraint_code(prices, difference, self.capacities.limits, active, free, beta)

    def harden(self, params: Any, *, capacities: str = "ignore") -> HardPaths:
        """Hard routes and their cost D.

        **Arguments:**

        - `params`: as in `init`; only the locations matter.
        - `capacities`: `"ignore"` gives every node its cheapest permitted route, by dynamic
            programming. `"assign"` finds the cheapest routes of whole nodes that meet the
            capacities, by integer programming on the host (SciPy's HiGHS; not inside `jit`).
            With N equal weights a bound w admits floor(N w) nodes and an equality is rounded so
            that entries add up; with other weights bounds on entries are met as they are.

        Cycles are left out, which costs nothing as long as no leg has a negative cost; routes
        that meet equalities keep theirs.

        **Returns:** a `HardPaths`.

        **Raises:** with `"assign"`: `ValueError` for unequal weights and other capacities than
        bounds on entries; `SolveError` if whole nodes cannot meet the capacities.
        """
        if capacities not in ("ignore", "assign"):
            raise ValueError(
                f"{_OWNER}: `capacities` must be 'ignore' or 'assign'; got {capacities!r}."
            )
        locations = arrays.as_float_array("params", primal_of(params), self.nodes.dtype)
        at = self.at(locations)
        if capacities == "assign" and self.capacities.given:
            limits = self.n_stages if self.max_hops is None else self.max_hops
            return assign(self.leg_costs(at), self._shares(), limits, self.capacities)
        if self.executor.in_blocks:
            found = self._sums.shortest(at)
        else:
            found = paths.shortest(self.leg_costs(at), self.max_hops)
        routes = paths.without_cycles(found.states)
        return HardPaths(routes, found.destinations, found.costs, self._shares() @ found.costs)

    def at(self, values: Any) -> Any:
        """Params with facilities at given locations, shape (n_facilities, d), and prices zero."""
        values = arrays.as_float_array("locations", values, self.nodes.dtype)
        if values.shape != self._shape:
            raise ValueError(
                f"{_OWNER}: `locations` must have shape {self._shape}; got {values.shape}."
            )
        return self._join(values)

    def _size(self) -> Float[Array, ""]:
        """Root mean square distance of nodes and destinations from the nodes' mean; 1 for none."""
        mean = self._shares() @ self.nodes
        spread = self._shares() @ jnp.sum((self.nodes - mean) ** 2, axis=1)
        spread = spread + jnp.mean(jnp.sum((self.destinations - mean) ** 2, axis=1))
        return jax.lax.stop_gradient(jnp.where(spread > 0, jnp.sqrt(spread), 1.0))

    def params_scale(self, params: Any) -> Any:
        """The data's size for locations, the mean cost of an entry for prices."""
        size = self._size()
        _, prices = split_params(params)
        if prices is None:
            return size
        if self.executor.in_blocks:
            mean = jax.lax.stop_gradient(self._sums.mean_entry_cost(params))
        else:
            first = jax.lax.stop_gradient(self.leg_costs(params).first)
            mean = jnp.mean(jnp.where(jnp.isposinf(first), 0.0, jnp.abs(first)))
        cost = jnp.where(mean > 0, mean, 1.0)
        return Params(size, jax.tree.map(lambda _: cost, prices))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition for one destination, squared distance and all paths permitted.

        stiff / (2 lambda_max(Cov(x) + 2 (1 - rbar) m m^T)) with m half of what separates nodes
        from destination; elsewhere (masks, hop limits, direct legs, fixed facilities, several
        destinations) the same number serves as a reference. Other costs are taken as squared
        distances between `AbstractCost.embed` of the places. 1 for data at one point.
        """
        stiff, rbar = _coincident(self.total, self.n_stages, self.self_loops)
        entry, _, end = (not isinstance(legs, FreeLegs) for legs in self._legs)
        shares = jax.lax.stop_gradient(self._shares())
        x, z = trees.stop_gradient(self)._as_squared(shares)
        origin = shares @ x
        x, z = x - origin, z - origin
        x, centre = x - shares @ x, jnp.mean(z, axis=0)
        pull = jnp.zeros((x.shape[1], x.shape[1]), x.dtype)
        if entry:
            pull = pull + jnp.matmul((shares[:, None] * x).T, x, precision=_HIGHEST)
        if end:
            apart = z - centre
            pull = pull + jnp.matmul(apart.T, apart, precision=_HIGHEST) / z.shape[0]
        if entry and end:
            pull = pull + (1 - rbar) / 2 * jnp.outer(centre, centre)
        else:
            stiff = stiff / 2  # exact for one stage with a free exit, which is clustering
        largest = jnp.linalg.eigvalsh(pull)[-1]
        return jnp.where(largest > 0, stiff / (2 * jnp.where(largest > 0, largest, 1.0)), 1.0)

    def _as_squared(self, shares: Float[Array, " n"]) -> tuple[Array, Array]:
        """Nodes and destinations between which squared distance is like the costs."""
        entry, _, end = (cost_of(legs) for legs in self._legs)
        cost = entry if end is None else end if entry is None else entry
        assert cost is not None
        places = jnp.concatenate([self.nodes, self.destinations])
        if cost.translation_invariant:
            places = places - self.origin
        # Seen from between the nodes: what is near a destination has a kink there.
        count = self.destinations.shape[0]
        start, ends = jnp.zeros_like(shares), jnp.full((count,), 1 / count, places.dtype)
        weights = (start, ends) if entry is None else (shares, 0 * ends)
        embedded = cost.embed(places, jnp.concatenate(weights))
        # A function with a kink where the nodes' centre is has no such coordinates.
        embedded = jnp.where(jnp.all(jnp.isfinite(embedded)), embedded, places)
        return embedded[:-count], embedded[-count:]

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` for squared distance, whose alternation never raises F, else `Armijo`."""
        return FixedPoint() if self._squared else Armijo()

    def on(self, executor: AbstractExecutor) -> "FacilityPath":
        """This problem with its sums over nodes computed by `executor`.

        What is told of every node (`policy`, `traffic`, `stage_policies`, `revisits`) has a row for
        each and stays in memory.

        **Raises:** `TypeError` for `Streaming` and `Sharded` unless every leg is the squared
        distance or free; `ValueError` if the number of nodes does not fit the executor.
        """
        if executor == self.executor:
            return self
        if executor.in_blocks and not self._squared:
            raise TypeError(
                f"{_OWNER}: with `executor` {type(executor).__name__}, `stage_costs` must be "
                "squared distances or free; others are computed in memory only."
            )
        executor.check(self.nodes.shape[0])
        moved = eqx.tree_at(lambda problem: problem.executor, self, executor)
        return placed(moved, moved.by_node()) if executor.in_blocks else moved

    # Growth hooks.

    @property
    def _no_spectrum(self) -> str | None:
        """Why facilities have no slot spectrum."""
        if self.capacities.given:
            return "capacities tell facilities apart"
        if not self.exchangeable:
            return "masks tell facilities apart"
        _, link, _ = self._legs
        if self.n_stages > 1 and not (isinstance(link, FreeLegs) or is_squared(link)):
            return "links that are neither squared distances nor free have a kink at one place"
        return None

    @property
    def has_slot_spectrum(self) -> bool:
        """Where no capacity or mask is given and links are squared distances, free or unused."""
        return self._no_spectrum is None

    def slot_spectrum(self, params: Any, beta: Scalar) -> SlotSpectrum:
        """Where facilities would separate, and what that and their removal change.

        Facilities at exactly one place are a group, whose `critical_beta` is exact where it equals
        `beta` and supposes the policy held elsewhere. One that is alone is judged with a facility
        more at its place. A pair that separates may share what comes by or be chained. Gains are
        those of ten steps of a pair, removal costs those of the hard routes; `mass` is visits per
        unit of weight.

        **Arguments:** `params`, as in `init`; `beta`, scalar > 0.

        **Returns:** `SlotSpectrum`.

        **Raises:** `NotImplementedError` unless `has_slot_spectrum`, with the reason.

        **Example:** all at one place, they separate at the first transition.

        ```python
        >>> import jax, jax.numpy as jnp, mepjax as mj
        >>> problem = mj.FacilityPath(jnp.array([[0.0], [2.0]]), jnp.array([8.0]), 2)
        >>> params = problem.take(problem.init(jax.random.key(0)), jnp.zeros(2, int))
        >>> spectrum = jax.jit(lambda params: problem.slot_spectrum(params, 0.01))(params)
        >>> print(bool(jnp.allclose(spectrum.critical_beta, problem.beta_scale())))
        True

        ```
        """
        if self._no_spectrum is not None:
            raise NotImplementedError(f"{_OWNER} has no `slot_spectrum` here: {self._no_spectrum}.")
        return slot_spectrum(self.on(InMemory()), params, beta)

    def subsample(self, key: Any, n: int) -> "FacilityPath":
        """`n` nodes of equal weight, drawn in proportion to theirs; itself if it has no more."""
        count = self.nodes.shape[0]
        if count <= n:
            return self
        rows = sampling.systematic(key, self.executor.everywhere(self.weights), n)

        def of_nodes(p: "FacilityPath") -> Any:
            return p.nodes, p.max_hops, p.node_spread, p.links.entry, p.links.direct

        drawn = jax.tree.map(lambda leaf: leaf[rows], of_nodes(self))
        return eqx.tree_at(
            lambda p: (*of_nodes(p), p.weights),
            self.on(InMemory()),
            (*drawn, jnp.ones((n,), self.weights.dtype)),
            is_leaf=lambda leaf: leaf is None,
        )

    # Beyond the contract.

    def sensitivities(self, params: Any, beta: Scalar) -> Sensitivities:
        """What the free energy and the locations of a solution depend on most.

        **Arguments:** `params`, a solution at `beta`.

        **Returns:** `Sensitivities` to every node, destination, weight and capacity; its method
        `ranked` puts the most influential first. One linear solve per coordinate of the
        locations.

        **Example:** the outlying node pulls hardest.

        ```python
        >>> import jax, jax.numpy as jnp, mepjax as mj
        >>> problem = mj.FacilityPath(jnp.array([[0.0], [1.0], [5.0]]), jnp.array([2.0]), 1)
        >>> sol = mj.anneal(problem, mj.Explicit([1.0]), key=jax.random.key(0))
        >>> print(problem.sensitivities(sol.params, sol.beta).ranked("nodes")[0])
        2

        ```
        """
        return find_sensitivities(self, params, beta)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{_OWNER}: `{name}` must be True or False; got {type(value).__name__} {value!r}."
        )
    return bool(value)


class _PriceEquation(Equation):
    """What prices solve at given locations. Bounds make its Jacobian unsymmetric."""

    problem: FacilityPath
    locations: Float[Array, "k d"]

    def residual(self, params: Prices, beta: Scalar) -> Prices:
        flow, _ = self.problem._flow_and_entered(Params(self.locations, params), beta)
        return self.problem._price_residual(params, flow, beta)

    def gauge(self, params: Prices) -> Prices | None:
        del params
        return self.problem._price_gauge()


def _visits(flow: StageCosts) -> Float[Array, " m"]:
    return jnp.sum(flow.first, axis=0) + jnp.sum(flow.links, axis=0)


def _solve(matrix: Float[Array, "k k"], vectors: Float[Array, "k d"]) -> Float[Array, "k d"]:
    """Solve with a positive definite matrix whose rows may differ by orders of magnitude."""
    scale = jax.lax.rsqrt(jnp.diagonal(matrix))
    scaled = matrix * scale[:, None] * scale[None, :]
    operator = lx.MatrixLinearOperator(scaled, lx.positive_semidefinite_tag)
    columns = jax.vmap(lambda v: solve_symmetric(operator, v), in_axes=1, out_axes=1)
    return scale[:, None] * columns(scale[:, None] * vectors)


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
