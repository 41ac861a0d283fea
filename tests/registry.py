"""One row here buys a problem the whole contract suite in tests/contracts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from .oracles import clustering_numpy as oracle
from .oracles import costs_numpy
from .oracles import paths_numpy as paths_oracle

N, K, D = 24, 3, 2


def points(seed: int = 0, n: int = N, d: int = D) -> tuple[np.ndarray, np.ndarray]:
    """Unequal clumps with unequal weights, so that nothing is degenerate."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [2.0, 0.3], [0.7, 1.8]])[:, :d]
    x = centres[np.arange(n) % 3] + 0.25 * rng.normal(size=(n, d))
    return x, rng.uniform(0.5, 1.5, n)


def stochastic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Override probabilities near the identity with rows summing to one."""
    k = shape[-1]
    return 0.25 * rng.dirichlet(np.ones(k), size=shape[:-1]) + 0.75 * np.eye(k)


class Gravity(eqx.Module):
    """A user's own autonomy with a parameter: overrides are drawn towards near centres."""

    strength: jax.Array

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        pull = jax.nn.softmax(-self.strength * jnp.sum((x - y) ** 2, axis=1))
        return 0.8 * jnp.eye(len(y), dtype=y.dtype) + 0.2 * pull


class PseudoHuber(eqx.Module):
    """A user's own cost with a parameter: squared near the centre, linear far from it."""

    size: jax.Array | float

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.size**2 * (jnp.sqrt(1 + jnp.sum((x - y) ** 2) / self.size**2) - 1)


@dataclass(frozen=True, eq=False)
class Row:
    """A problem under contract."""

    name: str
    # Builds the problem from data, weights and dtype-following parameters.
    build: Callable[..., Any]
    # Paths of the arrays to differentiate, and how to make a legal random change of each.
    arrays: dict[str, Callable[[Any], Any]]
    # Closed form of the first transition, from (x, weights), where there is one.
    first_transition: Callable[[np.ndarray, np.ndarray], float] | None = None
    # A legal change of an array from a random one.
    project: Callable[[str, np.ndarray], np.ndarray] = lambda name, change: change
    # The alternation provably never raises F.
    monotone: bool = True
    # Relabelling slots is a symmetry of the problem, and params are an array of slots.
    permutes_slots: bool = True
    # Step of unrolled updates that otherwise overshoot.
    damping: float = 1.0
    # Brings plain points into the domain of the cost.
    place: Callable[[Any], Any] = lambda points: points
    # The code of a solve that went well.
    code: Code = Code.OK
    # Whether `init` is the only minimiser as beta -> 0; None: as the problem says.
    convex_at_zero: bool | None = None
    # d(x + c, y + c) = d(x, y).
    moves_along: bool = True
    # d(s x, s y) = s^degree d(x, y); None: no such rule.
    degree: float | None = 2.0
    # The field that holds the entities.
    entities: str = "x"
    # Log of the number of decisions an entity chooses among.
    log_choices: float = float(np.log(K))
    # Before the first transition the start is stationary at every beta.
    rests: bool = True
    # Scaling all coordinates by s scales the cost by s^2.
    scale_free: bool = True
    # Prices in params make use meet capacity.
    capacities: bool = False
    # Numbers of entities and slots that the problem's parameters prescribe.
    tied_sizes: tuple[int | None, int] | None = None

    def data(self, problem: Any) -> Any:
        """The entities of a problem of this row."""
        return getattr(problem, self.entities)


def rows_sum_to_zero(name: str, change: np.ndarray) -> np.ndarray:
    if name == "p":
        return change - change.mean(axis=-1, keepdims=True)
    return change


DATA = {"x": lambda q: q.x, "weights": lambda q: q.weights}
_rng = np.random.default_rng(7)
MATRIX = stochastic(_rng, K, K)
DENSE = stochastic(_rng, N, K, K)
METRIC = np.array([[1.5, 0.4], [0.4, 0.8]])


def clustering(
    place: Callable[[Any], Any] = lambda points: points, **fixed: Any
) -> Callable[..., mj.Problem]:
    def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K, **more: Any) -> Any:
        options = {name: value(dtype) for name, value in fixed.items()} | more
        return mj.Clustering(
            jnp.asarray(place(x), dtype), k, weights=jnp.asarray(weights, dtype), **options
        )

    return build


def sized(limits: Callable[[int, Any], Any], **fixed: Any) -> Callable[..., mj.Problem]:
    """Clusters of limited size."""

    def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K) -> Any:
        return clustering(**fixed)(x, weights, dtype=dtype, k=k, capacity=limits(k, dtype))

    return build


def softmax(dtype: Any, gamma: float) -> Any:
    return mj.autonomy.Softmax(
        jnp.asarray(0.3, dtype), jnp.asarray(1.0, dtype), gamma if gamma == 0 else
        jnp.asarray(gamma, dtype), jnp.asarray(0.6, dtype),
    )  # fmt: skip


SOFTMAX_ARRAYS = DATA | {
    name: (lambda q, name=name: getattr(q.autonomy, name))
    for name in ("kappa", "zeta", "gamma", "temperature")
}


def rho_of(weights: np.ndarray) -> np.ndarray:
    return weights / weights.sum()


def first_transition(
    d: Callable[..., Any],
    place: Callable[[Any], Any] = lambda points: points,
    chart: Callable[[np.ndarray], np.ndarray] = lambda t: t,
    start: list[float] | None = None,
) -> Callable[[np.ndarray, np.ndarray], float]:
    def value(x: np.ndarray, weights: np.ndarray) -> float:
        x, rho = place(x), rho_of(weights)
        return costs_numpy.first_transition(d, x, rho, rho @ x if start is None else start, chart)

    return value


def smoothed_euclidean(x: np.ndarray, weights: np.ndarray) -> float:
    smoothing = 1e-3 * costs_numpy.total_deviation(x, rho_of(weights))
    return first_transition(lambda x, y: costs_numpy.euclidean(x, y, smoothing))(x, weights)


def positive(points: Any) -> Any:
    """Data for divergences between positive numbers, with a first transition near 1."""
    return 2.5 + 5 * np.logaddexp(0, points)


def map_place(points: Any) -> Any:
    """Longitudes across the meridian of 180 degrees and latitudes, within their range."""
    return np.stack(
        [172 + 8 * np.clip(points[:, 0], -3, 3), 40 + 8 * np.clip(points[:, 1], -4, 4)], axis=1
    )


# One degree is an eighth, so that distances are of the size of those of plain points.
RADIUS = 180 / np.pi / 8
SMOOTHING = 0.01
HUBER = 0.5
# Destinations as shares of the nodes' bounding box, so that they move and scale along.
ONE_END = [[1.6, 1.3]]
TWO_ENDS = [[1.6, 1.3], [-0.5, 1.2]]
PLACES = {
    name: (lambda q, name=name: getattr(q, name)) for name in ("nodes", "destinations", "weights")
}


class SoftPower(eqx.Module):
    """A user's own leg cost with a parameter: distance to the power 3/2, rounded near zero."""

    softness: Any

    def __init__(self, dtype: Any) -> None:
        self.softness = jnp.asarray(0.3, dtype)

    def __call__(self, start: jax.Array, end: jax.Array) -> jax.Array:
        return (jnp.sum((start - end) ** 2) + self.softness**2) ** 0.75


def inside(x: np.ndarray, shares: Any) -> np.ndarray:
    """Places given as shares of the bounding box of x."""
    low, high = x.min(axis=0), x.max(axis=0)
    return low + np.asarray(shares) * (high - low)


def walks(m: int, *, self_loops: bool = False, direct: bool = False, ends: int = 1) -> float:
    """Log of the number of paths through at most m facilities."""
    onward = m if self_loops else m - 1
    return float(np.log(ends * (sum(m * onward**q for q in range(m)) + direct)))


def network(x: np.ndarray, k: int) -> dict[str, Any]:
    """Masks on every kind of leg and hop limits, which follow the nodes when these are permuted.

    Facility 0 has no way out to a destination and none to the last one.
    """
    n = len(x)
    entry, between, exit_ = np.ones((n, k), bool), np.ones((k, k), bool), np.ones((k, 2), bool)
    if k > 2:
        entry[x[:, 0] > x[:, 0].mean(), -1] = False
        between[0, -1] = False
        exit_[0] = exit_[1, 1] = False
    hops = np.where(x[:, 1] > x[:, 1].mean(), min(2, k), k)
    return {"links": mj.paths.Links(entry=entry, between=between, exit=exit_), "max_hops": hops}


def shares(k: int, dtype: Any) -> jax.Array:
    """Unequal entry shares that sum to one."""
    raw = np.arange(k, 0.0, -1)
    return jnp.asarray(raw / raw.sum(), dtype)


def bounded_sizes(k: int, dtype: Any) -> jax.Array:
    """Tight for the cluster that would be largest, where there are three."""
    return jnp.asarray([0.45, 0.45, 0.25] if k == 3 else np.full(k, 1.2 / k), dtype)


def equal_entries(k: int, dtype: Any) -> dict[str, Any]:
    return {"entry_capacity": mj.Equal(shares(k, dtype))}


def bounded_visits(k: int, dtype: Any) -> dict[str, Any]:
    """Tight for the facilities that would be used most."""
    return {"facility_capacity": jnp.full((k,), 1.2 if k < 3 else 0.45, dtype)}


def all_bounded(k: int, dtype: Any) -> dict[str, Any]:
    links = np.full((k, k), 0.15)
    return {
        "entry_capacity": jnp.asarray(np.full(k, 1.0 if k < 3 else 0.5), dtype),
        "facility_capacity": jnp.asarray(np.full(k, 2.0 if k < 3 else 0.6), dtype),
        "link_capacity": jnp.asarray(links, dtype),
    }


def facility_path(
    *, ends: Any = ONE_END, masked: bool = False, fixed: Any = None, stage_costs: Any = None,
    capacities: Any = None, **options: Any,
) -> Callable[..., mj.Problem]:  # fmt: skip
    def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K) -> Any:
        x = np.asarray(x, dtype)
        more = network(x, k) if masked else {}
        if fixed is not None:
            more["fixed"] = jnp.asarray(inside(x, fixed), dtype)
        if stage_costs is not None:
            more["stage_costs"] = stage_costs(dtype)
        if capacities is not None:
            more |= capacities(k, dtype)
        return mj.FacilityPath(
            jnp.asarray(x), jnp.asarray(inside(x, ends), dtype), k,
            weights=jnp.asarray(weights, dtype), **more, **options,
        )  # fmt: skip

    return build


ROWS = [
    Row(
        "none",
        clustering(),
        DATA,
        first_transition=lambda x, w: oracle.beta_cr_none(x, rho_of(w)),
    ),
    Row(
        "mahalanobis",
        clustering(cost=lambda dtype: mj.costs.Mahalanobis(jnp.asarray(METRIC, dtype))),
        DATA | {"matrix": lambda q: q.cost.matrix},
        first_transition=lambda x, w: oracle.beta_cr_none(
            x @ np.linalg.cholesky(METRIC), rho_of(w)
        ),
        project=lambda name, c: c + c.T if name == "matrix" else c,
    ),
    Row(
        "uniform",
        clustering(autonomy=lambda dtype: mj.autonomy.Uniform(jnp.asarray(0.15, dtype))),
        DATA | {"kappa": lambda q: q.autonomy.kappa},
        first_transition=lambda x, w: oracle.beta_cr_uniform(x, rho_of(w), K, 0.15),
    ),
    Row(
        "matrix",
        clustering(autonomy=lambda dtype: mj.autonomy.Matrix(jnp.asarray(MATRIX, dtype))),
        DATA | {"p": lambda q: q.autonomy.p},
        first_transition=lambda x, w: oracle.beta_cr_matrix(x, rho_of(w), MATRIX),
        project=rows_sum_to_zero,
        permutes_slots=False,
        tied_sizes=(None, K),
    ),
    Row(
        "dense",
        clustering(autonomy=lambda dtype: mj.autonomy.Dense(jnp.asarray(DENSE, dtype))),
        DATA | {"p": lambda q: q.autonomy.p},
        project=rows_sum_to_zero,
        permutes_slots=False,
        rests=False,
        tied_sizes=(N, K),
    ),
    Row(
        "softmax",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.0)),
        {name: get for name, get in SOFTMAX_ARRAYS.items()},
        monotone=False,
        damping=0.5,
    ),
    Row(
        "softmax-entity",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS,
        monotone=False,
        damping=0.5,
    ),
    Row(
        "softmax-frozen",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.4), stationarity=lambda _: "frozen"),
        SOFTMAX_ARRAYS,
        monotone=False,
    ),
    Row(
        "function",
        clustering(
            autonomy=lambda dtype: mj.autonomy.Function(Gravity(jnp.asarray(0.7, dtype)), block=10)
        ),
        DATA | {"strength": lambda q: q.autonomy.fn.strength},
        monotone=False,
        damping=0.5,
        rests=False,
        scale_free=False,
    ),
    Row(
        "function-frozen",
        clustering(
            autonomy=lambda dtype: mj.autonomy.Function(Gravity(jnp.asarray(0.7, dtype))),
            stationarity=lambda _: "frozen",
        ),
        DATA | {"strength": lambda q: q.autonomy.fn.strength},
        monotone=False,
        rests=False,
        scale_free=False,
    ),
    Row(
        "clustering-shares",
        sized(lambda k, dtype: mj.Equal(shares(k, dtype))),
        DATA | {"capacity": lambda q: q.capacity.limit},
        first_transition=lambda x, w: oracle.beta_cr_none(x, rho_of(w)),
        project=lambda name, c: c - c.mean() if name == "capacity" else c,
        permutes_slots=False,
        capacities=True,
    ),
    Row(
        "softmax-bounds",
        sized(bounded_sizes, autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS | {"capacity": lambda q: q.capacity.limit},
        monotone=False,
        damping=0.5,
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    Row(
        "softmax-frozen-shares",
        sized(
            lambda k, dtype: mj.Equal(shares(k, dtype)),
            autonomy=lambda dtype: softmax(dtype, 0.4),
            stationarity=lambda _: "frozen",
        ),
        SOFTMAX_ARRAYS | {"capacity": lambda q: q.capacity.limit},
        monotone=False,
        project=lambda name, c: c - c.mean() if name == "capacity" else c,
        permutes_slots=False,
        capacities=True,
    ),
    Row(
        "paths",
        facility_path(),
        PLACES,
        first_transition=lambda x, w: paths_oracle.first_critical_beta(
            x, rho_of(w), inside(x, ONE_END), K, K
        ),
        entities="nodes",
        log_choices=walks(K),
    ),
    Row(
        "paths-direct",
        facility_path(direct=True, self_loops=True),
        PLACES,
        entities="nodes",
        log_choices=walks(K, self_loops=True, direct=True),
        rests=False,
    ),
    Row(
        "paths-destinations",
        facility_path(ends=TWO_ENDS),
        PLACES,
        entities="nodes",
        log_choices=walks(K, ends=2),
        rests=False,
    ),
    Row(
        "paths-masked",
        facility_path(masked=True, ends=TWO_ENDS),
        PLACES,
        entities="nodes",
        log_choices=walks(K, ends=2),
        permutes_slots=False,
        rests=False,
    ),
    Row(
        "paths-fixed",
        facility_path(fixed=[[0.9, 0.1]]),
        PLACES | {"fixed": lambda q: q.fixed},
        entities="nodes",
        log_choices=walks(K + 1),
        rests=False,
    ),
    Row(
        "paths-function",
        facility_path(stage_costs=SoftPower),
        PLACES | {"softness": lambda q: q.stage_costs.fn.softness},
        entities="nodes",
        log_choices=walks(K),
        monotone=False,
        damping=0.3,
        rests=False,
        scale_free=False,
    ),
    Row(
        "paths-shares",
        facility_path(capacities=equal_entries),
        PLACES | {"entry_capacity": lambda q: q.capacities.entry.limit},
        project=lambda name, c: c - c.mean() if name == "entry_capacity" else c,
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    Row(
        "paths-visits",
        facility_path(capacities=bounded_visits),
        PLACES | {"facility_capacity": lambda q: q.capacities.facility.limit},
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    Row(
        "paths-bounds",
        facility_path(capacities=all_bounded, masked=True, ends=TWO_ENDS),
        PLACES
        | {
            "entry_capacity": lambda q: q.capacities.entry.limit,
            "facility_capacity": lambda q: q.capacities.facility.limit,
            "link_capacity": lambda q: q.capacities.link.limit,
        },
        entities="nodes",
        permutes_slots=False,
        rests=False,
        capacities=True,
    ),
    Row(
        "euclidean",
        clustering(cost=lambda _: "euclidean"),
        DATA | {"smoothing": lambda q: q.cost.smoothing},
        first_transition=smoothed_euclidean,
        degree=1.0,
    ),
    Row(
        "euclidean-softmax",
        clustering(cost=lambda _: "euclidean", autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS,
        monotone=False,
        damping=0.5,
        degree=1.0,
    ),
    Row(
        "manhattan",
        clustering(cost=lambda _: "manhattan"),
        DATA,
        code=Code.NOT_DEFINED,
        degree=1.0,
    ),
    Row(
        "kullback-leibler",
        clustering(positive, cost=lambda _: "kullback_leibler"),
        DATA,
        first_transition=first_transition(costs_numpy.kullback_leibler, positive),
        place=positive,
        moves_along=False,
        degree=None,
    ),
    Row(
        "bregman",
        clustering(cost=lambda _: mj.costs.Bregman(lambda z: jnp.sum(z**2 + z**4 / 12))),
        DATA,
        first_transition=first_transition(costs_numpy.quartic_bregman),
        moves_along=False,
        degree=None,
    ),
    Row(
        "great-circle",
        clustering(
            map_place,
            cost=lambda dtype: mj.costs.GreatCircle(
                jnp.asarray(RADIUS, dtype), jnp.asarray(SMOOTHING, dtype)
            ),
        ),
        DATA | {"radius": lambda q: q.cost.radius},
        first_transition=first_transition(
            lambda x, y: costs_numpy.great_circle(x, y, RADIUS, SMOOTHING), map_place
        ),
        place=map_place,
        convex_at_zero=True,
        moves_along=False,
        degree=None,
    ),
    Row(
        "cosine",
        clustering(cost=lambda _: "cosine"),
        DATA,
        first_transition=first_transition(
            costs_numpy.cosine,
            chart=lambda t: np.concatenate([np.cos(t), np.sin(t)]),
            start=[0.7],
        ),
        moves_along=False,
        degree=None,
    ),
    Row(
        "cost-function",
        clustering(
            cost=lambda dtype: mj.costs.CostFunction(
                PseudoHuber(jnp.asarray(HUBER, dtype)),
                convex=True,
                translation_invariant=True,
                block=10,
            )
        ),
        DATA | {"size": lambda q: q.cost.function.size},
        first_transition=first_transition(lambda x, y: costs_numpy.pseudo_huber(x, y, HUBER)),
        degree=None,
    ),
]
