"""Appendix K: what is left of the loss, what is stable, and heads that die."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mepjax as mj
from mepjax import learn
from mepjax.learn.networks.learnt_costs import units
from mepjax.learn.networks.published import PublishedADEN
from mepjax.learn.networks.settings import Recipe
from mepjax.learn.networks.steps import perturbed
from mepjax.reproduce import NotMeasured, Setting, appendix_k
from mepjax.reproduce.appendix_k import FLAT, NETWORKS, is_stable
from mepjax.reproduce.appendix_k_runs import excess, flat_seeds, levels_of
from mepjax.reproduce.numbers import APPENDIX_K_BETAS

KEY = jax.random.key(0)
SMALL: dict[str, Any] = {"width": 8, "blocks": 1, "heads": 2, "feedforward": 16, "head": (8,)}
N, K = 40, 4


def _base():
    return mj.Clustering(mj.datasets.four_square(N)[0], K)


def _truth():
    return _base().replace(autonomy=mj.autonomy.Uniform(0.3))


def _row(**changes) -> dict[str, Any]:
    row = {
        "excess": [0.1, 0.1, 0.1, 0.1], "unlearnt": [2.0, 2.0, 2.0, 2.0],
        "level": [4.0, 3.0, 2.0, 1.0], "wobble": [0.1, 0.1, 0.1, 0.1],
    }  # fmt: skip
    return row | changes


def test_stable_is_learnt_at_every_level_and_a_free_energy_that_falls_but_for_noise():
    assert is_stable(_row()) == (True, True)
    assert is_stable(_row(excess=[0.1, 0.21, 0.1, 0.1])) == (False, True)
    assert is_stable(_row(level=[4.0, 3.0, 3.25, 1.0])) == (True, True)
    assert is_stable(_row(level=[4.0, 3.0, 3.35, 1.0])) == (True, False)
    # Flat from the first step: nothing is learnt, and nothing falls either.
    assert is_stable(_row(excess=[2.0] * 4, level=[0.0] * 4, wobble=[0.0] * 4)) == (False, True)
    assert is_stable(_row(excess=[0.1, None, None, None])) == (False, False)
    assert is_stable(_row(excess=[0.1], unlearnt=[2.0])) == (False, False)


def test_there_are_32_runs_and_the_claims_count_them():
    tasks = {task.key for task in appendix_k.REPRODUCTION.tasks(Setting())}
    runs = {key for key in tasks if not key.startswith("flat: ")}
    assert len(runs) == 32 and len(tasks) == 32 + len(FLAT)
    rows: dict[str, Any] = {}
    for place, key in enumerate(sorted(runs)):
        network, kappa, start, _ = key.split(", ")
        rows[key] = {
            "network": network, "kappa": float(kappa.split()[1]), "start": start,
            "stable": place != 31, "falls": True, "left": [0.1, 0.05], "loss": [1.0, 0.5],
            "excess": [0.5, 0.1], "free_energy": [1.0, 2.0],
        }  # fmt: skip
    rows |= {f"flat: {name}": {"flat": place, "seeds": 20} for place, name in enumerate(FLAT)}
    claims = appendix_k.REPRODUCTION.claims(rows)
    by_text = {claim.text: claim for claim in claims}
    assert len(by_text) == len(claims) == 4 + len(FLAT)
    assert claims[0].printed == "28 of 32" and claims[0].found == "31 of 32"
    assert claims[0].holds is False and claims[1].holds
    assert claims[2].found == "7 of 8" and claims[3].found == "0.1, 0.1"
    # None of the published head's seeds is flat here, and some with the cure: both claims fail.
    assert [claim.holds for claim in claims[4:]] == [False, *[None] * (len(FLAT) - 2), False]
    assert set(appendix_k.REPRODUCTION.draw(rows, Setting())) == {"loss", "excess", "free_energy"}
    assert appendix_k.REPRODUCTION.claims({}) == []


def test_without_flax_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(appendix_k, "networks_installed", lambda: False)
    tasks = appendix_k.REPRODUCTION.tasks(Setting())
    for task in (tasks[0], tasks[-1]):
        with pytest.raises(NotMeasured, match="flax or optax is not installed"):
            task.compute()


def test_runs_have_the_sizes_that_are_printed():
    for name, (width, blocks, heads, feedforward, rate) in NETWORKS.items():
        learner = appendix_k.training(Setting("paper"), name)
        sizes = dict(learner.options)
        assert [sizes[n] for n in ("width", "blocks", "heads", "feedforward")] == [
            width, blocks, heads, feedforward,
        ]  # fmt: skip
        assert sizes["centre_blocks"] == 1 and learner.learning_rate == rate
        assert learner.cycles // 2 % (len(APPENDIX_K_BETAS) - 1) == 0


@pytest.mark.slow
def test_the_published_head_has_no_slope_below_zero_and_the_cure_starts_at_the_base():
    x, y = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    cure = PublishedADEN(2, unit=0.3, zero_head=True, rngs=0, **SMALL)
    squares = ((x[:, None] - y) ** 2).sum(axis=2)
    np.testing.assert_allclose(cure(jnp.asarray(x), jnp.asarray(y)), squares, rtol=1e-4, atol=1e-5)
    published = PublishedADEN(2, unit=0.3, rngs=0, **SMALL)
    assert np.abs(np.asarray(published.head.last.kernel[...])).max() > 0.01
    graph, params = nnx.split(published)

    @jax.jit
    def slope(params, below):
        moved = jax.tree.map(lambda a: a, params)
        moved["head"]["last"]["bias"] = below + params["head"]["last"]["bias"]
        total = lambda p: jnp.sum(  # noqa: E731
            nnx.merge(graph, p)(jnp.asarray(x), jnp.asarray(y), clipped=False)
        )
        return jax.value_and_grad(total)(moved)

    value, grad = slope(params, -100.0)
    assert float(value) == 0 and all(np.all(np.asarray(a) == 0) for a in jax.tree.leaves(grad))
    value, grad = slope(params, 100.0)
    assert float(value) > 0 and any(np.any(np.asarray(a) != 0) for a in jax.tree.leaves(grad))


@pytest.mark.slow
def test_excess_is_the_loss_without_the_noise_of_its_targets():
    """At the start costs are squared distances, so that all is known."""
    base, truth = _base(), _truth()
    learner = learn.Training(options=SMALL)
    costs = learner.learnt_costs(learner.init(KEY, base), base)
    centres, sizes, beta, explored = base.x[:K], (0.1, 0.3), 3.0, 0.25
    found = float(excess(costs, truth, centres, sizes, beta, explored, KEY))
    noise, rows = jax.random.split(KEY)
    sets = np.asarray(perturbed(centres, sizes, units(base)[1], 16, noise), np.float64)
    few = np.asarray(jax.random.choice(rows, N, (N,), replace=False))
    x = np.asarray(base.x, np.float64)[few]
    every = []
    for y in sets:
        d = ((x[:, None] - y) ** 2).sum(axis=2)
        # Overrides go to all others alike.
        average = 0.7 * d + 0.1 * (d.sum(axis=1, keepdims=True) - d)
        weights = np.exp(-beta * (d - d.min(axis=1, keepdims=True)))
        visits = explored / K + (1 - explored) * weights / weights.sum(axis=1, keepdims=True)
        every.append((visits * (d - average) ** 2).sum(axis=1).mean())
    np.testing.assert_allclose(found, np.mean(every), rtol=1e-4)


@pytest.mark.slow
def test_a_run_tells_of_every_level_and_learns():
    learner = learn.Training(
        options=SMALL | {"centre_blocks": 0}, batch=1, entities=16, draws=4, warm_up=5, prefit=60,
        learning_rate=np.float64(1e-2), network_steps=30, cycles=8, centre_steps=2,
        recipe=Recipe(from_mean=True, constant_rate=True),
    )  # fmt: skip
    betas = (10.0, 1000.0)
    for start in appendix_k.STARTS:
        row = levels_of(_base(), _truth(), learner, betas, start, KEY)
        names = ("loss", "excess", "unlearnt", "free_energy", "level", "wobble")
        assert all(len(row[name]) == 2 and np.all(np.isfinite(row[name])) for name in names)
        assert row["interactions"] == (2 + 8) * 30 * 16 * 4
        assert row["excess"][1] < row["unlearnt"][1]
        assert row["level"][1] < row["level"][0] and row["cost"] > 0
        # Noise of targets is what the loss has more.
        assert row["excess"][1] < row["loss"][1]


@pytest.mark.slow
def test_flat_seeds_are_those_whose_outputs_are_all_zero():
    settings = {"learning_rate": 1e-2, "batch": 1, "entities": 16, "draws": 2}
    keys = [jax.random.key(seed) for seed in range(2)]
    cure = flat_seeds(_base(), _truth(), SMALL | {"zero_head": True}, settings, "mean_noise", keys)
    assert cure["flat"] == 0 and cure["seeds"] == 2
    dead = flat_seeds(
        _base(), _truth(), SMALL, settings | {"learning_rate": 10.0}, "mean_noise", keys
    )
    assert dead["flat"] == 2 and min(dead["loss"]) > max(cure["loss"])
