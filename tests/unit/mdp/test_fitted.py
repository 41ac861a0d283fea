"""Fitted values: exact where features can say all, the projected fixed point elsewhere."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import Code, SolveError, mdp
from tests.oracles.steering_numpy import BruteForce, as_joint, random_local, random_tables

from .steering import DISCOUNT, LABELS, SIGNALS, SIZES, STATES, draw

DIGITS = np.stack(np.unravel_index(np.arange(STATES), SIZES), -1)


def test_clusters_that_do_not_interact_have_exact_values_and_signals():
    model, force = draw(0, local=True, separable=True)
    found = mdp.steer_fitted(model, LABELS, mdp.LinearValues("clusters")).raise_if_failed()
    best, policy = force(LABELS).solve()
    np.testing.assert_allclose(found.values, best, rtol=1e-8)
    np.testing.assert_array_equal(found.policy, policy)
    assert found.residual < 1e-7
    some = DIGITS[[7, 2]]
    np.testing.assert_allclose(found.value(model, some), best[[7, 2]], rtol=1e-8)
    np.testing.assert_array_equal(found.signals(model, some), policy[[7, 2]])


def test_few_features_give_the_fixed_point_of_projected_backups():
    """Agents move by all states, and values are sums over agents fitted in some of the states."""
    rng = np.random.default_rng(1)
    tables = random_tables(rng, SIZES, SIGNALS)
    earned = [rng.uniform(size=(size, SIGNALS)) for size in SIZES]
    model = mdp.FactoredMDP(
        tables, mdp.Separable(earned), sizes=SIZES, signals=SIGNALS, discount=DISCOUNT
    )

    def reward(x, heard):
        return sum(r[s, a] for r, s, a in zip(earned, x, heard, strict=True))

    brute = BruteForce(tables, reward, SIZES, LABELS, [SIGNALS] * 2, DISCOUNT)
    seen, weights = np.array([0, 2, 3, 5, 6, 8, 9, 11]), rng.uniform(0.5, 1, 8)
    features = np.concatenate(
        [np.ones((STATES, 1)), *(np.eye(n)[DIGITS[:, i]][:, 1:] for i, n in enumerate(SIZES))], 1
    )
    root = np.sqrt(weights)[:, None]
    project = np.linalg.pinv(root * features[seen]) * root[:, 0]
    params = np.zeros(features.shape[1])
    for _ in range(600):
        # With sums over clusters of values and rewards, turns find the best joint signal.
        params = project @ brute.backup(features @ params)[0][seen]
    found = mdp.steer_fitted(model, LABELS, states=DIGITS[seen], weights=weights)
    np.testing.assert_allclose(found.params, params, rtol=1e-7, atol=1e-7)
    change = brute.backup(features @ params)[0] - features @ params
    np.testing.assert_allclose(found.residual, np.abs(change[seen]).max(), rtol=1e-6)


def test_own_features_and_an_unsteered_agent():
    """Indicators given by hand span what "clusters" spans; the last table is the environment's."""
    rng = np.random.default_rng(2)
    own = random_local(rng, SIZES, SIGNALS)
    own[2] = own[2][:, :1]
    earned = [rng.uniform(size=p.shape[:2]) for p in own]
    model = mdp.FactoredMDP(
        [mdp.Local(p) for p in own], mdp.Separable(earned), sizes=SIZES, signals=(2, 2, 1),
        discount=DISCOUNT,
    )  # fmt: skip

    def reward(x, heard):
        return sum(r[s, a] for r, s, a in zip(earned, x, heard, strict=True))

    tables = [np.asarray(p) for p in as_joint(own, SIZES)]
    tables[2] = np.repeat(tables[2], 2, 1)
    earned[2] = np.repeat(earned[2], 2, 1)
    best, _ = BruteForce(tables, reward, SIZES, (1, 0, 0), [2, 2], DISCOUNT).solve()
    mixed = [rng.normal(size=(n, n)) for n in (3, 2, 2)]
    found = mdp.steer_fitted(model, [1, 0], mdp.LinearValues(mixed)).raise_if_failed()
    np.testing.assert_allclose(found.values, best, rtol=1e-7)


def test_gradients_equal_finite_differences_and_failed_lanes_have_none():
    model, _ = draw(3, local=True, separable=True)

    reward: Any = model.reward

    def changed_in(m) -> Any:
        return m.discount, m.reward.tables[1]

    def worth(discount, more):
        changed = eqx.tree_at(
            changed_in,
            model,
            (discount, reward.tables[1] + more * jnp.arange(6.0).reshape(3, 2)),
        )
        found = mdp.steer_fitted(changed, LABELS)
        return jnp.sum(found.values), found.code

    each = jax.jit(jax.vmap(jax.value_and_grad(worth, (0, 1), has_aux=True), (0, None)))
    h = 1e-5
    discounts = jnp.asarray([0.8, 0.8 + h, 0.8 - h, 1.5])
    (values, codes), (by_discount, by_more) = each(discounts, 0.1)
    assert codes.tolist() == [0, 0, 0, Code.INVALID_INPUT]
    np.testing.assert_allclose(by_discount[0], (values[1] - values[2]) / (2 * h), rtol=1e-6)
    (ahead, _), _ = each(discounts, 0.1 + h)
    (behind, _), _ = each(discounts, 0.1 - h)
    np.testing.assert_allclose(by_more[0], (ahead[0] - behind[0]) / (2 * h), rtol=1e-6)
    assert np.isnan(by_discount[3]) and np.isnan(by_more[3])


def test_many_agents_cost_no_joint_states():
    rng = np.random.default_rng(4)
    own, earned = random_local(rng, (2,) * 20, 3), list(rng.uniform(size=(20, 2, 3)))
    model = mdp.FactoredMDP(
        [mdp.Local(p) for p in own], mdp.Separable(earned), sizes=[2] * 20, signals=3, discount=0.9
    )
    found = mdp.steer_fitted(
        model, np.arange(20), key=jax.random.key(0), samples=100
    ).raise_if_failed()
    # Every agent on its own is a process of two states.
    best = np.zeros(found.states.shape[0])
    for p, r, x in zip(own, earned, np.asarray(found.states).T, strict=True):
        value = np.zeros(2)
        for _ in range(400):
            value = (r + 0.9 * np.einsum("xmy,y->xm", p, value)).max(1)
        best += value[x]
    np.testing.assert_allclose(found.values, best, rtol=1e-7)


def test_values_that_do_not_settle_say_so():
    model, _ = draw(5)
    short = mdp.steer_fitted(model, LABELS, method=mdp.FittedIteration(max_steps=3))
    with pytest.raises(SolveError, match="had not settled after `max_steps` rounds"):
        short.raise_if_failed()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"values": "agents"}, r"`values` must be LinearValues or other values; got str"),
        ({"samples": 4}, r"needs a `key` to draw 4 of 12 joint states"),
        ({"states": np.zeros((2, 2), int)}, r"`states` must have shape \(S, 3\).*got \(2, 2\)"),
        ({"states": np.full((2, 3), 2)}, r"`states` of agent 0 must be in 0..1; got 2 in row 0"),
        ({"weights": np.ones(3)}, r"`weights` must have shape \(12,\)"),
        ({"weights": np.full(12, -1.0)}, r"`weights` must be >= 0; got -1"),
        ({"order": [1, 1]}, r"`order` must be a permutation of 0..1"),
        ({"values": mdp.LinearValues([np.ones((2, 1))])}, r"one array for each of 2 clusters"),
        (
            {"values": mdp.LinearValues([np.ones((2, 1)), np.ones((5, 1))])},
            r"of cluster 1 must have shape \(6, features\).*got \(5, 1\)",
        ),
    ],
)
def test_what_is_refused(changed, message):
    model, _ = draw(6)
    with pytest.raises((ValueError, TypeError), match=message):
        mdp.steer_fitted(model, LABELS, **changed)


def test_features_beyond_memory_are_told_before_work_starts():
    local = np.full((2, 9, 2), 0.5)
    model = mdp.FactoredMDP(
        [mdp.Local(local)] * 24, mdp.Separable([np.zeros((2, 9))] * 24), sizes=[2] * 24, signals=9,
        discount=0.9,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"expected features hold .* GiB.*16777216 joint states"):
        mdp.steer_fitted(
            model, np.zeros(24, int), mdp.LinearValues("clusters"), key=jax.random.key(0)
        )
