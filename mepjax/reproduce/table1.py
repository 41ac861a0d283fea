"""Table 1: what not knowing, and what ignoring autonomy costs, on the square."""

from typing import Any

import numpy as np

from .. import learn
from .gaps import COLUMNS, Cell
from .numbers import TABLE_1
from .reproduction import Claim, Reproduction, Setting, Task
from .scenarios import SQUARE, Scenario, square

_LEARNERS = ("structured", "counts", "choice")


def _compute(setting: Setting, scenario: Scenario) -> dict[str, Any]:
    def training() -> Any:
        # The paper's own training takes a GPU.
        return setting.pick(learn.Training.small, learn.Training.medium, learn.Training.medium)()

    cell = Cell("table1", square(), scenario, setting.seed)
    return cell.row(training, setting, always_choice=True)


def _printed(scenario: Scenario) -> dict[str, Any]:
    numbers = TABLE_1.get((scenario.kappa, scenario.gamma, scenario.temperature), (None, None))
    return dict(zip(("aden_frozen", "ignored_frozen"), numbers, strict=True))


def _tasks(setting: Setting) -> list[Task]:
    return [
        Task(each.key, lambda each=each: _compute(setting, each), _printed(each)) for each in SQUARE
    ]


def _claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    claims = []
    printed = {"aden": (3.42, 3.12), "ignored": (36.26, 30.84)}
    for name in ("aden", "ignored", *_LEARNERS, "frozen"):
        gaps = np.array([row[name] for row in rows.values() if row.get(name) is not None])
        if not len(gaps):
            continue
        before, low, high = printed.get(name), np.min(gaps), np.max(gaps)
        claims.append(
            Claim(
                f"{name}: mean, median and range of the gap in per cent, {len(gaps)} rows",
                "-" if before is None else f"{before[0]}, {before[1]} against frozen, 18 rows",
                f"{np.mean(gaps):.3g}, {np.median(gaps):.3g}, {low:.2g} to {high:.3g}",
            )
        )
        kappa = [row["kappa"] for row in rows.values() if row.get(name) is not None]
        if name in printed and len(set(kappa)) > 2:
            apart = gaps - np.mean(gaps)
            size = np.std(kappa) * np.std(gaps)
            worse = (
                float(np.mean((np.array(kappa) - np.mean(kappa)) * apart) / size)
                if size > 0
                else 0.0
            )
            rises = name == "ignored"
            claims.append(
                Claim(
                    f"{name}: correlation of the gap with kappa",
                    "worsens" if rises else "independent",
                    f"{worse:.2f}",
                    worse > 0.5 if rises else abs(worse) < 0.5,
                )
            )
    return claims


def _draw(rows: dict[str, Any], setting: Setting) -> dict[str, Any]:
    del setting

    def bars(figure: Any) -> None:
        axes = figure.add_subplot()
        names = [n for n in ("ignored", "aden", *_LEARNERS) if any(n in r for r in rows.values())]
        places = np.arange(len(rows))
        for number, name in enumerate(names):
            gaps = [row.get(name) or 0 for row in rows.values()]
            offset = (number - (len(names) - 1) / 2) * 0.8 / len(names)
            axes.bar(places + offset, gaps, 0.8 / len(names), label=name)
        axes.set_xticks(places, list(rows), rotation=90, fontsize=7)
        axes.set_yscale("symlog", linthresh=1)
        axes.set_ylabel("gap to the best known (%)")
        axes.legend()

    return {"gaps": bars}


REPRODUCTION = Reproduction(
    "table1",
    "gaps of learning and of ignoring autonomy that depends on the centres",
    "autonomy-aware clustering, Table 1",
    _tasks,
    COLUMNS,
    _claims,
    _draw,
    minutes={"small": 30, "medium": 120, "paper": None},
)
