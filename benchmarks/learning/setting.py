"""The data, the models and the gaps that all parts share."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.reproduce.scenarios import SQUARE, Scenario

KEY = jax.random.key(0)
# Growth of beta; finer steps change no cost here.
_FACTOR = 1.3
_hard = jax.jit(lambda problem, centres: problem.harden(centres).cost)


def square(n: int = 1800) -> mj.Clustering:
    """Four Gaussians, columns scaled to [0, 1]."""
    x = np.asarray(mj.datasets.four_square(n)[0], np.float64)
    x = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    return mj.Clustering(x.astype(np.float32), 4)


def ten_blobs(n: int = 500) -> mj.Clustering:
    """Ten round clusters in ten dimensions, of unit total variance."""
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(10, 10)), n // 10, axis=0) + 0.4 * rng.normal(size=(n, 10))
    x = (x - x.mean(axis=0)) / np.sqrt(x.var(axis=0).sum())
    return mj.Clustering(x.astype(np.float32), 10)


def uniform(kappa: float) -> mj.autonomy.Uniform:
    """Overrides to anywhere, with a traced number."""
    return mj.autonomy.Uniform(jnp.asarray(kappa, jnp.float32))


def schedule_of(base: mj.Clustering) -> mj.Geometric:
    """From half the first transition to 10^4 times it."""
    scale = float(base.beta_scale())
    return mj.Geometric(0.5 * scale, 1e4 * scale, _FACTOR)


def hard(truth: mj.Clustering, centres: Any) -> float:
    """The cost of centres at the best prescriptions."""
    return float(_hard(truth, jnp.asarray(centres)))


def solved(problem: mj.Clustering, starts: int = 1, init: Iterable[Any] = ()) -> mj.select.Solved:
    """`mepjax.solve` with few starts."""
    return mj.solve(
        problem, schedule_of(problem), key=KEY, starts=starts, init=list(init), adjoint=mj.NoGrad()
    )


class Reference:
    """A problem whose autonomy is known: the best cost, and those of two ways to find centres.

    `frozen` is Algorithm 1 as printed, which holds p fixed in each update; `ignored` are centres
    found as if there were no autonomy.
    """

    def __init__(self, base: mj.Clustering, model: Any, ignored: Any = None) -> None:
        self.truth = base.replace(autonomy=model)
        found = solved(self.truth)
        self.best = hard(self.truth, found.solution.params)
        names = zip(found.runs.name, found.runs.cost, strict=True)
        self.frozen = next((float(c) for name, c in names if name == "frozen"), self.best)
        self.ignored = None if ignored is None else hard(self.truth, ignored)
        self.best = min(self.best, self.frozen)

    def gap(self, centres: Any) -> float:
        """Per cent over the best that is known; below zero where these centres are better."""
        return 100 * (hard(self.truth, centres) / self.best - 1)

    def beside(self) -> dict[str, float]:
        """Gaps of the frozen solution, and of the ignored one."""
        found = {"frozen gap %": 100 * (self.frozen / self.best - 1)}
        if self.ignored is not None:
            found["ignored gap %"] = 100 * (self.ignored / self.best - 1)
        return found


def cpu(call: Callable[[], Any], repeats: int = 1) -> tuple[Any, float]:
    """What a call returns, and the least CPU seconds that it took."""
    taken, found = [], None
    for _ in range(repeats):
        start = time.process_time()
        found = jax.block_until_ready(call())
        taken.append(time.process_time() - start)
    return found, min(taken)


def summary(name: str, gaps: list[float], **more: Any) -> dict[str, Any]:
    """The mean and the worst of gaps."""
    return {
        "case": name,
        "runs": len(gaps),
        "mean gap %": float(np.mean(gaps)),
        "worst gap %": float(np.max(gaps)),
        **more,
    }


__all__ = ["KEY", "SQUARE", "Reference", "Scenario", "cpu", "hard", "schedule_of", "solved",
           "square", "summary", "ten_blobs", "uniform"]  # fmt: skip
