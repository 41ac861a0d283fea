"""What populations do under a policy, and behaviours from what was seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import mdp
from tests.oracles.steering_numpy import BruteForce, random_tables

SIZES, LABELS = (2, 3, 2), (0, 1, 1)


def system():
    rng = np.random.default_rng(0)
    tables, reward = random_tables(rng, SIZES, 2), rng.uniform(size=12)
    model = mdp.FactoredMDP(tables, reward, sizes=SIZES, signals=2, discount=0.9)
    policy = rng.integers(0, 2, (12, 2))
    force = BruteForce(tables, lambda x, a: reward.reshape(SIZES)[x], SIZES, LABELS, (2, 2), 0.9)
    return model, policy, force.kernels[force.under(policy), np.arange(12)], reward


def likely(behaviour, kind):
    """Probabilities of an agent's next states, in a table of this kind."""
    assert isinstance(behaviour, kind)
    return behaviour.p


def test_expected_rewards_and_the_long_run_are_those_of_the_chain():
    model, policy, kernel, reward = system()
    along = mdp.expected_rewards(model, LABELS, policy, 4)
    expected = [np.mean(np.linalg.matrix_power(kernel, t) @ reward) for t in range(4)]
    np.testing.assert_allclose(along, expected, atol=1e-12)
    settled = mdp.stationary(model, LABELS, policy)
    np.testing.assert_allclose(settled, np.linalg.matrix_power(kernel, 200)[0], atol=1e-10)


def test_a_population_that_goes_in_circles_has_its_share_of_time():
    around = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0.0]])[:, None].repeat(2, 1)
    model = mdp.FactoredMDP([mdp.Local(around)], np.zeros(3), sizes=[3], signals=2, discount=0.9)
    settled = mdp.stationary(model, [0], np.zeros((3, 1), int), weights=np.eye(3)[0])
    np.testing.assert_allclose(settled, 1 / 3, atol=1e-9)


def test_paths_follow_the_rows_and_the_policy():
    model, policy, kernel, reward = system()
    keys = jax.random.split(jax.random.key(1), 4000)
    run = jax.vmap(lambda key: mdp.simulate(model, LABELS, policy, key, 2, start=[1, 2, 0]))
    states, signals, rewards = run(keys)
    x = np.asarray(np.ravel_multi_index(tuple(np.moveaxis(np.asarray(states), -1, 0)), SIZES))
    start = model.state(1, 2, 0)
    assert np.all(x[:, 0] == start) and np.allclose(rewards, reward[x[:, :2]])
    np.testing.assert_array_equal(signals[:, 1], policy[x[:, 1]][:, list(LABELS)])
    seen = np.bincount(x[:, 2], minlength=12) / len(x)
    np.testing.assert_allclose(seen, (kernel @ kernel)[start], atol=0.03)


def test_behaviours_come_back_from_a_long_log():
    model, *_ = system()
    rng = np.random.default_rng(2)
    rows = 60_000
    before = np.stack([rng.integers(0, size, rows) for size in SIZES], -1)
    heard = rng.integers(0, 2, (rows, 3))
    index = np.ravel_multi_index(tuple(before.T), SIZES)
    tables = [likely(behaviour, mdp.Table) for behaviour in model.behaviours]
    after = np.stack(
        [
            (rng.uniform(size=rows)[:, None] > np.cumsum(p[index, heard[:, n]], -1)).sum(-1)
            for n, p in enumerate(tables)
        ],
        -1,
    )
    found = mdp.estimate((before, heard, after), sizes=SIZES, signals=2, kind="table")
    for estimated, p in zip(found.behaviours, tables, strict=True):
        np.testing.assert_allclose(likely(estimated, mdp.Table), p, atol=0.05)
    assert found.unseen == (0, 0, 0)
    scoped = mdp.estimate((before, heard, after), sizes=SIZES, signals=2, kind=[[0], [2, 0], [1]])
    kinds, shapes = (mdp.Local, mdp.Scoped, mdp.Scoped), [(2, 2, 2), (4, 2, 3), (3, 2, 2)]
    assert [likely(*pair).shape for pair in zip(scoped.behaviours, kinds, strict=True)] == shapes


def test_what_was_never_seen_is_told():
    log = (np.array([[0, 0]]), np.array([[1, 0]]), np.array([[1, 1]]))
    found = mdp.estimate(log, sizes=[2, 2], signals=2, smoothing=0.5)
    first = likely(found.behaviours[0], mdp.Local)[0]
    np.testing.assert_allclose(first, [[0.5, 0.5], [0.25, 0.75]])
    assert found.unseen == (3, 3)
    assert found.words().startswith("agent 0: 3 of 4 pairs of state and signal were never seen")


@pytest.mark.parametrize(
    "log, options, message",
    [
        (([], [], []), {}, r"shape \(rows, 2\); got \(0,\)"),
        ((np.zeros((0, 2), int),) * 3, {}, "`log` has no rows"),
        (
            (np.array([[0, 2]]), np.zeros((1, 2), int), np.zeros((1, 2), int)),
            {},
            r"states of agent 1 must be in 0..1; got 2 in row 0",
        ),
        (
            (np.zeros((1, 2), int), np.array([[3, 0]]), np.zeros((1, 2), int)),
            {},
            r"signals of agent 0 must be in 0..1; got 3 in row 0",
        ),
        (
            (np.zeros((1, 2), int),) * 3,
            {"smoothing": 0.0},
            "agent 0 was never seen in state 0",
        ),
        ((np.zeros((1, 2), int),) * 3, {"kind": "far"}, "`kind` must be"),
    ],
)
def test_bad_logs_are_refused(log, options, message):
    with pytest.raises(ValueError, match=message):
        mdp.estimate(log, sizes=[2, 2], signals=2, **options)


def test_policies_of_another_shape_are_refused():
    model, *_ = system()
    with pytest.raises(ValueError, match=r"`policy` must have shape \(12, C\)"):
        mdp.simulate(model, LABELS, jnp.zeros((3, 2), int), jax.random.key(0), 2)


def test_a_population_is_a_gymnasium_environment():
    checker = pytest.importorskip("gymnasium.utils.env_checker")
    model, policy, kernel, reward = system()
    env = mdp.environment(model, LABELS, max_steps=3)
    checker.check_env(env, skip_render_check=True)
    x, _ = env.reset(seed=0)
    total, cut, steps = 0.0, False, 0
    while not cut:
        index = model.state(*x)
        x, earned, ended, cut, _ = env.step(policy[index])
        assert earned == pytest.approx(reward[index]) and not ended
        total, steps = total + earned, steps + 1
    assert steps == 3
