"""Points on disk against memory: seconds of a pass, and memory that is the process's own.

Points are written once to a temporary file, in slabs. A pass is F and its slope at 64 centres; the
fastest of a few is told. The process's own memory is `RssAnon`: what it maps of the file is the
page cache's. Needs Linux. `from_disk:large` has 1e8 points, 3.2 GB of disk, and no peer in memory.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .measure import clocked

_D, _K, _SLAB = 8, 64, 1 << 16
_SIZES = (1_000_000, 3_000_000, 10_000_000)
_LARGE = 100_000_000
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


def run(parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """A row a size; `large` is one part, `sizes` the other."""
    for part in parts or ("sizes",):
        for n in _SIZES if part == "sizes" else (_LARGE,):
            yield {"part": part} | _row(n, compared=part == "sizes")


def _row(n: int, *, compared: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{n}.npy"
        _written(file, n)
        before = _own_memory()
        rows, building = clocked(mj.exec.Rows, file)
        problem = mj.Clustering(rows, _K)
        centres = problem.subsample(jax.random.key(0), 10_000).scatter(jax.random.key(1))
        passed = jax.jit(lambda p, y: jax.value_and_grad(p.free_energy)(y, 0.1))
        value = float(passed(problem, centres)[0])
        own = _own_memory() - before
        where: list[mj.Clustering] = [problem]
        if compared:
            where.append(mj.Clustering(np.load(file), _K))
        # In turns, so that what else the machine does falls on both.
        turns = [
            [clocked(passed, each, centres)[1] for each in where]
            for _ in range(_REPEATS if compared else 2)
        ]
        times = [min(seconds) for seconds in zip(*turns, strict=True)]
        row = {
            "points": n,
            "measuring s": building,
            "pass s": times[0],
            "own MiB": own,
            "file MiB": file.stat().st_size / 2**20,
        }
        if compared:
            same = float(passed(where[1], centres)[0])
            row |= {
                "in memory s": times[1],
                "ratio": times[0] / times[1],
                "relative error": abs(same / value - 1),
            }
        return row
