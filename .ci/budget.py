"""What the tests took, from pytest's own durations, and whether that is what they may take.

    python .ci/budget.py DEFAULT.xml SLOW.xml SECONDS

The reports are those of `pytest --junitxml`; SECONDS is what the whole of CI took so far. Prints
seconds by folder of tests and of the contract by row. The budgets hold for two quiet cores and an
empty compilation cache: the sum of the durations of all tests is divided by two. Its last lines say
which part is over, and by how much; it fails where the default tests are over theirs, or all of CI
far above.

No submission may fail because its machine is slow or does something else: where the CPU seconds of
the tests, at the speed of a fixed task that the same processes did beside them, are fewer than
their durations, all durations count by that share (see `tests/cpu_seconds.py`).
"""

import statistics
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

CORES = 2
# How many times its budget a part may take before it fails. All of CI also waits for downloads.
SLACK = {"the default run": 1.0, "all of CI": 1.25}
# Seconds of the fixed task on the quiet machine that the budgets were set for.
TASK = 0.030
# Clustering and paths, in seconds: the default run, and all of CI.
DEFAULT, WHOLE = 6 * 60, 20 * 60
# Each system that has moved in since: its default tests, its slow ones, all of CI.
MORE_DEFAULT, MORE_SLOW, MORE_WHOLE = 45, 2 * 60, 165
SYSTEMS = {
    "decision processes": "mepjax/mdp/model.py",
    "clustered control": "mepjax/mdp/factored.py",
    "parametric decision processes": "mepjax/problems/parametric_mdp*",
    "Markov chain aggregation": "mepjax/problems/markov_aggregation*",
    "sparse regression": "mepjax/problems/sparse_regression*",
    "scalable clustering": "mepjax/problems/scalable_clustering*",
    "learning": "mepjax/learn/__init__.py",
    "tracking": "mepjax/control/__init__.py",
    "networks": "mepjax/learn/networks/*",
}


def durations(report: Path) -> Counter:
    """Seconds by folder, and by row of the contract."""
    taken = Counter()
    for case in ElementTree.parse(report).iter("testcase"):
        parts = case.get("classname", "").split(".")
        place = "/".join(parts[: 3 if parts[:2] == ["tests", "unit"] else 2])
        if place == "tests/contracts" and "[" in case.get("name", ""):
            # The items of a row (its symmetries, odd input) stand behind a stroke.
            place += ": " + case.get("name", "").split("[")[1].rstrip("]").split("/")[0]
        taken[place] += float(case.get("time", 0))
    return taken


def quiet_share(report: Path) -> float:
    """The share of the durations that two quiet cores would have taken, at most 1."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    noted = [
        (item.get("name"), float(item.get("value", 0)))
        for case in cases
        for item in case.iter("property")
    ]
    tasks = [seconds for name, seconds in noted if name == "task_s"]
    durations = sum(float(case.get("time", 0)) for case in cases)
    if not tasks or not durations:
        return 1.0
    slow = max(1.0, statistics.median(tasks) / TASK)
    cpu = sum(seconds for name, seconds in noted if name == "cpu_s")
    share = min(1.0, cpu / slow / durations)
    print(
        f"A fixed task took {slow:.2f} times as long as on a quiet machine, tests {cpu:.0f} CPU "
        f"seconds in {durations:.0f} s: durations count by {share:.2f}"
    )
    return share


def show(title: str, taken: Counter, limit: float | None) -> float:
    """Prints where the seconds went; seconds on all cores."""
    busy = sum(taken.values())
    bound = "" if limit is None else f", at most {limit:.0f}"
    print(f"{title}: {busy:.0f} s of tests, {busy / CORES:.0f} s on {CORES} cores{bound}")
    for place, seconds in taken.most_common(25):
        print(f"  {seconds:7.1f}  {place}")
    return busy / CORES


def main(default: str, slow: str, elapsed: str) -> int:
    """Zero unless a budget is exceeded by more than its slack."""
    new = [name for name, path in SYSTEMS.items() if list(Path.cwd().glob(path))]
    print(f"Systems besides clustering and paths: {', '.join(new) or 'none'}")
    more = len(new)
    limits = {
        "the default run": DEFAULT + MORE_DEFAULT * more,
        "all of CI": WHOLE + MORE_WHOLE * more,
    }
    taken = {
        "the default run": show("Default run", durations(Path(default)), limits["the default run"]),
        "all of CI": float(elapsed),
    }
    show("Slow run", durations(Path(slow)), None)
    print(f"All of CI: {float(elapsed):.0f} s, at most {limits['all of CI']}")
    share = quiet_share(Path(default))
    over = {part: share * taken[part] - limits[part] for part in limits}
    over = {part: seconds for part, seconds in over.items() if seconds > 0}
    for part, seconds in over.items():
        print(
            f"Over budget: {part} by {seconds:.0f} s. "
            "The tests have to become cheaper, not the limit higher."
        )
    return int(any(share * taken[part] > SLACK[part] * limits[part] for part in over))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
