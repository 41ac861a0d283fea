"""Timing, memory and the record of a run."""

import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax


def timed(call: Callable[[], Any], repeats: int = 20) -> dict[str, float]:
    """Best and median seconds of a call that is already compiled."""
    jax.block_until_ready(call())
    seconds = [clocked(call)[1] for _ in range(repeats)]
    return {"best_s": min(seconds), "median_s": statistics.median(seconds), "repeats": repeats}


def in_turns(
    calls: dict[str, Callable[[], Any]], repeats: int
) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Answers of calls that take turns after one call of each; their seconds, best and median.

    `cpu_s` is the median of the CPU seconds of all threads.
    """
    found = {name: jax.block_until_ready(call()) for name, call in calls.items()}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            before = time.process_time()
            _, seconds = clocked(call)
            taken[name].append((seconds, time.process_time() - before))
    told = {}
    for name, pairs in taken.items():
        seconds, busy = zip(*pairs, strict=True)
        told[name] = {
            "best_s": min(seconds), "median_s": statistics.median(seconds),
            "cpu_s": statistics.median(busy),
        }  # fmt: skip
    return found, told


def first_call(call: Callable[[], Any]) -> float:
    """Seconds of a call that has to trace and compile first."""
    return clocked(call)[1]


def clocked(call: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """What a call returns, and its seconds, without garbage collection, as in `timeit`."""
    collects = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter()
        result = jax.block_until_ready(call(*args))
        return result, time.perf_counter() - start
    finally:
        if collects:
            gc.enable()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def temporary_bytes(function: Callable[..., Any], *args: Any) -> int:
    """Memory of the compiled program beside its inputs and outputs."""
    analysis = jax.jit(function).lower(*args).compile().memory_analysis()
    return int(analysis.temp_size_in_bytes)  # type: ignore


def peak_megabytes() -> float:
    """Largest resident memory of this process so far; NaN where the system does not tell."""
    try:
        import resource
    except ImportError:
        return float("nan")
    # In bytes on macOS, in units of 1024 elsewhere.
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def environment() -> dict[str, Any]:
    """Versions and machine, without anything that names it."""
    import jaxlib
    import numpy

    import mepjax

    return {
        "mepjax": mepjax.__version__,
        "jax": jax.__version__,
        "jaxlib": jaxlib.__version__,  # type: ignore
        "numpy": numpy.__version__,
        "python": platform.python_version(),
        "cores": cores(),
        "device": jax.devices()[0].device_kind,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def save(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write the rows of a benchmark, whole, into benchmarks/results/."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1))
    partial.replace(path)
    return path


def kept(name: str, parts: list[str]) -> list[dict[str, Any]]:
    """Rows of a benchmark's other parts, where only some are run again."""
    path = Path(__file__).parent / "results" / f"{name}.json"
    if not parts or not path.exists():
        return []
    rows = json.loads(path.read_text())["rows"]
    return [row for row in rows if row.get("part") not in parts]


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as an aligned text table."""
    names = list(dict.fromkeys(name for row in rows for name in row))

    def show(value: Any) -> str:
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    cells = [names] + [[show(row.get(name, "")) for name in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(lines)
