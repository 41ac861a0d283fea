"""First calls, each in a fresh process with no compilation cache but its own, as CPU seconds.

CPU seconds of all threads, since what else a machine does changes them least: `cpu_s` from the end
of the imports on, for which the bars are, and `whole_s` with them. Ratios are of `whole_s`, to
scikit-learn's own first `KMeans(n_init=10).fit` with its import, in the same run.
"""

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

# Every process prints its CPU seconds after imports, where MARK is, and after the call.
_START = """
import sys, time
import numpy as np
def points(n):
    return np.random.default_rng(n).normal(size=(n, 2)).astype(np.float32)
"""
_MARK = "\nbegan = time.process_time()\n"
_END = "\nprint(began, time.process_time())"

_KMEANS = """
from sklearn.cluster import KMeans
MARK
KMeans(3, n_init=10, random_state=0).fit(points(300))
"""

_IMPORT = "import mepjax\nMARK"

_ESTIMATOR = """
from mepjax.estimators import AutonomyAwareClustering
MARK
AutonomyAwareClustering(3, random_state=0).fit(points(int(sys.argv[1])))
"""

_ANNEAL = """
import jax, jax.numpy as jnp, equinox as eqx, mepjax as mj
MARK
problem, key = mj.Clustering(points(200), 4, autonomy={autonomy}), jax.random.key(0)
def loss(scale):
    moved = eqx.tree_at(lambda p: p.x, problem, problem.x * scale)
    return jnp.sum(mj.anneal(moved, key=key).params[:, 0] ** 2)
jax.block_until_ready({call})
"""

_CALLS = {
    "value": "loss(jnp.float32(1.0))",
    "gradient": "jax.grad(loss)(jnp.float32(1.0))",
    "hessian": "jax.hessian(loss)(jnp.float32(1.0))",
    "value in jit": "jax.jit(loss)(jnp.float32(1.0))",
    "gradient in jit": "jax.jit(jax.grad(loss))(jnp.float32(1.0))",
    "hessian in jit": "jax.jit(jax.hessian(loss))(jnp.float32(1.0))",
}

_SOLVE = """
import jax, mepjax as mj
MARK
problem = mj.Clustering(points(300), 3, autonomy={autonomy})
jax.block_until_ready(mj.solve(problem, key=jax.random.key(0)).solution.params)
"""

# An elbow: another k of the same data compiles again.
_ELBOW = """
from mepjax.estimators import AutonomyAwareClustering
MARK
for k in range(2, 12):
    AutonomyAwareClustering(k, random_state=0).fit(points(300))
"""

_ELBOW_SOLVE = """
import jax, mepjax as mj
MARK
for k in range(2, 12):
    problem = mj.Clustering(points(300), k)
    jax.block_until_ready(mj.solve(problem, key=jax.random.key(0)).solution.params)
"""

# The first call and a second one: points and weights are three numbers each.
_TWO_CALLS = """
import jax, mepjax as mj
MARK
problem = mj.Clustering(points(int(sys.argv[2]) // 3), 4)
with mj.compile_options(sys.argv[1]):
    for seed in range(2):
        jax.block_until_ready(mj.anneal(problem, key=jax.random.key(seed)).params)
"""
_SIZES = tuple(1 << power for power in (12, 14, 16, 17, 18, 19, 20))

_SOFTMAX = ("--kappa", "0.3", "--temperature", "0.1")

_COMMAND = """
import sys
from mepjax.cli import main
MARK
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def _environment(cache: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_FLAGS"))}
    return own | {"XDG_CACHE_HOME": str(cache), "MPLBACKEND": "Agg"}


def cpu_seconds(code: str, *arguments: str, cache: Path) -> tuple[float, float]:
    """CPU seconds of a process, from the end of its imports and from its beginning on."""
    code = _START + code.replace("MARK", _MARK) + _END
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=_environment(cache), check=True, capture_output=True)
    began, ended = (float(number) for number in done.stdout.split()[-2:])
    return ended - began, ended


def _csv(folder: Path, n: int) -> Path:
    import numpy as np

    path = folder / f"{n}.csv"
    x = np.random.default_rng(n).normal(size=(n, 2))
    np.savetxt(path, x, delimiter=",", header="x,y", comments="")
    return path


def _command(extra: tuple[str, ...], n: int, folder: Path, cache: Path) -> tuple[float, float]:
    """The command on n points, where the folder `cache` is that of the user."""
    out = tempfile.mkdtemp(dir=folder)
    file = str(_csv(folder, n))
    return cpu_seconds(_COMMAND, "cluster", file, "-k", "3", "--out", out, *extra, cache=cache)


def limit(repeats: int = 1) -> Iterator[dict[str, Any]]:
    """CPU seconds of two calls of an anneal by the numbers in its arguments, and the limit.

    The limit is the largest size up to which quick compiling takes at most half of the time, so
    that it pays for a few calls more.
    """
    chosen, saves = 0, True
    with tempfile.TemporaryDirectory() as name:
        empty = iter(Path(name) / f"cache{i}" for i in range(10_000))
        for size in _SIZES:
            seconds = {
                choice: statistics.median(
                    cpu_seconds(_TWO_CALLS, choice, str(size), cache=next(empty))[0]
                    for _ in range(repeats)
                )
                for choice in ("quick", "full")
            }
            saves = saves and seconds["quick"] <= 0.5 * seconds["full"]
            chosen = size if saves else chosen
            yield {
                "what": f"two calls, {size} numbers", "numbers": size,
                **{f"{choice}_s": value for choice, value in seconds.items()},
            }  # fmt: skip
    yield {"what": "the limit of quick compiling", "numbers": chosen}


def run(parts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of the named parts, `first` and `limit`; of both by default."""
    for name in parts or _PARTS:
        for row in _PARTS[name]():
            yield {"part": name} | row


def first(repeats: int = 3) -> Iterator[dict[str, Any]]:
    """The median of each first call, with its bar where there is one."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = iter(folder / f"cache{i}" for i in range(10_000))
        peers = [cpu_seconds(_KMEANS, cache=next(empty)) for _ in range(repeats)]
        peer = statistics.median(whole for _, whole in peers)

        def row(what: str, seconds: list[Any], bar: float | None) -> dict[str, Any]:
            after, whole = (statistics.median(each) for each in zip(*seconds, strict=True))
            return {
                "what": what, "cpu_s": after, "bar_s": bar, "whole_s": whole,
                "to_scikit_learn": whole / peer,
            }  # fmt: skip

        yield row("scikit-learn KMeans(n_init=10), with its import", peers, None)
        fresh = lambda code, *args: [  # noqa: E731
            cpu_seconds(code, *args, cache=next(empty)) for _ in range(repeats)
        ]
        yield row("import mepjax", fresh(_IMPORT), None)
        yield row("estimator, first fit", fresh(_ESTIMATOR, "300"), 3.5)
        kept = folder / "kept"
        warm = (
            "import mepjax\nfrom mepjax._core.program_cache import keep_programs\nkeep_programs()\n"
        )
        cpu_seconds(warm + _ESTIMATOR, "300", cache=kept)
        yield row(
            "estimator, programs kept, 290 points",
            [cpu_seconds(warm + _ESTIMATOR, "290", cache=kept) for _ in range(repeats)],
            1.6,
        )
        for model, autonomy in (("none", "None"), ("softmax", "mj.autonomy.Softmax(0.3)")):
            bars = {"value": 1.6, "gradient": 3.0, "hessian": 5.0} if model == "none" else {}
            for what, call in _CALLS.items():
                code = _ANNEAL.format(autonomy=autonomy, call=call)
                yield row(f"anneal {what}, {model}", fresh(code), bars.get(what))
            yield row(f"solve, {model}", fresh(_SOLVE.format(autonomy=autonomy)), None)
        yield row("elbow, k = 2..11, estimator", fresh(_ELBOW), 25.0)
        yield row("elbow, k = 2..11, solve", fresh(_ELBOW_SOLVE), None)
        for label, extra, cold, again in (("", (), 6.0, 3.5), (", softmax", _SOFTMAX, 18.0, 6.0)):
            caches = [next(empty) for _ in range(repeats)]
            first = [_command(extra, 300, folder, cache) for cache in caches]
            yield row(f"command{label}, cold", first, cold)
            yield row(
                f"command{label}, again", [_command(extra, 300, folder, c) for c in caches], again
            )
            other = [_command(extra, 290, folder, cache) for cache in caches]
            yield row(f"command{label}, another file of 290 points", other, again)


_PARTS: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {"first": first, "limit": limit}
