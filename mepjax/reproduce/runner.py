"""Rows that are computed one after another, kept on disk as they finish, and never twice."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from . import report
from .reproduction import NotMeasured, Reproduction, Setting, Task

ROWS = "rows.jsonl"


def run(
    reproduction: Reproduction,
    folder: Path,
    setting: Setting,
    *,
    tell: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Compute the rows that `folder` lacks, then write the report.

    Each finished row is appended to `folder/rows.jsonl` as one line, whole: after an interruption
    the same call goes on where it stopped. Rows of another scale or seed stay in the file and out
    of the report.

    **Arguments:** `tell`: called with a line for each row.

    **Returns:** the report, as `report.json` has it.

    **Raises:** `OSError` where the folder cannot be written. What a row raises, but `NotMeasured`,
    passes; finished rows are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tasks = list(reproduction.tasks(setting))
    keys = [task.key for task in tasks]
    if len(set(keys)) < len(keys):
        raise ValueError(f"{reproduction.name}: keys of rows must differ; got {keys}.")
    with _Rows(folder / ROWS) as stored:
        rows = stored.of(reproduction.name, setting)
        missing: dict[str, str] = {}
        for place, task in enumerate(tasks, 1):
            head = f"{reproduction.name}, row {place} of {len(tasks)}, {task.key}"
            if task.key in rows:
                tell(f"{head}: done before")
                continue
            try:
                row = _compute(reproduction, task, setting)
            except NotMeasured as reason:
                missing[task.key] = str(reason)
                tell(f"{head}: not measured, {reason}")
                continue
            stored.append(row)
            # As it will be read: JSON has no tuples.
            rows[task.key] = json.loads(json.dumps(row))
            tell(f"{head}: {row['seconds']:.1f} s")
    return report.write(folder, reproduction, setting, tasks, rows, missing)


def _compute(reproduction: Reproduction, task: Task, setting: Setting) -> dict[str, Any]:
    began = time.perf_counter()
    values = _plain(task.compute())
    return {
        "name": reproduction.name,
        "scale": setting.scale,
        "seed": setting.seed,
        "key": task.key,
        "seconds": round(time.perf_counter() - began, 3),
        "values": values,
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "device": jax.devices()[0].platform,
    }


def _plain(value: Any) -> Any:
    """Values as JSON has them; numbers that are not finite become `None`."""
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, jax.Array | np.ndarray | np.generic):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


class _Rows:
    """A file of rows, one a line, that one process at a time may append to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> "_Rows":
        self.file = open(self.path, "a+b")  # noqa: SIM115 (closed on exit)
        _lock(self.file)
        self.file.seek(0)
        content = self.file.read()
        # A process that was killed may have left half a line.
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self.file.truncate(whole)
        self.rows = [json.loads(line) for line in content[:whole].splitlines() if line.strip()]
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def of(self, name: str, setting: Setting) -> dict[str, dict[str, Any]]:
        """The rows of a reproduction at a scale and seed, by key."""
        wanted = (name, setting.scale, setting.seed)
        return {
            row["key"]: row
            for row in self.rows
            if (row["name"], row["scale"], row["seed"]) == wanted
        }

    def append(self, row: dict[str, Any]) -> None:
        """One line, on disk when this returns."""
        self.file.seek(0, os.SEEK_END)
        self.file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _lock(file: Any) -> None:
    """Raise `OSError` if another process appends to the file; without locks there, do nothing."""
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"another process is at work in {Path(file.name).parent}") from None
