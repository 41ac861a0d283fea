"""Opt-in progress: a function on the host that is called once per stage."""

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


def report_progress(monitor: Monitor, max_stages: int, **scalars: Any) -> None:
    """Stage a host callback; the only one in the library, present only when a monitor is."""

    def call(**values: Any) -> None:
        numbers = {name: np.asarray(value).item() for name, value in values.items()}
        monitor(Progress(max_stages=max_stages, **numbers))

    jax.debug.callback(call, **scalars)


def print_progress(progress: Progress) -> None:
    """A monitor that prints one line per stage.

    **Example:** `anneal(problem, key=key, monitor=mepjax.print_progress)`.
    """
    print(
        f"stage {progress.stage:4d}  beta {progress.beta:.4g}  F {progress.free_energy:.6g}  "
        f"curvature {progress.curvature:.3f}  steps {progress.steps}"
    )
