"""Superstates of nearly completely decomposable chains, beside a scaled SVD with k-means."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .measure import clocked, timed

_SIZES = (10, 30, 20, 20, 20)


def chain(seed: int, eps: float, sizes: tuple[int, ...] = _SIZES) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    inside = rng.uniform(size=(len(labels),) * 2) * (labels[:, None] == labels)
    noise = rng.uniform(size=inside.shape)
    inside, noise = (m / m.sum(axis=1, keepdims=True) for m in (inside, noise))
    return ((1 - eps) * inside + eps * noise).astype(np.float32), labels


def same(found: Any, truth: Any) -> bool:
    """Whether two partitions are alike."""
    pairs = set(zip(np.asarray(found).tolist(), truth.tolist(), strict=True))
    return len(pairs) == len(set(truth.tolist())) == len(set(np.asarray(found).tolist()))


def scaled_svd(p: Any, k: int) -> Any:
    """The peer: k-means on the leading left singular vectors of the scaled chain."""
    from sklearn import cluster

    k_means: Any = cluster.KMeans
    rho = np.linalg.matrix_power(p.astype(np.float64), 10_000)[0]
    z = rho @ p
    scaled = np.sqrt(rho)[:, None] * (p - z) / np.sqrt(z)
    left = np.linalg.svd(scaled)[0][:, : k - 1] / np.sqrt(rho)[:, None]
    return k_means(k, n_init=10, random_state=0).fit_predict(left)


def gpcca(p: Any, k: int) -> Any:
    """The other peer: pyGPCCA's optimised crisp assignment of dominant Schur vectors."""
    import pygpcca  # type: ignore

    # It refuses rows whose sums, in float64, are 1 only as closely as float32 holds them.
    p = p.astype(np.float64)
    found = pygpcca.GPCCA(p / p.sum(axis=1, keepdims=True), z="LM", method="brandts")
    return found.optimize(k).macrostate_assignment


def _beside(peer: Any, p: Any, k: int, truth: Any) -> tuple[bool, float]:
    """Whether a peer is right, and its seconds; an answer it refuses to give is none."""
    try:
        found, seconds = clocked(peer, p, k)
    except ImportError:
        raise
    except Exception:  # noqa: BLE001 (its own, of every kind)
        return False, float("nan")
    return same(found, truth), seconds


def _annealed(problem: mj.MarkovAggregation) -> Any:
    b = problem.beta_scale()
    return mj.anneal(
        problem, mj.Geometric(0.5 * b, 300 * b, 1.5, max_stages=32), key=jax.random.key(0),
        detector=mj.Growth(detector=mj.NoDetector(noise=0.0)), repair=mj.Repair(),
        adjoint=mj.NoGrad(),
    )  # fmt: skip


def run(seeds: int = 20) -> Iterator[dict[str, Any]]:
    k = len(_SIZES)

    @jax.jit
    def solve(p: Any) -> Any:
        problem = mj.MarkovAggregation(p, k)
        return problem.harden(_annealed(problem).params).assignments

    for eps in (0.1, 0.5, 0.7):
        right = peer_right = gpcca_right = 0
        ratios, gpcca_ratios = [], []
        best = 0.0
        for seed in range(seeds):
            p, truth = chain(seed, eps)
            array = jnp.asarray(p)
            right += same(solve(array), truth)
            best = timed(lambda array=array: solve(array), 5)["best_s"]
            found, seconds = clocked(scaled_svd, p, k)
            peer_right += same(found, truth)
            ratios.append(best / seconds)
            try:
                is_right, theirs = _beside(gpcca, p, k, truth)
            except ImportError:
                continue
            gpcca_right += is_right
            gpcca_ratios.append(best / theirs)
        yield {
            "eps": eps,
            "right": right / seeds,
            "SVD + k-means right": peer_right / seeds,
            "ms": 1e3 * best,
            "time over SVD + k-means": float(np.median(ratios)),
            **_told_of_gpcca(gpcca_right, gpcca_ratios),
        }
    yield from _many(k, solve)


def _told_of_gpcca(right: int, ratios: list[float]) -> dict[str, Any]:
    if not ratios:
        return {"GPCCA": "not measured: pygpcca is not installed"}
    # Where it refuses there is no time.
    told = [ratio for ratio in ratios if np.isfinite(ratio)]
    return {
        "GPCCA right": right / len(ratios),
        "GPCCA refuses": len(ratios) - len(told),
        "time over GPCCA": float(np.median(told)) if told else None,
    }


def _many(k: int, solve: Any) -> Iterator[dict[str, Any]]:
    """A thousand states beside the peer, and what building and annealing eagerly adds at 100."""
    p, truth = chain(0, 0.3, tuple(10 * size for size in _SIZES))
    array = jnp.asarray(p)
    right = same(solve(array), truth)
    seconds = timed(lambda: solve(array), 3)["best_s"]
    found, theirs = clocked(scaled_svd, p, k)
    yield {
        "eps": 0.3, "states": len(p), "right": float(right),
        "SVD + k-means right": float(same(found, truth)), "ms": 1e3 * seconds,
        "time over SVD + k-means": seconds / theirs,
    }  # fmt: skip
    p, truth = chain(0, 0.5)
    array = jnp.asarray(p)
    build = timed(lambda: mj.MarkovAggregation(array, k).weights, 10)["best_s"]
    compiled = timed(lambda: solve(array), 10)["best_s"]
    yield {"states": len(p), "case": "building it eagerly", "ms": 1e3 * build,
           "over the solve": build / compiled}  # fmt: skip
    problem = mj.MarkovAggregation(array, k)
    eager = timed(lambda: _annealed(problem).params, 10)["best_s"]
    yield {"states": len(p), "case": "annealing it eagerly", "ms": 1e3 * eager,
           "over the solve": eager / compiled}  # fmt: skip
