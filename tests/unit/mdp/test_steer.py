"""Steering three agents, against brute force over all joint signals."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import Code, SolveError, mdp
from mepjax.mdp.arrangement import arrange, check_labels
from mepjax.mdp.certificates import relaxed_backup
from mepjax.mdp.clustered import ClusteredMDP
from tests.oracles.steering_numpy import BruteForce, partitions

from .steering import (
    DISCOUNT,
    LABELS,
    SIGNALS,
    SIZES,
    STATES,
    draw,
    earned_in_states,
    mixed_model,
    operator,
    stack,
)

# --- Backups. -----------------------------------------------------------------------------------


def test_backups_of_a_mixed_model_with_a_group_equal_sums_over_all_next_states():
    rng = np.random.default_rng(0)
    sizes, behaviours, (first, second), joint = mixed_model(rng)
    earned = rng.normal(size=(24, 2, 2))  # by the signals of agents 0 and 2

    def reward(x, heard):
        state = ((x[0] * 3 + x[1]) * 2 + x[2]) * 2 + x[3]
        return jnp.asarray(earned)[state, heard[0], heard[2]]

    model = mdp.FactoredMDP(behaviours, reward, sizes=sizes, signals=2, discount=0.8)
    values = rng.normal(size=24)
    labels = [1, 0, 0, 0]  # agent 0 alone; the group hears what agent 1 hears
    expected = np.empty((24, 2, 2))
    for a in range(2):
        for b in range(2):
            kernel = np.einsum("xi,xj,xk->xijk", first[:, b], second[:, a], joint[:, a])
            expected[:, a, b] = earned[:, b, a] + 0.8 * kernel.reshape(24, 24) @ values
    found, policy = operator(model, labels).backup(jnp.asarray(values))
    np.testing.assert_allclose(found, expected.reshape(24, 4).max(1), atol=1e-12)
    best = np.stack(np.unravel_index(expected.reshape(24, 4).argmax(1), (2, 2)), -1)
    np.testing.assert_array_equal(policy, best)


def test_deterministic_computed_and_composed_behaviours_equal_their_tables():
    rng = np.random.default_rng(1)
    following = rng.integers(0, 2, size=(12, 2))
    policy, environment = rng.dirichlet([1, 1, 1], (12, 2)), np.ones((12, 2, 1))
    weights = jnp.asarray(rng.uniform(size=(2, 3, 2)))

    def soft(x, signal):
        return jax.nn.softmax(weights[x[0], x[1]] * (1 + signal))

    kinds = [mdp.NextState(following), mdp.composed(policy, environment), mdp.Rows(soft)]
    digits = np.stack(np.unravel_index(np.arange(12), SIZES), -1)
    computed = np.array([[soft(x, m) for m in range(2)] for x in digits])
    tables = [np.eye(2)[following], policy, computed]
    reward = rng.uniform(size=12)
    made = mdp.FactoredMDP(kinds, reward, sizes=SIZES, signals=2, discount=0.9)
    values, held = jnp.asarray(rng.normal(size=12)), rng.integers(0, 2, size=(12, 2))
    force = BruteForce(
        tables, lambda x, a: reward.reshape(SIZES)[x], SIZES, LABELS, [2, 2], DISCOUNT
    )
    op = operator(made, LABELS)
    np.testing.assert_allclose(op.backup(values)[0], force.backup(values)[0], atol=1e-12)
    np.testing.assert_allclose(
        op.apply(values, jnp.asarray(held)), force.apply(values, held), atol=1e-12
    )


@pytest.mark.parametrize("labels", [(0, 0, 0), (0, 1, 1), (1, 0, 1), (2, 0, 1)])
@pytest.mark.parametrize("separable", [True, False])
def test_backups_of_all_and_of_one_cluster_equal_brute_force(labels, separable):
    model, force = draw(2, separable=separable)
    force, op = force(labels), operator(model, labels)
    rng = np.random.default_rng(3)
    values = rng.normal(size=STATES)
    held = rng.integers(0, SIGNALS, size=(STATES, max(labels) + 1))

    def both(op, values, held):
        one = [op.cluster_backup(values, held, jnp.asarray(c)) for c in range(max(labels) + 1)]
        return op.backup(values), one, op.apply(values, held), op.with_rows().backup(values)

    found = jax.jit(both)(op, values, jnp.asarray(held, jnp.int32))
    blocked = jax.jit(both)(
        ClusteredMDP(model, op.arrangement, block=5), values, jnp.asarray(held, jnp.int32)
    )
    expected = (
        force.backup(values),
        [force.cluster_backup(values, held, c) for c in range(max(labels) + 1)],
        force.apply(values, held),
        force.backup(values),
    )
    for leaf, of_blocks, right in zip(
        *map(jax.tree.leaves, (found, blocked, expected)), strict=True
    ):
        np.testing.assert_allclose(leaf, right, atol=1e-12)
        np.testing.assert_allclose(of_blocks, right, atol=1e-12)


def test_traced_labels_share_all_signals_and_give_the_same_backup():
    model, force = draw(4)
    values = jnp.asarray(np.random.default_rng(5).normal(size=STATES))
    every = jnp.asarray(list(partitions(3, 2)))

    def traced(labels):
        full, count = check_labels(model, labels, 2)
        return ClusteredMDP(model, arrange(model, full, count)).backup(values)[0]

    found = jax.jit(jax.vmap(traced))(every)
    for labels, backup in zip(every.tolist(), found, strict=True):
        np.testing.assert_allclose(backup, force(labels).backup(values)[0], atol=1e-12)


# --- Methods. -----------------------------------------------------------------------------------


def test_values_of_one_cluster_and_of_single_agents_enclose_those_of_all_clusterings():
    model, force = draw(6)
    values = {
        tuple(labels): np.asarray(mdp.steer(model, labels).values)
        for labels in ([0, 0, 0], [0, 1, 1], [0, 1, 2])
    }
    assert np.all(values[0, 0, 0] <= values[0, 1, 1] + 1e-9)
    assert np.all(values[0, 1, 1] <= values[0, 1, 2] + 1e-9)
    for labels, found in values.items():
        np.testing.assert_allclose(found, force(labels).solve()[0], atol=1e-8)


def test_clustered_iteration_is_value_iteration_with_one_cluster():
    model, force = draw(7)
    found = mdp.steer(model, [0, 0, 0], method=mdp.CVI())
    np.testing.assert_allclose(found.values, force([0, 0, 0]).solve()[0], atol=1e-7)
    assert found.certified


def test_clustered_iteration_is_exact_on_every_clustering_of_local_separable_systems():
    every = jnp.asarray(list(partitions(3, 2)))
    assert draw(0, local=True, separable=True)[0].local_separable

    def solve(model, labels):
        return mdp.steer(model, labels, method=mdp.CVI(), clusters=2)

    models = stack([draw(seed, local=True, separable=True)[0] for seed in range(3)])
    found = jax.jit(jax.vmap(jax.vmap(solve, (None, 0)), (0, None)))(models, every)
    assert np.all(found.certified)
    for seed, of_model in enumerate(found.values):
        _, force = draw(seed, local=True, separable=True)
        for labels, values in zip(every.tolist(), of_model, strict=True):
            np.testing.assert_allclose(values, force(labels).solve()[0], atol=1e-7)


def test_values_of_clustered_iteration_rise_from_their_start_and_stay_below_the_optimum():
    model, force = draw(8)
    op, best = operator(model, LABELS), force(LABELS).solve()[0]
    earned = earned_in_states(model)
    low = float(np.min(np.asarray(earned))) / (1 - DISCOUNT)
    values = jnp.full(STATES, low) + 0 * earned
    policy = jnp.zeros((STATES, 2), jnp.int32)
    step = eqx.filter_jit(op.cluster_backup)
    for turn in range(60):
        new, policy = step(values, policy, jnp.asarray(turn % 2))
        assert np.all(new >= values - 1e-12) and np.all(new <= best + 1e-12)
        values = new


def test_the_optimum_is_a_fixed_point_of_every_cluster_under_an_optimal_policy():
    model, force = draw(9)
    best, policy = force(LABELS).solve()
    op = operator(model, LABELS)
    for cluster in range(2):
        again, _ = op.cluster_backup(
            jnp.asarray(best), jnp.asarray(policy, jnp.int32), jnp.asarray(cluster)
        )
        np.testing.assert_allclose(again, best, atol=1e-12)
    # Lemma 3: under a policy higher values have higher backups.
    higher = best + np.random.default_rng(0).uniform(size=STATES)
    fixed = jnp.asarray(policy, jnp.int32)
    low, high = (op.apply(jnp.asarray(values), fixed) for values in (best, higher))
    assert np.all(high >= low)


def test_order_and_first_policy_are_followed_and_reordered_clusters_change_nothing():
    model, _ = draw(10)
    there = mdp.steer(model, [0, 1, 1], method=mdp.CVI())
    swapped = mdp.steer(model, [1, 0, 0], method=mdp.CVI(), order=[1, 0])
    np.testing.assert_allclose(swapped.values, there.values, atol=1e-12)
    np.testing.assert_array_equal(swapped.policy[:, ::-1], there.policy)
    # A traced order is checked too.
    turns = jax.jit(lambda order: mdp.steer(model, LABELS, method=mdp.CVI(), order=order))
    ordered, twice = (turns(jnp.array(order)) for order in ([1, 0], [1, 1]))
    np.testing.assert_allclose(ordered.values, there.values, atol=1e-12)
    with pytest.raises(ValueError, match="permutation of 0..1; got one in which cluster 0 has no"):
        twice.raise_if_failed()
    again = mdp.steer(model, LABELS, method=mdp.CVI(), init=there, ties="stay")
    assert again.cluster_steps <= 4
    np.testing.assert_array_equal(again.policy, there.policy)


def test_hybrid_says_where_its_cluster_tolerance_is_too_loose():
    model, force = draw(11)
    loose = mdp.steer(model, LABELS, method=mdp.Hybrid(atol=1e-6, cluster_atol=0.1))
    tight = mdp.steer(model, LABELS, method=mdp.Hybrid(atol=1e-6))
    assert loose.loose and not tight.loose
    assert loose.full_sweeps > tight.full_sweeps
    best = force(LABELS).solve()[0]
    np.testing.assert_allclose(loose.values, best, atol=1e-6)
    np.testing.assert_allclose(tight.values, best, atol=1e-6)


# --- Bounds, and statements of the paper that are false. ------------------------------------------


@pytest.mark.parametrize("labels", [(0, 0, 0), (1, 0, 1), (2, 0, 1)])
def test_the_relaxed_backup_bounds_the_full_one_and_equals_it_without_interaction(labels):
    values = np.random.default_rng(12).normal(size=STATES)
    model, force = draw(13, separable=True)
    above = relaxed_backup(operator(model, labels), jnp.asarray(values))
    assert np.all(above >= force(labels).backup(values)[0] - 1e-12)
    model, force = draw(13, local=True, separable=True)
    best = force(labels).solve()[0]
    above = relaxed_backup(operator(model, labels), jnp.asarray(best))
    np.testing.assert_allclose(above, best, atol=1e-10)


def test_a_relaxed_certificate_encloses_the_optimum():
    model, force = draw(14)
    found = mdp.steer(model, (0, 1, 2), method=mdp.CVI(), certificate="relaxed")
    best = force((0, 1, 2)).solve()[0]
    assert found.certificate == "relaxed"
    assert np.all(found.lower <= best + 1e-9) and np.all(best <= found.upper + 1e-9)


def test_lemma_4_is_false_for_two_clusters():
    """Its bound compares backups of different clusters; values that differ little show it."""
    model, _ = draw(15)
    op = operator(model, LABELS)
    values = jnp.asarray(np.random.default_rng(16).normal(size=STATES))
    policy = jnp.zeros((STATES, 2), jnp.int32)
    one, _ = op.cluster_backup(values, policy, jnp.asarray(0))
    two, _ = op.cluster_backup(values + 1e-5, policy, jnp.asarray(1))
    assert np.max(np.abs(one - two)) / 1e-5 > 1000 > DISCOUNT


def test_theorem_5_is_false_where_transitions_are_coupled():
    """Two agents earn .5 at home; both earn 1 for ever if they go out together, one alone is lost.

    Going out pays, but to no agent alone.
    """
    home, out, lost, there = range(4)
    following = np.full((2, 16, 2), lost)
    for x, pair in enumerate(np.ndindex(4, 4)):
        if pair == (home, home):
            following[:, x] = [home, out]
        if pair in ((out, out), (there, there)):
            following[:, x] = there
    earned = np.repeat([[0.5], [0.0], [0.0], [1.0]], 2, 1)
    model = mdp.FactoredMDP(
        [mdp.NextState(table) for table in following],
        mdp.Separable([earned] * 2),
        sizes=(4, 4),
        signals=2,
        discount=0.9,
    )
    found, best = mdp.steer(model, [0, 1], method=mdp.CVI()), mdp.steer(model, [0, 1])
    np.testing.assert_allclose([found.values[0], best.values[0]], [10, 1 + 0.81 * 20], atol=1e-6)
    assert best.certified and not found.certified
    assert found.upper[0] >= best.values[0] - 1e-7


# --- The three promises. --------------------------------------------------------------------------


def test_gradients_of_values_equal_finite_differences():
    weights = jnp.asarray(np.random.default_rng(17).uniform(size=STATES))
    model, _ = draw(18, separable=True)
    arrays, static = eqx.partition(model, eqx.is_inexact_array)

    def worth(arrays):
        model = eqx.combine(arrays, static)
        return weights @ mdp.steer(model, LABELS, method=mdp.CVI()).values

    value, gradient = jax.jit(jax.value_and_grad(worth))(arrays)
    direction = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(leaf.size).normal(size=leaf.shape)), arrays
    )
    # Along rows that keep their sum.
    tables = tuple(
        eqx.tree_at(lambda b: b.p, b, b.p - jnp.mean(b.p, -1, keepdims=True))
        for b in direction.behaviours
    )
    direction = eqx.tree_at(lambda m: m.behaviours, direction, tables)
    direction = eqx.tree_at(lambda m: m.discount, direction, jnp.asarray(0.1))
    h = 1e-5
    at = jax.jit(worth)
    ahead = at(jax.tree.map(lambda x, d: x + h * d, arrays, direction))
    behind = at(jax.tree.map(lambda x, d: x - h * d, arrays, direction))
    slope = sum(
        jnp.sum(g * d)
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-6)


def test_a_failed_lane_has_its_code_and_no_gradient_and_leaves_others_alone():
    model, force = draw(19)

    def worth(discount):
        at = eqx.tree_at(lambda m: m.discount, model, discount)
        found = mdp.steer(at, LABELS, method=mdp.CVI(max_steps=300))
        return jnp.sum(found.values), found

    discounts = jnp.asarray([0.9, 0.999, 1.5])
    (_, found), gradient = jax.jit(jax.vmap(jax.value_and_grad(worth, has_aux=True)))(discounts)
    assert found.code.tolist() == [Code.OK, Code.MAX_STEPS, Code.INVALID_INPUT]
    np.testing.assert_allclose(found.values[0], force(LABELS).solve()[0], atol=1e-7)
    assert np.isfinite(gradient[0]) and np.all(np.isnan(gradient[1:]))
    with pytest.raises(SolveError, match=r"2 of 3 lanes failed; lane 1: The method's `max_steps`"):
        found.raise_if_failed()


def test_single_precision_agrees_with_double():
    model, _ = draw(20)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), model)
    found, double = mdp.steer(single, LABELS), mdp.steer(model, LABELS)
    assert found.values.dtype == jnp.float32 and found.code == Code.OK and found.certified
    np.testing.assert_allclose(found.values, double.values, rtol=2e-5)


def test_hybrid_ends_in_float32():
    """Rounding moves values by an ulp for ever; a round that moves them no more is quiet."""
    rng = np.random.default_rng(0)
    rows = [rng.dirichlet(np.ones(3), (27, 2)).astype(np.float32) for _ in range(3)]
    reward = rng.uniform(size=27).astype(np.float32)
    model = mdp.FactoredMDP(
        [jnp.asarray(table) for table in rows], jnp.asarray(reward), sizes=[3] * 3, signals=2,
        discount=0.9,
    )  # fmt: skip
    found = mdp.steer(model, labels=[0, 0, 1])
    assert int(found.code) == 0
    assert int(found.cluster_steps) < 1_000
    assert np.max(found.upper - found.lower) < 1e-4
