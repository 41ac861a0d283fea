"""Tables 4 and 5: users of MovieLens, 10 clusters that users may not keep to."""

from typing import Any

import numpy as np

from .. import learn
from .gaps import COLUMNS, Cell
from .numbers import TABLE_4, TABLE_5
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import Scenario, movielens

# Settings of a network for 10 clusters, fixed before the table was run; with fewer cycles centres
# take more steps in each, to come as far.
_SMALL: dict[str, Any] = {"cycles": 40, "centre_steps": 15}
_WARM: dict[str, Any] = {"cycles": 150}
_COLD: dict[str, Any] = {
    "options": {"blocks": 2, "centre_blocks": 2}, "cycles": 600, "draws": 16
}  # fmt: skip


def _training(setting: Setting, scenario: Scenario) -> Any:
    if setting.scale == "small":
        return learn.Training(**_SMALL)
    return learn.Training(**(_WARM if scenario.temperature >= 1 else _COLD))


def _compute(setting: Setting, scenario: Scenario) -> dict[str, Any]:
    cell = Cell("table4", movielens(setting), scenario, setting.seed)
    row = cell.row(lambda: _training(setting, scenario), setting)
    return {"temperature": scenario.temperature, **row}


def _tasks(setting: Setting) -> list[Task]:
    tasks = []
    for *numbers, aden, ignored in TABLE_4:
        each = Scenario(*numbers)
        printed = {"aden_frozen": aden, "ignored_frozen": ignored}
        tasks.append(Task(each.key, lambda each=each: _compute(setting, each), printed))
    return tasks


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    """Means of rows and of groups, which the paper mixes, and the groups of Table 5."""
    claims = []
    for place, name in enumerate(("aden", "ignored")):
        key = f"{name}_frozen"
        measured = [row for row in rows.values() if row.get(key) is not None]
        if not measured:
            continue
        printed = np.mean([row[4 + place] for row in TABLE_4])
        mean = np.mean([row[key] for row in measured])
        claims.append(
            Claim(
                f"{name}: mean of {len(measured)} rows, gap to frozen in per cent",
                f"{printed:.2f} of 40 rows", f"{mean:.2f}",
            )
        )  # fmt: skip
        means = []
        for (kappas, heat), pair in TABLE_5.items():
            group = [r for r in measured if r["kappa"] in kappas and r["temperature"] == heat]
            if not group:
                continue
            means.append(np.mean([row[key] for row in group]))
            words = ", ".join(f"{kappa:g}" for kappa in kappas)
            claims.append(
                Claim(
                    f"Table 5, {name}: kappa {words}, T {heat:g}, mean of {len(group)} rows",
                    f"{pair[place]:g}", f"{means[-1]:.2f}",
                )
            )  # fmt: skip
        if len(means) == len(TABLE_5):
            said = np.mean([pair[place] for pair in TABLE_5.values()])
            claims.append(
                Claim(
                    f"{name}: mean of the means of the groups, which the text quotes",
                    f"{said:.2f}", f"{np.mean(means):.2f}",
                )
            )  # fmt: skip
    return claims


REPRODUCTION = Reproduction(
    "table4",
    "users of MovieLens, K = 10: gaps of learning and of ignoring autonomy, and their groups",
    "autonomy-aware clustering, Tables 4 and 5",
    _tasks,
    COLUMNS,
    _claims,
    minutes={"small": 75, "medium": 150, "paper": None},
)
