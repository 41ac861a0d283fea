"""One soft E/M step in memory, and the derivatives of F, beside one Lloyd iteration."""

import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .measure import temporary_bytes, timed


def blobs(n: int, d: int, k: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """blobs2 and blobs16 of the design: centres first, then labels, then noise."""
    rng = np.random.default_rng(0)
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


def run() -> list[dict[str, Any]]:
    """blobs2 and blobs16 in float32."""
    import warnings

    warnings.filterwarnings("ignore", category=UserWarning)
    rows = []
    for name, n, d, k, spread in (("blobs2", 10**5, 2, 16, 1.0), ("blobs16", 10**6, 16, 64, 3.0)):
        data, centres = blobs(n, d, k, spread)
        data, centres = data.astype(np.float32), centres.astype(np.float32)
        problem = mj.Clustering(data, k)
        start = jnp.asarray(centres + 0.1)
        beta = 2 * float(problem.beta_scale())

        def value(x: Any, y: Any, k: int = k, beta: float = beta) -> Any:
            return mj.Clustering(x, k).free_energy(y, beta)

        def update(x: Any, y: Any, k: int = k, beta: float = beta) -> Any:
            return mj.Clustering(x, k).update(y, beta)

        threads = sorted({1, os.cpu_count() or 1})
        peer = min(lloyd(data, centres, t)["best_s"] for t in threads)
        forms = {
            "E/M update": update,
            "value": value,
            "gradient to params": jax.grad(value, argnums=1),
            "gradient to x": jax.grad(value, argnums=0),
        }
        for form, function in forms.items():
            compiled = jax.jit(function)
            seconds = timed(lambda f=compiled, x=problem.x, y=start: f(x, y))
            rows.append(
                {
                    "data": name,
                    "what": form,
                    **seconds,
                    "over one Lloyd iteration": seconds["best_s"] / max(peer, 1e-9),
                    "temporary_MB": temporary_bytes(function, problem.x, start) / 1e6,
                }
            )
        rows.append({"data": name, "what": f"Lloyd, best of {threads} threads", "best_s": peer})
    return rows
