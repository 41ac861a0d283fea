"""Clustering of batches that come one after the other."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.learn import OnlineClustering

K, D, EACH, BATCHES = 4, 2, 48, 64
CORNERS = np.array([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
SPREAD = 0.25


def stream(centres=CORNERS, seed=0, batches=BATCHES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    which = rng.integers(len(centres), size=(batches, EACH))
    return centres[which] + SPREAD * rng.normal(size=(batches, EACH, D))


def hard_cost(centres, x) -> float:
    """Mean squared distance to the nearest centre, in NumPy."""
    x = np.asarray(x).reshape(-1, D)
    return float(np.min(np.sum((x[:, None] - np.asarray(centres)) ** 2, axis=2), axis=1).mean())


def online(**options) -> OnlineClustering:
    # From half the first transition to some 130 times it, in a third of the batches.
    return OnlineClustering(K, mj.Geometric(0.2, 60.0, 1.5), patience=2, **options)


@eqx.filter_jit
def run(model, state, batches):
    """All batches in one scan, one program for all tests."""
    step = lambda state, x: (model.update(state, x), None)  # noqa: E731
    return jax.lax.scan(step, state, batches)[0]


@functools.cache
def stationary():
    x = stream()
    model = online()
    return model, run(model, model.init(x[0]), x), x


@functools.cache
def best() -> np.ndarray:
    """Centres of an anneal on all of the stream at once."""
    problem = mj.Clustering(stream().reshape(-1, D), K)
    return np.asarray(mj.anneal(problem, key=jax.random.key(0)).params)


# --- The oracle: expectation maximisation over sums that decay, in NumPy. ---------------------


def step_in_numpy(sums, centres, x, weights, beta, rate, kappa):
    """One batch: Gibbs policy, what each cluster receives, and the running mean of that."""
    distances = np.sum((x[:, None] - centres) ** 2, axis=2)
    firm, floor = 1 - kappa * K / (K - 1), kappa / (K - 1)
    average = firm * distances + floor * distances.sum(axis=1, keepdims=True)
    policy = np.exp(-beta * (average - average.min(axis=1, keepdims=True)))
    policy /= policy.sum(axis=1, keepdims=True)
    received = (weights / weights.sum())[:, None] * (firm * policy + floor)
    new = np.concatenate([received.T @ x, received.sum(axis=0)[:, None]], axis=1)
    sums = (1 - rate) * sums + rate * new
    return sums, sums[:, :-1] / sums[:, -1:]


@pytest.mark.parametrize("kappa", [0.0, 0.2])
def test_updates_are_expectation_maximisation_over_decaying_sums(kappa):
    x, beta, decay = stream(batches=3, seed=1), 2.5, 0.7
    weights = np.random.default_rng(2).uniform(0.5, 2.0, size=(3, EACH))
    model = OnlineClustering(
        K, mj.Explicit([beta]), decay=decay, patience=50, autonomy=mj.autonomy.Uniform(kappa)
    )
    state = model.init(x[0], weights[0], centres=0.5 * CORNERS)
    centres = 0.5 * CORNERS
    sums = np.concatenate([centres, np.ones((K, 1))], axis=1) / K
    for t in range(3):
        state = model.update(state, x[t], weights[t])
        rate = (t + 2) ** -decay
        sums, centres = step_in_numpy(sums, centres, x[t], weights[t], beta, rate, kappa)
        np.testing.assert_allclose(state.centres, centres, rtol=1e-9, atol=1e-12)
    assert int(state.n_batches) == 3


def test_a_stationary_stream_ends_within_a_per_cent_of_the_anneal_of_all():
    model, state, x = stationary()
    found = model.solution(state).raise_if_failed()
    assert int(found.n_clusters) == K and float(found.beta) == 60.0
    fresh = stream(seed=9)
    assert hard_cost(found.params, x) <= 1.01 * hard_cost(best(), x)
    # On what neither has seen.
    assert hard_cost(found.params, fresh) <= 1.01 * hard_cost(best(), fresh)


def test_the_order_of_batches_matters_little_and_that_of_rows_not_at_all():
    model, state, x = stationary()
    rng = np.random.default_rng(3)
    other = run(model, model.init(x[0]), x[rng.permutation(BATCHES)])
    assert hard_cost(other.centres, x) <= 1.01 * hard_cost(best(), x)
    rows = np.stack([batch[rng.permutation(EACH)] for batch in x])
    np.testing.assert_allclose(
        run(model, model.init(x[0]), rows).centres, state.centres, rtol=1e-6, atol=1e-8
    )


# Each mean nearest to another centre than before, or all to one or two of them.
JUMPS = {
    "turned": CORNERS @ np.array([[0.0, 1.6], [-1.6, 0.0]]) + [0.9, 0.3],
    "far": CORNERS + [12.0, 0.0],
    "to one side": CORNERS * [0.5, 2.0] + [3.0, 1.0],
}


@pytest.mark.parametrize("jump", JUMPS)
def test_clusters_that_jump_are_found_again(jump):
    model, state, _ = stationary()
    after = stream(JUMPS[jump], seed=4)
    lost = hard_cost(state.centres, after)
    found = model.solution(run(model, state, after))
    # Four separate groups of which every mean is about known: nothing is left to be much better.
    known = hard_cost(JUMPS[jump], after)
    assert lost > 1.5 * known
    assert hard_cost(found.params, after) <= 1.02 * known
    assert int(found.n_recoveries) > int(model.solution(state).n_recoveries)


def test_a_slow_drift_is_followed():
    model, state, _ = stationary()
    velocity = np.array([2.0, -1.0]) / BATCHES
    moving = stream(seed=5) + velocity * np.arange(BATCHES)[:, None, None]
    found = run(model, state, moving)
    last, place = moving[-8:], CORNERS + velocity * (BATCHES - 4)
    stayed = hard_cost(state.centres, last)
    assert hard_cost(found.centres, last) <= 1.3 * hard_cost(place, last) < 0.3 * stayed


def test_without_news_nothing_is_taken_for_a_jump():
    model, state, _ = stationary()
    again = run(model, state, stream(seed=6))
    assert int(again.n_recoveries) - int(state.n_recoveries) <= 1


def test_compiled_and_lane_by_lane_it_is_the_same():
    model, state, x = stationary()
    eager = model.init(x[0])
    for batch in x[:6]:
        eager = model.update(eager, batch)
    scanned = run(model, model.init(x[0]), x[:6])
    np.testing.assert_allclose(eager.centres, scanned.centres, rtol=1e-8, atol=1e-10)
    decays = jnp.array([0.6, 0.9])

    def ends(decay):
        model = online(decay=decay)
        return run(model, model.init(x[0]), x[:6]).centres

    lanes = jax.vmap(ends)(decays)
    np.testing.assert_allclose(lanes[0], scanned.centres, rtol=1e-8, atol=1e-10)
    assert not np.allclose(lanes[1], lanes[0])


def test_what_has_not_ended_says_so():
    model, _, x = stationary()
    early = model.solution(model.update(model.init(x[0]), x[0]))
    assert int(early.code) == mj.Code.MAX_STEPS
    with pytest.raises(mj.SolveError, match="more batches"):
        early.raise_if_failed()


def test_a_bad_batch_is_refused_or_told():
    model, state, x = stationary()
    bad = x[0].copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="`x` must be finite"):
        model.update(state, bad)
    after = run(model, state, np.stack([bad, *x[1:]]))
    assert np.isfinite(after.centres).all()
    found = model.solution(after)
    assert int(found.code) == mj.Code.NON_FINITE_INPUT
    with pytest.raises(ValueError, match="`x` must be finite; got 1 NaN"):
        found.raise_if_failed()
    with pytest.raises(ValueError, match=r"must have 2 features.*got shape \(48, 1\)"):
        model.update(state, x[0][:, :1])


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"k": 0}, ValueError, "`k` must be at least 1"),
        ({"schedule": "slow"}, TypeError, "`schedule` must be a mepjax schedule"),
        ({"decay": 1.5}, ValueError, r"`decay` must be in \[0, 1\]"),
        ({"patience": 0}, ValueError, "`patience` must be at least 1"),
        ({"autonomy": mj.autonomy.Softmax(0.2)}, TypeError, "`autonomy` must be none or uniform"),
    ],
)
def test_bad_options_are_named(options, error, says):
    with pytest.raises(error, match=f"OnlineClustering: {says}"):
        OnlineClustering(**({"k": 2} | options))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_more_clusters_than_groups_within_a_per_cent_of_anneal_and_repair(seed):
    # Ten groups of unequal size in a square of side 400 and twelve centres, in float32.
    rng = np.random.default_rng(seed)
    places, sizes = rng.uniform(0, 400, (10, 2)), rng.uniform(6, 18, 10)
    of = rng.integers(10, size=(300, 256))
    x = (places[of] + sizes[of, None] * rng.normal(size=(300, 256, 2))).astype(np.float32)
    model = OnlineClustering(12)
    found = model.solution(run(model, model.init(x[0]), x)).raise_if_failed()
    all_at_once = mj.Clustering(x.reshape(-1, 2)[:20_000], 12)
    annealed = mj.anneal(all_at_once, key=jax.random.key(0), repair=mj.Repair()).params
    assert hard_cost(found.params, x) <= 1.01 * hard_cost(annealed, x)
