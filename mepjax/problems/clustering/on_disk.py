"""Clustering of points that stay on disk: what is asked of them beside sums."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.checkpoints import replacing
from ..._core.params import primal_of
from ...exec.in_memory import InMemory
from ...exec.sources import Rows
from ..hard_clustering import HardClustering
from .soft_means import SoftMeans, block_of

_SLAB = 65_536


def check_supported(problem: Any) -> None:
    """Raise `TypeError` for what needs a row for each entity."""
    if not problem.is_soft_means or problem.capacity is not None:
        raise TypeError(
            "Clustering: with points on disk, `cost` must be squared Euclidean, `autonomy` none or "
            f"uniform and `capacity` none; got {type(problem.cost).__name__}, "
            f"{type(problem.autonomy).__name__} and {type(problem.capacity).__name__}."
        )


def measured(rows: Rows) -> tuple[Float[Array, " d"], Float[Array, ""]]:
    """Origin and spread."""
    found = rows.source.measures
    return jnp.asarray(found.mean, rows.dtype), jnp.asarray(found.spread, rows.dtype)


def first_transition(rows: Rows) -> Float[Array, ""]:
    """1 / (2 lambda_max(Cov)); 1 for constant data."""
    largest = float(np.linalg.eigvalsh(rows.source.measures.covariance)[-1])
    return jnp.asarray(0.5 / largest if largest > 0 else 1.0, rows.dtype)


def sampled(problem: Any, key: Any, n: int) -> Any:
    """The same clustering of `n` of its points, in memory; of all with their weights if fewer."""
    rows = problem.x
    if rows.shape[0] <= n:
        points = rows.fetch(0, rows.shape[0])
    else:
        points = rows.sample(key, n), jnp.ones((n,), rows.dtype)
    return eqx.tree_at(lambda p: (p.x, p.weights, p.executor), problem, (*points, InMemory()))


def hardened(problem: Any, params: Any) -> HardClustering:
    """The hard cost, and no assignments."""
    means = problem.soft_means(None)
    unlisted: Any = None
    return HardClustering(unlisted, hard_cost(means, primal_of(params)))


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
    means, source = problem.soft_means(None), problem.x.source
    shared = means.shared(primal_of(params) - means.origin, 1.0)
    for first, x, weights in source.slabs(_SLAB):
        # One program for all slabs: the last is filled up.
        more = [(0, min(_SLAB, source.n) - len(x)), (0, 0)]
        labels, costs = _labels(
            shared, np.pad(weights, more[:1]), np.pad(x, more), means.firmness, means.floor
        )
        yield first, np.asarray(labels)[: len(x)], np.asarray(costs)[: len(x)], weights
    source.table.check_unchanged()


def harden_to(problem: Any, path: Any, params: Any) -> tuple[float, np.ndarray]:
    """Write labels to an NPY file, whole or not at all; the cost and the weight of each label."""
    slabs = hard_slabs(problem, params)
    cost, told = 0.0, np.zeros(problem.k)
    n = problem.x.shape[0]
    with replacing(Path(path)) as stream:
        header = {"descr": "<i4", "fortran_order": False, "shape": (n,)}
        np.lib.format.write_array_header_1_0(stream, header)
        for _, labels, costs, weights in slabs:
            stream.write(labels.astype("<i4").tobytes())
            wide = weights.astype(np.float64)
            cost += float(wide @ costs.astype(np.float64))
            told += np.bincount(labels, wide, minlength=problem.k)
    total = told.sum()
    return cost / total, told / total
