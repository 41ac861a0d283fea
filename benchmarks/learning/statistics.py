"""Whether error bars cover, and whether tests of fit keep their level and find what is wrong."""

from collections.abc import Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import learn

from .setting import KEY, Scenario, square

_COMBINATIONS = [Scenario(k, g, 1, t) for k, g, t in
                 ((0.1, 0, 0.1), (0.3, 0.5, 0.1), (0.5, 0, 1.0), (0.5, 0.5, 1.0))]  # fmt: skip


def _fits(environment: Any, base: mj.Clustering, logs: int, each: int, bootstrap: int) -> Any:
    """What is fitted to many logs of ten rounds: numbers, errors and p-values."""

    @eqx.filter_jit
    def all_of(environment: Any, keys: Any) -> Any:
        def one(key: Any) -> Any:
            ask, fit = jax.random.split(key)
            log = learn.collect(base, environment, key=ask, rounds=10, each=each)
            found = learn.fit(base, log, key=fit, bootstrap=bootstrap)
            errors = jnp.sqrt(jnp.diagonal(found.covariance[0]))
            return found.parameters[0], errors, found.test.pearson_p, found.test.spread_p

        return jax.lax.map(one, keys)

    return lambda environment: jax.tree.map(
        np.asarray, all_of(environment, jax.random.split(KEY, logs))
    )


def intervals(logs: int = 200) -> Iterator[dict[str, Any]]:
    """How often 95 % intervals hold the truth, of 5,000 interactions each."""
    base = square()
    fitted = _fits(None, base, logs, 500, 1)
    for scenario in _COMBINATIONS:
        parameters, errors, _, _ = fitted(learn.Simulated(scenario.autonomy))
        t = scenario.temperature
        truth = np.array([scenario.kappa, scenario.zeta / t, scenario.gamma / t])
        covered = 100 * np.mean(np.abs(parameters - truth) < 1.96 * errors, axis=0)
        names = ("kappa", "zeta/T", "gamma/T")
        yield {
            "case": f"{logs} logs, {scenario.key}",
            **{f"{n} covered %": float(c) for n, c in zip(names, covered, strict=True)},
            "bar": "90 to 98",
        }


def tests_of_fit(logs: int = 200, few: int = 40) -> Iterator[dict[str, Any]]:
    """False alarms, and two ways in which the family is wrong."""
    base, scenario = square(), Scenario(0.3, 0.5, 1, 0.1)
    n = base.x.shape[0]

    def row(name: str, bar: str, pearson: Any, spread: Any) -> dict[str, Any]:
        return {
            "case": name, "logs": len(pearson),
            "Pearson rejects %": float(100 * np.mean(pearson < 0.05)),
            "spread rejects %": float(100 * np.mean(spread < 0.05)), "bar": bar,
        }  # fmt: skip

    _, _, pearson, spread = _fits(None, base, logs, 500, 200)(learn.Simulated(scenario.autonomy))
    yield row("5,000 of the family: false alarms", "at most 9", pearson, spread)

    # Every fifth entity overrides to anywhere.
    def mixed(key: Any, i: Any, x: Any, told: Any, centres: Any) -> Any:
        go, where = jax.random.split(key)
        distances = lambda at: jnp.sum((at - centres) ** 2, axis=1)  # noqa: E731
        t = scenario.temperature
        logits = -(scenario.zeta * distances(centres[told]) + scenario.gamma * distances(x)) / t
        logits = jnp.where(i % 5 == 0, 0.0, logits)
        logits = jnp.where(jnp.arange(base.k) == told, -jnp.inf, logits)
        strayed = jax.random.categorical(where, logits)
        to = jnp.where(jax.random.uniform(go) < scenario.kappa, strayed, told)
        return to.astype(jnp.int32), None

    _, _, pearson, spread = _fits(None, base, few, 500, 200)(learn.FromFunction(mixed))
    yield row("5,000, a fifth overrides to anywhere", "Pearson at least 95", pearson, spread)
    kappas = jnp.where(jnp.arange(n) % 2 == 0, 0.1, 0.5).astype(jnp.float32)
    model = mj.autonomy.Softmax(kappas, 10.0, 5.0)
    found = _fits(None, base, few, n, 200)(learn.Simulated(model))
    _, _, pearson, spread = found
    yield row("kappa .1 and .5 by entity, 10 visits each", "spread at least 95", pearson, spread)
