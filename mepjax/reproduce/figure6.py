"""Figure 6: sixteen kinds of autonomy on the square."""

from typing import Any

import numpy as np

from .gaps import Cell
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import Scenario, square

# The rows of panels; of the last the paper prints kappa = .9 only.
_KINDS = ((0, 1, 0.01), (0, 1, 100), (0.5, 1, 0.01), (0.5, 0.5, 0.01))
_KAPPAS = (0.1, 0.3, 0.7, 0.9)
_PANELS = [Scenario(kappa, *kind) for kind in _KINDS for kappa in _KAPPAS]


def _compute(setting: Setting, scenario: Scenario) -> dict[str, Any]:
    cell = Cell("figure6", square(), scenario, setting.seed)
    cell.add("ignored", cell.ignored)
    centres = np.asarray(cell.add("known", cell.known), np.float64)
    told = np.asarray(cell.truth.harden(centres).assignments)
    x = np.asarray(cell.base.x, np.float64)
    nearest = np.argmin(((x[:, None] - centres) ** 2).sum(axis=2), axis=1)
    # Centres that stand on points of which most are told another cluster.
    others = [
        cluster
        for cluster in range(len(centres))
        if np.any(nearest == cluster) and np.mean(told[nearest == cluster] != cluster) > 0.5
    ]
    return {
        "kappa": scenario.kappa,
        "elsewhere": len(others),
        "told_another": float(np.mean(told != nearest)),
        "centres": centres,
        **cell.values(),
    }


def _tasks(setting: Setting) -> list[Task]:
    return [Task(each.key, lambda each=each: _compute(setting, each)) for each in _PANELS]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    strong = [(key, row) for key, row in rows.items() if row["kappa"] == 0.9]
    weak = [row for row in rows.values() if row["kappa"] == 0.1]
    claims = []
    if strong:
        number = sum(row["elsewhere"] > 0 for _, row in strong)
        claims.append(
            Claim(
                "kappa .9: panels in which a centre stands on points told another cluster",
                "d1, d3, d4 of 4", f"{number} of {len(strong)}", number > 0,
            )
        )  # fmt: skip
    if weak:
        number = sum(row["elsewhere"] > 0 for row in weak)
        claims.append(
            Claim("the same at kappa .1", "none", f"{number} of {len(weak)}", number == 0)
        )
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    def panels(figure: Any) -> None:
        base = square()
        x = np.asarray(base.x)
        places = figure.subplots(4, 4, sharex=True, sharey=True).ravel()
        for axes, scenario in zip(places, _PANELS, strict=True):
            axes.set_title(scenario.key.replace("kappa ", "").replace(" zeta", ""), fontsize=6)
            axes.set_aspect("equal")
            if scenario.key not in rows:
                continue
            centres = np.asarray(rows[scenario.key]["centres"], x.dtype)
            told = np.asarray(
                Cell("figure6", base, scenario, setting.seed).truth.harden(centres).assignments
            )
            axes.scatter(*x.T, c=told, cmap="tab10", vmin=0, vmax=9, s=2, linewidths=0)
            axes.scatter(*centres.T, c=range(len(centres)), cmap="tab10", vmin=0, vmax=9, s=60,
                         marker="*", edgecolors="black", linewidths=0.6)  # fmt: skip

    return {"panels": panels}


REPRODUCTION = Reproduction(
    "figure6",
    "sixteen kinds of autonomy on the square",
    "autonomy-aware clustering, appendix I, Figure 6",
    _tasks,
    {
        "elsewhere": "centres on points told another cluster",
        "told_another": "share of points not told the nearest centre",
        "ignored": "ignored, gap (%)",
        "best": "lowest cost found",
    },
    _claims,
    _draw,
    minutes={"small": 8, "medium": 8, "paper": 8},
)
