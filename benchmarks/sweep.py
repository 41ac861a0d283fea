"""`mepjax.sweep` over 32 settings against the same anneals in a compiled loop."""

from typing import Any

import jax
import jax.numpy as jnp

import mepjax as mj
from mepjax.datasets import four_square

from .measure import timed

_SETTINGS = 32


def run() -> list[dict[str, Any]]:
    """400 points, K = 4, uniform and softmax autonomy, kappa from 0 to 0.3."""
    x, _ = four_square(400)
    keys = jax.random.split(jax.random.key(0), (_SETTINGS, 1))
    kappas = jnp.linspace(0.01, 0.3, _SETTINGS)
    schedule = mj.Geometric(0.5, 200.0, 1.1)
    rows = []
    for name, model in (("uniform", mj.autonomy.Uniform), ("softmax", mj.autonomy.Softmax)):

        def build(kappa: Any, model: Any = model) -> mj.Clustering:
            return mj.Clustering(x, 4, autonomy=model(kappa))

        @jax.jit
        def one(kappa: Any, key: Any, build: Any = build) -> Any:
            return mj.anneal(build(kappa), schedule, key=key).params

        def loop(one: Any = one) -> list[Any]:
            return [one(kappa, key[0]) for kappa, key in zip(kappas, keys, strict=True)]

        def swept(build: Any = build) -> Any:
            return mj.sweep(build, kappas, key=jax.random.key(0), schedule=schedule).cost

        def mapped(build: Any = build) -> Any:
            return mj.sweep(
                build, kappas, key=jax.random.key(0), schedule=schedule, batch=_SETTINGS
            ).cost

        # Every lane waits for the slowest, stage by stage, so that once is long enough.
        seconds = {"loop": timed(loop, 5), "sweep": timed(swept, 5), "all lanes": timed(mapped, 1)}
        rows += [
            {"autonomy": name, "what": what}
            | found
            | {"over loop": found["best_s"] / seconds["loop"]["best_s"]}
            for what, found in seconds.items()
        ]
    return rows
