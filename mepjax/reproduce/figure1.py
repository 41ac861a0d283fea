"""Figure 1: autonomy draws the centres towards the centroid of the data."""

from typing import Any

import jax
import numpy as np

import mepjax as mj

from ..datasets import four_square
from .numbers import FIGURE_1_OVERRIDES
from .reproduction import Claim, Reproduction, Setting, Task

_K = 4


def _problem(setting: Setting, override: float) -> mj.Clustering:
    x, _ = four_square(setting.pick(200, 1800, 1800), seed=setting.seed)
    kappa = (_K - 1) * override
    return mj.Clustering(x, _K, autonomy=mj.autonomy.Uniform(kappa) if kappa else None)


def _compute(setting: Setting, override: float) -> dict[str, Any]:
    problem = _problem(setting, override)
    solution = mj.anneal(problem, key=jax.random.key(setting.seed), adjoint=mj.NoGrad())
    solution.raise_if_failed()
    centres = np.asarray(problem.centres(solution.params), np.float64)
    x = np.asarray(problem.x, np.float64)
    middle = np.mean(x, axis=0)
    told = np.asarray(problem.harden(solution.params).assignments)
    used = np.unique(told)
    own = np.array([np.mean(x[told == cluster], axis=0) for cluster in used])
    # How far centres are from the centroid of all, over how far those of their own points are.
    # With centres all in one place whom points are told to join says nothing.
    reach = np.mean(np.linalg.norm(own - middle, axis=1)) if len(used) > 1 else np.inf
    return {
        "shrink": float(np.mean(np.linalg.norm(centres[used] - middle, axis=1)) / reach),
        "expected": max(0.0, 1 - override * _K),
        "centres": centres,
        "code": mj.Code(int(solution.code)).name,
    }


def _tasks(setting: Setting) -> list[Task]:
    return [
        Task(
            f"panel {panel}, p(k|j) = {override:g}",
            lambda override=override: _compute(setting, override),
        )
        for panel, override in FIGURE_1_OVERRIDES.items()
    ]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    texts = {
        "b": "without autonomy centres are at the centroids of their points (ratio 1)",
        "c": "at p(k|j) = 1/4 all centres are at the centroid of the data (ratio 0)",
        "d": "at p(k|j) = .083 centres are shifted towards it (ratio 1 - 4 x .083)",
    }
    return [
        Claim(
            texts[key.partition(",")[0].removeprefix("panel ")], f"{row['expected']:.3g}",
            f"{row['shrink']:.3g}", abs(row["shrink"] - row["expected"]) < 0.02,
        )
        for key, row in rows.items()
    ]  # fmt: skip


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    def panels(figure: Any) -> None:
        axes = figure.subplots(2, 2, sharex=True, sharey=True).ravel()
        x = np.asarray(_problem(setting, 0.0).x)
        titles = ["(a) the data", *(f"({key.removeprefix('panel ')})" for key in rows)]
        for place, title in zip(axes, titles, strict=True):
            place.scatter(*x.T, s=4, color="0.6", linewidths=0)
            place.set_title(title, fontsize=10)
            place.set_aspect("equal")
        for place, row in zip(axes[1:], rows.values(), strict=True):
            place.scatter(*np.array(row["centres"]).T, s=90, marker="*", color="C3", zorder=2)

    return {"panels": panels}


REPRODUCTION = Reproduction(
    "figure1",
    "autonomy draws centres towards the centroid of the data",
    "autonomy-aware clustering, Figure 1",
    _tasks,
    {"shrink": "distance to the centroid, over that of own points", "expected": "closed form"},
    _claims,
    _draw,
    minutes={"small": 1, "medium": 1, "paper": 1},
)
