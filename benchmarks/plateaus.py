"""Ranges of beta over which the number of distinct centres stays: appendix E, Figure 4(b)."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.datasets import nested_groups

from .measure import clocked

_SEEDS = 20
_NUMBERS = (1, 4, 8, 16)


def _build(x: Any) -> mj.Clustering:
    return mj.Clustering(x, 16, autonomy=mj.autonomy.Uniform(1 / 16))


def run() -> list[dict[str, Any]]:
    """3,200 points, K = 16, kappa = 1/16; a seed is the draw of the data and the key together."""
    data = jnp.stack([nested_groups(3200, seed=seed)[0] for seed in range(_SEEDS)])
    b = float(_build(data[0]).beta_scale())
    ways = {
        "growth": mj.Growth(sample=None, max_steps=100, rtol=1e-3),
        "kicks": mj.Detector(),
    }
    rows = []
    for name, detector in ways.items():

        def solve(detector: Any = detector) -> mj.Sweep:
            return mj.sweep(
                _build,
                data,
                key=jax.random.key(0),
                schedule=mj.Geometric(0.5 * b, 400 * b, 1.03),
                detector=detector,
                adjoint=mj.NoGrad(),
                record=mj.Record(statistic=lambda p, params, beta: mj.n_distinct(p, params)),
            )

        result, seconds = clocked(solve)
        trace = result.solutions.trace
        ratios = {number: [] for number in _NUMBERS}
        for lane in range(_SEEDS):
            beta, numbers = np.asarray(trace.beta[lane, 0]), np.asarray(trace.statistic[lane, 0])
            for number in _NUMBERS:
                at = beta[numbers == number]
                # Interrupted by another number it is no plateau.
                inside = numbers[(beta >= at[0]) & (beta <= at[-1])] if at.size else np.zeros(1)
                whole = bool(at.size) and bool(np.all(inside == number))
                ratios[number].append(float(at[-1] / at[0]) if whole else 0.0)
        found = np.array([ratios[number] for number in _NUMBERS])
        rows.append(
            {"transitions by": name}
            | {f"shortest at {number}": float(min(ratios[number])) for number in _NUMBERS}
            | {
                "seeds with all above 1.2": int(np.sum(np.all(found > 1.2, axis=0))),
                "seeds": _SEEDS,
                "seconds with compiling": seconds,
            }
        )
    return rows
