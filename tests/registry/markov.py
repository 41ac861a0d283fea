"""Aggregation of chains."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from .row import Bad, Odd, Row, Symmetry

N, K = 8, 3
BLOCKS = np.array([0, 0, 0, 1, 1, 1, 2, 2])
# The last two blocks are near each other, so that one split comes long before the other.
LINKS = np.array([[0.84, 0.08, 0.08], [0.1, 0.6, 0.3], [0.1, 0.35, 0.55]])


def chain(seed: int = 0) -> np.ndarray:
    """Three unequal blocks, with unequal rows in each."""
    rng = np.random.default_rng(seed)
    rows = LINKS[np.ix_(BLOCKS, BLOCKS)] * rng.uniform(0.6, 1.4, (N, N))
    return rows / rows.sum(1, keepdims=True)


def given_weights() -> np.ndarray:
    return np.random.default_rng(1).uniform(0.5, 1.5, N)


def build(dtype: Any, rows: Any = None, weights: Any = None, k: int = K) -> mj.MarkovAggregation:
    rows = chain() if rows is None else rows
    weights = given_weights() if weights is None else weights
    return mj.MarkovAggregation(jnp.asarray(rows, dtype), k, weights=jnp.asarray(weights, dtype))


def stationary(dtype: Any) -> mj.MarkovAggregation:
    return mj.MarkovAggregation(jnp.asarray(chain(), dtype), K)


def reducible(dtype: Any) -> mj.MarkovAggregation:
    """Zeros that no row of a group reaches."""
    rows = np.where((BLOCKS[:, None] == 0) == (BLOCKS == 0), chain(), 0.0)
    rows[0, -1] = rows[-1, 0] = 0.1
    return build(dtype, rows / rows.sum(1, keepdims=True))


def random_rows(problem: Any, rng: np.random.Generator) -> Any:
    del problem
    return jnp.asarray(rng.dirichlet(np.full(N, 2.0), K))


def change(name: str, random: np.ndarray) -> np.ndarray:
    if name != "rows":
        return random
    # Rows still sum to one, and what is small changes little.
    moved = chain() * random
    return moved - chain() * moved.sum(1, keepdims=True)


def first_transition() -> float:
    shares = given_weights() / given_weights().sum()
    z = shares @ chain()
    return float(1 / np.linalg.norm(np.sqrt(shares)[:, None] * (chain() - z) / np.sqrt(z), 2) ** 2)


def permuted(problem: Any) -> Any:
    """Rows and columns together."""
    del problem
    return build(np.float64, chain()[np.ix_(ORDER, ORDER)], given_weights()[ORDER])


ORDER = np.random.default_rng(4).permutation(N)
SLOTS = np.array([2, 0, 1])
ARRAYS = {"rows": lambda q: q.rows.values, "weights": lambda q: q.weights}
BAD = (
    Bad(
        get=lambda q: q.rows.values,
        index=(1, 0),
        value=np.nan,
        code=Code.NON_FINITE_INPUT,
        says="`transitions` must be finite",
    ),
    Bad(
        get=lambda q: q.rows.values,
        index=(1, 0),
        value=0.9,
        code=Code.INVALID_INPUT,
        says="rows of `transitions` must sum to one",
    ),
    Bad(
        get=lambda q: q.weights,
        index=(0,),
        value=-1.0,
        code=Code.INVALID_INPUT,
        says="`weights` must be >= 0; got -1",
    ),
)
SYMMETRIES = (
    Symmetry(
        name="permuting states",
        problem=permuted,
        values=lambda z: z[:, ORDER],
        policy=lambda policy: policy[ORDER],
        # Params are permuted, and the kick that parts two superstates is not.
        anneals=False,
    ),
    Symmetry(
        name="permuting superstates",
        problem=lambda problem: problem,
        values=lambda z: z[SLOTS],
        policy=lambda policy: policy[:, SLOTS],
        anneals=False,
    ),
)


def row(name: str, make: Any, **more: Any) -> Row:
    return Row(
        name=name,
        build=make,
        arrays=ARRAYS,
        random_values=random_rows,
        change=change,
        schedule=(0.6, 60.0, 1.2),
        beta_hard=1e5,
        unit_beta_min=1.0,
        log_choices=float(np.log(K)),
        **more,
    )


ROWS = [
    row(
        "markov",
        build,
        default=True,
        bad=BAD,
        symmetries=SYMMETRIES,
        first_transition=first_transition,
        odd={
            "zero weights": Odd(
                build=lambda: build(np.float64, weights=np.where(np.arange(N) % 2, 1.0, 0.0))
            ),
            "all rows alike": Odd(build=lambda: build(np.float64, np.full((N, N), 1 / N))),
            "no moves": Odd(build=lambda: build(np.float64, np.eye(N))),
            # Costs have no derivative in what is zero, and their floor differs by precision.
            "zeros": Odd(build=lambda: reducible(np.float64)),
        },
    ),
    row("markov, stationary", stationary),
]
