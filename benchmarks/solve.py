"""How good `mepjax.solve` is: autonomy, facility networks, and a grid of round clusters.

Peers are many more random starts of the same problem, each with the same repair, and Lloyd's
iteration from the true centres. A restricted network's answer is a start for the free one.
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj
from mepjax.datasets import supply_network
from mepjax.select.starts import Measured, best_of_starts, cost_of

from .measure import clocked
from .supply_network import ENTRY, settings

KAPPAS, GAMMAS, TEMPERATURES = (0.1, 0.2, 0.3, 0.4, 0.5), (0.0, 0.5), (0.01, 100.0)
RANDOM_CLUSTERS, RANDOM_NETWORKS = 50, 100
LAYOUTS, FACILITIES = 20, 5
SIDE, EACH, KEYS = 5, 100, 20


def four_unequal(seed: int = 0) -> np.ndarray:
    """1,800 points in four Gaussians of unequal size and spread, the square's side being one."""
    rng = np.random.default_rng(seed)
    parts = (((0, 0), 0.06, 800), ((1, 0), 0.12, 500), ((0, 1), 0.04, 300), ((1, 1), 0.18, 200))
    return np.concatenate([np.array(c) + s * rng.normal(size=(n, 2)) for c, s, n in parts])


def random_starts(problem: mj.Problem, number: int, key: Any) -> np.ndarray:
    """Hard costs (soft ones with prices) of random starts at the last beta, each repaired."""
    end = 1e4 * float(problem.beta_scale())
    # The first start of the recipe is no random one; what is not exchangeable is not repaired.
    found = best_of_starts(
        problem,
        mj.Geometric(end, end, 1.05, max_stages=1),
        jax.random.split(key, 1),
        init=[problem.scatter(k) for k in jax.random.split(key, number)],
        measure=lambda problem, solution: Measured(float(cost_of(problem, solution))),
        ignoring=False,
    )
    given = [run for run in found.candidates if run.name == "given start"]
    usable = [run.cost for run in given if not run.code.is_failing and np.isfinite(run.cost)]
    return np.array(usable or [np.inf])


def clusters(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One row a model: how many per cent above the best of random starts."""
    x = four_unequal()
    grid = itertools.product(KAPPAS, GAMMAS, TEMPERATURES)
    for kappa, gamma, temperature in list(grid)[:: 7 if quick else 1]:
        model = mj.autonomy.Softmax(kappa, gamma=gamma, temperature=temperature)
        problem = mj.Clustering(x, 4, autonomy=model)
        solved, seconds = clocked(lambda p: mj.solve(p, key=jax.random.key(0)), problem)
        number = 10 if quick else RANDOM_CLUSTERS
        others = random_starts(problem, number, jax.random.key(1))
        cost = float(problem.harden(solved.solution.params).cost)
        yield {
            "what": f"kappa {kappa}, gamma {gamma}, T {temperature}",
            "above_best_%": 100 * (cost / min(cost, np.min(others)) - 1),
            "bar_%": 0.1,
            "random_median_%": 100 * (np.median(others) / min(cost, np.min(others)) - 1),
            "code": mj.Code(int(solved.solution.code)).name,
            "seconds": seconds,
        }


def networks(quick: bool = False) -> Iterator[dict[str, Any]]:
    """One row a constraint: the worst of the layouts against random starts with repair."""
    above: dict[str, list[float]] = {}
    for seed in range(2 if quick else LAYOUTS):
        nodes, destination = supply_network(seed=seed)
        kinds = {"free": {}, **settings(float(np.sum(ENTRY)))}
        chosen = ("free", "(e) three facilities at most", "(f) partially connected")
        answers: list[mj.Solution] = []
        for name in ("(g) entry shares", *reversed(chosen)):
            problem = mj.FacilityPath(nodes, destination, FACILITIES, **dict[str, Any](kinds[name]))
            # Prices are no part of the free problem, whose facilities may stand there too.
            starts = [s for s in answers if not isinstance(s.params, mj.Params)]
            solved = mj.solve(problem, key=jax.random.key(0), init=starts)
            number = 10 if quick else RANDOM_NETWORKS
            others = random_starts(problem, number, jax.random.key(seed))
            cost = float(cost_of(problem, solved.solution))
            answers.append(solved.solution)
            above.setdefault(name, []).append(100 * (cost / min(cost, np.min(others)) - 1))
    for name, percent in above.items():
        yield {
            "what": name,
            "above_best_%": max(percent),
            "bar_%": 0.5,
            "layouts": len(percent),
            "layouts_above_bar": int(np.sum(np.array(percent) > 0.5)),
        }


def round_clusters(quick: bool = False) -> dict[str, Any]:
    """The grid: cost against Lloyd from the true centres, and time against k-means++."""
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(float(SIDE))] * 2), -1).reshape(-1, 2)
    x = np.repeat(places, EACH, axis=0) + 0.05 * rng.normal(size=(SIDE * SIDE * EACH, 2))
    problem = mj.Clustering(x.astype(np.float32), SIDE * SIDE)
    plus: Any = {"n_init": 10}
    once: Any = {"init": places, "n_init": 1}
    true = KMeans(SIDE * SIDE, **once).fit(x).score(x) / -len(x)
    keys = [jax.random.key(seed) for seed in range(3 if quick else KEYS)]
    mj.solve(problem, key=keys[0])
    ours = [clocked(lambda k: mj.solve(problem, key=k), key) for key in keys]
    theirs = [
        clocked(lambda s: KMeans(SIDE * SIDE, random_state=s, **plus).fit(x), seed)
        for seed in range(3 if quick else 5)
    ]
    costs = [float(problem.harden(solved.solution.params).cost) for solved, _ in ours]
    own, peer = (float(np.median([s for _, s in runs])) for runs in (ours, theirs))
    return {
        "what": f"{SIDE} x {SIDE} grid",
        "above_best_%": 100 * (max(costs) / true - 1),
        "bar_%": 0.1,
        "keys": len(keys),
        "time_to_k_means": float(
            np.median([s for _, s in ours]) / np.median([s for _, s in theirs])
        ),
        "bar_time": 0.5,
    }


def run(quick: bool | None = None) -> Iterator[dict[str, Any]]:
    """All rows; `quick` (or the word on the command line) runs a reduced form."""
    quick = "quick" in sys.argv if quick is None else quick
    yield round_clusters(quick)
    yield from clusters(quick)
    yield from networks(quick)
