"""The figures that README and docs/ quote, and no others, in a few minutes.

Times are CPU seconds of compiled calls on one thread, costs are in float64.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .k_means import cost, grid100, grown


def _cpu_seconds(call: Callable[[], Any]) -> tuple[Any, float]:
    start = time.process_time()
    result = jax.block_until_ready(call())
    return result, time.process_time() - start


def _restarts() -> Iterator[dict[str, Any]]:
    """README, "Better than restarts": 100 round clusters of 1,000 points."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    x, truth = grid100()
    x = x.astype(np.float32)
    k = len(truth)
    with threadpool_limits(limits=1):
        model, peer = _cpu_seconds(lambda: KMeans(k, n_init=10, random_state=0).fit(x))
    problem = mj.Clustering(x, k)
    _cpu_seconds(lambda: grown(problem, jax.random.key(1)))
    solution, own = _cpu_seconds(lambda: grown(problem, jax.random.key(0)))
    nearest = np.argmin(((truth[:, None] - np.asarray(solution.params)[None]) ** 2).sum(-1), axis=1)
    yield {
        "figure": "k-means++ over growth with repair, cost in %",
        "value": 100 * (cost(x, model.cluster_centers_) / cost(x, solution.params) - 1),
        "clusters found of 100": len(set(nearest.tolist())),
    }
    yield {"figure": "k-means++ over growth with repair, CPU time", "value": peer / own}


def _limited_sizes() -> Iterator[dict[str, Any]]:
    """docs/choose.md, "Clusters of limited size": eight blobs of equal sizes."""
    rng = np.random.default_rng(0)
    centres = rng.uniform(-3, 3, size=(8, 2))
    x = np.repeat(centres, 50, axis=0) + 0.4 * rng.normal(size=(400, 2))
    problem = mj.Clustering(x.astype(np.float32), 8, capacity=mj.Equal(jnp.full(8, 1 / 8)))

    def hard(solution: mj.Solution) -> float:
        return float(problem.harden(solution.params, capacities="assign").cost)

    def scattered(key: Any) -> mj.Solution:
        schedule = mj.Explicit([20 * float(problem.beta_scale())])
        return mj.anneal(problem, schedule, key=key, init=problem.scatter(key))

    starts = [hard(scattered(jax.random.key(seed))) for seed in range(10)]
    annealed = [hard(mj.anneal(problem, key=jax.random.key(seed))) for seed in range(5)]
    for name, value in (("best", min(annealed)), ("worst", max(annealed))):
        yield {
            "figure": f"anneal with sizes over the best of ten starts, cost in %, {name} of 5 keys",
            "value": 100 * (value / min(starts) - 1),
        }


def _frozen() -> Iterator[dict[str, Any]]:
    """docs/choose.md, "Which stationarity": five points on a line, whose optimum is listed."""
    x = np.array([0.0, 0.2, 1.0, 1.1, 2.0], np.float32)[:, None]
    model = mj.autonomy.Softmax(0.3, 1.0, 0.5, 0.1)
    costs = {}
    for stationarity in ("exact", "frozen"):
        problem = mj.Clustering(x, 3, autonomy=model, stationarity=stationarity)
        solution = mj.anneal(problem, mj.Geometric(0.2, 1e4, 1.05), key=jax.random.key(0))
        costs[stationarity] = float(problem.harden(solution.params).cost)
    yield {
        "figure": "frozen over exact stationarity, cost in %",
        "value": 100 * (costs["frozen"] / costs["exact"] - 1),
    }


def run() -> Iterator[dict[str, Any]]:
    """A row for each figure."""
    yield from _frozen()
    yield from _limited_sizes()
    yield from _restarts()
