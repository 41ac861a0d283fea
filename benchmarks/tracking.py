"""Control laws against solving every frame: speeds, distortion, lag and time over many scenes."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax.control import Euler, Follow, Lyapunov, Newton, every_frame, step, track
from mepjax.datasets import moving_network

from .measure import clocked, timed

PARTS = ("network", "points", "batch", "large")
_STEP = 0.03
_TIMES = np.linspace(0.0, 20.0, 668)
# How long a scene lasts, how many there are, and at how many times a cold anneal is tried: points
# and the batch are told from a quarter of the time, so that either ends within two CPU minutes.
_STEPS = {"network": 667, "points": 170, "batch": 170}
_SCENES = {"network": 20, "points": 5}
_COLD = {"network": 21, "points": 6, "batch": 6}
_ABSENT = ((1, 2), (2, 3), (4, 1), (1, 3), (4, 5), (5, 3))
_LIMIT = 0.5


def links() -> np.ndarray:
    """Which of five facilities one may travel between, as in the thesis."""
    mask = ~np.eye(5, dtype=bool)
    for a, b in _ABSENT:
        mask[a - 1, b - 1] = False
    return mask


def scene(kind: str, seed: int, n: int = 200) -> tuple[Any, Any]:
    """The problem and its velocity."""
    nodes, destination, velocity = moving_network(n, seed=seed)
    if kind == "network":
        return mj.FacilityPath(nodes, destination, 5, links=links()), velocity
    return mj.Clustering(nodes, 5), _OfPoints(velocity)


class _OfPoints(eqx.Module):
    """Points move as the nodes of a network do."""

    network: Any

    def __call__(self, time: Any, problem: Any, values: Any) -> dict[str, Any]:
        return {"x": self.network(time, problem, values)["nodes"]}


def clock(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Times of all control steps of a scene, and of the cold anneals among them."""
    times = _TIMES[: _STEPS[kind] + 1]
    return times, np.linspace(0.0, times[-1], _COLD[kind])


def run(parts: list[str] | None = None, seeds: int | None = None) -> Iterator[dict[str, Any]]:
    """Rows of each scene and their summary; of a batch of scenes; of a large scene."""
    asked = parts or list(PARTS)
    with mj.compile_options("full"):
        for kind in ("network", "points"):
            if kind in asked:
                rows = []
                for seed in range(_SCENES[kind] if seeds is None else seeds):
                    rows.append(_scene(kind, seed))
                    yield rows[-1]
                yield _summary(kind, rows)
        if "batch" in asked:
            yield _batch()
        if "large" in asked:
            yield _large()


def _scene(kind: str, seed: int) -> dict[str, Any]:
    problem, velocity = scene(kind, seed)
    times, sparse = clock(kind)
    beta = 30 * float(problem.beta_scale())
    key = jax.random.key(seed)
    shared: dict[str, Any] = {"beta": beta, "velocity": velocity, "integrator": Euler(_STEP)}
    anneal = mj.Geometric(0.5 * beta / 30, beta, 1.1, max_stages=64)
    start = mj.anneal(problem, anneal, key=key, adjoint=mj.NoGrad())

    warm_run = lambda: every_frame(problem, times, init=start, key=key, **shared)  # noqa: E731
    cold_run = lambda: every_frame(  # noqa: E731
        problem, sparse, start="cold", schedule=anneal, key=key, **shared
    )
    law_run = lambda: track(problem, start, times[[0, -1]], **shared)  # noqa: E731
    if seed == 0:
        jax.block_until_ready((warm_run(), cold_run(), law_run()))
    warm = warm_run()
    cold, cold_s = clocked(cold_run)
    warm_s, law_s = (timed(call, 3)["best_s"] for call in (warm_run, law_run))
    found = {}
    for name, law in (("follow", Follow()), ("newton", Newton()), ("lyapunov", Lyapunov())):
        found[name] = track(problem, start, times, law=law, **shared)
    free = found["follow"]
    limit = _LIMIT * float(np.max(free.speed))
    limited = track(problem, start, times, speed_limit=limit, **shared)
    calm = _away(found["newton"])
    steps = len(times) - 1
    mean = lambda run: float(np.mean(run.distortion))  # noqa: E731
    return {
        "part": kind,
        "seed": seed,
        "speed over warm": float(np.max(free.speed) / np.max(warm.speed)),
        "warm jumps": bool(np.max(warm.speed) > 10 * np.median(warm.speed)),
        "newton speed over warm": float(np.max(found["newton"].speed) / np.max(warm.speed)),
        "distortion over warm": mean(free) / mean(warm),
        "newton distortion over warm": mean(found["newton"]) / mean(warm),
        "lyapunov distortion over warm": mean(found["lyapunov"]) / mean(warm),
        "F at the end over warm": float(free.free_energy[-1] / warm.free_energy[-1]),
        "F at the end over cold": float(free.free_energy[-1] / cold.free_energy[-1]),
        "newton lag over F, calm": float(
            np.max(np.asarray(found["newton"].lag / found["newton"].free_energy)[calm], initial=0)
        ),
        "calm share": float(np.mean(calm)),
        "limit exceeded by": float(np.max(limited.speed) / limit - 1),
        "found back after a limit": _found_back(limited),
        "step over warm": (law_s / steps) / (warm_s / steps),
        "cold over step": (cold_s / len(sparse)) / (law_s / steps),
        "warm inner steps": float(np.mean(warm.n_steps)),
        "step_ms": 1e3 * law_s / steps,
        "finite": all(bool(np.all(np.isfinite(run.free_energy))) for run in found.values()),
    }


def _away(run: Any) -> np.ndarray:
    """Rows farther than half a second from a curvature below 0.1."""
    near = np.asarray(run.curvature) < 0.1
    reach = round(0.5 / _STEP)
    spread = np.convolve(near.astype(float), np.ones(2 * reach + 1), mode="same")
    return spread < 0.5


def _found_back(run: Any) -> float:
    """Share of ends of saturation, one second after which the lag is below 1e-3 of F.

    An end is taken only if the next second is calm, and the scene long enough.
    """
    slow = np.asarray(run.saturated)
    share = np.asarray(run.lag / run.free_energy)
    reach = round(1.0 / _STEP) + 1
    ends = [
        row for row in np.flatnonzero(slow[:-1] & ~slow[1:])
        if row + reach < len(slow) and not np.any(slow[row + 1 : row + reach])
    ]  # fmt: skip
    if not ends:
        return 1.0
    return float(np.mean([share[row + reach] < 1e-3 for row in ends]))


def _summary(kind: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    column = lambda name, of=rows: np.array([row[name] for row in of], float)  # noqa: E731
    jumping = [row for row in rows if row["warm jumps"]]
    speeds = column("speed over warm", jumping)
    told = ("distortion over warm", "step over warm", "cold over step", "F at the end over warm",
            "F at the end over cold", "newton distortion over warm",
            "lyapunov distortion over warm")  # fmt: skip
    lags = column("newton lag over F, calm")
    return {
        "part": kind,
        "scenes": len(rows),
        "scenes in which warm jumps": len(jumping),
        "of these, speed at most half": int(np.sum(speeds <= 0.5)),
        "speed over warm, range": [float(f(speeds)) for f in (np.min, np.max) if jumping],
        **{f"median {name}": float(np.median(column(name))) for name in told},
        **{f"range {name}": [float(f(column(name))) for f in (np.min, np.max)] for name in told},
        "newton lag at most 1e-4 of F": int(np.sum(lags <= 1e-4)),
        "largest newton lag over F, calm": float(np.max(lags)),
        "limit exceeded by at most": float(np.max(column("limit exceeded by"))),
        "found back after every limit": int(np.sum(column("found back after a limit") >= 1)),
        "law ends worse than warm": int(np.sum(column("F at the end over warm") > 1.001)),
        "warm ends worse than law": int(np.sum(column("F at the end over warm") < 0.999)),
        "all finite": all(row["finite"] for row in rows),
    }


def _batch(scenes: int = 1000, n: int = 40) -> dict[str, Any]:
    """Random scenes in one `vmap`, each from its own anneal, and each from any places at all."""
    made = [moving_network(n, seed=seed) for seed in range(scenes)]
    data = jax.tree.map(lambda *leaves: jnp.stack(leaves), *made)
    mask, (times, sparse) = links(), clock("batch")

    def problem_of(nodes: Any, destination: Any, _: Any) -> Any:
        return mj.FacilityPath(nodes, destination, 5, links=mask)

    @jax.jit
    def annealed(data: Any) -> Any:
        def lane(*scene: Any) -> Any:
            problem = problem_of(*scene)
            end = 30 * problem.beta_scale()
            schedule = mj.Geometric(end / 60, end, 1.1, max_stages=64)
            return mj.anneal(problem, schedule, key=jax.random.key(0)).params

        return jax.vmap(lane)(*data)

    @jax.jit
    def lanes(data: Any, starts: Any) -> Any:
        def lane(scene: Any, start: Any) -> Any:
            problem, velocity = problem_of(*scene), scene[2]
            beta = 30 * problem.beta_scale()
            run = track(
                problem, start, sparse, beta=beta, velocity=velocity, integrator=Euler(_STEP)
            )
            return run.free_energy, run.code

        return jax.vmap(lane)(data, starts)

    starts = annealed(data)
    compiled = lanes.lower(data, starts).compile()
    (energy, code), seconds = clocked(compiled, data, starts)
    anywhere = compiled(data, data[0][:, :5])[1]
    ended = lambda code: int(jnp.sum(jnp.any(code >= int(mj.Code.MAX_STEPS), axis=1)))  # noqa: E731
    return {
        "part": "batch",
        "scenes": scenes,
        "with NaN": int(jnp.sum(jnp.any(jnp.isnan(energy), axis=1))),
        "that ended early": ended(code),
        "that ended early from any places": ended(anywhere),
        "seconds": seconds,
        "control steps a second": scenes * (len(times) - 1) / seconds,
    }


def _large(n: int = 17_000, m: int = 50) -> dict[str, Any]:
    problem = mj.FacilityPath(*moving_network(n, groups=60)[:2], m)
    velocity = moving_network(n, groups=60).velocity(0.0, problem, None)
    values = problem.nodes[:m]
    beta = 30 * float(problem.beta_scale())
    best = timed(lambda: step(problem, values, beta, velocity), 10)["best_s"]
    return {"part": "large", "nodes": n, "facilities": m, "control steps a second": 1 / best}
