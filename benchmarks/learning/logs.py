"""From a log to centres: the softmax family by maximum likelihood, and tables."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import mepjax as mj
from mepjax import learn
from mepjax.reproduce.reproduction import Setting
from mepjax.reproduce.scenarios import movielens as users

from .setting import KEY, SQUARE, Reference, Scenario, cpu, solved, square, summary

# Logs drawn for a test of fit that is not looked at.
_QUICK: dict[str, Any] = {"bootstrap": 1}


def learnt(base: mj.Clustering, model: Any, each: int, learner: Any = None) -> Any:
    """A log of ten rounds of scattered centres, and what is fitted to it."""
    log = learn.collect(base, learn.Simulated(model), key=KEY, rounds=10, each=each)
    return log, learn.fit(base, log, learner, **_QUICK).raise_if_failed()


def structured() -> Iterator[dict[str, Any]]:
    """All 20 combinations, 5,000 and 1,000 interactions."""
    base = square()
    ignored = solved(base).solution.params
    gaps: dict[int, list[float]] = {5000: [], 1000: []}
    for scenario in SQUARE:
        reference = Reference(base, scenario.autonomy, ignored)
        centres = {
            m: solved(learnt(base, scenario.autonomy, m // 10)[1].problem(base)).solution.params
            for m in gaps
        }
        # Learning may have found what solving has not.
        lowered = min(0.0, *(reference.gap(y) for y in centres.values()))
        reference.best *= 1 + lowered / 100
        row = {m: reference.gap(y) for m, y in centres.items()}
        for m, gap in row.items():
            gaps[m].append(gap)
        yield {
            "case": scenario.key,
            **{f"gap at {m} %": gap for m, gap in row.items()},
            **reference.beside(),
        }
    yield summary("structured, 5,000 interactions", gaps[5000], bar="mean .1, worst .3")
    yield summary("structured, 1,000 interactions", gaps[1000], bar="mean .5, worst 2")


def fit_time() -> Iterator[dict[str, Any]]:
    """A fit to 5,000 interactions with its test of fit, beside SciPy's optimiser."""
    base, model = square(), mj.autonomy.Softmax(0.3, 1.0, 0.5, 0.1)
    log, _ = learnt(base, model, 500)
    with mj.compile_options("full"):
        whole = lambda: learn.fit(base, log).covariance  # noqa: E731
        bare = lambda: learn.fit(base, log, **_QUICK)  # noqa: E731
        whole(), bare()
        _, seconds = cpu(whole, 3)
        fitted, without = cpu(bare, 3)
    _, quick = cpu(lambda: learn.fit(base, log).covariance)
    _, quick = cpu(lambda: learn.fit(base, log).covariance, 3)
    x, y = np.asarray(base.x, np.float64), np.asarray(log.centres, np.float64)
    entity, told, went, place = (
        np.asarray(a) for a in (log.entity, log.prescribed, log.realised, log.round)
    )
    rows = np.arange(len(log))

    def minus_log_likelihood(slope: np.ndarray) -> float:
        pull = ((y[place, told][:, None] - y[place]) ** 2).sum(axis=2)
        reach = ((x[entity][:, None] - y[place]) ** 2).sum(axis=2)
        logits = -(slope[0] * pull + slope[1] * reach)
        logits[rows, told] = -np.inf
        logits -= logits.max(axis=1, keepdims=True)
        chosen = logits[rows, went] - np.log(np.exp(logits).sum(axis=1))
        return -float(chosen[went != told].sum())

    peer, peer_seconds = cpu(lambda: scipy.optimize.minimize(minus_log_likelihood, np.zeros(2)))
    slope = [float(fitted.values[name]) for name in ("zeta", "gamma")]
    yield {"case": "fit of 5,000 with its test, compiled in full", "CPU s": seconds, "bar": 1.0}
    yield {"case": "the same as the library compiles by default", "CPU s": quick, "bar": 1.0}
    yield {"case": "fit alone", "CPU s": without, "log-likelihood": -minus_log_likelihood(
        np.array(slope))}  # fmt: skip
    yield {
        "case": "SciPy's minimize of the likelihood",
        "CPU s": peer_seconds,
        "over fit alone": peer_seconds / without,
        "log-likelihood": -float(peer.fun),
        "largest difference of numbers %": float(100 * np.max(np.abs(peer.x / slope - 1))),
    }


def pairs() -> Iterator[dict[str, Any]]:
    """5,000 interactions, of 1, 10 and 100 % of the pairs (entity, told)."""
    base, rng = square(400), np.random.default_rng(0)
    model = Scenario(0.3, 0.5, 1.0, 0.1).autonomy
    reference = Reference(base, model, solved(base).solution.params)
    everywhere, _ = learnt(base, model, 500)
    asked = learn.Simulated(model)
    observe = jax.jit(lambda key, i, j, y: asked.observe(key, base, i, j, y).realised)
    n, k = base.x.shape[0], base.k
    for share in (1, 10, 100):
        seen = rng.permutation(n * k)[: max(n * k * share // 100, 1)]
        pair = rng.choice(seen, (10, 500))
        entity, told = (pair // k).astype(np.int32), (pair % k).astype(np.int32)
        went = observe(KEY, jnp.asarray(entity), jnp.asarray(told), everywhere.centres)
        place = np.repeat(np.arange(10), 500)
        log = learn.Interactions(
            entity.ravel(), told.ravel(), np.asarray(went).ravel(),
            centres=everywhere.centres, round=place,
        )  # fmt: skip
        fitted = learn.fit(base, log, **_QUICK).raise_if_failed()
        assert fitted.coverage is not None
        yield {
            "case": f"{share} % of pairs, 5,000 interactions",
            "pairs never seen %": 100 * fitted.coverage.pairs_unseen,
            "gap %": reference.gap(solved(fitted.problem(base)).solution.params),
            **reference.beside(),
        }


def movielens() -> Iterator[dict[str, Any]]:
    """Every sixth of 6,040 users in ten features, K = 10: three rows of the paper's table."""
    folder = os.environ.get("MEPJAX_DATA_DIR")
    if folder is None or not (Path(folder) / "movielens1m_users10").is_dir():
        yield {"case": "MovieLens user features", "told": "not measured: no MEPJAX_DATA_DIR"}
        return
    every = users(Setting(data=Path(folder)))
    base = mj.Clustering(every.x[::6], every.k)
    ignored, gaps = solved(base).solution.params, []
    for numbers in ((0.1, 0.0, 1.0, 1.0), (0.3, 0.25, 0.75, 1.0), (0.5, 0.5, 0.5, 0.01)):
        scenario = Scenario(*numbers)
        reference = Reference(base, scenario.autonomy, ignored)
        _, fitted = learnt(base, scenario.autonomy, 500)
        centres = solved(fitted.problem(base)).solution.params
        gap = reference.gap(centres)
        gaps.append(gap)
        yield {"case": f"MovieLens, {scenario.key}", "gap %": gap, **reference.beside()}
    yield summary("MovieLens, structured, 5,000 interactions", gaps, bar="worst .3")
