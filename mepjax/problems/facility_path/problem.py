"""Facility location with path optimisation: where to build, and how to travel through it."""

from typing import Any

import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from ..._core import paths
from ..._core.codes import Code, as_code
from ..._core.params import Params, join_params, split_params
from ..._core.paths import Policies, StageCosts
from ..._core.types import Scalar
from ...engine.problem import Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...exec.in_memory import InMemory
from ...exec.sources import Rows
from .dual import code_at, directions_at, eliminated, scale_at, terms_at
from .first_transition import first_transition
from .growth import no_spectrum, slot_spectrum, subsample
from .hard import HardPaths, harden
from .locations import equation_at, init_at, metric_at, placed_for, slope_of, solve_metric
from .network import Network
from .on_disk import few_of, routes_to
from .rebuild import rebuilt
from .sensitivities import Sensitivities, find_sensitivities
from .traffic import flow_and_entered, flow_of, free_energy_at, revisits, visits

_OWNER = "FacilityPath"


class FacilityPath(Network):
    """M facilities for N weighted nodes that travel through them to a destination.

    Minimises sum_i weights_i cost(path_i) over the locations and over every node's path
    node -> facility -> ... -> facility -> destination of at most `n_stages` facilities, through
    the free energy -(1/beta) sum_i weights_i log sum_paths exp(-beta cost(path)). Paths are never
    listed: time O(N M + n_stages M^2). A path ends at any destination open to its last facility.
    params is the array of unknown locations, shape (n_facilities, d); with capacities it is a
    `Params`, whose primal are the locations and whose dual the `Prices`, and `.locations(params)`
    reads the locations of either.

    **Arguments:**

    - `nodes`: shape (N, d), in any units; those are the units of the locations. Where they do not
        fit into memory `mepjax.exec.Rows`, with legs that are free, squared, Mahalanobis or
        Euclidean distances or a function; `max_hops` and masks that have a row for each are then
        columns of theirs, `Rows(..., also={"max_hops": column, "links.entry": columns})`.
        Nodes known by a distribution are `mepjax.paths.Samples` or `mepjax.paths.Covariance`; of
        uncertain weights and costs only the means matter.
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

    __init__ = Network.__init__

    def replace(self, **fields: Any) -> "FacilityPath":
        """The same network with other arguments of its construction, by name, measured again."""
        return rebuilt(self, fields)

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """The prices at which use meets capacity, at these locations."""
        return eliminated(self, params, beta) if isinstance(params, Params) else params

    def traffic(self, params: Any, beta: Scalar) -> StageCosts:
        """Expected use of every leg per unit of weight: the gradient of F in its cost."""
        return flow_of(self, self.charged_costs(params), beta)

    def usage(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Expected visits of every facility per unit of weight; they sum to the mean hops."""
        return visits(flow_and_entered(self, params, beta)[0])

    def entry_shares(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Share of the weight that enters at every facility."""
        return jnp.sum(flow_and_entered(self, params, beta)[0].first, axis=0)

    def stage_policies(self, params: Float[Array, "k d"], beta: Scalar) -> Policies:
        """Log Gibbs policies of every choice along the path, as in `mepjax.paths.policies`."""
        return Policies(*paths.log_policies(self.charged_costs(params), beta, self.max_hops))

    def init(self, key: Any) -> Any:
        """The location step at equal weight on all permitted paths, the minimiser as beta -> 0.

        With capacities, at the weights closest to equal that meet them. For costs other than
        squared distance facilities are then spread by 1 % of the data's size, since a distance
        has no derivative where places coincide.
        """
        return init_at(self, key)

    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum over paths of exp(-beta cost).

        With capacities costs include prices, and what all capacity costs is taken off.
        """
        return free_energy_at(self, params, beta)

    def update(self, params: Any, beta: Scalar) -> Any:
        """The best locations for the present traffic, then the prices that suit them.

        For other costs than squared distance one step of Newton's method towards them.
        """
        locations, prices = split_params(params)
        flow, entered = flow_and_entered(self, params, beta)
        if self.all_squared:
            new = placed_for(self, flow, entered, params)
        else:
            move = solve_metric(
                self, params, beta, flow, slope_of(self, params, beta, flow, entered)
            )
            new = locations - move
        return self.eliminate(join_params(new, prices), beta)

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F in the locations; for capacities, use less limit, or -beta price below a bound.

        A facility without traffic is undetermined, stays, and carries no derivative.
        """
        return equation_at(self, params, beta, *flow_and_entered(self, params, beta))

    def metric(self, params: Any, beta: Scalar) -> lx.AbstractLinearOperator:
        """The Hessian of D in the locations at fixed traffic, made positive definite.

        For squared distance it is 2 S in every coordinate, with S the Laplacian of the traffic.
        """
        return metric_at(self, params, beta, flow_and_entered(self, params, beta)[0])

    def residual_and_metric(
        self, params: Any, beta: Scalar
    ) -> tuple[Any, lx.AbstractLinearOperator]:
        """In one pass over the nodes."""
        flow, entered = flow_and_entered(self, params, beta)
        return equation_at(self, params, beta, flow, entered), metric_at(self, params, beta, flow)

    def precondition(
        self, params: Any, beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`: one small factorisation."""
        return solve_metric(self, params, beta, flow_and_entered(self, params, beta)[0], vector)

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "n choices"]:
        """Log probability of each node's first facility, then of each destination if `direct`."""
        return self.stage_policies(params, beta).first

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """F, and expected cost and path entropy of the Gibbs policy; H = beta^2 dF/dbeta."""
        return terms_at(self, params, beta)

    def gauge(self, params: Any) -> Any:
        """Changes of the prices that change nothing."""
        return directions_at(self)

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """INFEASIBLE where use misses a capacity, WEAKLY_ACTIVE at a tight bound without price."""
        if isinstance(params, Params):
            return code_at(self, params, beta)
        return as_code(Code.OK)

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
        return harden(self, params, capacities)

    def harden_to(self, path: Any, params: Any) -> float:
        """Write the route of each of many nodes, slab by slab, to an NPY file.

        A row has the facilities of `HardPaths.routes` and then the number of the destination.

        **Arguments:** `path`, replaced if it exists, whole or not at all; `params`, as in `init`.

        **Returns:** the hard cost, summed in float64.

        **Raises:** `TypeError` for nodes in memory, whose routes `harden` returns, and inside
        `jit`; `OSError` where the file cannot be written.
        """
        return routes_to(self, path, params)

    def params_scale(self, params: Any) -> Any:
        """The data's size for locations, the mean cost of an entry for prices."""
        return scale_at(self, params)

    @property
    def has_slot_spectrum(self) -> bool:
        """Where no capacity or mask is given and links are squared distances, free or unused."""
        return no_spectrum(self) is None

    def slot_spectrum(self, params: Any, beta: Scalar) -> SlotSpectrum:
        """Where facilities would separate, and what that and their removal change.

        Facilities at exactly one place are a group, whose `critical_beta` is exact where it equals
        `beta` and supposes the policy held elsewhere. One that is alone is judged with a facility
        more at its place. A pair that separates may share what comes by or be chained. Gains are
        those of ten steps of a pair, removal costs those of the hard routes; `mass` is visits per
        unit of weight.

        **Arguments:** `params`, as in `init`; `beta`, scalar > 0.

        **Raises:** `NotImplementedError` unless `has_slot_spectrum`, with the reason.

        **Example:** all at one place, they separate at the first transition.

        ```python
        >>> import jax, jax.numpy as jnp, mepjax as mj
        >>> problem = mj.FacilityPath(jnp.array([[0.0], [2.0]]), jnp.array([8.0]), 2)
        >>> params = jnp.full((2, 1), problem.init(jax.random.key(0))[0])
        >>> spectrum = jax.jit(lambda params: problem.slot_spectrum(params, 0.01))(params)
        >>> print(bool(jnp.allclose(spectrum.critical_beta, problem.beta_scale())))
        True

        ```
        """
        if no_spectrum(self) is not None:
            raise NotImplementedError(f"{_OWNER} has no `slot_spectrum` here: {no_spectrum(self)}.")
        # Of nodes on disk a few tell where to try.
        seen = few_of(self) if isinstance(self.nodes, Rows) else self.on(InMemory())
        return slot_spectrum(seen, params, beta)

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

    def revisits(self, params: Any, beta: Scalar) -> Float[Array, " m"]:
        """Share of the weight whose path visits a facility more than once, for every facility.

        No recursion over stages can forbid it. Where legs cost something it fades as beta grows;
        negative prices of capacities, which only `Equal` ones have, reward it.
        """
        return revisits(self, params, beta)

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition for one destination, squared distance and all paths permitted.

        stiff / (2 lambda_max(Cov(x) + 2 (1 - rbar) m m^T)) with m half of what separates nodes
        from destination; elsewhere (masks, hop limits, direct legs, fixed facilities, several
        destinations) the same number serves as a reference. Other costs are taken as squared
        distances between `AbstractCost.embed` of the places. 1 for data at one point.
        """
        return first_transition(self)

    def subsample(self, key: Any, n: int) -> "FacilityPath":
        """`n` nodes of equal weight, drawn in proportion to theirs; itself if it has no more."""
        return subsample(self, key, n)
