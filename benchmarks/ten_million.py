"""Ten million points end to end: time and memory, and how both grow with N, K and d."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .k_means import cost, grown
from .measure import clocked, peak_megabytes

# N, d, K.
_SIZES = (
    (10**5, 8, 64),
    (10**6, 8, 64),
    (10**6, 8, 32),
    (10**6, 4, 64),
    (10**7, 8, 64),
)


def run() -> Iterator[dict[str, Any]]:
    """Blobs of standard deviation 3 around K centres in a box of side 20, in float32."""
    for n, d, k in _SIZES:
        rng = np.random.default_rng(0)
        truth = rng.uniform(-10, 10, size=(k, d)).astype(np.float32)
        x = truth[rng.integers(k, size=n)]
        x += 3 * rng.standard_normal(size=x.shape, dtype=np.float32)
        problem = mj.Clustering(x, k)
        _, first = clocked(grown, problem, jax.random.key(1))
        solution, seconds = clocked(grown, problem, jax.random.key(0))
        last = int(solution.trace.steps[int(solution.n_stages) - 1])
        yield {
            "n": n,
            "d": d,
            "k": k,
            "seconds": seconds,
            "first call": first,
            "steps of the last stage": last,
            "cost over truth %": 100 * (cost(x, solution.params) / cost(x, truth) - 1),
            "code": mj.Code(int(solution.code)).name,
            "peak MB so far": peak_megabytes(),
        }
