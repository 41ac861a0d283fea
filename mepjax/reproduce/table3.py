"""Table 3: traffic sensors of London, 25 collectors to which sensors may not keep."""

from typing import Any

from .. import learn
from .gaps import COLUMNS, Cell
from .numbers import TABLE_3
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import LONDON, Scenario, london

# Settings of a network for 25 clusters, fixed before the table was run.
_SMALL = {"options": {"blocks": 1, "centre_blocks": 2}, "perturbation": (0.3, 1.0), "cycles": 100}
_MEDIUM = {
    "options": {"blocks": 2, "centre_blocks": 2}, "perturbation": (0.3, 1.0), "cycles": 400,
    "draws": 16,
}  # fmt: skip


def _compute(setting: Setting, scenario: Scenario) -> dict[str, Any]:
    options: dict[str, Any] = setting.pick(_SMALL, _MEDIUM, _MEDIUM)
    cell = Cell("table3", london(setting), scenario, setting.seed)
    return cell.row(lambda: learn.Training(**options), setting)


def _printed(scenario: Scenario) -> dict[str, Any]:
    return {"aden_frozen": TABLE_3[scenario.kappa, scenario.temperature]}


def _tasks(setting: Setting) -> list[Task]:
    return [
        Task(each.key, lambda each=each: _compute(setting, each), _printed(each)) for each in LONDON
    ]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    learnt = [row for row in rows.values() if row.get("aden") is not None]
    if not learnt:
        return []
    below = sum(row["aden"] < row["ignored"] for row in learnt)
    frozen = max(row["frozen"] for row in learnt)
    worst = max(row["aden"] for row in learnt)
    return [
        Claim("rows in which ADEN is below ignoring autonomy", "-",
              f"{below} of {len(learnt)}", below == len(learnt)),
        Claim("largest gap of ADEN to the best known, in per cent", "24.82 against frozen",
              f"{worst:.3g}"),
        Claim("largest gap of frozen, the reference of the paper, to the best known", "0 by "
              "definition", f"{frozen:.3g}"),
    ]  # fmt: skip


REPRODUCTION = Reproduction(
    "table3",
    "sensors of London, K = 25: gaps of learning and of ignoring autonomy",
    "autonomy-aware clustering, Table 3",
    _tasks,
    COLUMNS,
    _claims,
    minutes={"small": 20, "medium": 120, "paper": None},
)
