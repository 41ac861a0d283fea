"""The rows that need a GPU, in one command of under ten minutes; "not measured" without one.

`python -m benchmarks gpu` in an environment with the `cuda` extra.
"""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj

from . import aden, em_step, mdp, steering, sweep
from .k_means import cost, grown
from .learning.asked import asked_schedule
from .learning.setting import square, uniform
from .measure import clocked


def _em_step() -> Iterator[dict[str, Any]]:
    for executor in ("memory", "streaming"):
        yield from em_step.of_executor(executor)


def _growth() -> Iterator[dict[str, Any]]:
    for name, n, d, k, spread in em_step.DATA:
        x, truth = em_step.blobs(n, d, k, spread)
        problem = mj.Clustering(x.astype(np.float32), k)
        _, first = clocked(grown, problem, jax.random.key(1))
        solution, seconds = clocked(grown, problem, jax.random.key(0))
        over = 100 * (cost(x, solution.params) / cost(x, truth) - 1)
        yield {
            "data": name,
            "what": "growth + repair",
            "best_s": seconds,
            "first call": first,
            "cost over truth %": over,
        }


def _learning() -> Iterator[dict[str, Any]]:
    """Simulated interactions a second of `Tabular`, on the wall."""
    base = square(400)
    schedule, asked = asked_schedule(base), mj.learn.Simulated(uniform(0.3))
    for starts in (8, 512):
        call = lambda: mj.learn.interact(  # noqa: E731
            base,
            asked,
            mj.learn.Tabular(),
            schedule,
            key=jax.random.key(0),
            starts=starts,  # noqa: B023
        )
        _, first = clocked(call)
        found, seconds = clocked(call)
        yield {
            "what": f"tabular learning, {starts} starts",
            "interactions a second": int(found.n_interactions) / seconds,
            "best_s": seconds,
            "first call": first,
        }


def _aden() -> Iterator[dict[str, Any]]:
    """Steps of a network, and all of Table 1 at once."""
    for row in aden.run():
        yield {name: value for name, value in row.items() if name != "part"}


def _mdp() -> Iterator[dict[str, Any]]:
    """Steps a second of `mdp.learn` over many seeds."""
    for row in mdp.run(["learn"]):
        yield {name: value for name, value in row.items() if name != "part"}


PARTS: dict[str, Callable[[], Iterator[dict[str, Any]] | list[dict[str, Any]]]] = {
    "sweep": sweep.run,
    "em_step": _em_step,
    "growth": _growth,
    "learning": _learning,
    "aden": _aden,
    "mdp": _mdp,
    "steering": lambda: steering.run(["sweeps", "ten"]),
}


def run() -> Iterator[dict[str, Any]]:
    """Sweep against a loop, E/M steps, and growth with repair, on the default device."""
    device = jax.devices()[0]
    for part, rows in PARTS.items():
        if device.platform == "cpu":
            yield {"part": part, "device": "no GPU", "what": "not measured"}
            continue
        for row in rows():
            yield {"part": part, "device": device.device_kind} | row
