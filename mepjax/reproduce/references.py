"""The lowest costs known, one number a row, with the command that found them.

`python -m mepjax.reproduce.references NAME [STARTS]` solves every row of a table with the autonomy
known, from many starts, and keeps what is lower than before.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax

import mepjax as mj

from .scenarios import LONDON, SQUARE, Scenario, aware, london, movielens, square

_FILE = Path(__file__).with_name("references.json")
# Growth of beta in an anneal with the autonomy known.
FACTOR = 1.3


def schedule_of(base: mj.Clustering) -> mj.Geometric:
    """From half the first transition to 10^4 times it."""
    scale = float(base.beta_scale())
    return mj.Geometric(0.5 * scale, 1e4 * scale, FACTOR)


def reference(name: str, scenario: Scenario) -> float | None:
    """The lowest hard cost known; `None` where none was computed."""
    found = json.loads(_FILE.read_text("utf-8")).get(name, {})
    return found.get("costs", {}).get(scenario.key)


def compute(
    name: str,
    base: mj.Clustering,
    scenarios: list[Scenario],
    starts: int,
    tell: Callable[[str], None],
) -> None:
    """Solve every scenario from `starts` starts, and keep what is lower."""
    schedule = schedule_of(base)
    for scenario in scenarios:
        solved = mj.solve(
            aware(base, scenario), schedule, key=jax.random.key(0), starts=starts,
            adjoint=mj.NoGrad(),
        )  # fmt: skip
        solved.solution.raise_if_failed()
        cost = float(aware(base, scenario).harden(solved.solution.params).cost)
        known = json.loads(_FILE.read_text("utf-8"))
        table = known.setdefault(name, {"costs": {}})
        command = f"python -m mepjax.reproduce.references {name} {starts}"
        before = table["costs"].get(scenario.key)
        if before is None or cost < before:
            table["command"] = command
            table["costs"][scenario.key] = float(f"{cost:.7g}")
            part = _FILE.with_suffix(".part")
            part.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
            os.replace(part, _FILE)
        tell(f"{name}, {scenario.key}: {cost:.7g}, before {before}")


def main(arguments: list[str]) -> None:
    """The command line."""
    from .numbers import TABLE_4
    from .reproduction import Setting

    name, starts = arguments[0], int(arguments[1]) if len(arguments) > 1 else 8
    folder = os.environ.get("MEPJAX_DATA_DIR")
    setting = Setting(data=Path(folder) if folder else None)
    tables = {
        "table1": lambda: (square(), SQUARE),
        "table3": lambda: (london(setting), LONDON),
        "table4": lambda: (movielens(setting), [Scenario(*row[:4]) for row in TABLE_4]),
    }
    compute(name, *tables[name](), starts, lambda text: print(text, flush=True))


if __name__ == "__main__":
    main(sys.argv[1:])
