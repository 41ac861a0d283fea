"""One policy-and-centres update with softmax autonomy: factorised against a dense p."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .measure import temporary_bytes, timed

_KAPPA, _ZETA, _GAMMA, _TEMPERATURE, _BETA = 0.3, 1.0, 0.5, 0.1, 100.0


def dense_step(x: jax.Array, y: jax.Array) -> jax.Array:
    """The same update with p as an N x K x K array, as one would write it; XLA may fuse it."""
    k = y.shape[0]
    between = jnp.sum((y[:, None] - y[None]) ** 2, axis=-1)
    distances = jnp.sum((x[:, None] - y[None]) ** 2, axis=-1)
    logits = -(_ZETA * between[None] + _GAMMA * distances[:, None, :]) / _TEMPERATURE
    logits = jnp.where(jnp.eye(k, dtype=bool)[None], -jnp.inf, logits)
    p = _KAPPA * jax.nn.softmax(logits, axis=-1) + (1 - _KAPPA) * jnp.eye(k)
    policy = jax.nn.softmax(-_BETA * jnp.einsum("ijk,ik->ij", p, distances), axis=-1)
    weights = jnp.einsum("ij,ijk->ik", policy, p)
    return (weights.T @ x) / jnp.sum(weights, axis=0)[:, None]


def run() -> list[dict[str, Any]]:
    """Both forms in turn, for gamma > 0 (two factors) and gamma = 0 (one table)."""
    rows = []
    for n, k in ((10_000, 16), (10_000, 64)):
        rng = np.random.default_rng(0)
        x = jnp.asarray(rng.uniform(size=(n, 2)), jnp.float32)
        y = x[:k]

        def factorised(x: jax.Array, y: jax.Array, k: int = k) -> jax.Array:
            model = mj.autonomy.Softmax(_KAPPA, _ZETA, _GAMMA, _TEMPERATURE, direct_limit=0)
            problem = mj.Clustering(x, k, autonomy=model, stationarity="frozen")
            return problem.update(y, _BETA)

        forms = {"dense": dense_step, "factorised": factorised}
        compiled = {name: jax.jit(form) for name, form in forms.items()}
        gap = float(jnp.max(jnp.abs(compiled["dense"](x, y) - compiled["factorised"](x, y))))
        times = {
            name: timed(lambda form=form, x=x, y=y: form(x, y)) for name, form in compiled.items()
        }
        for name, form in forms.items():
            rows.append(
                {
                    "N": n,
                    "K": k,
                    "form": name,
                    **times[name],
                    "times faster than dense": times["dense"]["best_s"] / times[name]["best_s"],
                    "temporary_MB": temporary_bytes(form, x, y) / 1e6,
                    "N x K x K in MB": 4e-6 * n * k * k,
                    "largest difference": gap,
                }
            )
    return rows
