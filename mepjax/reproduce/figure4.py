"""Figure 4: how far the centres move as beta rises, and how many are distinct in between."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ..datasets import nested_groups
from ..plot.style import leaders
from .numbers import FIGURE_4_CLUSTERS, FIGURE_4_DISTINCT, FIGURE_4_KAPPA, FIGURE_4_POINTS
from .reproduction import Claim, Reproduction, Setting, Task

_KEY = "anneal"
# The paper's betas, of data whose size it does not print; ours span four groups 20 apart.
_BETAS = (1e-3, 1e3)
# What lasts while beta grows by so much is a plateau; centres move if by more than this share.
_PLATEAU, _STILL = 1.5, 0.05


def _problem(setting: Setting) -> mj.Clustering:
    x, _ = nested_groups(FIGURE_4_POINTS, seed=setting.seed)
    return mj.Clustering(x, FIGURE_4_CLUSTERS, autonomy=mj.autonomy.Uniform(FIGURE_4_KAPPA))


def _solve(problem: mj.Clustering, setting: Setting) -> mj.Solution:
    schedule = mj.Geometric(*_BETAS, setting.pick(1.05, 1.03, 1.02))
    # Groups split at their own transitions, all of one kind within a few stages.
    return mj.anneal(
        problem, schedule, key=jax.random.key(setting.seed), detector=mj.Growth(),
        record=mj.Record(params=True), adjoint=mj.NoGrad(),
    )  # fmt: skip


def _compute(setting: Setting) -> dict[str, Any]:
    problem = _problem(setting)
    solution = _solve(problem, setting)
    solution.raise_if_failed()
    stages = int(solution.n_stages)
    centres = np.asarray(problem.centres(solution.trace.params), np.float64)[:stages]
    extent = float(np.linalg.norm(np.ptp(np.asarray(problem.x), axis=0)))
    betas = np.asarray(solution.trace.beta, np.float64)[:stages]
    distinct = [len(np.unique(leaders(each, extent))) for each in centres]
    transitions = np.asarray(solution.transitions, np.float64)
    return {
        "beta": betas,
        "displacement": np.asarray(solution.trace.displacement)[:stages],
        "distinct": distinct,
        "plateaus": _plateaus(betas, distinct),
        "transitions": transitions[np.isfinite(transitions)],
        "code": mj.Code(int(solution.code)).name,
    }


def _plateaus(betas: np.ndarray, distinct: list[int]) -> list[int]:
    """The numbers of distinct centres that last, in order."""
    ends = [*(np.flatnonzero(np.diff(distinct)) + 1).tolist(), len(distinct)]
    starts = [0, *ends[:-1]]
    return [
        distinct[start]
        for start, end in zip(starts, ends, strict=True)
        if betas[end - 1] >= _PLATEAU * betas[start]
    ]


def _tasks(setting: Setting) -> list[Task]:
    return [Task(_KEY, lambda: _compute(setting), {"plateaus": FIGURE_4_DISTINCT})]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    moved, plateaus = np.array(rows[_KEY]["displacement"]), rows[_KEY]["plateaus"]
    moving = float(np.mean(moved > _STILL * np.max(moved)))
    return [
        Claim(
            "distinct centres between the transitions",
            ", ".join(map(str, FIGURE_4_DISTINCT)), ", ".join(map(str, plateaus)),
            plateaus == FIGURE_4_DISTINCT,
        ),
        Claim(
            f"share of stages at which the centres move by more than {_STILL:.0%} of the most",
            "largely zero change", f"{moving:.0%}", moving < 0.25,
        ),
    ]  # fmt: skip


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    row = rows[_KEY]

    def data(figure: Any) -> None:
        axes = figure.add_subplot()
        axes.scatter(*np.asarray(_problem(setting).x).T, s=4, color="0.35", linewidths=0)
        axes.set_aspect("equal")
        axes.set_title("(a) the data")

    def course(figure: Any) -> None:
        moved, count = figure.subplots(2, sharex=True)
        moved.plot(row["beta"], row["displacement"], marker="o", markersize=2.5)
        moved.set_ylabel("displacement |ΔY|")
        moved.set_title("(b) change of the centres, and transitions (dotted)")
        count.step(row["beta"], row["distinct"], where="post")
        count.set_yscale("log", base=2)
        count.set_yticks(FIGURE_4_DISTINCT, [str(number) for number in FIGURE_4_DISTINCT])
        count.set_ylabel("distinct centres")
        count.set_xscale("log")
        count.set_xlabel("β")
        for axes in (moved, count):
            for beta in row["transitions"]:
                axes.axvline(beta, color="black", linestyle=":", linewidth=1)

    return {"data": data, "transitions": course}


def _extras(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """The film, which has to solve again: rows do not keep all centres."""
    del rows

    def film(path: Path) -> None:
        from ..plot import animate

        problem = _problem(setting)
        animate(problem, _solve(problem, setting), path, frames=setting.pick(40, 80, 120))

    return {"anneal.gif": film}


REPRODUCTION = Reproduction(
    "figure4",
    "the centres move at phase transitions only",
    "autonomy-aware clustering, appendix E, Figure 4",
    _tasks,
    {"plateaus": "distinct centres", "transitions": "critical betas", "code": "code"},
    _claims,
    _draw,
    _extras,
    {"small": 1, "medium": 3, "paper": 6},
)
