"""Several processes against several devices of one, and an anneal that is killed again and again.

`times`: a pass over all points (F and its slope at 64 centres) and an anneal, by two processes of
one device each, started by `mepjax.exec.launch`, and by one process of two host devices; in turns,
the best of each. Results are compared with each other.

`kills`: `mepjax cluster --from-disk --checkpoint-every 1`, killed with -9 at moments drawn at
random over the length of a whole run, and resumed, until it has been killed 50 times; every answer
that comes of it is compared with that of the run never stopped. `processes:kills` runs it alone.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .measure import clocked

_N, _D, _K, _ANNEALED = 1_000_000, 8, 64, 8
_ROUNDS, _PASSES, _KILLS = 3, 15, 50
_FLAG = "--xla_force_host_platform_device_count=2"
_FILES = ("centres.csv", "assignments.csv")


def _written(file: Path, n: int, d: int, k: int) -> None:
    rng = np.random.default_rng(0)
    places = 10 * rng.normal(size=(k, d))
    x = places[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    np.save(file, x.astype(np.float32))


def times() -> Iterator[dict[str, Any]]:
    """One row: both ways, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _written(folder / "points.npy", _N, _D, _K)
        found: dict[str, list[dict[str, Any]]] = {"processes": [], "devices": []}
        for _ in range(_ROUNDS):
            for way, runs in found.items():
                _together(way, folder)
                runs.append(json.loads((folder / "found.json").read_text()))
    best = {
        (way, what): min(run[what] for run in runs)
        for way, runs in found.items()
        for what in ("pass s", "anneal s")
    }
    one, other = (found[way][0] for way in ("processes", "devices"))
    centres = [np.asarray(run["centres"]) for run in (one, other)]
    yield {
        "points": _N,
        "processes pass s": best["processes", "pass s"],
        "devices pass s": best["devices", "pass s"],
        "pass ratio": best["processes", "pass s"] / best["devices", "pass s"],
        "processes anneal s": best["processes", "anneal s"],
        "devices anneal s": best["devices", "anneal s"],
        "anneal ratio": best["processes", "anneal s"] / best["devices", "anneal s"],
        "F relative": abs(one["F"] / other["F"] - 1),
        "centres relative": float(np.ptp(centres, axis=0).max() / np.abs(centres).max()),
        "hard cost relative": abs(one["hard cost"] / other["hard cost"] - 1),
    }


def _together(way: str, folder: Path) -> None:
    arguments = ["-m", "benchmarks.processes", str(folder)]
    if way == "processes":
        mj.exec.launch(arguments, processes=2)
    else:
        flags = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}"}
        subprocess.run([sys.executable, *arguments], env=os.environ | flags, check=True)


def _work(folder: Path) -> None:
    """What every process does; the first writes what was found."""
    number = mj.exec.join(heartbeat=100, wait=300)
    executor = mj.Sharded()
    assert jax.device_count() == 2
    x, weights = executor.load(mj.exec.Rows(folder / "points.npy"))
    problem = mj.Clustering(x, _K, weights=weights).on(executor)
    places = np.load(folder / "points.npy", mmap_mode="r")[:_K].copy()
    passed = jax.jit(lambda p, y: jax.value_and_grad(p.free_energy)(y, 0.1))
    value = float(passed(problem, places)[0])
    seconds = [clocked(passed, problem, places)[1] for _ in range(_PASSES)]

    problem = mj.Clustering(x, _ANNEALED, weights=weights).on(executor)
    schedule = mj.Geometric(0.002, 0.2, 1.5)
    solve = lambda: mj.anneal(problem, schedule, key=jax.random.key(0), adjoint=mj.NoGrad())  # noqa: E731
    solution = solve().raise_if_failed()
    annealing = [clocked(solve)[1] for _ in range(2)]
    cost = jax.jit(lambda problem, params: problem.harden(params).cost)(problem, solution.params)
    if number == 0:
        found = {
            "pass s": min(seconds),
            "anneal s": min(annealing),
            "F": value,
            "centres": np.asarray(solution.params, np.float64).tolist(),
            "hard cost": float(cost),
        }
        (folder / "found.json").write_text(json.dumps(found))


def kills() -> Iterator[dict[str, Any]]:
    """One row: how often killed, where that was, and how many answers had other bits."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _written(folder / "points.npy", 20_000, 4, 12)
        environment = os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder / "programs"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        command = [
            *(sys.executable, "-c", "from mepjax.cli import main; main()", "cluster"),
            *(str(folder / "points.npy"), "-k", "12", "--from-disk", "--sample", "0"),
            *("--restarts", "1", "--factor", "1.1", "--no-cache", "--checkpoint-every", "1"),
        ]

        def started(out: Path, *more: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, "--out", str(out), *more],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )

        def answer(out: Path) -> list[Any]:
            cost = json.loads((out / "report.json").read_text())["hard_cost"]
            return [cost, *((out / file).read_bytes() for file in _FILES)]

        whole, out = folder / "whole", folder / "out"
        # Once for the programs, which are kept.
        _ended(started(whole))
        start = time.monotonic()
        _ended(started(whole, "--force"))
        length = time.monotonic() - start
        killed = annealing = answers = different = 0
        while killed < _KILLS or answers == 0:
            # What a kill left of the results, if it came while they were moved, is overwritten.
            process = started(out, "--resume", "--force")
            try:
                # After the last kill it is let run.
                _ended(process, draw.uniform(0, length) if killed < _KILLS else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate()
                killed += 1
                annealing += (out / "anneal-1.mepjax").exists()
                continue
            answers += 1
            different += answer(out) != answer(whole)
            shutil.rmtree(out)
        yield {
            "kills": killed,
            "with a checkpoint": annealing,
            "answers": answers,
            "other bits": different,
        }


def _ended(process: subprocess.Popen[bytes], seconds: float | None = None) -> None:
    """Wait for a process to end well; `TimeoutExpired` where it has not by then."""
    _, error = process.communicate(timeout=seconds)
    if process.returncode:
        raise RuntimeError(error.decode())


PARTS = {"times": times, "kills": kills}


def run(parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of the named parts, all by default."""
    for name in parts or PARTS:
        for row in PARTS[name]():
            yield {"part": name} | row


if __name__ == "__main__":
    _work(Path(sys.argv[1]))
