"""Persistence: how long a clustering of k clusters lasts as the temperature falls."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks
from .._core.keys import check_key
from .._core.programs import program
from ..engine.problem import Problem
from ..engine.solution import Solution
from ..problems.clustering import Clustering
from .graph_kernels import commute_time, spectral_partitions
from .model_order import ModelOrder, check_partitions, check_sizes, model_order, returns_of
from .partitions import partitions_of
from .scatters import largest_of_kernel, largest_scatters

_MOST = 20
# Random starts of each size beside the one that continues the size before: v needs good solutions
# at k and k - 1. With 4 two of 20 keys missed the best two clusters of wine, and with 12 none; so
# few points get up to 16, where N k of all starts is still at most this.
_STARTS = (4, 16)
_ALL_STARTS = 200_000
_REFERENCE_STARTS = 1
# Draws of a null reference have no more points than this: v does not depend on their number.
_REFERENCE_POINTS = 2_000
# Radii of the data at which slots that a size has no use for are parked.
_PARKED = 10.0


def persistence(
    x: Any,
    partitions: Any = None,
    *,
    sizes: Any = None,
    weights: Any = None,
    kind: str = "scatter",
    kernel: Any = None,
    bandwidth: float | None = None,
    references: int = 10,
    starts: int | None = None,
    key: Any,
) -> ModelOrder:
    """How many clusters: the size whose clusters last longest before one of them splits.

    T_k is the largest eigenvalue of the scatter of any cluster in the partition of size k, and
    v(k) = log T_{k-1} - log T_k. Partitions may come from any algorithm. Features are taken as they
    are given; the thesis scales each to mean zero and standard deviation one.

    **Arguments:**

    - `x`: entities, shape (N, d).
    - `partitions`: labels of every size, an array (n_sizes, N) or a mapping from size to labels of
        any kind; `None`: this function clusters by squared distance, or spectrally with a kernel.
    - `sizes`: 1, 2, 3, ... without a gap; default 1 to 20 (or to N), or those of `partitions`.
    - `weights`: relative importance, shape (N,), >= 0; default equal.
    - `kind`: `"scatter"`, S_j = sum_i weights_i (x_i - c_j)(x_i - c_j)^T over cluster j, or
        `"covariance"`, S_j over the weight of the cluster: another index, with other answers.
    - `kernel`: scatters in the space of a kernel: its matrix (N, N), a function of (x, x) that
        gives it, or `"commute_time"`, the pseudo-inverse of the normalised Laplacian of a Gaussian
        graph of `bandwidth`, for clusters that are no clumps.
    - `bandwidth`: length of that graph, in units of x; default the median distance to the seventh
        neighbour.
    - `references`: draws of each of two null models, without groups, that v is compared with; 0:
        none, and then nothing is `clear`. With a kernel or given partitions there are references
        too, clustered by squared distance, unless a kernel is given: then there are none. They
        are drawn on the host: inside `jit` and `vmap` it must be 0.
    - `starts`: random starts of each size where this function clusters; default 16 for few points
        down to 4 for many.
    - `key`: a JAX random key.

    **Returns:** a `ModelOrder`; `clear` says whether the answer stands out of data without groups.

    **Raises:** `ValueError` or `TypeError` naming the argument: sizes with gaps or above N,
    partitions of the wrong length or with fewer groups than their size, data that are not finite.

    Source: parameterized sequential decision making, chapter 5, (5.10), Lemma 2.

    **Example:** see `ModelOrder`.
    """
    owner = "persistence"
    key = check_key(key)
    if kind not in ("scatter", "covariance"):
        raise ValueError(f"{owner}: `kind` must be 'scatter' or 'covariance'; got {kind!r}.")
    checks.check_count(owner, "references", references, least=0)
    if starts is not None:
        checks.check_count(owner, "starts", starts)
    x, weights = _checked_data(owner, x, weights)
    _check_legal(owner, x, weights, partitions, kernel, references)
    n, labels = x.shape[0], None
    if partitions is None:
        if sizes is None:
            sizes = range(1, max(2, min(_MOST, n)) + 1)
        sizes = check_sizes(owner, sizes)
        if sizes[-1] > n:
            raise ValueError(
                f"{owner}: `sizes` must be at most the number of entities, {n}; got {sizes[-1]}."
            )
    else:
        sizes, labels = check_partitions(owner, partitions, sizes, n)
    told = checks.check_weighted_points(owner, x, weights)
    shares = weights / jnp.sum(weights)
    gram = None
    if kernel is not None:
        gram = _gram(owner, kernel, x, bandwidth)
        if labels is None:
            labels = spectral_partitions(gram, kernel, x, bandwidth, sizes, key)
        critical, culprit = _of_kernel(gram, shares, jnp.asarray(labels), sizes[-1], kind)
        told = (*told, checks.check_finite(owner, "kernel", gram))
        return model_order("kernel", sizes, critical, culprit=culprit, checks=told)
    centred = x - shares @ x
    if labels is None:
        labels = _solved(centred, weights, sizes[-1], _starts(n, sizes[-1], starts), key)
    critical, culprit = _critical(centred, shares, jnp.asarray(labels), sizes[-1], kind)
    nulls = None
    if references:
        nulls = null_returns(centred, weights, sizes[-1], kind, references, key)
    return model_order(kind, sizes, critical, culprit=culprit, references=nulls, checks=told)


def _checked_data(owner: str, x: Any, weights: Any) -> tuple[Array, Array]:
    x = arrays.as_float_array("x", x)
    if x.ndim != 2 or x.size == 0:
        raise ValueError(
            f"{owner}: `x` must be 2-D, (entities, features), and not empty; got shape {x.shape}."
        )
    n = x.shape[0]
    weights = np.ones(n) if weights is None else weights
    if checks.is_concrete(weights):
        weights = np.asarray(weights, x.dtype)
    weights = arrays.as_data_like("weights", weights, x.dtype)
    if weights.shape != (n,):
        raise ValueError(
            f"{owner}: `weights` must have shape ({n},) for {n} entities; got {weights.shape}."
        )
    checks.enforce(checks.check_weighted_points(owner, x, weights))
    return x, weights


def _check_legal(
    owner: str, x: Any, weights: Any, partitions: Any, kernel: Any, references: int
) -> None:
    """Raise `TypeError` for traced values where something is done on the host."""
    if not checks.is_concrete(partitions):
        raise TypeError(f"{owner}: `partitions` must not be traced, as groups are counted.")
    if checks.is_concrete(x, weights, kernel):
        return
    if isinstance(kernel, str) or (kernel is not None and partitions is None):
        raise TypeError(
            f"{owner}: `x` and `kernel` must not be traced, inside `jit` or `vmap`, where the "
            "graph or the clusters of a kernel are made on the host; give a matrix and "
            "`partitions`."
        )
    if kernel is None and references:
        raise TypeError(
            f"{owner}: `references` must be 0 inside `jit` and `vmap`, as they are drawn on the "
            f"host; got {references}."
        )


def _gram(owner: str, kernel: Any, x: Array, bandwidth: float | None) -> Float[Array, "n n"]:
    if isinstance(kernel, str):
        if kernel != "commute_time":
            raise ValueError(
                f"{owner}: `kernel` must be 'commute_time', a matrix or a function; got {kernel!r}."
            )
        return commute_time(x, bandwidth)
    if bandwidth is not None:
        raise ValueError(
            f"{owner}: `bandwidth` must be None beside a kernel of one's own; got {bandwidth!r}."
        )
    gram = kernel(x, x) if callable(kernel) else kernel
    if checks.is_concrete(gram):
        gram = np.asarray(gram, x.dtype)
    gram = arrays.as_data_like("kernel", gram, x.dtype)
    if gram.shape != (x.shape[0],) * 2:
        raise ValueError(
            f"{owner}: `kernel` must give shape {(x.shape[0],) * 2}; got {gram.shape}."
        )
    checks.enforce((checks.check_finite(owner, "kernel", gram),))
    return gram


def _partitions(x: Array, weights: Array, k: int, starts: int, key: Any) -> Int[Array, "k n"]:
    problem = Clustering(x, k, weights=weights)
    radius = jnp.max(jnp.linalg.norm(x - problem.origin, axis=1))
    away = _PARKED * jnp.where(radius > 0, radius, 1.0)
    parked = jnp.broadcast_to(problem.origin + away, (k, x.shape[1]))
    return partitions_of(problem, parked, starts, key)[0]


@program
def _solved(x: Array, weights: Array, k: int, starts: int, key: Any) -> Int[Array, "k n"]:
    return _partitions(x, weights, k, starts, key)


def _worst(largest: Array, mass: Array, kind: str) -> tuple[Array, Array]:
    if kind == "covariance":
        largest = largest / jnp.where(mass > 0, mass, 1.0)
    return jnp.max(largest), jnp.argmax(largest).astype(jnp.int32)


@program
def _critical(
    x: Array, shares: Array, labels: Int[Array, "sizes n"], k: int, kind: str
) -> tuple[Float[Array, " sizes"], Int[Array, " sizes"]]:
    """T_k and the group that attains it, of every size."""
    return jax.lax.map(lambda row: _worst(*largest_scatters(x, shares, row, k), kind), labels)


@program
def _of_kernel(
    gram: Array, shares: Array, labels: Int[Array, "sizes n"], k: int, kind: str
) -> tuple[Float[Array, " sizes"], Int[Array, " sizes"]]:
    return jax.lax.map(lambda row: _worst(*largest_of_kernel(gram, shares, row, k), kind), labels)


def clusterings(
    x: Any, k: int, *, weights: Any = None, starts: int | None = None, key: Any
) -> Int[Array, "k n"]:
    """Labels of the best clustering found by squared distance of each size 1 .. k.

    What `persistence` looks at where it is given no partitions. One program serves all sizes.

    **Arguments:** as in `persistence`; `k`, the largest size.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax.select import clusterings
    >>> x = jnp.array([[0.0], [1.0], [20.0], [21.0]])
    >>> labels = clusterings(x, 2, key=jax.random.key(0))
    >>> print(labels[0], labels[1, 0] == labels[1, 1], labels[1, 0] == labels[1, 2])
    [0 0 0 0] True False

    ```
    """
    owner = "clusterings"
    checks.check_count(owner, "k", k)
    if starts is not None:
        checks.check_count(owner, "starts", starts)
    x, weights = _checked_data(owner, x, weights)
    if k > x.shape[0]:
        raise ValueError(f"{owner}: `k` must be at most {x.shape[0]} entities; got {k}.")
    starts = _starts(x.shape[0], k, starts)
    return _solved(x - weights @ x / jnp.sum(weights), weights, k, starts, check_key(key))


def _starts(n: int, k: int, starts: int | None) -> int:
    """As many as asked for, or as many as n points in up to k clusters can afford."""
    if starts is not None:
        return starts
    least, most = _STARTS
    return min(most, max(least, _ALL_STARTS // (n * k)))


def null_draws(x: Any, count: int, key: Any, n: int | None = None) -> Float[np.ndarray, "2 m n d"]:
    """Data without groups: uniform in the box of the principal components, and normal.

    Both have the mean and the principal directions of `x`, the normal one its covariance.
    """
    x = np.asarray(x, np.float64)
    n = len(x) if n is None else n
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())
    mean = x.mean(axis=0)
    _, scale, axes = np.linalg.svd(x - mean, full_matrices=False)
    scores = (x - mean) @ axes.T
    box = rng.uniform(scores.min(axis=0), scores.max(axis=0), size=(count, n, len(axes)))
    normal = rng.normal(size=(count, n, len(axes))) * (scale / np.sqrt(len(x)))
    return np.stack([box, normal]) @ axes + mean


@program
def _null_returns(
    draws: Float[Array, "m n d"], weights: Array, k: int, kind: str, keys: Any
) -> Float[Array, " k"]:
    def of_one(args: tuple[Array, Any]) -> Array:
        x, key = args
        labels = _partitions(x, weights, k, _REFERENCE_STARTS, key)
        critical, _ = _critical(x, weights / jnp.sum(weights), labels, k, kind)
        return returns_of(critical)

    return jnp.mean(jax.lax.map(of_one, (draws, keys)), axis=0)


def null_returns(
    x: Float[Array, "n d"],
    weights: Float[Array, " n"],
    k: int,
    kind: str,
    references: int,
    key: Any,
) -> Float[Array, "2 k"]:
    """Mean v over draws of the two null models, clustered by squared distance."""
    n = min(x.shape[0], max(_REFERENCE_POINTS, 20 * k))
    draws = jnp.asarray(null_draws(x, references, key, n), x.dtype)
    keys = jax.random.split(key, references)
    # Draws have no weights of their own; those of entities are dealt in their order.
    chosen = weights if n == x.shape[0] else jnp.ones((n,), x.dtype)
    return jnp.stack([_null_returns(draw, chosen, k, kind, keys) for draw in draws])


def persistence_of_anneal(problem: Problem, solution: Solution) -> ModelOrder:
    """How many slots, from the phase transitions of an anneal with growth that is there already.

    With the transitions beta_1 < beta_2 < ..., a solution of size k lasts from beta_{k-1} to
    beta_k: T_k = 1 / beta_k and v(k) = log beta_k - log beta_{k-1}. This is the index `"annealing"`
    of soft solutions, by covariances; it is another than that of `persistence`. The size at which
    the anneal ends has no transition after it, and is left out. Early stages of `Growth` are rough
    by default and may split too much at once; solve them closely for this.

    **Arguments:** `problem`, and `solution` of `anneal(problem, detector=Growth(), ...)`.

    **Raises:** `ValueError` for fewer than two transitions, for more than there are places for, or
    for lanes of a `vmap`.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> from mepjax.select import persistence_of_anneal
    >>> problem = mj.Clustering(four_square(40)[0], 8)
    >>> closely = mj.Growth(max_steps=200, rtol=1e-3)
    >>> sol = mj.anneal(problem, key=jax.random.key(0), detector=closely)
    >>> print(persistence_of_anneal(problem, sol).best)
    4

    ```
    """
    del problem  # the transitions say it all; every reading of a solution takes both
    owner = "persistence_of_anneal"
    if np.ndim(solution.beta):
        raise ValueError(
            f"{owner}: `solution` must be one solution; got lanes of shape "
            f"{np.shape(solution.beta)}."
        )
    betas = np.asarray(solution.transitions, np.float64)
    betas = betas[np.isfinite(betas)]
    if int(solution.n_transitions) > len(betas) or len(betas) < 2:
        raise ValueError(
            f"{owner}: `solution` must have at least two transitions and a place for each, as "
            f"growth gives them; got {int(solution.n_transitions)} in {len(betas)} places."
        )
    # Growth may meet one a little below the last.
    critical = 1 / np.sort(betas)
    dtype = arrays.default_float()
    return model_order("annealing", range(1, len(betas) + 1), critical.astype(dtype))
