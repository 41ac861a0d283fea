"""Clusters of equal size by `mj.solve` with its defaults, against ten starts of a peer.

Ten seeded data sets, the last of 17,000 points. Cost is the mean squared distance of whole entities
to the mean of their cluster, in float64; both have sizes of N / K rounded down or up. Seconds are
CPU seconds on one thread. Ours are of a call that is compiled, the transport to whole entities
included, with the library's own options and, from few points too, with well compiled code
(`mj.compile_options("full")`); `first call s` compiles, unless the program was kept.
"""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .doc_figures import _cpu_seconds

_STARTS = 10


def _blobs(rng: Any, n: int, d: int, k: int, spread: float, sd: float) -> np.ndarray:
    """Blobs of which the largest has k times the points of the smallest."""
    centres = rng.uniform(-spread, spread, size=(k, d))
    chance = np.arange(1, k + 1) / np.arange(1, k + 1).sum()
    return centres[rng.choice(k, size=n, p=chance)] + sd * rng.normal(size=(n, d))


def _eight(rng: Any) -> np.ndarray:
    centres = rng.uniform(-3, 3, size=(8, 2))
    return np.repeat(centres, 50, axis=0) + 0.4 * rng.normal(size=(400, 2))


def _ring(rng: Any) -> np.ndarray:
    angle = rng.uniform(0, 2 * np.pi, size=490)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return circle + 0.1 * rng.normal(size=(490, 2))


# What, number of clusters, and a function of a generator.
_CASES: tuple[tuple[str, int, Callable[[Any], np.ndarray]], ...] = (
    ("eight blobs", 8, _eight),
    ("square", 5, lambda rng: rng.uniform(size=(500, 2))),
    ("unequal blobs", 8, lambda rng: _blobs(rng, 1000, 2, 8, 10, 2)),
    ("cube", 10, lambda rng: rng.uniform(size=(1000, 3))),
    ("blobs in 5", 6, lambda rng: _blobs(rng, 600, 5, 6, 5, 1)),
    ("normal", 4, lambda rng: rng.normal(size=(800, 2))),
    ("blobs in 8", 8, lambda rng: _blobs(rng, 2000, 8, 8, 10, 3)),
    ("ring", 7, _ring),
    ("heavy tails", 5, lambda rng: rng.standard_t(3, size=(500, 2))),
    ("large square", 8, lambda rng: rng.uniform(size=(17_000, 2))),
)


def _cost(x: np.ndarray, where: np.ndarray, k: int) -> float:
    means = np.stack([x[where == j].mean(axis=0) for j in range(k)])
    return float(np.sum((x - means[where]) ** 2)) / len(x)


def _ours(problem: mj.Clustering, key: Any) -> np.ndarray:
    solution = mj.solve(problem, key=key).solution
    return np.asarray(problem.harden(solution.params, capacities="assign").assignments)


def _row(name: str, k: int, x: np.ndarray) -> dict[str, Any]:
    problem = mj.Clustering(x.astype(np.float32), k, capacity=mj.Equal(np.full(k, 1 / k, "f4")))
    key = jax.random.key(0)
    where, first = _cpu_seconds(lambda: _ours(problem, key))
    seconds = min(_cpu_seconds(lambda: _ours(problem, key))[1] for _ in range(3))
    with mj.compile_options("full"):
        _ours(problem, key)
        full = min(_cpu_seconds(lambda: _ours(problem, key))[1] for _ in range(3))
    sizes = np.bincount(where, minlength=k)
    return {
        "what": name,
        "n": len(x),
        "d": x.shape[1],
        "k": k,
        "cost": _cost(x, where, k),
        "sizes": f"{sizes.min()} to {sizes.max()}",
        "first call s": first,
        "seconds": seconds,
        "seconds, full": full,
    }


def run() -> Iterator[dict[str, Any]]:
    """A row for each data set, and one of the worst ratios."""
    try:
        package = importlib.import_module("k_means_constrained")
    except ImportError as error:
        raise ImportError(
            "The peer of this benchmark is missing: pip install k-means-constrained"
        ) from error
    from threadpoolctl import threadpool_limits

    rows = []
    for seed, (name, k, draw) in enumerate(_CASES):
        x = draw(np.random.default_rng(seed))
        row = _row(name, k, x)
        n = len(x)
        peer = package.KMeansConstrained(
            k, size_min=n // k, size_max=-(-n // k), n_init=_STARTS, random_state=0, n_jobs=1
        )
        with threadpool_limits(limits=1):
            labels, seconds = _cpu_seconds(lambda peer=peer, x=x: peer.fit(x).labels_)
        row |= {
            "peer s": seconds,
            "seconds / peer's": row["seconds"] / seconds,
            "seconds, full / peer's": row["seconds, full"] / seconds,
            "cost over peer's, %": 100 * (row["cost"] / _cost(x, labels, k) - 1),
        }
        rows.append(row)
        yield row
    worst = {
        name: max(row[name] for row in rows)
        for name in ("seconds / peer's", "seconds, full / peer's", "cost over peer's, %")
    }
    yield {"what": "worst of all"} | worst
