"""Learning by asking while beta rises: tables of choices and tables of costs."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import mepjax as mj
from mepjax import learn

from .setting import KEY, SQUARE, Reference, cpu, solved, square, summary, uniform

_KAPPAS = (0.1, 0.3, 0.5)


def asked_schedule(base: mj.Clustering, factor: float = 1.1) -> mj.Geometric:
    """Steps that noise allows."""
    scale = float(base.beta_scale())
    return mj.Geometric(0.5 * scale, 1e4 * scale, factor)


def counts() -> Iterator[dict[str, Any]]:
    """One table for all entities, 70,000 interactions in alternation with the centres."""
    base = square()
    ignored, schedule = solved(base).solution.params, asked_schedule(base)
    gaps = []
    for scenario in SQUARE:
        reference = Reference(base, scenario.autonomy, ignored)
        found = learn.interact(
            base, learn.Simulated(scenario.autonomy), learn.Counts(), schedule,
            key=KEY, each=157, starts=4, fresh=1000,
        ).raise_if_failed()  # fmt: skip
        gaps.append(reference.gap(found.params))
        yield {
            "case": scenario.key,
            "gap %": gaps[-1],
            "interactions": int(found.n_interactions),
            **reference.beside(),
        }
    yield summary("counts, pooled, 70,000 interactions", gaps, bar="mean .3, worst 1")


def tabular(seeds: int = 20) -> Iterator[dict[str, Any]]:
    """N = 400 and uniform autonomy, the best of four starts."""
    base = square(400)
    ignored, schedule = solved(base).solution.params, asked_schedule(base)
    for kappa in _KAPPAS:
        reference = Reference(base, uniform(kappa), ignored)
        gaps, interactions = [], 0
        for seed in range(seeds):
            found = learn.interact(
                base, learn.Simulated(uniform(kappa)), learn.Tabular(), schedule,
                key=jax.random.key(seed), starts=4,
            ).raise_if_failed()  # fmt: skip
            gaps.append(reference.gap(found.params))
            interactions = int(found.n_interactions)
        yield summary(
            f"tabular, uniform kappa {kappa}, best of 4 starts", gaps,
            within=int(np.sum(np.array(gaps) <= 1.0)), interactions=interactions,
            bar=f"1 % in {seeds} of {seeds}", **reference.beside(),
        )  # fmt: skip


def _numpy_loop(x: np.ndarray, kappa: float, betas: np.ndarray, rounds: int) -> np.ndarray:
    """What `Tabular` does, as it is written down: one interaction after the other."""
    rng, (n, k) = np.random.default_rng(0), (len(x), 4)
    y = x.mean(axis=0) + 0.01 * rng.normal(size=(k, x.shape[1]))
    q, visits = ((x[:, None] - y) ** 2).sum(axis=2), np.zeros((n, k))
    for beta in betas:
        for _ in range(rounds):
            total, came = np.zeros_like(y), np.zeros(k)
            for i in rng.integers(0, n, n):
                policy = np.exp(-beta * (q[i] - q[i].min()))
                explored = rng.uniform() < 0.1
                j = rng.integers(k) if explored else rng.choice(k, p=policy / policy.sum())
                to = (j + 1 + rng.integers(k - 1)) % k if rng.uniform() < kappa else j
                cost = ((x[i] - y[to]) ** 2).sum()
                q[i, j] += max((1 + visits[i, j]) ** -0.7, 0.02) * (cost - q[i, j])
                visits[i, j] += 1
                if not explored:
                    total[to] += x[i]
                    came[to] += 1
            y += 0.3 * np.where(came[:, None] > 0, total / np.maximum(came, 1)[:, None] - y, 0)
    return y


def speed() -> Iterator[dict[str, Any]]:
    """Simulated interactions a CPU second, eight seeds at once, beside the NumPy loop."""
    base = square(400)
    schedule, betas = asked_schedule(base), np.geomspace(1.0, 100.0, 2)
    asked = learn.Simulated(uniform(0.3))
    keys = jax.random.split(KEY, 8)

    @jax.jit
    def lanes(keys: Any) -> learn.Learned:
        one = lambda key: learn.interact(  # noqa: E731
            base, asked, learn.Tabular(), schedule, key=key, starts=1
        )
        return jax.vmap(one)(keys)

    as_starts = lambda: learn.interact(  # noqa: E731
        base, asked, learn.Tabular(), schedule, key=KEY, starts=8
    )
    rounds = 25
    _, seconds = cpu(lambda: _numpy_loop(np.asarray(base.x), 0.3, betas, rounds))
    loop = len(betas) * rounds * 400 / seconds
    yield {"case": "the 20-line NumPy loop", "interactions a CPU second": loop}
    calls = {"8 seeds by vmap": lambda: lanes(keys), "8 starts": as_starts}
    for name, call in calls.items():
        _, first = cpu(call)
        found, seconds = cpu(call, 2)
        rate = int(np.sum(found.n_interactions)) / seconds
        yield {
            "case": name,
            "interactions a CPU second": rate,
            "over the loop": rate / loop,
            "first call, CPU s": first,
            "bar": "3e6, and 50 times the loop",
        }
