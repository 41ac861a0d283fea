"""Learning that is under way, as plain data."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int

from .._core import checks
from ..engine.schedules import AbstractSchedule, Stage
from .learned import LearningTrace
from .learner import AbstractLearner
from .rounds import Explore


class LearningProgress(NamedTuple):
    """What a monitor is told after each level of beta; numbers are those of the first start."""

    stage: int
    max_stages: int
    beta: float
    beta_max: float
    free_energy: float
    loss: float
    explored: float
    n_interactions: int


class Carry(eqx.Module):
    """What one level hands to the next."""

    states: Any
    centres: Float[Array, "starts k d"]
    # Mean centres of the last levels, and how many levels there were.
    levels: Float[Array, "levels starts k d"]
    stage: Stage
    code: Int[Array, ""]
    n_stages: Int[Array, ""]
    n_interactions: Int[Array, ""]
    done: Bool[Array, ""]


class LearningState(eqx.Module):
    """Learning that is under way: plain data, without problem and environment.

    Made by `learn.begin`, taken further by `learn.advance`, turned into a `Learned` by
    `learn.finish`, kept on disk by `learn.save` and `learn.load`.
    """

    learner: AbstractLearner
    schedule: AbstractSchedule
    explore: Explore
    key: Any
    scale: Float[Array, ""]
    carry: Carry
    rows: LearningTrace
    input_report: checks.InputReport
    rounds: int = eqx.field(static=True)
    each: int = eqx.field(static=True)
    fresh: int = eqx.field(static=True)
    monitor: Callable[[LearningProgress], None] | None = eqx.field(static=True)

    @property
    def centres(self) -> Float[Array, "starts k d"]:
        """Where each start is."""
        return self.carry.centres

    @property
    def n_stages(self) -> Int[Array, ""]:
        """Levels of beta behind it."""
        return self.carry.n_stages

    @property
    def done(self) -> Bool[Array, ""]:
        """Whether no level is left."""
        return self.carry.done | (self.carry.n_stages >= self.rows.beta.shape[0])
