"""What one solve of several was like, and which of them is kept."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from .._core.codes import Code
from ..engine.monitor import Progress
from ..engine.solution import Solution
from ..problems.hard_clustering import HardClustering


class Measured(NamedTuple):
    """What a run is compared by: its `cost`, and how many slots are used, 0 if not looked at.

    Where entities are assigned whole to meet a capacity, which is dear, also who was told what.
    """

    cost: Any
    n_used: int = 0
    decisions: HardClustering | None = None


@dataclass(frozen=True)
class Run:
    """One solve: its cost under the problem itself, and the run it started from, `source`.

    `n_used` is how many slots are used, 0 where that is not looked at; `key` is that of the run;
    `decisions` those of whole entities that meet a capacity, if there is one.
    """

    name: str
    restart: int
    solution: Solution
    cost: float
    n_used: int
    seconds: float
    source: "Run | None" = None
    key: Any = None
    decisions: HardClustering | None = None

    @property
    def code(self) -> Code:
        """The `Code` with which its solution ended."""
        return Code(int(self.solution.code))

    @property
    def path(self) -> "list[Run]":
        """The runs that led here, this one last."""
        return [*(self.source.path if self.source else []), self]


@dataclass(frozen=True)
class Starts:
    """The outcome of `best_of_starts`.

    **Fields:** all `runs`; those of them that may be chosen, `candidates`; if there is autonomy,
    the best run `ignored` without it, `None` where none converged; `tie`, see `lowest`.
    """

    runs: tuple[Run, ...]
    candidates: tuple[Run, ...]
    ignored: Run | None
    tie: float = 0.0

    @property
    def best(self) -> Run | None:
        """The converged candidate of lowest hard cost; `None` if all failed."""
        return lowest([run for run in self.candidates if not run.code.is_failing], self.tie)

    @property
    def least_bad(self) -> Run | None:
        """`best`, else the candidate of lowest hard cost although it failed."""
        return self.best or lowest(self.candidates, self.tie)


def lowest(runs: Any, tie: float = 0.0) -> Run | None:
    """The first run whose finite hard cost is within `tie` of the lowest; `None` if none is."""
    finite = [run for run in runs if math.isfinite(run.cost)]
    limit = min((run.cost for run in finite), default=math.inf) + tie
    return next((run for run in finite if run.cost <= limit), None)


class Watch(Protocol):
    """Is told what is being solved."""

    def run(self, name: str, restart: int) -> None:
        """A solve of this name and restart starts."""

    def stage(self, progress: Progress, /) -> None:
        """A stage of it has ended."""
