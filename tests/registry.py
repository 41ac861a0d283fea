"""One row here buys a problem the whole contract suite in tests/contracts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .oracles import clustering_numpy as oracle

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
    # Relabelling slots is a symmetry of the problem.
    permutes_slots: bool = True
    # Step of unrolled updates that otherwise overshoot.
    damping: float = 1.0


def rows_sum_to_zero(name: str, change: np.ndarray) -> np.ndarray:
    if name == "p":
        return change - change.mean(axis=-1, keepdims=True)
    return change


DATA = {"x": lambda q: q.x, "weights": lambda q: q.weights}
_rng = np.random.default_rng(7)
MATRIX = stochastic(_rng, K, K)
DENSE = stochastic(_rng, N, K, K)
METRIC = np.array([[1.5, 0.4], [0.4, 0.8]])


def clustering(**fixed: Any) -> Callable[..., mj.Problem]:
    def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K, **more: Any) -> Any:
        options = {name: value(dtype) for name, value in fixed.items()} | more
        return mj.Clustering(
            jnp.asarray(x, dtype), k, weights=jnp.asarray(weights, dtype), **options
        )

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
    ),
    Row(
        "dense",
        clustering(autonomy=lambda dtype: mj.autonomy.Dense(jnp.asarray(DENSE, dtype))),
        DATA | {"p": lambda q: q.autonomy.p},
        project=rows_sum_to_zero,
        permutes_slots=False,
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
    ),
    Row(
        "function-frozen",
        clustering(
            autonomy=lambda dtype: mj.autonomy.Function(Gravity(jnp.asarray(0.7, dtype))),
            stationarity=lambda _: "frozen",
        ),
        DATA | {"strength": lambda q: q.autonomy.fn.strength},
        monotone=False,
    ),
]
