"""Continuous p-median on TSPLIB cities: an anneal beside 200 restarts of alternate location.

One stage, Euclidean entries and free exits. The peer is Cooper's alternate location-allocation
(Operations Research 11, 1963) from random cities, each location by Weiszfeld's method.
"""

import gzip
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np

import mepjax as mj

from .measure import clocked

RESTARTS, KEYS = 200, tuple(jax.random.key(seed) for seed in range(5))
SETTINGS = (("p654", 5), ("p654", 10), ("u1060", 5), ("u1060", 10), ("u1060", 20))


def cities(name: str) -> np.ndarray:
    """Coordinates of a TSPLIB problem from the folder MEPJAX_DATA_DIR."""
    path = Path(os.environ["MEPJAX_DATA_DIR"]) / "tsplib" / f"{name}.tsp.gz"
    lines = gzip.open(path, "rt").read().split("NODE_COORD_SECTION")[1].split("EOF")[0]
    return np.array([line.split()[1:3] for line in lines.strip().splitlines()], np.float64)


def _medians(x: np.ndarray, labels: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Smoothed as ours is: a start on a city would stay there.
    smoothing = 1e-3 * np.sqrt(np.sum(np.var(x, axis=0)))
    for _ in range(200):
        pulls = 1 / np.hypot(np.linalg.norm(x - y[labels], axis=1), smoothing)
        mass = np.bincount(labels, pulls, len(y))
        new = np.stack([np.bincount(labels, pulls * c, len(y)) for c in x.T], 1)
        new = np.where(mass[:, None] > 0, new / np.where(mass > 0, mass, 1)[:, None], y)
        if np.max(np.abs(new - y)) < 1e-6 * np.ptp(x):
            return new
        y = new
    return y


def alternate_location(x: np.ndarray, k: int, rng: np.random.Generator) -> float:
    """Cost after alternating nearest facility and medians from random cities."""
    y = x[rng.choice(len(x), k, replace=False)]
    before = np.inf
    while True:
        distances = np.linalg.norm(x[:, None] - y[None], axis=2)
        cost = float(distances.min(1).sum())
        if cost > before * (1 - 1e-9):
            return min(cost, before)
        before, y = cost, _medians(x, distances.argmin(1), y)


@eqx.filter_jit
def _solve(problem: mj.FacilityPath, key: Any) -> tuple[Any, Any]:
    b = problem.beta_scale()
    schedule = mj.Geometric(0.5 * b, 1e4 * b, 1.05, max_stages=256)
    solution = mj.anneal(problem, schedule, key=key, adjoint=mj.NoGrad())
    return solution, problem.harden(solution.params).cost


def run() -> list[dict[str, Any]]:
    """Costs relative to the best of the restarts, and times."""
    rows = []
    with jax.enable_x64(True):
        for name, k in SETTINGS:
            x = cities(name)
            rng = np.random.default_rng(0)
            restarts = [clocked(alternate_location, x, k, rng) for _ in range(RESTARTS)]
            costs = [cost for cost, _ in restarts]
            best = min(costs)
            problem = mj.FacilityPath(
                x, x[:1], k, n_stages=1, stage_costs=("euclidean", None, None)
            )
            _solve(problem, jax.random.key(0))
            anneals = [clocked(_solve, problem, key) for key in KEYS]
            ours = [float(cost) * len(x) for (_, cost), _ in anneals]
            codes = {mj.Code(int(solution.code)).name for (solution, _), _ in anneals}
            rows.append(
                {
                    "cities": name,
                    "k": k,
                    "best of 200": best,
                    "median of 200 %": 100 * (np.median(costs) / best - 1),
                    "anneal worst %": 100 * (max(ours) / best - 1),
                    "anneal best %": 100 * (min(ours) / best - 1),
                    "codes": " ".join(sorted(codes)),
                    "s per anneal": sum(seconds for _, seconds in anneals) / len(anneals),
                    "s of 200": sum(seconds for _, seconds in restarts),
                }
            )
    return rows
