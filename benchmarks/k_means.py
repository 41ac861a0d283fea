"""Growth with repair against k-means++ with restarts, on generated and on public data.

Seconds are of compiled calls on float32, `first call` tells what compiling adds. The control is
random starts with the same repair and no annealing; on public data as many of them are done as the
peer's time allows, and "all starts" is the best of them and of growth. Costs are in float64, in
per cent over the reference: Lloyd from the true centres for generated data, the best of
KMeans(n_init=100) else.
"""

import gzip
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .em_step import blobs
from .measure import clocked

_SOLVER = mj.FixedPoint(rtol=1e-3)
_MOST_STARTS = 200
_QUIET = mj.NoDetector(noise=0.0)


@jax.jit
def grown(problem: mj.Clustering, key: Any) -> mj.Solution:
    """Growth on a sample, repair, and Lloyd's iteration on all data."""
    return mj.anneal(
        problem,
        key=key,
        solver=_SOLVER,
        detector=mj.Growth(detector=_QUIET),
        repair=mj.Repair(),
        adjoint=mj.NoGrad(),
    )


@jax.jit
def _control(problem: mj.Clustering, beta: Any, key: Any) -> mj.Solution:
    return mj.anneal(
        problem,
        mj.Explicit(jnp.reshape(beta, (1,))),
        key=key,
        init=problem.scatter(key),
        solver=_SOLVER,
        detector=_QUIET,
        repair=mj.Repair(),
        adjoint=mj.NoGrad(),
    )


def cost(x: np.ndarray, centres: Any) -> float:
    """Mean squared distance to the nearest centre, in float64."""
    y, total = np.asarray(centres, np.float64), 0.0
    for start in range(0, len(x), 20_000):
        block = x[start : start + 20_000].astype(np.float64)
        squares = np.sum(block**2, axis=1)[:, None] + np.sum(y**2, axis=1) - 2 * block @ y.T
        total += float(np.sum(np.min(squares, axis=1)))
    return total / len(x)


def _kmeans(x: np.ndarray, k: int, threads: int, **options: Any) -> tuple[Any, float]:
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, seconds = clocked(lambda: KMeans(k, **options).fit(x))
    return model.cluster_centers_, seconds


def _describe(what: str, over: list[float], seconds: float, peer: float) -> dict[str, Any]:
    return {
        "what": what,
        "best %": min(over),
        "median %": float(np.median(over)),
        "worst %": max(over),
        "seconds": seconds,
        "over peer": seconds / peer,
    }


def _rows(
    name: str,
    x: np.ndarray,
    k: int,
    peer: int,
    reference: float | None,
    starts: dict[str, int],
) -> Iterator[dict[str, Any]]:
    """The peer, growth and the control on one set, from as many starts as `starts` says."""
    fits = [_kmeans(x, k, t, n_init=peer, random_state=0) for t in {1, os.cpu_count() or 1}]
    centres, peer_seconds = min(fits, key=lambda fit: fit[1])
    peer_cost = cost(x, centres)
    reference = peer_cost if reference is None else reference

    def over(centres: Any) -> float:
        return 100 * (cost(x, centres) / reference - 1) if reference > 0 else 0.0

    head = {"set": name, "n": len(x), "d": x.shape[1], "k": k}
    yield head | _describe(f"KMeans x {peer}", [over(centres)], peer_seconds, peer_seconds)
    problem = mj.Clustering(x.astype(np.float32), k)
    last = 1e4 * problem.beta_scale()
    ways: dict[str, Callable[[Any], Any]] = {
        "growth + repair": lambda key: grown(problem, key),
        "random + repair": lambda key: _control(problem, last, key),
    }
    found: dict[str, tuple[list[float], float]] = {}
    for what, solve in ways.items():
        _, first = clocked(solve, jax.random.key(10**6))
        number, used, runs = starts.get(what), 0.0, []
        while len(runs) < (number or _MOST_STARTS):
            runs.append(clocked(solve, jax.random.key(len(runs))))
            used += runs[-1][1]
            # With no number given, as many as take what the peer leaves of its time.
            spare = peer_seconds - sum(seconds for _, seconds in found.values())
            if number is None and used + runs[-1][1] > spare:
                break
        seconds = float(np.median([s for _, s in runs]))
        each = [over(solution.params) for solution, _ in runs]
        found[what] = each, used
        failed = sum(mj.Code(int(solution.code)).is_failing for solution, _ in runs)
        more = {"starts": len(runs), "first call": first, "failed": failed}
        yield head | _describe(what, each, seconds, peer_seconds) | more
    # Growth has no chance in it on small data, so other starts are the control's.
    every = [value for values, _ in found.values() for value in values]
    used = sum(seconds for _, seconds in found.values())
    yield head | _describe("all starts", [min(every)], used, peer_seconds)


def grid100() -> tuple[np.ndarray, np.ndarray]:
    """10 x 10 round clusters of 1,000 points."""
    rng = np.random.default_rng(0)
    side = np.arange(10) * 4 * np.sqrt(2)
    centres = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    return np.repeat(centres, 1000, axis=0) + rng.normal(size=(10**5, 2)), centres


def generated() -> Iterator[dict[str, Any]]:
    """blobs2, grid100 and blobs16 of the design."""
    sets = {
        "blobs2": blobs(10**5, 2, 16, 1.0),
        "grid100": grid100(),
        "blobs16": blobs(10**6, 16, 64, 3.0),
    }
    both = {"growth + repair": 20, "random + repair": 20}
    for name, (x, truth) in sets.items():
        x = x.astype(np.float32)
        lloyd, _ = _kmeans(x, len(truth), os.cpu_count() or 1, init=truth, n_init=1, tol=0.0)
        yield from _rows(name, x, len(truth), 10, cost(x, lloyd), both)


def public_sets() -> Iterator[tuple[str, np.ndarray, int]]:
    """Planar and UCI sets with the number of clusters of their first labels; none without data."""
    folder = os.environ.get("MEPJAX_DATA_DIR")
    if folder is None:
        return
    for path in sorted((Path(folder) / "gagolews_v1").glob("*/*.data.gz")):
        labels = path.with_name(path.name.replace(".data.gz", ".labels0.gz"))
        with gzip.open(path) as data, gzip.open(labels) as first:
            x, numbers = np.loadtxt(data, ndmin=2), np.loadtxt(first, dtype=int)
        name = f"{path.parent.name}/{path.name.removesuffix('.data.gz')}"
        yield name, x, len(np.unique(numbers[numbers > 0]))


def public() -> Iterator[dict[str, Any]]:
    """Every set as given, then standardised, against KMeans(n_init=100)."""
    for form in ("as given", "standardised"):
        for name, x, k in public_sets():
            if k < 2:
                continue
            if form == "standardised":
                x = (x - x.mean(axis=0)) / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)
            # Programs of other shapes are of no use any more.
            jax.clear_caches()
            yield from _rows(f"{name}, {form}", x, k, 100, None, {"growth + repair": 1})


def run() -> list[dict[str, Any]]:
    """Generated sets, then public ones."""
    return [*generated(), *public()]
