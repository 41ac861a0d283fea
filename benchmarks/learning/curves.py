"""Gaps against the number of interactions, 100 to 100,000, for every learner."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import learn

from .setting import Reference, Scenario, solved, square, ten_blobs, uniform

_COUNTS = (100, 1_000, 10_000, 100_000)
_SEEDS = 3
_EACH = 50
# Levels of beta of the largest number; fewer interactions have fewer of them.
_LEVELS = _COUNTS[-1] // _EACH


def _from_log(base: mj.Clustering, model: Any, seed: int) -> Iterator[tuple[int, Any]]:
    """The first rows of each of ten rounds count, so that all numbers share a program."""
    rounds, most = 10, _COUNTS[-1] // 10
    key = jax.random.key(seed)
    log = learn.collect(base, learn.Simulated(model), key=key, rounds=rounds, each=most)
    # Rows of a round come by entity.
    order = np.random.default_rng(seed).permuted(np.tile(np.arange(most), (rounds, 1)), axis=1)
    for count in _COUNTS:
        times = (order < count // rounds).astype(np.float32).reshape(-1)
        rows = learn.Interactions(
            log.entity, log.prescribed, log.realised,
            centres=log.centres, round=log.round, times=times,
        )  # fmt: skip
        fitted = learn.fit(base, rows, learn.Structured(), bootstrap=1)
        yield count, solved(fitted.problem(base)).solution.params


def _asked(base: mj.Clustering, model: Any, kind: str, seed: int) -> Iterator[tuple[int, Any]]:
    """By asking: as many levels of beta as the number allows, in programs of one length."""
    scale = float(base.beta_scale())
    for count in _COUNTS:
        levels = max(count // _EACH, 2)
        schedule = mj.Geometric(
            jnp.float32(0.5 * scale), jnp.float32(1e4 * scale),
            jnp.float32(2e4 ** (1.001 / (levels - 1))), max_stages=_LEVELS + 1,
        )  # fmt: skip
        # What is older than a fifth of the levels has faded.
        learner: Any = learn.Counts(forget=jnp.float32(1 - min(5 / levels, 0.9)))
        if kind == "tabular":
            learner = learn.Tabular(centre_step=0.1)
        found = learn.interact(
            base, learn.Simulated(model), learner, schedule,
            key=jax.random.key(seed), rounds=1, each=_EACH, starts=1, fresh=1,
        )  # fmt: skip
        yield count, found.params


def curves() -> Iterator[dict[str, Any]]:
    """The square and ten blobs in ten dimensions; tables of costs with uniform overrides only."""
    near, anywhere = Scenario(0.3, 0.5, 1, 0.1).autonomy, uniform(0.3)
    for name, base in (("square", square(400)), ("K = 10, d = 10", ten_blobs())):
        ignored = solved(base).solution.params
        for kind, model in (("structured", near), ("counts", near), ("tabular", anywhere)):
            reference = Reference(base, model, ignored)
            gaps: dict[int, list[float]] = {count: [] for count in _COUNTS}
            for seed in range(_SEEDS):
                ways = _from_log(base, model, seed) if kind == "structured" else _asked(
                    base, model, kind, seed)  # fmt: skip
                for count, centres in ways:
                    gaps[count].append(reference.gap(centres))
            yield {
                "case": f"{name}, {kind}",
                **{f"gap at {m} %": float(np.median(found)) for m, found in gaps.items()},
                "seeds": _SEEDS,
                **reference.beside(),
            }
