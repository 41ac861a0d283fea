"""Opt-in progress: a function on the host that is called once per stage."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class Progress(NamedTuple):
    """What a monitor is told after each stage."""

    stage: int
    max_stages: int
    beta: float
    beta_max: float
    free_energy: float
    curvature: float
    steps: int


Monitor = Callable[[Progress], None]

_LOOK_SECONDS = 0.1


def report_progress(
    monitor: Callable[[Any], None], max_stages: int, *, kind: Any = Progress, **scalars: Any
) -> None:
    """Stage a host callback, only where something with a monitor is staged in a user's program.

    `kind` is the type of what the monitor is told: `max_stages` and the scalars. Elsewhere the host
    looks between stages of an anneal, so that its programs are those without a monitor.
    """

    def call(**values: Any) -> None:
        numbers = {name: np.asarray(value).item() for name, value in values.items()}
        monitor(kind(max_stages=max_stages, **numbers))

    jax.debug.callback(call, **scalars)


def report_rows(
    monitor: Monitor, rows: Any, indices: range, *, relaxation: int, beta_max: float
) -> None:
    """Tell of stages that have ended, from their rows in the trace."""
    told = ("beta", "free_energy", "curvature", "steps")
    max_stages = rows.beta.shape[0] - relaxation
    columns = {name: np.asarray(getattr(rows, name)) for name in told}
    for index in indices:
        numbers = {name: column[index].item() for name, column in columns.items()}
        stage = max(index - relaxation + 1, 0)
        monitor(Progress(stage=stage, max_stages=max_stages, beta_max=beta_max, **numbers))


class Pace:
    """How many stages to solve before looking again: about as many as take a tenth of a second."""

    def __init__(self) -> None:
        self.stages, self._began = 1, time.perf_counter()

    def looked(self) -> None:
        """After every piece; the first compiles, and tells nothing of how long a stage takes."""
        now = time.perf_counter()
        each, self._began = (now - self._began) / self.stages, now
        self.stages = int(np.clip(_LOOK_SECONDS / max(each, 1e-9), 1, 2 * self.stages))


def print_progress(progress: Progress) -> None:
    """A monitor that prints one line per stage.

    **Example:** `anneal(problem, key=key, monitor=mepjax.print_progress)`.
    """
    print(
        f"stage {progress.stage:4d}  beta {progress.beta:.4g}  F {progress.free_energy:.6g}  "
        f"curvature {progress.curvature:.3f}  steps {progress.steps}"
    )
