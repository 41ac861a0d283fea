"""Points on disk against memory: seconds of a pass, and memory that is the process's own.

Points are written once to a temporary file, in slabs. A pass is F and its slope at 64 centres; the
fastest of a few is told. The process's own memory is `RssAnon`: what it maps of the file is the
page cache's. Needs Linux.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .measure import clocked

_D, _K, _SLAB = 8, 64, 1 << 16
_SIZES = (1_000_000, 3_000_000, 10_000_000)
_REPEATS = 7


def _written(file: Path, n: int) -> None:
    rng = np.random.default_rng(0)
    places = 10 * rng.normal(size=(_K, _D))
    array = np.lib.format.open_memmap(file, "w+", np.float32, (n, _D))
    for first in range(0, n, _SLAB):
        count = min(_SLAB, n - first)
        array[first : first + count] = places[rng.integers(_K, size=count)]
        array[first : first + count] += rng.normal(size=(count, _D))
    array.flush()


def _own_memory() -> float:
    """MiB of the process beyond what it maps."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = (line for line in lines if line.startswith("RssAnon"))
    return int(line.split()[1]) / 1024


def run() -> Iterator[dict[str, Any]]:
    """A row a size."""
    with tempfile.TemporaryDirectory() as folder:
        for n in _SIZES:
            file = Path(folder) / f"{n}.npy"
            _written(file, n)
            before = _own_memory()
            rows, building = clocked(mj.exec.Rows, file)
            problem = mj.Clustering(rows, _K)
            centres = problem.subsample(jax.random.key(0), 10_000).scatter(jax.random.key(1))
            passed = jax.jit(lambda p, y: jax.value_and_grad(p.free_energy)(y, 0.1))
            value = float(passed(problem, centres)[0])
            own = _own_memory() - before
            held = mj.Clustering(np.load(file), _K)
            same = float(passed(held, centres)[0])
            # In turns, so that what else the machine does falls on both.
            turns = [
                [clocked(passed, where, centres)[1] for where in (problem, held)]
                for _ in range(_REPEATS)
            ]
            times, in_memory = zip(*turns, strict=True)
            yield {
                "points": n,
                "measuring s": building,
                "pass s": min(times),
                "in memory s": min(in_memory),
                "ratio": min(times) / min(in_memory),
                "own MiB": own,
                "file MiB": file.stat().st_size / 2**20,
                "relative error": abs(same / value - 1),
            }
            del held
            file.unlink()
