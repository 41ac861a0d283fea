"""Marginal return: how long an aggregated chain of k superstates lasts."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core.checks import check_count
from .._core.keys import check_key
from .._core.linear import power_iteration
from .._core.programs import program
from ..problems.markov_aggregation import MarkovAggregation
from .model_order import ModelOrder, check_partitions, model_order
from .partitions import partitions_of

_STARTS = 4
# Up to this many rows one eigenvalue problem serves a whole partition.
_DENSE_LIMIT = 256


def marginal_return(
    transitions: Any,
    partitions: Any = None,
    *,
    weights: Any = "stationary",
    mass: bool = True,
    max_size: int | None = None,
    starts: int = _STARTS,
    key: Any = None,
) -> ModelOrder:
    """How many superstates: the size whose superstates last longest before one of them splits.

    T_k is the largest critical temperature of a superstate in the partition of size k, the first
    principal inertia of its rows (Theorem 13), and v(k) = log T_{k-1} - log T_k. Partitions may
    come from any algorithm.

    **Arguments:**

    - `transitions`, `weights`: as in `MarkovAggregation`.
    - `partitions`: superstates of every size, an array (n_sizes, N) or a mapping from size to
        labels of any kind; `None`: this function aggregates.
    - `mass`: weigh each superstate's temperature by what it weighs (default); `False`: as printed,
        T in [0, 1], by which small superstates count as much as large ones.
    - `max_size`: sizes 1 to this one are compared; default N // 2. Above it v follows single
        states.
    - `starts`: random starts of each size where this function aggregates.
    - `key`: a JAX random key for these; default one that is always the same.

    **Returns:** a `ModelOrder`; there are no null references, so it is never `clear`.

    **Raises:** as `MarkovAggregation`, and `ValueError` for partitions of the wrong length, with
    gaps, or of sizes that skip.

    Source: parameterized sequential decision making, chapter 6, (6.12), with normalised rows and
    weights by mass.

    **Example:** two pairs of states that are entered alike, but for a little.

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax.select import marginal_return
    >>> rows = [[5, 4, 1, 0], [4, 5, 0, 1], [1, 0, 5, 4], [0, 1, 4, 5]]
    >>> labels = {1: [0, 0, 0, 0], 2: [0, 0, 1, 1], 3: [0, 0, 1, 2]}
    >>> print(marginal_return(jnp.array(rows) / 10, labels).best)
    2

    ```
    """
    owner = "marginal_return"
    check_count(owner, "starts", starts)
    check_count(owner, "max_size", max_size, least=2, optional=True)
    problem = MarkovAggregation(transitions, 1, weights=weights)
    n, _ = problem.rows.shape
    if partitions is None:
        most = 0 if max_size is None else max_size
        if max(most, 2) > n:
            raise ValueError(
                f"{owner}: `max_size` must be at least 2 and at most the number of states, {n}; "
                f"got {max(most, 2)}."
            )
        top = max(2, n // 2) if max_size is None else max_size
        found = aggregations(problem.rows, top, weights=problem.weights, starts=starts, key=key)
        sizes, labels = range(1, top + 1), found
    else:
        sizes, labels = check_partitions(owner, partitions, None, n)
        if max_size is not None:
            sizes, labels = sizes[:max_size], labels[:max_size]
    critical, culprit = _critical(problem, jnp.asarray(labels), len(sizes), mass)
    return model_order("markov", sizes, critical, culprit=culprit, checks=problem.checks())


def aggregations(
    transitions: Any,
    k: int,
    *,
    weights: Any = "stationary",
    starts: int = _STARTS,
    key: Any = None,
) -> Int[Array, "k n"]:
    """Superstates of the best aggregation found of each size 1 .. k, shape (k, N).

    What `marginal_return` looks at where it is given no partitions; arguments as there.
    """
    check_count("aggregations", "starts", starts)
    problem = MarkovAggregation(transitions, k, weights=weights)
    return _solved(problem, starts, jax.random.key(0) if key is None else check_key(key))


@program
def _solved(problem: MarkovAggregation, starts: int, key: Any) -> Int[Array, "k n"]:
    # Where nothing can go: what any row does is infinitely far from it, but for the floor.
    parked = jnp.zeros((problem.k, problem.rows.shape[1]), problem.rows.dtype)
    return partitions_of(problem, parked, starts, key)[0]


@program
def _critical(
    problem: MarkovAggregation, labels: Int[Array, "sizes n"], k: int, mass: bool
) -> tuple[Float[Array, " sizes"], Int[Array, " sizes"]]:
    """T_k and the superstate that attains it, of every size."""
    rows, shares = problem.rows, problem.weights / jnp.sum(problem.weights)
    is_small = rows.shape[0] <= _DENSE_LIMIT

    def of_one(label: Int[Array, " n"]) -> tuple[Array, Array]:
        weight = jax.ops.segment_sum(shares, label, k)
        safe = jnp.where(weight > 0, weight, 1.0)
        z = rows.grouped_sums(shares, label, k) / safe[:, None]
        # Columns that no row of a group reaches are no part of it.
        root = jnp.where(z > 0, 1 / jnp.sqrt(jnp.where(z > 0, z, 1.0)), 0.0)
        amounts = jnp.sqrt(shares if mass else shares / safe[label])
        if is_small:
            scaled = amounts[:, None] * (rows.dense() - z[label]) * root[label]
            gram = jnp.where(label[:, None] == label, scaled @ scaled.T, 0.0)
            values, vectors = jnp.linalg.eigh(gram)
            # An eigenvector of one group has nothing in the others.
            return values[-1], label[jnp.argmax(jnp.abs(vectors[:, -1]))]

        def apply(v: Array) -> Array:
            """Products of sqrt(amounts_i) (pi_i - z) / sqrt(z), whose rows are never formed."""
            told = amounts * v
            total = jax.ops.segment_sum(told, label, k)
            sums = (rows.grouped_sums(told, label, k) - total[:, None] * z) * root**2
            offset = jnp.sum(sums * z, axis=1)
            return amounts * (rows.grouped_along(sums, label) - offset[label])

        start = jax.random.normal(jax.random.key(0), label.shape, rows.dtype)
        largest = power_iteration(apply, start, groups=(label, k))
        return jnp.max(largest), jnp.argmax(largest).astype(jnp.int32)

    critical, culprit = jax.lax.map(of_one, labels)
    return jnp.maximum(critical, 0.0), culprit.astype(jnp.int32)
