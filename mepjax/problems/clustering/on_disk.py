"""Clustering of points that stay on disk: what is asked of them beside sums."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.params import primal_of
from ...exec.files import writing_rows
from ...exec.sources import Rows, check_no_others, few_rows
from ..costs.base import AbstractCost
from ..costs.euclidean import Euclidean
from ..costs.function import CostFunction
from ..costs.quadratic import Mahalanobis, SquaredEuclidean
from ..hard_clustering import HardClustering
from .soft_means import SoftMeans, block_of
from .sums import in_memory

# Points that tell where the continuation of an autonomy begins.
_FEW = 10_000
# Costs of which one pass measures all that they take from the data.
_COSTS = (SquaredEuclidean, Mahalanobis, Euclidean, CostFunction)


def check_supported(problem: Any) -> None:
    """Raise `TypeError` for what needs a row for each entity."""
    owner, cost, autonomy = "Clustering: with points on disk,", problem.cost, problem.autonomy
    check_no_others(owner, problem.x)
    if not isinstance(cost, _COSTS):
        names = ", ".join(kind.__name__ for kind in _COSTS)
        raise TypeError(f"{owner} `cost` must be one of {names}; got {type(cost).__name__}.")
    longer = jax.ShapeDtypeStruct((problem.x.shape[0] + 1,), jnp.int32)
    selected = eqx.filter_eval_shape(autonomy.of_entities, longer)
    if _shapes(autonomy) != _shapes(selected):
        raise TypeError(
            f"{owner} `autonomy` must be the same for all entities; got a "
            f"{type(autonomy).__name__} with numbers of its own for each."
        )
    if problem.capacity is not None and not problem.is_soft_means:
        raise TypeError(
            f"{owner} `capacity` needs a `cost` that is SquaredEuclidean and an `autonomy` that is "
            f"none or uniform; got {type(cost).__name__} and {type(autonomy).__name__}."
        )


def _shapes(tree: Any) -> list[Any]:
    return [getattr(leaf, "shape", None) for leaf in jax.tree.leaves(tree)]


def cost_for(cost: AbstractCost, rows: Rows) -> AbstractCost:
    """`cost.for_data`, of what was measured."""
    spread = np.float64(rows.source.measures.spread)
    return cost.for_spread(spread, rows.dtype) if isinstance(cost, Euclidean) else cost


def measured(rows: Rows, cost: AbstractCost) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Origin and spread."""
    found = rows.source.measures
    origin = found.mean if cost.translation_invariant else np.zeros_like(found.mean)
    return jnp.asarray(origin, rows.dtype), jnp.asarray(found.spread, rows.dtype)


def mean_cost(rows: Rows, centre: Float[Array, " d"]) -> Float[Array, ""]:
    """The mean squared distance to one centre."""
    found = rows.source.measures
    variance = jnp.asarray(np.trace(found.covariance), rows.dtype)
    return variance + jnp.sum((centre - jnp.asarray(found.mean, rows.dtype)) ** 2)


def few_of(problem: Any) -> Any:
    """The clustering of a few of its points, the same each time."""
    return sampled(problem, jax.random.key(0), _FEW)


def first_transition(rows: Rows) -> Float[Array, ""]:
    """1 / (2 lambda_max(Cov)); 1 for constant data."""
    largest = float(np.linalg.eigvalsh(rows.source.measures.covariance)[-1])
    return jnp.asarray(0.5 / largest if largest > 0 else 1.0, rows.dtype)


def sampled(problem: Any, key: Any, n: int) -> Any:
    """The same clustering of `n` of its points, in memory; of all with their weights if fewer."""
    return in_memory(problem, *few_rows(problem.x, key, n))


def hardened(problem: Any, params: Any, capacities: str = "ignore") -> HardClustering:
    """The hard cost, by how much it misses a capacity, and no assignments."""
    if capacities == "assign":
        raise TypeError(
            'Clustering: with points on disk, `capacities` must be "ignore", as a transport needs '
            "all points at once."
        )
    unlisted: Any = None
    if _is_plain(problem):
        means = problem.soft_means(None)
        return HardClustering(unlisted, hard_cost(means, primal_of(params)))

    def part(block: Any, shares: Array, y: Array, beta: Array) -> tuple[Array, Array]:
        del beta
        labels, paid = block.least_costs(y)
        return shares @ paid, jnp.zeros((block.k,), shares.dtype).at[labels].add(shares)

    cost, told = problem.entity_sums().sum(part, primal_of(params), 1.0)
    excess = None if problem.capacity is None else problem.capacity.excess(told)
    return HardClustering(unlisted, cost, excess)


def _is_plain(problem: Any) -> bool:
    """Whether soft means tell hard decisions, in less memory."""
    return problem.is_soft_means and problem.capacity is None


def hard_cost(means: SoftMeans, centres: Float[Array, "k d"]) -> Float[Array, ""]:
    """The mean of the least cost."""
    beta = jnp.ones((), centres.dtype)
    return means.sum_blocks(lambda block: block.hard_cost(), centres - means.origin, beta)


@eqx.filter_jit
def _labels(
    shared: Any, shares: Any, x: Any, firmness: Array, floor: Array | None
) -> tuple[Array, Array]:
    block = block_of(shared, shares, x, firmness, floor)
    costs, each = block.average()
    least = jnp.min(costs, axis=0) + (0.0 if each is None else each)
    return jnp.argmin(costs, axis=0).astype(jnp.int32), least


@eqx.filter_jit
def _least_costs(problem: Any, centres: Array) -> tuple[Array, Array]:
    return problem.least_costs(centres)


def hard_slabs(
    problem: Any, params: Any
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """(first row, labels, costs, weights) of one slab after the other, on the host."""
    if not isinstance(problem.x, Rows):
        raise TypeError(
            "harden_to: the points must be `mepjax.exec.Rows`; of points in memory `harden` "
            "returns the assignments."
        )
    if not checks.is_concrete(problem, params):
        raise TypeError("harden_to: it writes a file, so it must be called outside `jit`.")
    source, centres, plain = problem.x.source, primal_of(params), _is_plain(problem)
    means = problem.soft_means(None) if plain else None
    shared = None if means is None else means.shared(centres - means.origin, 1.0)
    for first, count, x, weights in source.even_slabs():
        points, shares = jnp.asarray(x), jnp.asarray(weights)
        if means is not None:
            labels, costs = _labels(shared, shares, points, means.firmness, means.floor)
        else:
            labels, costs = _least_costs(in_memory(problem, points, shares), centres)
        yield first, np.asarray(labels)[:count], np.asarray(costs)[:count], weights[:count]


def harden_to(problem: Any, path: Any, params: Any) -> tuple[float, np.ndarray]:
    """Write labels to an NPY file, whole or not at all; the cost and the weight of each label."""
    slabs = hard_slabs(problem, params)
    cost, told = 0.0, np.zeros(problem.k)
    with writing_rows(path, problem.x.shape[:1]) as write:
        for _, labels, costs, weights in slabs:
            write(labels)
            wide = weights.astype(np.float64)
            cost += float(wide @ costs.astype(np.float64))
            told += np.bincount(labels, wide, minlength=problem.k)
    total = told.sum()
    return cost / total, told / total
