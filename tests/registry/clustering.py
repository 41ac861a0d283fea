"""Clustering with every autonomy, cost and capacity."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from ..oracles import clustering_numpy as oracle
from ..oracles import costs_numpy
from .points import CROWDED, ONE, K, N, points_row, rho_of, shares


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


class Drawn(eqx.Module):
    """Log weights of an override with parameters: near centres draw, and those on one side."""

    strength: jax.Array
    slope: jax.Array

    def __call__(self, of: jax.Array, to: jax.Array) -> jax.Array:
        away = to[None] - of[:, None]
        return away @ self.slope - self.strength * jnp.log1p(jnp.sum(away**2, axis=-1))


class PseudoHuber(eqx.Module):
    """A user's own cost with a parameter: squared near the centre, linear far from it."""

    size: jax.Array | float

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        return self.size**2 * (jnp.sqrt(1 + jnp.sum((x - y) ** 2) / self.size**2) - 1)


def drawn(dtype: Any, strength: float, slope: tuple[float, float]) -> Drawn:
    return Drawn(jnp.asarray(strength, dtype), jnp.asarray(slope, dtype))


def pairwise(dtype: Any, reaches: bool) -> Any:
    return mj.autonomy.Pairwise(
        jnp.asarray(0.3, dtype),
        drawn(dtype, 1.2, (0.3, -0.2)),
        drawn(dtype, 0.6, (0.0, 0.1)) if reaches else None,
    )


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


def bounded_sizes(k: int, dtype: Any) -> jax.Array:
    """Tight for the cluster that would be largest, where there are three."""
    return jnp.asarray([0.45, 0.45, 0.25] if k == 3 else np.full(k, 1.2 / k), dtype)


def overrides_permuted(problem: Any, order: np.ndarray) -> Any:
    """With overrides that are given entity by entity."""
    return eqx.tree_at(lambda q: q.autonomy.p, problem, problem.autonomy.p[order])


# At a temperature (or a slope) of 1e-12 of the data's scale no line search resolves an override.
UNRESOLVED = {"outlier": (Code.OK, Code.NEAR_CRITICAL, Code.STALLED, Code.MAX_STEPS)}

ROWS = [
    points_row(
        "none",
        clustering(),
        DATA,
        first_transition=lambda x, w: oracle.beta_cr_none(x, rho_of(w)),
    ),
    points_row(
        "mahalanobis",
        clustering(cost=lambda dtype: mj.costs.Mahalanobis(jnp.asarray(METRIC, dtype))),
        DATA | {"matrix": lambda q: q.cost.matrix},
        first_transition=lambda x, w: oracle.beta_cr_none(
            x @ np.linalg.cholesky(METRIC), rho_of(w)
        ),
        change=lambda name, c: c + c.T if name == "matrix" else c,
    ),
    points_row(
        "uniform",
        clustering(autonomy=lambda dtype: mj.autonomy.Uniform(jnp.asarray(0.15, dtype))),
        DATA | {"kappa": lambda q: q.autonomy.kappa},
        first_transition=lambda x, w: oracle.beta_cr_uniform(x, rho_of(w), K, 0.15),
        default=True,
        other_sizes=(ONE, CROWDED),
    ),
    points_row(
        "matrix",
        clustering(autonomy=lambda dtype: mj.autonomy.Matrix(jnp.asarray(MATRIX, dtype))),
        DATA | {"p": lambda q: q.autonomy.p},
        first_transition=lambda x, w: oracle.beta_cr_matrix(x, rho_of(w), MATRIX),
        change=rows_sum_to_zero,
        permutes_slots=False,
    ),
    points_row(
        "dense",
        clustering(autonomy=lambda dtype: mj.autonomy.Dense(jnp.asarray(DENSE, dtype))),
        DATA | {"p": lambda q: q.autonomy.p},
        change=rows_sum_to_zero,
        permutes_slots=False,
        rests=False,
        permuted=overrides_permuted,
    ),
    points_row(
        "softmax",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.0)),
        {name: get for name, get in SOFTMAX_ARRAYS.items()},
        monotone=False,
        damping=0.5,
        growth_is_exact=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "softmax-entity",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS,
        monotone=False,
        damping=0.5,
        convex_at_zero=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "softmax-frozen",
        clustering(autonomy=lambda dtype: softmax(dtype, 0.4), stationarity=lambda _: "frozen"),
        SOFTMAX_ARRAYS,
        monotone=False,
        convex_at_zero=False,
        variational=False,
        codes=UNRESOLVED,
        other_sizes=(ONE, CROWDED),
    ),
    points_row(
        "pairwise",
        clustering(autonomy=lambda dtype: pairwise(dtype, False)),
        DATA | {"kappa": lambda q: q.autonomy.kappa, "slope": lambda q: q.autonomy.pull.slope},
        monotone=False,
        damping=0.5,
        degree=None,
        growth_is_exact=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "pairwise-entity",
        clustering(autonomy=lambda dtype: pairwise(dtype, True)),
        DATA | {"kappa": lambda q: q.autonomy.kappa, "slope": lambda q: q.autonomy.reach.slope},
        monotone=False,
        damping=0.5,
        degree=None,
        convex_at_zero=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "function",
        clustering(
            autonomy=lambda dtype: mj.autonomy.Function(Gravity(jnp.asarray(0.7, dtype)), block=10)
        ),
        DATA | {"strength": lambda q: q.autonomy.fn.strength},
        monotone=False,
        damping=0.5,
        rests=False,
        degree=None,
        convex_at_zero=False,
    ),
    points_row(
        "function-frozen",
        clustering(
            autonomy=lambda dtype: mj.autonomy.Function(Gravity(jnp.asarray(0.7, dtype))),
            stationarity=lambda _: "frozen",
        ),
        DATA | {"strength": lambda q: q.autonomy.fn.strength},
        monotone=False,
        rests=False,
        degree=None,
        convex_at_zero=False,
        variational=False,
    ),
    points_row(
        "clustering-shares",
        sized(lambda k, dtype: mj.Equal(shares(k, dtype))),
        DATA | {"capacity": lambda q: q.capacity.limit},
        first_transition=lambda x, w: oracle.beta_cr_none(x, rho_of(w)),
        change=lambda name, c: c - c.mean() if name == "capacity" else c,
        permutes_slots=False,
        capacities=True,
        other_sizes=(ONE, CROWDED),
    ),
    points_row(
        "softmax-bounds",
        sized(bounded_sizes, autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS | {"capacity": lambda q: q.capacity.limit},
        monotone=False,
        damping=0.5,
        permutes_slots=False,
        rests=False,
        capacities=True,
        convex_at_zero=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "softmax-frozen-shares",
        sized(
            lambda k, dtype: mj.Equal(shares(k, dtype)),
            autonomy=lambda dtype: softmax(dtype, 0.4),
            stationarity=lambda _: "frozen",
        ),
        SOFTMAX_ARRAYS | {"capacity": lambda q: q.capacity.limit},
        monotone=False,
        change=lambda name, c: c - c.mean() if name == "capacity" else c,
        permutes_slots=False,
        capacities=True,
        convex_at_zero=False,
        variational=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "euclidean",
        clustering(cost=lambda _: "euclidean"),
        DATA | {"smoothing": lambda q: q.cost.smoothing},
        first_transition=smoothed_euclidean,
        degree=1.0,
    ),
    points_row(
        "euclidean-softmax",
        clustering(cost=lambda _: "euclidean", autonomy=lambda dtype: softmax(dtype, 0.4)),
        SOFTMAX_ARRAYS,
        monotone=False,
        damping=0.5,
        degree=1.0,
        convex_at_zero=False,
        codes=UNRESOLVED,
    ),
    points_row(
        "manhattan",
        clustering(cost=lambda _: "manhattan"),
        DATA,
        code=Code.NOT_DEFINED,
        degree=1.0,
        smooth=False,
    ),
    points_row(
        "kullback-leibler",
        clustering(positive, cost=lambda _: "kullback_leibler"),
        DATA,
        first_transition=first_transition(costs_numpy.kullback_leibler, positive),
        place=positive,
        moves_along=False,
        degree=None,
    ),
    points_row(
        "bregman",
        clustering(cost=lambda _: mj.costs.Bregman(lambda z: jnp.sum(z**2 + z**4 / 12))),
        DATA,
        first_transition=first_transition(costs_numpy.quartic_bregman),
        moves_along=False,
        degree=None,
    ),
    points_row(
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
        moves_along=False,
        degree=None,
    ),
    points_row(
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
    points_row(
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
