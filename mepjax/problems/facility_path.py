"""Facility location with path optimisation: where to build, and how to travel through it."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, paths
from .._core.linear import solve_symmetric
from .._core.paths import StageCosts
from .._core.types import Scalar
from ..engine.anneal import anneal
from ..engine.problem import Problem, Terms
from ..engine.schedules import AbstractSchedule
from ..solvers.adjoints import NoGrad
from ..solvers.armijo import Armijo
from ..solvers.base import AbstractSolver
from ..solvers.fixed_point import FixedPoint
from .legs import FreeLegs, FunctionLegs, Legs, as_stage_costs
from .links import Links, as_links, reachability
from .paths import Policies

_OWNER = "FacilityPath"
_HIGHEST = jax.lax.Precision.HIGHEST


class HardPaths(eqx.Module):
    """The cheapest permitted route of every node, and the hard cost D.

    **Fields:** `routes`, shape (N, n_stages): the facilities visited in order, none twice, then
    -1; `destinations` (N,), where each route ends; `node_costs` (N,), what each costs;
    `cost`, their weighted mean.
    """

    routes: Int[Array, "n stages"]
    destinations: Int[Array, " n"]
    node_costs: Float[Array, " n"]
    cost: Float[Array, ""]


class LocateThenRoute(eqx.Module):
    """Facilities placed for the nodes alone, and the routes through them.

    **Fields:** `locations`, shape (n_facilities, d); `hard`, the `HardPaths` at these locations;
    `code`, how the anneal that placed them ended.
    """

    locations: Float[Array, "k d"]
    hard: HardPaths
    code: Int[Array, ""]


class FacilityPath(Problem):
    """M facilities for N weighted nodes that travel through them to a destination.

    Minimises sum_i weights_i cost(path_i) over the locations and over every node's path
    node -> facility -> ... -> facility -> destination of at most `n_stages` facilities, through
    the free energy -(1/beta) sum_i weights_i log sum_paths exp(-beta cost(path)). Paths are never
    listed: time O(N M + n_stages M^2). A path ends at any destination open to its last facility.
    params is the array of unknown locations, shape (n_facilities, d).

    **Arguments:**

    - `nodes`: shape (N, d), in any units; those are the units of the locations.
    - `destinations`: shape (L, d), or (d,) for one.
    - `n_facilities`: number of facilities to place.
    - `weights`: relative importance of the nodes, shape (N,), >= 0; normalised to sum one.
        Default equal.
    - `fixed`: locations of facilities that stand already, shape (F, d); they count as facilities
        n_facilities, n_facilities + 1, ... so that M = n_facilities + F.
    - `n_stages`: most facilities on a path; default M.
    - `links`: `mepjax.paths.Links`, or the boolean (M, M) mask between facilities alone. A
        facility from which no destination can be reached is never used.
    - `max_hops`: most facilities on the path of each node, an int or shape (N,); default n_stages.
    - `stage_costs`: `"sqeuclidean"`, or a function of two points (d,) that gives the cost of the
        leg from the first to the second, differentiable where the points differ. To
        differentiate its parameters make it an `equinox.Module`. Three of these,
        (entry, link, exit), where legs differ in kind, with `None` for legs that are free; what
        goes straight to a destination costs as an entry does.
    - `direct`: whether a node may go straight to a destination.
    - `self_loops`: whether a path may stay at a facility for several stages. With squared
        distance staying is free, which multiplies the paths without changing the best of them.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected; a node that cannot reach a destination is named. Values that are traced become a
    result code instead.

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
    # A constant near the nodes, subtracted inside every computation.
    origin: Float[Array, " d"]
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
        direct: bool = False,
        self_loops: bool = False,
    ) -> None:
        self.n_facilities = _count("n_facilities", n_facilities)
        self.direct = _switch("direct", direct)
        self.self_loops = _switch("self_loops", self_loops)
        self.nodes = arrays.as_float_array("nodes", nodes)
        if self.nodes.ndim != 2 or 0 in self.nodes.shape:
            raise ValueError(
                f"{_OWNER}: `nodes` must be 2-D, (nodes, coordinates), not empty; "
                f"got shape {self.nodes.shape}."
            )
        n, d = self.nodes.shape
        dtype = self.nodes.dtype
        destinations = arrays.as_float_array("destinations", _typed(destinations, dtype), dtype)
        if destinations.ndim == 1:
            destinations = destinations[None]
        self.destinations = self._places("destinations", destinations)
        if fixed is not None:
            fixed = self._places("fixed", arrays.as_float_array("fixed", _typed(fixed, dtype)))
        self.fixed = fixed
        m = self.n_facilities + (0 if fixed is None else fixed.shape[0])
        self.n_stages = m if n_stages is None else _count("n_stages", n_stages)
        if weights is None:
            weights = np.ones(n, dtype)
        self.weights = arrays.as_float_array("weights", _typed(weights, dtype), dtype)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `weights` must have shape ({n},) for {n} nodes; "
                f"got {self.weights.shape}."
            )
        self.stage_costs = arrays.cast_floats(as_stage_costs(stage_costs), dtype)
        self.links = as_links(links)
        self.links.check_shapes(_OWNER, n, m, self.destinations.shape[0], direct=direct)
        self.max_hops = None if max_hops is None else self._hops(max_hops)
        checks.enforce(self.checks())
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
        xp, weights = checks.on_host(self.weights)
        total = xp.sum(weights)
        found = [checks.check_finite(_OWNER, "nodes", self.nodes)]
        found += [checks.check_finite(_OWNER, "destinations", self.destinations)]
        found += [checks.check_finite(_OWNER, "weights", self.weights)]
        if self.fixed is not None:
            found += [checks.check_finite(_OWNER, "fixed", self.fixed)]
        found += [
            checks.check_finite(_OWNER, "stage_costs", leaf)
            for leaf in jax.tree.leaves(eqx.filter(self.stage_costs, eqx.is_inexact_array))
        ]
        found += [
            checks.check_range(_OWNER, "weights", self.weights, low=0.0),
            checks.Check(
                total > 0,
                total,
                f"{_OWNER}: `weights` must not all be zero; their sum is {{got}}.",
            ),
        ]
        limits = np.asarray(self.n_stages)
        if self.max_hops is not None:
            limits = self.max_hops
            low, high = (0.0 if self.direct else 1.0), float(self.n_stages)
            found += [checks.check_range(_OWNER, "max_hops", limits, low=low, high=high)]
        sizes = self.nodes.shape[0], self.total, self.destinations.shape[0]
        found += [
            reachability(
                _OWNER, self.links, sizes, limits,
                n_stages=self.n_stages, direct=self.direct, self_loops=self.self_loops,
            )
        ]  # fmt: skip
        return tuple(found)

    # What the problem is.

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
        return not any(isinstance(legs, FunctionLegs) for legs in self._legs)

    @property
    def convex_at_zero(self) -> bool:
        """For squared distance; of other costs nothing is known."""
        return self._squared

    @property
    def exchangeable(self) -> bool:
        """Unless masks tell facilities apart."""
        masks = self.links.entry, self.links.between, self.links.exit
        return all(mask is None for mask in masks)

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis on parameterised decisions."""
        return (*super().references, "parameterised_decisions")

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

    def facilities(self, params: Float[Array, "k d"]) -> Float[Array, "m d"]:
        """Locations of all M facilities: those of `params`, then the fixed ones."""
        return params if self.fixed is None else jnp.concatenate([params, self.fixed])

    def locations(self, params: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """Locations of the facilities to place."""
        return self.values(params)

    def _relative(self, params: Array) -> tuple[Array, Array, Array, Array]:
        """Nodes, facilities and destinations relative to the origin, and the origin."""
        origin = jax.lax.stop_gradient(self.origin)
        places = self.nodes, self.facilities(params), self.destinations
        x, y, z = (place - origin for place in places)
        return x, y, z, origin

    def _between(self) -> Bool[Array, "m m"] | None:
        between = self.links.between
        if self.self_loops:
            return between
        apart = ~jnp.eye(self.total, dtype=bool)
        return apart if between is None else between & apart

    def leg_costs(self, params: Float[Array, "k d"]) -> StageCosts:
        """Costs of all legs, +inf where forbidden: the argument of `mepjax.paths`."""
        x, y, z, origin = self._relative(params)
        (entry, link, end), links = self._legs, self.links
        return StageCosts(
            first=entry.pairwise(x, y, links.entry, origin),
            links=link.pairwise(y, y, self._between(), origin),
            last=end.pairwise(y, z, links.exit, origin),
            direct=entry.pairwise(x, z, links.direct, origin) if self.direct else None,
            n_stages=self.n_stages,
        )

    def _energy(self, costs: StageCosts, beta: Scalar) -> Float[Array, ""]:
        return jnp.sum(self._shares() * paths.values(costs, beta, self.max_hops))

    def _flow(self, costs: StageCosts, beta: Scalar) -> StageCosts:
        return eqx.filter_grad(lambda c: self._energy(c, beta))(costs)

    def traffic(self, params: Float[Array, "k d"], beta: Scalar) -> StageCosts:
        """Expected use of every leg per unit of weight: the gradient of F in its cost."""
        return self._flow(self.leg_costs(params), beta)

    def usage(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, " m"]:
        """Expected visits of every facility per unit of weight; they sum to the mean hops."""
        return _visits(self.traffic(params, beta))

    def stage_policies(self, params: Float[Array, "k d"], beta: Scalar) -> Policies:
        """Log Gibbs policies of every choice along the path, as in `mepjax.paths.policies`."""
        return Policies(*paths.log_policies(self.leg_costs(params), beta, self.max_hops))

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

    def init(self, key: Any) -> Float[Array, "k d"]:
        """The location step at equal weight on all permitted paths, the minimiser as beta -> 0.

        For costs other than squared distance facilities are then spread by 1 % of the data's
        size, since a distance has no derivative where places coincide.
        """
        middle = jnp.mean(self.destinations, axis=0) + self._shares() @ self.nodes
        start = jnp.broadcast_to(middle / 2, (self.n_facilities, self.nodes.shape[1]))
        costs = self.leg_costs(start)
        free = jax.tree.map(lambda c: jnp.where(jnp.isposinf(c), c, 0.0), costs)
        placed = self._placed(self._flow(free, 1.0), start)
        if self._squared:
            return placed
        noise = jax.random.normal(key, placed.shape, placed.dtype)
        return placed + 0.01 * self.params_scale(placed) * noise

    def _placed(self, flow: StageCosts, params: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """Minimiser of the squared legs at fixed traffic; without traffic a place stays."""
        x, y, z, origin = self._relative(params)
        k = self.n_facilities
        stiffness, to_fixed, live = self._stiffness(flow)
        entries, exits, _ = self._pull(flow)
        pull = jnp.matmul(entries.T, x, precision=_HIGHEST)
        pull = pull + jnp.matmul(exits, z, precision=_HIGHEST)
        pull = pull[:k] + jnp.matmul(to_fixed, y[k:], precision=_HIGHEST)
        pull = jnp.where(live[:, None], pull, jax.lax.stop_gradient(y[:k]))
        return _solve(stiffness, pull) + origin

    def free_energy(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum over paths of exp(-beta cost)."""
        return self._energy(self.leg_costs(params), beta)

    def update(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        """The best locations for the present traffic; for other costs a preconditioned step."""
        if not self._squared:
            return super().update(params, beta)
        return self._placed(self.traffic(params, beta), params)

    def residual(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        """grad F; a facility without traffic is undetermined, stays, and carries no derivative."""
        stays = params - jax.lax.stop_gradient(params)
        _, _, live = self._stiffness(self.traffic(params, beta))
        return jnp.where(live[:, None], super().residual(params, beta), stays)

    def metric(self, params: Float[Array, "k d"], beta: Scalar) -> lx.AbstractLinearOperator:
        """2 S in every coordinate, with S the weighted Laplacian of the traffic."""
        stiffness, _, _ = self._stiffness(self.traffic(params, beta))

        def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
            return 2 * jnp.matmul(stiffness, v, precision=_HIGHEST)

        structure = jax.ShapeDtypeStruct(params.shape, params.dtype)
        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def precondition(
        self, params: Float[Array, "k d"], beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`: one small factorisation for all coordinates."""
        stiffness, _, _ = self._stiffness(self.traffic(params, beta))
        return _solve(2 * stiffness, vector)

    def policy(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, "n choices"]:
        """Log probability of each node's first facility, then of each destination if `direct`."""
        return self.stage_policies(params, beta).first

    def terms(self, params: Float[Array, "k d"], beta: Scalar) -> Terms:
        """Expected cost and path entropy of the Gibbs policy; H = beta^2 dF/dbeta."""
        costs = self.leg_costs(params)
        energy, slope = jax.value_and_grad(lambda b: self._energy(costs, b))(
            jnp.asarray(beta, params.dtype)
        )
        return Terms(energy + beta * slope, beta**2 * slope)

    def harden(self, params: Float[Array, "k d"]) -> HardPaths:
        """The cheapest permitted route of every node by dynamic programming, and its cost.

        Cycles are left out, which costs nothing as long as no leg has a negative cost.

        **Arguments:** `params`, shape (n_facilities, d).

        **Returns:** a `HardPaths`.
        """
        params = arrays.as_float_array("params", params, self.nodes.dtype)
        found = paths.shortest(self.leg_costs(params), self.max_hops)
        routes = paths.without_cycles(found.states)
        return HardPaths(routes, found.destinations, found.costs, self._shares() @ found.costs)

    def at(self, values: Any) -> Float[Array, "k d"]:
        """Params with the facilities at given locations, shape (n_facilities, d)."""
        values = arrays.as_float_array("locations", values, self.nodes.dtype)
        expected = (self.n_facilities, self.nodes.shape[1])
        if values.shape != expected:
            raise ValueError(
                f"{_OWNER}: `locations` must have shape {expected}; got {values.shape}."
            )
        return values

    def params_scale(self, params: Float[Array, "k d"]) -> Float[Array, ""]:
        """Root mean square distance of nodes and destinations from the nodes' mean; 1 for none."""
        mean = self._shares() @ self.nodes
        spread = self._shares() @ jnp.sum((self.nodes - mean) ** 2, axis=1)
        spread = spread + jnp.mean(jnp.sum((self.destinations - mean) ** 2, axis=1))
        return jax.lax.stop_gradient(jnp.where(spread > 0, jnp.sqrt(spread), 1.0))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition for one destination, squared distance and all paths permitted.

        stiff / (2 lambda_max(Cov(x) + 2 (1 - rbar) m m^T)) with m half of what separates nodes
        from destination; elsewhere (masks, hop limits, direct legs, fixed facilities, several
        destinations, other costs) the same number serves as a reference. 1 for data at one point.
        """
        stiff, rbar = _coincident(self.total, self.n_stages, self.self_loops)
        entry, _, end = (not isinstance(legs, FreeLegs) for legs in self._legs)
        x, z = jax.lax.stop_gradient((self.nodes, self.destinations))
        shares = jax.lax.stop_gradient(self._shares())
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

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` for squared distance, whose alternation never raises F, else `Armijo`."""
        return FixedPoint() if self._squared else Armijo()

    # Beyond the contract.

    def locate_then_route(
        self, *, key: Any, schedule: AbstractSchedule | None = None
    ) -> LocateThenRoute:
        """The baseline that decides one thing after the other.

        Facilities are placed so that nodes are near one, whatever comes after (an anneal of the
        entry legs alone, without masks); then every node takes the cheapest permitted route.
        Against `harden(solution.params).cost` it shows what deciding both at once is worth.

        **Arguments:** `key`, a JAX random key; `schedule`, for the anneal, default as in `anneal`.

        **Returns:** a `LocateThenRoute`.

        **Raises:** `ValueError` if entering costs nothing.

        **Example:** half-way stops are worth more than being near the nodes.

        ```python
        >>> import jax, jax.numpy as jnp, mepjax as mj
        >>> problem = mj.FacilityPath(jnp.array([[0.0], [2.0]]), jnp.array([8.0]), 1)
        >>> baseline = problem.locate_then_route(key=jax.random.key(0))
        >>> sol = mj.anneal(problem, key=jax.random.key(0))
        >>> print(f"{baseline.hard.cost:.1f} {problem.harden(sol.params).cost:.1f}")
        50.0 25.5

        ```
        """
        entry, _, _ = self._legs
        alone = FacilityPath(
            self.nodes, self.destinations, self.n_facilities, weights=self.weights,
            fixed=self.fixed, n_stages=1, stage_costs=(entry, None, None),
        )  # fmt: skip
        solution = anneal(alone, schedule, key=key, adjoint=NoGrad())
        return LocateThenRoute(solution.params, self.harden(solution.params), solution.code)


def _typed(value: Any, dtype: Any) -> Any:
    # A list has no precision of its own.
    return value if isinstance(value, jax.Array | np.ndarray) else np.asarray(value, dtype)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{_OWNER}: `{name}` must be an int; got {type(value).__name__} {value!r}.")
    if value < 1:
        raise ValueError(f"{_OWNER}: `{name}` must be at least 1; got {value}.")
    return int(value)


def _switch(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(
            f"{_OWNER}: `{name}` must be True or False; got {type(value).__name__} {value!r}."
        )
    return bool(value)


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
