"""Hard routes: what a facility network comes to when every node takes one path."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import arrays, checks, paths
from ..._core.codes import Code, SolveError
from ..._core.params import primal_of
from ..._core.paths import StageCosts
from ...exec.sources import Rows
from ..capacity.limits import Capacity
from .network import Network
from .prices import Capacities
from .traffic import sums_of

_OWNER = "FacilityPath.harden"


class HardPaths(eqx.Module):
    """One permitted route for every node, and the hard cost D.

    **Fields:** `routes`, shape (N, n_stages): the facilities visited in order, then -1;
    `destinations` (N,), where each route ends; `node_costs` (N,), what each costs; `cost`, their
    weighted mean. Of nodes on disk the cost alone is told and the rest is `None`: `harden_to`
    writes the routes.
    """

    routes: Int[Array, "n stages"]
    destinations: Int[Array, " n"]
    node_costs: Float[Array, " n"]
    cost: Float[Array, ""]


def assign(costs: StageCosts, shares: Any, limits: Any, capacities: Capacities) -> HardPaths:
    """Cheapest routes of whole nodes that meet the capacities.

    Nodes choose where they enter; from then on they are alike, so routes are integer flows
    between the pairs (facility, how many more may be visited), which are split up afterwards.
    """
    if not checks.is_concrete(costs, shares, limits, capacities):
        raise TypeError(
            f"{_OWNER}: `capacities='assign'` solves an integer program on the host and cannot "
            "be traced; call it outside `jit`, `grad` and `vmap`."
        )
    shares = np.asarray(shares, np.float64)
    n = len(shares)
    limits = np.broadcast_to(np.asarray(limits), (n,))
    alike = np.allclose(shares, 1 / n, rtol=1e-5)
    if not alike and (
        capacities.facility is not None
        or capacities.link is not None
        or (capacities.entry is not None and capacities.entry.equality)
    ):
        raise ValueError(
            f"{_OWNER}: `capacities='assign'` needs equal weights, but for upper bounds on "
            "entries alone; a node of its own weight cannot be split."
        )
    size = np.ones(n) if alike else shares
    program = _Program(costs, size, limits)
    program.limit(program.entering, capacities.entry)
    program.limit(program.visiting, capacities.facility)
    program.limit(program.linking, capacities.link)
    entered, straight, onward = program.solve()
    if not alike:
        return _onward(costs, limits, entered, straight, shares)
    return _split_up(costs, limits, entered, straight, onward)


def _split_up(
    costs: StageCosts,
    limits: np.ndarray,
    entered: np.ndarray,
    straight: np.ndarray,
    onward: list[np.ndarray],
) -> HardPaths:
    """Routes of single nodes of equal weight from where they enter and from flows."""
    n, k = len(entered), costs.n_stages
    routes = np.full((n, k), -1)
    ends = np.full(n, -1)
    first, links, last = (np.asarray(c, np.float64) for c in (costs.first, costs.links, costs.last))
    node_costs = np.zeros(n)
    ends[straight >= 0] = straight[straight >= 0]
    if costs.direct is not None:
        gone = np.flatnonzero(straight >= 0)
        node_costs[gone] = np.asarray(costs.direct)[gone, straight[gone]]
    here: dict[tuple[int, int], list[int]] = {}
    for i in np.flatnonzero(entered >= 0):
        here.setdefault((int(limits[i]) - 1, int(entered[i])), []).append(int(i))
        routes[i, 0] = entered[i]
        node_costs[i] = first[i, entered[i]]
    for r in range(k - 1, -1, -1):
        for a in range(first.shape[1]):
            nodes = here.pop((r, a), [])
            for b in range(first.shape[1]) if r > 0 else ():
                for _ in range(onward[r][a, b]):
                    i = nodes.pop()
                    routes[i, np.argmin(routes[i])] = b
                    node_costs[i] += links[a, b]
                    here.setdefault((r - 1, b), []).append(i)
            for i in nodes:
                ends[i] = np.argmin(last[a])
                node_costs[i] += last[a].min()
    dtype = costs.first.dtype
    return HardPaths(
        jnp.asarray(routes, jnp.int32),
        jnp.asarray(ends, jnp.int32),
        jnp.asarray(node_costs, dtype),
        jnp.asarray(node_costs.mean(), dtype),
    )


def _onward(
    costs: StageCosts, limits: np.ndarray, entered: np.ndarray, straight: np.ndarray, shares: Any
) -> HardPaths:
    """The cheapest routes from given entries."""
    chosen = np.arange(costs.first.shape[1]) == entered[:, None]
    direct = costs.direct
    if direct is not None:
        going = np.arange(direct.shape[1]) == straight[:, None]
        direct = jnp.where(going, direct, jnp.inf)
    only = StageCosts(
        jnp.where(chosen, costs.first, jnp.inf), costs.links, costs.last, direct, costs.n_stages
    )
    found = paths.shortest(only, jnp.asarray(limits, jnp.int32))
    cost = jnp.asarray(shares, found.costs.dtype) @ found.costs
    return HardPaths(paths.without_cycles(found.states), found.destinations, found.costs, cost)


class _Program:
    """The integer program, built up column by column."""

    def __init__(self, costs: StageCosts, size: np.ndarray, limits: np.ndarray) -> None:
        n, m = costs.first.shape
        k = costs.n_stages
        self.size, self.limits, self.k = size, limits, k
        self.whole = whole = bool(np.all(size == 1))
        value: list[float] = []
        self.integer: list[int] = []
        self.entries: list[tuple[int, int, int]] = []
        self.straights: list[tuple[int, int, int]] = []
        self.flows: list[tuple[int, int, int, int]] = []
        self.exits: list[tuple[int, int, int]] = []
        first = np.asarray(costs.first, np.float64)
        links = np.asarray(costs.links, np.float64)
        last = np.asarray(costs.last, np.float64).min(axis=1)

        def column(cost: Any, integer: bool) -> int:
            value.append(float(cost))
            self.integer.append(int(integer))
            return len(value) - 1

        for i, j in zip(*np.nonzero(np.isfinite(first) & (limits > 0)[:, None]), strict=True):
            self.entries.append((column(size[i] * first[i, j], True), int(i), int(j)))
        if costs.direct is not None:
            direct = np.asarray(costs.direct, np.float64)
            ends = direct.argmin(axis=1)
            for i in np.flatnonzero(np.isfinite(direct.min(axis=1))):
                cost = size[i] * direct[i, ends[i]]
                self.straights.append((column(cost, True), int(i), int(ends[i])))
        for r in range(k):
            for a in np.flatnonzero(np.isfinite(last)):
                self.exits.append((column(last[a], whole), r, int(a)))
            for a, b in zip(*np.nonzero(np.isfinite(links)), strict=True) if r > 0 else ():
                self.flows.append((column(links[a, b], whole), r, int(a), int(b)))
        self.cost = np.array(value)
        self.rows: list[Any] = []
        self.locations_shape = n, m
        self._conserve()

    @property
    def entering(self) -> dict[Any, list[tuple[int, float]]]:
        """Columns, with what they count, of the entries at each facility."""
        found: dict[Any, list[tuple[int, float]]] = {}
        for column, i, j in self.entries:
            found.setdefault(j, []).append((column, self.size[i]))
        return found

    @property
    def linking(self) -> dict[Any, list[tuple[int, float]]]:
        """Columns of the uses of each link."""
        found: dict[Any, list[tuple[int, float]]] = {}
        for column, _, a, b in self.flows:
            found.setdefault((a, b), []).append((column, 1.0))
        return found

    @property
    def visiting(self) -> dict[Any, list[tuple[int, float]]]:
        """Columns of the visits to each facility."""
        found = self.entering
        for (_, b), columns in self.linking.items():
            found.setdefault(b, []).extend(columns)
        return found

    def _row(self, columns: list[tuple[int, float]], low: float, high: float) -> None:
        self.rows.append((columns, low, high))

    def _conserve(self) -> None:
        n, m = self.locations_shape
        choices: list[list[tuple[int, float]]] = [[] for _ in range(n)]
        balance: dict[tuple[int, int], list[tuple[int, float]]] = {
            (r, a): [] for r in range(self.k) for a in range(m)
        }
        for column, i, j in self.entries:
            choices[i].append((column, 1.0))
            balance[int(self.limits[i]) - 1, j].append((column, self.size[i]))
        for column, i, _ in self.straights:
            choices[i].append((column, 1.0))
        for column, r, a in self.exits:
            balance[r, a].append((column, -1.0))
        for column, r, a, b in self.flows:
            balance[r, a].append((column, -1.0))
            balance[r - 1, b].append((column, 1.0))
        for columns in choices:
            self._row(columns, 1.0, 1.0)
        for columns in balance.values():
            self._row(columns, 0.0, 0.0)

    def limit(self, used: dict[Any, Any], capacity: Capacity | None) -> None:
        """Bound what is used by a capacity."""
        if capacity is None:
            return
        # Sizes add up to the number of nodes where these are alike, else to one.
        wanted: Any = self.size.sum() * np.asarray(capacity.limit, np.float64)
        if self.whole:
            wanted = _rounded(wanted) if capacity.equality else np.floor(wanted + 1e-6)
        for place in np.ndindex(*wanted.shape):
            limit = float(wanted[place])
            columns = used.get(place if wanted.ndim > 1 else place[-1], [])
            if np.isfinite(limit):
                self._row(columns, limit if capacity.equality else -np.inf, limit + 1e-9)

    def solve(self) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Where each node enters, or goes straight (-1: not), and flows by what may follow."""
        # HiGHS loads slowly and nothing else here needs it.
        from scipy.optimize import LinearConstraint, milp
        from scipy.sparse import coo_array

        index, places, numbers = [], [], []
        for row, (columns, _, _) in enumerate(self.rows):
            for column, number in columns:
                index.append(row)
                places.append(column)
                numbers.append(number)
        matrix = coo_array((numbers, (index, places)), shape=(len(self.rows), len(self.cost)))
        low, high = (np.array([row[i] for row in self.rows]) for i in (1, 2))
        result = milp(
            self.cost,
            integrality=np.array(self.integer),
            constraints=LinearConstraint(matrix.tocsr(), low, high),  # pyright: ignore
        )
        if result.x is None:
            raise SolveError(
                f"{Code.INFEASIBLE.message} Whole nodes were asked for (capacities='assign'); "
                f"HiGHS says: {result.message}"
            )
        x = result.x
        n, m = self.locations_shape
        entered, straight = np.full(n, -1), np.full(n, -1)
        for column, i, j in self.entries:
            entered[i] = j if x[column] > 0.5 else entered[i]
        for column, i, end in self.straights:
            straight[i] = end if x[column] > 0.5 else straight[i]
        onward = [np.zeros((m, m), int) for _ in range(self.k)]
        for column, r, a, b in self.flows:
            onward[r][a, b] = round(x[column])
        return entered, straight, onward


def _rounded(wanted: np.ndarray) -> np.ndarray:
    """Integers with the rounded total, the largest remainders rounded up."""
    flat = np.where(np.isfinite(wanted), wanted, 0.0).ravel()
    low = np.floor(flat + 1e-6)
    missing = round(flat.sum() - low.sum())
    order = np.argsort(low - flat, kind="stable")[: max(missing, 0)]
    low[order] += 1
    return np.where(np.isfinite(wanted), low.reshape(wanted.shape), np.inf)


def harden(network: Network, params: Any, capacities: str) -> HardPaths:
    """`FacilityPath.harden`."""
    if capacities not in ("ignore", "assign"):
        raise ValueError(
            f"FacilityPath: `capacities` must be 'ignore' or 'assign'; got {capacities!r}."
        )
    locations = arrays.as_float_array("params", primal_of(params), network.nodes.dtype)
    at = network.at(locations)
    if isinstance(network.nodes, Rows):
        if capacities == "assign" and network.capacities.given:
            raise TypeError(
                "FacilityPath: with nodes on disk, `capacities` must be 'ignore', as an integer "
                "program needs all of them at once."
            )
        unlisted: Any = None
        return HardPaths(unlisted, unlisted, unlisted, sums_of(network).hard_cost(at))
    if capacities == "assign" and network.capacities.given:
        limits = network.n_stages if network.max_hops is None else network.max_hops
        return assign(network.leg_costs(at), network.shares(), limits, network.capacities)
    if network.executor.in_blocks:
        found = sums_of(network).shortest(at)
    else:
        found = paths.shortest(network.leg_costs(at), network.max_hops)
    routes = paths.without_cycles(found.states)
    return HardPaths(routes, found.destinations, found.costs, network.shares() @ found.costs)
