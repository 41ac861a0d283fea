"""A network learnt in one scenario as the start in another, with a quarter of the draws."""

import functools
from dataclasses import dataclass
from typing import Any

import jax

import mepjax as mj

from .. import learn
from ..datasets import four_square
from .gaps import Cell, networks_installed
from .reproduction import Claim, NotMeasured, Reproduction, Setting, Task
from .scenarios import SQUARE_CLUSTERS, SQUARE_POINTS, Scenario

_FIRST = Scenario(0.3, 0, 1, 0.01)


@dataclass(frozen=True)
class _Pair:
    """From the first scenario on the square to another, or to other points and clusters."""

    goal: Scenario
    points: int = SQUARE_POINTS
    clusters: int = SQUARE_CLUSTERS

    @property
    def key(self) -> str:
        """In words."""
        sizes = f"N {self.points}, K {self.clusters}"
        return f"to {self.goal.key}, {sizes}"


# Chosen before any was run.
SCENARIOS = [
    _Pair(Scenario(0.5, 0, 1, 0.01)),
    _Pair(Scenario(0.3, 0.5, 1, 0.01)),
    _Pair(Scenario(0.4, 0, 1, 100)),
    _Pair(Scenario(0.2, 0.5, 1, 100)),
    _Pair(Scenario(0.1, 0, 1, 0.01)),
]
SIZES = [_Pair(_FIRST, clusters=6), _Pair(_FIRST, points=400)]


def _base(points: int, clusters: int) -> mj.Clustering:
    return mj.Clustering(four_square(points)[0], clusters)


@functools.cache
def _learnt(cycles: int, seed: int) -> Any:
    """What is learnt in the first scenario, once for all rows of a run."""
    return learn.interact(
        _base(SQUARE_POINTS, SQUARE_CLUSTERS), learn.Simulated(_FIRST.autonomy),
        learn.Training(cycles=cycles), key=jax.random.key(seed + 1),
    ).raise_if_failed()  # fmt: skip


def _compute(setting: Setting, pair: _Pair) -> dict[str, Any]:
    if not networks_installed():
        raise NotMeasured("flax or optax is not installed")
    cycles = setting.pick(100, 200, 200)
    before = _learnt(cycles, setting.seed)
    # A quarter of the steps, and so of the draws; centres, which ask nothing, take as many.
    quarter: dict[str, Any] = {"cycles": cycles // 4, "prefit": 100, "centre_steps": 20}
    published = (pair.points, pair.clusters) == (SQUARE_POINTS, SQUARE_CLUSTERS)
    base = _base(pair.points, pair.clusters)
    cell = Cell("table1" if published else "transfer", base, pair.goal, setting.seed)
    cell.add("known", cell.known)
    cell.add("scratch", lambda: cell.aden(learn.Training(**quarter)))
    cell.add("transferred", lambda: cell.aden(learn.Training(**quarter, init=before)))
    return cell.values()


def _tasks(setting: Setting) -> list[Task]:
    pairs = [*SCENARIOS, *SIZES]
    return [Task(pair.key, lambda pair=pair: _compute(setting, pair)) for pair in pairs]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    pairs = [rows[pair.key] for pair in SCENARIOS if pair.key in rows]
    if not pairs:
        return []
    halved = sum(row["transferred"] <= row["scratch"] / 2 for row in pairs)
    return [
        Claim(
            "scenarios in which transfer leaves at most half the gap of a start from scratch",
            "4 of 5 (ours)", f"{halved} of {len(pairs)}", halved >= 0.8 * len(pairs),
        )
    ]  # fmt: skip


REPRODUCTION = Reproduction(
    "transfer",
    "ADEN from the parameters of another scenario, with a quarter of the draws",
    "autonomy-aware clustering, Algorithm 2; the experiment is ours",
    _tasks,
    {
        "transferred": "transferred, gap to the best (%)",
        "scratch": "from scratch, gap to the best (%)",
        "known": "autonomy known, gap to the best (%)",
        "transferred_interactions": "interactions of each",
        "transferred_seconds": "transferred, seconds",
        "best": "lowest cost known",
        "reference": "reference",
    },
    _claims,
    minutes={"small": 10, "medium": 20, "paper": 20},
)
