"""Facility location with paths at scale: time, memory and cost on TSPLIB cities and bus stops.

Costs are relative to the anneal's: of locating first and routing afterwards, and of the best of
random restarts (cities as first places, the location step repeated at the last beta). Growth is of
one location step, whose time is O(N M + n_stages M^2).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import mepjax as mj

from .measure import clocked, peak_megabytes, temporary_bytes, timed
from .p_median import cities

RESTARTS = 20
SETTINGS = tuple((name, m) for name in ("d15112", "d18512", "stops") for m in (27, 50))
# (N, M, stages) around one setting.
GROWTH = (
    (20_000, 25, 4), (40_000, 25, 4), (80_000, 25, 4), (20_000, 50, 4), (20_000, 100, 4),
    (20_000, 25, 16), (20_000, 25, 64), (200, 100, 16), (200, 100, 64),
)  # fmt: skip


def places(name: str) -> np.ndarray:
    """Cities, or the bus stops of London in metres east and north."""
    if name != "stops":
        return cities(name)
    file = Path(os.environ["MEPJAX_DATA_DIR"]) / "london_bus_stops" / "bus_stops_xy_unique.csv"
    return np.loadtxt(file, delimiter=",", skiprows=1, usecols=(0, 1))


def _problem(x: np.ndarray, m: int, stages: int | None = None) -> mj.FacilityPath:
    # Unit size, so that float32 serves; the destination is the corner of the map.
    x = (x - x.mean(0)) / np.ptp(x, axis=0).max()
    return mj.FacilityPath(np.asarray(x, np.float32), np.float32(x.max(0)), m, n_stages=stages)


def _schedule(problem: mj.FacilityPath) -> mj.Geometric:
    b = problem.beta_scale()
    return mj.Geometric(0.5 * b, 1e4 * b, 1.1, max_stages=128)


@eqx.filter_jit
def _anneal(problem: mj.FacilityPath) -> Any:
    solution = mj.anneal(problem, _schedule(problem), key=jax.random.key(0), adjoint=mj.NoGrad())
    return solution, problem.harden(solution.params).cost


@eqx.filter_jit
def _sequential(problem: mj.FacilityPath) -> Any:
    return mj.locate_then_route(
        problem, key=jax.random.key(0), schedule=_schedule(problem)
    ).hard.cost


@eqx.filter_jit
def _restart(problem: mj.FacilityPath, key: Any) -> Any:
    chosen = jax.random.choice(key, problem.nodes.shape[0], (problem.n_facilities,), replace=False)
    schedule = mj.Explicit(1e4 * problem.beta_scale()[None])
    solution = mj.anneal(
        problem, schedule, key=key, init=problem.nodes[chosen], detector=mj.NoDetector(noise=1e-6),
        adjoint=mj.NoGrad(),
    )  # fmt: skip
    return problem.harden(solution.params).cost


@eqx.filter_jit
def _step(problem: mj.FacilityPath, params: Any, beta: Any) -> Any:
    return problem.update(params, beta)


def growth() -> list[dict[str, Any]]:
    """One location step: seconds and temporary memory as N, M and stages grow."""
    rows = []
    for n, m, stages in GROWTH:
        problem = _problem(np.random.default_rng(0).normal(size=(n, 2)), m, stages)
        params = problem.nodes[:m]
        beta = 100 * problem.beta_scale()
        row: dict[str, Any] = {"N": n, "M": m, "stages": stages}
        row |= timed(lambda problem=problem, y=params, b=beta: _step(problem, y, b))
        arrays, static = eqx.partition(problem, eqx.is_array)
        row["temporary_MB"] = (
            temporary_bytes(
                lambda a, y, b, static=static: eqx.combine(a, static).update(y, b),
                arrays, params, beta,
            )
            / 1e6
        )  # fmt: skip
        rows.append(row)
    return rows


def solves() -> Iterator[dict[str, Any]]:
    """Whole anneals, and what else one might have done."""
    for name, m in SETTINGS:
        problem = _problem(places(name), m)
        (solution, cost), first = clocked(_anneal, problem)
        _, seconds = clocked(_anneal, problem)
        sequential, apart = clocked(_sequential, problem)
        keys = [jax.random.key(seed) for seed in range(RESTARTS)]
        _restart(problem, keys[0])
        restarts = [clocked(_restart, problem, key) for key in keys]
        best = min(float(found) for found, _ in restarts)
        yield {
            "nodes": name,
            "N": len(problem.nodes),
            "M": m,
            "s": seconds,
            "first s": first,
            "code": mj.Code(int(solution.code)).name,
            "steps": int(solution.trace.steps[: int(solution.n_stages)].sum()),
            "peak_MB": peak_megabytes(),
            "locate-then-route / ours": float(sequential / cost),
            "its s": apart,
            "best of 20 / ours": best / float(cost),
            "their s": sum(seconds for _, seconds in restarts),
        }


def run() -> Iterator[dict[str, Any]]:
    """Anneals, then growth."""
    yield from solves()
    yield from growth()
