"""Table 3: traffic sensors of London, 25 collectors to which sensors may not keep."""

import functools
from collections.abc import Sequence
from typing import Any

from .. import learn
from .gaps import COLUMNS, Cell
from .numbers import TABLE_3
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import LONDON, LONDON_CLUSTERS, Scenario, london

# On request; the paper prints nothing for them.
_MANY = 50
# Settings of a network for 25 clusters, fixed before the table was run.
_SMALL = {"options": {"blocks": 1, "centre_blocks": 2}, "perturbation": (0.3, 1.0), "cycles": 100}
_MEDIUM = {
    "options": {"blocks": 2, "centre_blocks": 2}, "perturbation": (0.3, 1.0), "cycles": 400,
    "draws": 16,
}  # fmt: skip


def _name(k: int) -> str:
    return "table3" if k == LONDON_CLUSTERS else f"table3_k{k}"


def _compute(setting: Setting, scenario: Scenario, k: int) -> dict[str, Any]:
    options: dict[str, Any] = setting.pick(_SMALL, _MEDIUM, _MEDIUM)
    cell = Cell(_name(k), london(setting, k), scenario, setting.seed)
    return cell.row(lambda: learn.Training(**options), setting)


def _printed(scenario: Scenario, k: int) -> dict[str, Any]:
    if k != LONDON_CLUSTERS:
        return {}
    return {"aden_frozen": TABLE_3[scenario.kappa, scenario.temperature]}


def _tasks(setting: Setting, k: int) -> Sequence[Task]:
    return [
        Task(each.key, lambda each=each: _compute(setting, each, k), _printed(each, k))
        for each in LONDON
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


def _reproduction(k: int, minutes: dict[str, float | None]) -> Reproduction:
    return Reproduction(
        _name(k),
        f"sensors of London, K = {k}: gaps of learning and of ignoring autonomy",
        "autonomy-aware clustering, Table 3",
        functools.partial(_tasks, k=k),
        COLUMNS,
        _claims,
        minutes=minutes,
    )


REPRODUCTION = _reproduction(LONDON_CLUSTERS, {"small": 20, "medium": 120, "paper": None})
FIFTY = _reproduction(_MANY, {"small": 45, "medium": 240, "paper": None})
