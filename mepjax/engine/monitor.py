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


def report_progress(
    monitor: Callable[[Any], None], max_stages: int, *, kind: Any = Progress, **scalars: Any
) -> None:
    """Stage a host callback; the only one that nobody asks for, present only when a monitor is.

    `kind` is the type of what the monitor is told: `max_stages` and the scalars.
    """

    def call(**values: Any) -> None:
        numbers = {name: np.asarray(value).item() for name, value in values.items()}
        monitor(kind(max_stages=max_stages, **numbers))

    jax.debug.callback(call, **scalars)


def print_progress(progress: Progress) -> None:
    """A monitor that prints one line per stage.

    **Example:** `anneal(problem, key=key, monitor=mepjax.print_progress)`.
    """
    print(
        f"stage {progress.stage:4d}  beta {progress.beta:.4g}  F {progress.free_energy:.6g}  "
        f"curvature {progress.curvature:.3f}  steps {progress.steps}"
    )
