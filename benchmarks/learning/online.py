"""Going on learning: half a log and then the rest, and an autonomy that jumps."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj
from mepjax import learn

from .setting import KEY, Reference, Scenario, solved, square, uniform


def online() -> Iterator[dict[str, Any]]:
    """Half a log and then the rest; kappa from .1 to .5, 20,000 interactions later."""
    yield from _halves()
    base = square()
    ignored = solved(base).solution.params
    reference = Reference(base, uniform(0.5), ignored)
    for forget in (1.0, 0.5):
        for learner in (learn.Structured(forget=forget), learn.Counts(forget=forget)):
            yield {
                "case": f"kappa .1 to .5, {type(learner).__name__}(forget={forget})",
                **_jumped(base, learner, reference),
                **reference.beside(),
                "bar": "1 with forget",
            }


def _halves() -> Iterator[dict[str, Any]]:
    with jax.enable_x64(True):
        x = np.asarray(square(400).x, np.float64)
        base = mj.Clustering(x, 4)
        asked = learn.Simulated(Scenario(0.3, 0.5, 1, 0.1).autonomy)
        log = learn.collect(base, asked, key=KEY, rounds=10, each=500)
        rows = np.random.default_rng(0).permutation(len(log))
        for learner in (learn.Structured(), learn.Counts()):
            whole = learn.fit(base, log, learner, bootstrap=1)
            half = learn.fit(base, log.take(rows[:2500]), learner, bootstrap=1)
            rest = learn.update(half, base, log.take(rows[2500:]))
            apart = np.abs(rest.parameters - whole.parameters) / np.maximum(whole.parameters, 1)
            yield {
                "case": f"half of 5,000, then the rest, {type(learner).__name__}",
                "largest difference": float(np.max(apart)),
                "bar": 1e-6,
            }


def _jumped(base: mj.Clustering, learner: Any, reference: Reference) -> dict[str, Any]:
    """20,000 interactions at kappa .1, then ten updates by 2,000 at .5."""

    def drawn(kappa: float, seed: int) -> learn.Interactions:
        asked, key = learn.Simulated(uniform(kappa)), jax.random.key(seed)
        return learn.collect(base, asked, key=key, rounds=10, each=200)

    fitted = learn.fit(base, drawn(0.1, 0), learner, bootstrap=1)
    for seed in range(1, 20):
        fitted = learn.update(fitted, base, drawn(0.1 if seed < 10 else 0.5, seed))
    values = fitted.values
    kappa = values["kappa"] if "kappa" in values else 1 - np.mean(np.diag(values["p"]))
    return {
        "gap %": reference.gap(solved(fitted.problem(base)).solution.params),
        "kappa": float(kappa),
    }
