"""Figure 2: traffic sensors of London and the places of 25 collectors."""

from typing import Any

import numpy as np

from .gaps import Cell
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import LONDON, Scenario, london


def _compute(setting: Setting, scenario: Scenario) -> dict[str, Any]:
    cell = Cell("table3", london(setting), scenario, setting.seed)
    cell.add("frozen", cell.frozen)
    centres = np.asarray(cell.add("known", cell.known), np.float64)
    x = np.asarray(cell.base.x, np.float64)
    away = np.linalg.norm(centres - x.mean(axis=0), axis=1)
    return {"distance": float(away.mean()), "centres": centres, **cell.values()}


def _tasks(setting: Setting) -> list[Task]:
    return [Task(each.key, lambda each=each: _compute(setting, each)) for each in LONDON]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    for heat in {scenario.temperature: None for scenario in LONDON}:
        pair = [s.key for s in LONDON if s.temperature == heat]
        if all(key in rows for key in pair):
            low, high = (rows[key]["distance"] for key in pair)
            claims.append(
                Claim(
                    f"at T = {heat:g} a larger kappa draws centres towards the centroid",
                    "nearer", f"{low:.3f} to {high:.3f}", high < low,
                )
            )  # fmt: skip
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    def maps(figure: Any) -> None:
        base = london(setting)
        x = np.asarray(base.x)
        panels = np.atleast_1d(figure.subplots(2, 2, sharex=True, sharey=True).ravel())
        for axes, scenario in zip(panels, LONDON, strict=True):
            axes.set_title(scenario.key, fontsize=8)
            axes.set_aspect("equal")
            if scenario.key not in rows:
                continue
            cell = Cell("table3", base, scenario, setting.seed)
            centres = np.asarray(rows[scenario.key]["centres"], x.dtype)
            told = np.asarray(cell.truth.harden(centres).assignments)
            axes.scatter(*x.T, c=told, cmap="tab20", s=2, linewidths=0)
            axes.scatter(*centres.T, c=range(len(centres)), cmap="tab20", s=70, marker="*",
                         edgecolors="black", linewidths=0.6)  # fmt: skip

    return {"maps": maps} if rows else {}


REPRODUCTION = Reproduction(
    "figure2",
    "sensors of London that may report to another collector, K = 25",
    "autonomy-aware clustering, Figure 2",
    _tasks,
    {
        "distance": "mean distance of centres to the centroid",
        "known": "autonomy known, gap to the best (%)",
        "frozen": "frozen, gap to the best (%)",
        "best": "lowest cost known",
        "reference": "reference",
    },
    _claims,
    _draw,
    minutes={"small": 10, "medium": 10, "paper": 10},
)
