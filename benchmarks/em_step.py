"""One soft E/M step and the derivatives of F, beside one Lloyd iteration.

The executor `Sharded` needs two host devices, which a process has from its start: it is run in one
of its own, and so is the floor: the time of the arithmetic alone, measured in the same run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .measure import cores, temporary_bytes, timed


def blobs(n: int, d: int, k: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """blobs2 and blobs16 of the design: centres first, then labels, then noise."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(-10, 10, size=(k, d))
    labels = rng.integers(k, size=n)
    return centres[labels] + spread * rng.normal(size=(n, d)), centres


def lloyd(x: np.ndarray, centres: np.ndarray, threads: int) -> dict[str, float]:
    """One hard iteration of scikit-learn: the difference of two runs of fixed length."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    def fit(iterations: int) -> None:
        KMeans(len(centres), init=centres, n_init=1, max_iter=iterations, tol=0.0).fit(x)

    with threadpool_limits(limits=threads):
        short, long = timed(lambda: fit(1), 5), timed(lambda: fit(6), 5)
    return {"best_s": max(long["best_s"] - short["best_s"], 0.0) / 5}


DATA = (("blobs2", 10**5, 2, 16, 1.0), ("blobs16", 10**6, 16, 64, 3.0))
FLAG = "--xla_force_host_platform_device_count=2"


def of_executor(name: str) -> list[dict[str, Any]]:
    """Times and memory of every form on one executor."""
    executor = {"memory": mj.InMemory, "streaming": mj.Streaming, "sharded": mj.Sharded}[name]()
    rows = []
    for data_name, n, d, k, spread in DATA:
        data, centres = blobs(n, d, k, spread)
        problem = mj.Clustering(data.astype(np.float32), k).on(executor)
        _, start = executor.place(problem.x, jnp.asarray(centres + 0.1, jnp.float32))
        beta = 2 * float(problem.beta_scale())
        held, static = eqx.partition(problem, eqx.is_array)

        def at(x: Any, held: Any, static: Any = static) -> mj.Clustering:
            problem = eqx.combine(held, static)
            return eqx.tree_at(lambda p: p.x, problem, x)

        def value(x: Any, y: Any, held: Any, at: Any = at, beta: float = beta) -> Any:
            return at(x, held).free_energy(y, beta)

        def update(x: Any, y: Any, held: Any, at: Any = at, beta: float = beta) -> Any:
            return at(x, held).update(y, beta)

        forms = {
            "E/M update": update,
            "value": value,
            "value and gradient to params": jax.value_and_grad(value, argnums=1),
            "gradient to x": jax.grad(value, argnums=0),
        }
        for form, function in forms.items():
            compiled = jax.jit(function)
            rows.append(
                {
                    "data": data_name,
                    "what": form,
                    "executor": f"{name} ({jax.device_count()} devices)",
                    **timed(lambda f=compiled, p=problem, y=start, h=held: f(p.x, y, h)),
                    "temporary_MB": temporary_bytes(function, problem.x, start, held) / 1e6,
                }
            )
    return rows


def floor() -> dict[str, Any]:
    """What blobs16 must take on all devices at the best this machine does.

    4.1 GFLOP in products of large matrices, 64 million exponentials in the cache, and one pass
    over the data. The design's machine needed 50 ms.
    """
    mesh = jax.make_mesh((jax.device_count(),), ("device",))
    spec = jax.sharding.PartitionSpec("device")
    spread = jax.sharding.NamedSharding(mesh, spec)
    n, d, k = 10**6, 16, 64
    devices = jax.device_count()

    def best(function: Any, *shape: int) -> float:
        x = np.random.default_rng(0).uniform(size=(devices, *shape)).astype(np.float32)
        placed = jax.device_put(x, spread)
        mapped = jax.jit(jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec))
        return timed(lambda: mapped(placed))["best_s"]

    def exponentials(x: Any) -> Any:
        return jax.lax.fori_loop(0, 1000, lambda _, y: x + 1e-3 * jnp.exp(y - 1), x)

    side = 1536
    product = best(lambda x: x @ x, side, side)
    size = 32_000
    parts = {
        "products_s": product * 4 * n * d * k / (2 * devices * side**3),
        "exponentials_s": best(exponentials, size) * n * k / (1000 * devices * size),
        "pass_s": best(lambda x: jnp.sum(x, axis=1), n * d // devices),
    }
    return {"data": "blobs16", "what": "floor", "best_s": sum(parts.values())} | parts


def in_a_process_of_two_devices(call: str) -> Any:
    """What a function of this module gives there."""
    code = f"import json, benchmarks.em_step as e; print(json.dumps(e.{call}))"
    flags = os.environ.get("XLA_FLAGS", "") + " " + FLAG
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(run.stdout.splitlines()[-1])


def run() -> list[dict[str, Any]]:
    """blobs2 and blobs16 in float32."""
    import warnings

    warnings.filterwarnings("ignore", category=UserWarning)
    rows = of_executor("memory") + of_executor("streaming")
    rows += in_a_process_of_two_devices("of_executor('sharded')")
    least = in_a_process_of_two_devices("floor()")
    threads = sorted({1, cores()})
    for name, n, d, k, spread in DATA:
        data, centres = (a.astype(np.float32) for a in blobs(n, d, k, spread))
        peer = min(lloyd(data, centres, t)["best_s"] for t in threads)
        for row in rows:
            if row["data"] == name:
                row["over one Lloyd iteration"] = row["best_s"] / max(peer, 1e-9)
            if row["data"] == name == "blobs16":
                row["over the floor"] = row["best_s"] / least["best_s"]
        rows.append({"data": name, "what": f"Lloyd, best of {threads} threads", "best_s": peer})
    rows.append(least)
    return sorted(rows, key=lambda row: row["data"])
