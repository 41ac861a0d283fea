"""Clustering with autonomy: growth with repair against as much time of random starts.

Hard costs in per cent over the best of 50 random starts, each solved once at the last beta; data
at unit total variance. "ours" is one growth, then random starts, both with repair and random swaps,
"control" the latter alone; both get the time those 50 take, one run at least. Growth is left out
of "ours" where it alone would take more than half of that; what it finds is told all the same.
Seconds are of compiled calls.
"""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .measure import clocked

STARTS = 50
KAPPAS = (0.1, 0.3, 0.5)
TEMPERATURES = (0.01, 1.0, 100.0)
_QUIET = mj.NoDetector(noise=0.0)
_RTOL = 1e-3
_REPAIR = mj.Repair(swaps=50, steps=2)


def _solver(problem: mj.Clustering) -> Any:
    default = problem.default_solver()
    return type(default)(rtol=_RTOL)


@jax.jit
def grown(problem: mj.Clustering, key: Any) -> mj.Solution:
    """Growth and repair."""
    return mj.anneal(
        problem,
        key=key,
        solver=_solver(problem),
        detector=mj.Growth(detector=_QUIET),
        repair=_REPAIR,
        adjoint=mj.NoGrad(),
    )


def _started(problem: mj.Clustering, key: Any, repair: mj.Repair | None) -> mj.Solution:
    return mj.anneal(
        problem,
        mj.Explicit(jnp.reshape(1e4 * problem.beta_scale(), (1,))),
        key=key,
        init=problem.scatter(key),
        solver=_solver(problem),
        detector=_QUIET,
        repair=repair,
        adjoint=mj.NoGrad(),
    )


@jax.jit
def random_start(problem: mj.Clustering, key: Any) -> mj.Solution:
    """One start at entities drawn at random, solved at the last beta."""
    return _started(problem, key, None)


@jax.jit
def repaired_start(problem: mj.Clustering, key: Any) -> mj.Solution:
    """The same, and repair."""
    return _started(problem, key, _REPAIR)


WAYS = (random_start, grown, repaired_start)


def data() -> Iterator[tuple[str, np.ndarray, int]]:
    """The four-cluster square, a grid of 25 clusters, and London's traffic sensors."""
    yield "square", np.asarray(mj.datasets.four_square(400)[0], np.float64), 4
    rng = np.random.default_rng(0)
    corners = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    yield "grid", np.repeat(corners, 80, axis=0) + 0.15 * rng.normal(size=(2000, 2)), 25
    folder = os.environ.get("MEPJAX_DATA_DIR")
    path = Path(folder) / "utd19_london" / "sensors_xy.csv" if folder else None
    if path is not None and path.exists():
        yield "London", np.genfromtxt(path, delimiter=",", skip_header=1)[:, -2:], 25


def models() -> Iterator[tuple[str, Callable[[Any], Any], Any]]:
    """Name, autonomy of a parameter, parameter."""
    for kappa in KAPPAS:
        yield f"uniform {kappa:g}", mj.autonomy.Uniform, (np.float32(kappa),)
    for temperature in TEMPERATURES:
        for kappa in KAPPAS:

            def softmax(kappa: Any, temperature: Any) -> Any:
                return mj.autonomy.Softmax(kappa, temperature=temperature)

            name = f"softmax {kappa:g} at {temperature:g}"
            yield name, softmax, (np.float32(kappa), np.float32(temperature))


def run(names: tuple[str, ...] | None = None) -> Iterator[dict[str, Any]]:
    """All data and models, or the data of these names, then the worst and the mean of all."""
    rows = []
    for name, x, k in data():
        if names is not None and name not in names:
            continue
        x = x - x.mean(axis=0)
        x = (x / np.sqrt(np.sum(x**2) / len(x))).astype(np.float32)
        for model, build, parameters in models():
            problem = mj.Clustering(x, k, autonomy=build(*(jnp.asarray(p) for p in parameters)))
            evaluate = jax.jit(lambda problem, y: problem.harden(y).cost)
            row: dict[str, Any] = {"data": name, "n": len(x), "k": k, "autonomy": model}
            allowed, reference = np.inf, np.nan
            expected = {}
            for way in WAYS:
                jax.block_until_ready(way(problem, jax.random.key(10**6)))
                expected[way] = clocked(way, problem, jax.random.key(10**6 + 1))[1]
            # Growth is the same for every key where the data are fewer than its sample.
            plans = {"random": [], "ours": [grown], "control": []}
            for plan, first in plans.items():
                if first and expected[grown] > allowed / 2:
                    first = []
                rest = random_start if plan == "random" else repaired_start
                used, costs, failed = 0.0, [], 0
                while len(costs) < STARTS:
                    way = first[len(costs)] if len(costs) < len(first) else rest
                    if costs and used + expected[way] > allowed:
                        break
                    solution, seconds = clocked(way, problem, jax.random.key(len(costs)))
                    used += seconds
                    costs.append(float(evaluate(problem, solution.params)))
                    failed += int(solution.code) not in (mj.Code.OK, mj.Code.NEAR_CRITICAL)
                if plan == "random":
                    allowed, reference = used, min(costs)
                    row["seconds"] = used
                over = [100 * (cost / reference - 1) for cost in costs]
                row |= {f"{plan} runs": len(costs), f"{plan} %": min(over)}
                row[f"{plan} median %"] = float(np.median(over))
                row[f"{plan} time"] = used / allowed
                row[f"{plan} failed"] = failed
            alone = float(evaluate(problem, grown(problem, jax.random.key(0)).params))
            row["growth alone %"] = 100 * (alone / reference - 1)
            row["growth over the time"] = expected[grown] / allowed
            rows.append(row)
            yield row
    for what, of in (("worst", max), ("mean", np.mean)):
        plans = ("ours", "control", "growth alone")
        over = {f"{plan} %": float(of([row[f"{plan} %"] for row in rows])) for plan in plans}
        yield {"data": f"{what} of {len(rows)} cells"} | over
