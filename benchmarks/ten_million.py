"""Ten million points end to end: time and memory, and how both grow with N, K and d.

On several devices, as XLA_FLAGS=--xla_force_host_platform_device_count=2 makes them, data are
divided among them. The control is a random start with repair on as large a sample, then all data.
Exponents are those of the seconds between two sizes that differ in one number; they are small where
a part of the work, growth on a sample, does not depend on it.
"""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .k_means import cost, grown, ways
from .measure import clocked, peak_megabytes

# N, d, K.
_SIZES = (
    (10**5, 8, 64),
    (10**6, 8, 64),
    (10**6, 8, 32),
    (10**6, 16, 64),
    (10**7, 8, 64),
)


def run() -> Iterator[dict[str, Any]]:
    """Blobs of standard deviation 3 around K centres in a box of side 20, in float32."""
    seconds_of = {}
    for n, d, k in _SIZES:
        rng = np.random.default_rng(0)
        truth = rng.uniform(-10, 10, size=(k, d)).astype(np.float32)
        x = truth[rng.integers(k, size=n)]
        x += 3 * rng.standard_normal(size=x.shape, dtype=np.float32)
        problem = mj.Clustering(x, k)
        if jax.device_count() > 1:
            problem = problem.on(mj.Sharded())
        _, first = clocked(grown, problem, jax.random.key(1))
        solution, seconds = clocked(grown, problem, jax.random.key(0))
        seconds_of[n, d, k] = seconds
        control = ways(problem)["random + repair"]
        clocked(control, jax.random.key(1))
        other, its_seconds = clocked(control, jax.random.key(0))
        truth_cost = cost(x, truth)
        last = int(solution.trace.steps[int(solution.n_stages) - 1])
        yield {
            "devices": jax.device_count(),
            "n": n,
            "d": d,
            "k": k,
            "seconds": seconds,
            "first call": first,
            "steps of the last stage": last,
            "cost over truth %": 100 * (cost(x, solution.params) / truth_cost - 1),
            "control seconds": its_seconds,
            "control over truth %": 100 * (cost(x, other.params) / truth_cost - 1),
            "code": mj.Code(int(solution.code)).name,
            "peak MB so far": peak_megabytes(),
        }
    base = (10**6, 8, 64)
    for name, place in (("n", 0), ("d", 1), ("k", 2)):
        for other in _SIZES:
            differ = [i for i in range(3) if other[i] != base[i]]
            if differ == [place]:
                ratio = np.log(seconds_of[other] / seconds_of[base])
                exponent = ratio / np.log(other[place] / base[place])
                yield {"exponent of": name, "from": other[place], "is": float(exponent)}
