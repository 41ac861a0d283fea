"""Clusters in an order that depends on the solution alone, not on the draw that led there."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ..problems.clustering.problem import Clustering
from .starts import Run


def canonical_order(centres: np.ndarray) -> np.ndarray:
    """Clusters by their centres' coordinates (K, d), the first of which counts most.

    Coordinates are compared to a millionth of their range, in which solutions found on different
    ways agree.
    """
    extent = np.maximum(np.ptp(centres, axis=0), np.finfo(np.float64).tiny)
    return np.lexsort(np.round((centres - centres.min(axis=0)) / extent * 1e6).T[::-1])


def in_order(problem: Clustering, run: Run) -> Run:
    """The run, and those that led to it, with clusters in that order where nobody tells them apart.

    Slots keep their numbers from stage to stage, so those of all stages are renamed alike.
    """
    if not problem.exchangeable:
        return run
    return _renamed(run, canonical_order(np.asarray(run.solution.params, np.float64)))


def _renamed(run: Run, order: np.ndarray) -> Run:
    solution = run.solution
    params = jnp.asarray(np.asarray(solution.params)[order])
    solution = eqx.tree_at(lambda s: s.params, solution, params)
    if solution.trace.params is not None:
        stages = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[:, order]), solution.trace.params)
        solution = eqx.tree_at(lambda s: s.trace.params, solution, stages)
    source = None if run.source is None else _renamed(run.source, order)
    return replace(run, solution=solution, source=source)
