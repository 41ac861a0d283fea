"""Greedy splitting and best clusterings, against every clustering solved by brute force."""

import numpy as np
import pytest

from mepjax import mdp
from mepjax.mdp.permuted import permute
from mepjax.mdp.splitting import partitions, stirling
from tests.oracles.steering_numpy import BruteForce, as_joint, random_local, random_tables
from tests.oracles.steering_numpy import partitions as all_partitions


def coupled(seed, agents=4, signals=2):
    """(model, values of labels) of a system whose clusters interact."""
    rng, sizes = np.random.default_rng(seed), (2,) * agents
    tables, reward = random_tables(rng, sizes, signals), rng.uniform(size=2**agents)
    model = mdp.FactoredMDP(tables, reward, sizes=sizes, signals=signals, discount=0.8)

    def values(labels):
        choices, grid = [signals] * (max(labels) + 1), reward.reshape(sizes)
        return BruteForce(tables, lambda x, a: grid[x], sizes, labels, choices, 0.8).solve()[0]

    return model, values


def local(seed, agents, signals=3):
    rng = np.random.default_rng(seed)
    own = random_local(rng, (2,) * agents, signals)
    earned = list(rng.uniform(size=(agents, 2, signals)))
    model = mdp.FactoredMDP(
        [mdp.Local(p) for p in own],
        mdp.Separable(earned),
        sizes=(2,) * agents,
        signals=signals,
        discount=0.9,
    )
    return model, own, earned


def taste():
    """Signals 0..3, .6 for signal 0, 1 for the agent's own, else 0; one state each."""
    earned = [np.array([[0.6] + [float(m == n) for m in range(3)]]) for n in range(3)]
    return mdp.FactoredMDP(
        [mdp.Local(np.ones((1, 4, 1)))] * 3,
        mdp.Separable(earned),
        sizes=(1, 1, 1),
        signals=4,
        discount=0.5,
    )


def test_partitions_are_all_of_them_once():
    for k in range(1, 6):
        listed = list(partitions(5, k))
        assert sorted(map(list, listed)) == sorted(all_partitions(5, k))
        assert len(listed) == stirling(5, k)


def test_a_permuted_population_is_worth_the_same():
    rng = np.random.default_rng(0)
    sizes = (2, 3, 2)
    tables = random_tables(rng, sizes, 2)
    scoped = rng.dirichlet([1, 1], (6, 2))
    following = rng.integers(0, 3, (12, 2))
    earned = [rng.uniform(size=(size, 2)) for size in sizes]
    model = mdp.FactoredMDP(
        [tables[0], mdp.NextState(following), mdp.Scoped(scoped, [1, 0])],
        mdp.Separable(earned),
        sizes=sizes,
        signals=2,
        discount=0.9,
    )
    moved = permute(model, [2, 0, 1])
    assert moved.sizes == (2, 2, 3)
    values = np.asarray(mdp.steer(model, [0, 1, 1]).values).reshape(sizes)
    again = np.asarray(mdp.steer(moved, [1, 0, 1]).values).reshape(2, 2, 3)
    np.testing.assert_allclose(again, values.transpose(2, 0, 1), atol=1e-8)


def test_splitting_is_greedy_over_whole_clusterings_and_optimal_at_both_ends():
    model, values = coupled(1)
    worth = {tuple(labels): np.mean(values(labels)) for labels in all_partitions(4)}
    found = mdp.split(model)
    assert found.clusters.tolist() == [1, 2, 3, 4]
    assert found.examined.tolist()[:2] == [1, 7] and found.exhaustive == (1, 7, 6, 1)
    for labels, value in zip(found.labels.tolist(), found.values, strict=True):
        np.testing.assert_allclose(value, worth[tuple(labels)], atol=1e-8)
    for k in (1, 2, 4):
        best = max(value for labels, value in worth.items() if max(labels) + 1 == k)
        np.testing.assert_allclose(found.values[k - 1], best, atol=1e-8)
    assert np.all(found.gains >= -1e-9)  # Lemmas 8 and 9
    exhaustive = mdp.best_clustering(model, 3)
    best = max(value for labels, value in worth.items() if max(labels) + 1 == 3)
    np.testing.assert_allclose(exhaustive.values, [best], atol=1e-8)
    assert found.values[2] <= exhaustive.values[0] + 1e-9


def test_weights_and_norms_are_what_they_say():
    model, values = coupled(1)
    weights = np.random.default_rng(2).uniform(size=16)
    by_weights = mdp.best_clustering(model, 2, weights=weights)
    by_norm = mdp.best_clustering(model, 2, weights="norm")
    every = [values(labels) for labels in all_partitions(4, 2)]
    np.testing.assert_allclose(by_weights.values, max(weights @ v for v in every), rtol=1e-8)
    np.testing.assert_allclose(by_norm.values, max(map(np.linalg.norm, every)), rtol=1e-8)


def test_subsets_find_what_exhaustive_search_finds_with_eight_agents():
    model, _, _ = local(3, 8)
    subsets = mdp.best_clustering(model, method="subsets")
    exhaustive = mdp.best_clustering(model)
    np.testing.assert_allclose(subsets.values, exhaustive.values, rtol=1e-10)
    assert subsets.clusters.tolist() == list(range(1, 9)) and subsets.solved == 255
    assert np.all(np.diff(subsets.values) >= -1e-9)  # Lemma 9
    greedy = mdp.split(model)
    assert np.all(greedy.values <= subsets.values + 1e-9)
    np.testing.assert_allclose(greedy.values[[0, 1, 7]], subsets.values[[0, 1, 7]], rtol=1e-10)


def test_sums_over_clusters_equal_brute_force_with_weights():
    model, own, earned = local(4, 3, signals=2)
    weights = np.random.default_rng(5).uniform(size=8)

    def reward(x, heard):
        return sum(r[s, a] for r, s, a in zip(earned, x, heard, strict=True))

    tables = as_joint(own, (2, 2, 2))
    found = mdp.best_clustering(model, method="subsets", weights=weights)
    for labels, value in zip(found.labels.tolist(), found.values, strict=True):
        choices = [2] * (max(labels) + 1)
        best = BruteForce(tables, reward, (2, 2, 2), labels, choices, 0.9).solve()[0]
        np.testing.assert_allclose(value, weights @ best, rtol=1e-8)


def test_more_agents_that_earn_are_worth_more():
    """Lemma 7: rewards >= 0 and one signal for all; the value rises with every agent."""
    rng = np.random.default_rng(6)
    own, earned = random_local(rng, (2,) * 3, 2), list(rng.uniform(size=(3, 2, 2)))

    def worth(agents):
        model = mdp.FactoredMDP(
            [mdp.Local(p) for p in own[:agents]], mdp.Separable(earned[:agents]),
            sizes=(2,) * agents, signals=2, discount=0.9,
        )  # fmt: skip
        return mdp.best_clustering(model, 1, method="subsets").values[0]

    assert np.all(np.diff([worth(agents) for agents in (1, 2, 3)]) >= 0)


def test_lemma_6_and_theorem_6_are_false_for_local_separable_systems():
    found = mdp.split(taste())
    np.testing.assert_allclose(found.values * 0.5, [1.8, 2.2, 3.0], atol=1e-8)
    assert not found.gains_fall
    assert len(mdp.split(taste(), stop=0.9).values) == 1  # where one more split would gain 1.6


def test_groups_are_not_cut_and_other_signal_sets_stay_apart():
    rng = np.random.default_rng(6)
    joint = rng.dirichlet(np.ones(4), (8, 2))
    single = rng.dirichlet(np.ones(2), (8, 3))
    model = mdp.FactoredMDP(
        [mdp.Group([0, 1], joint), single],
        rng.uniform(size=8),
        sizes=(2, 2, 2),
        signals=(2, 2, 3),
        discount=0.9,
    )
    found = mdp.split(model)
    assert found.labels.tolist() == [[0, 0, 1]]
    with pytest.raises(ValueError, match="no 1 clusters keep agents with different signals"):
        mdp.best_clustering(model, 1)


def test_search_says_what_is_wrong():
    model, _ = coupled(1)
    with pytest.raises(ValueError, match=r"`clusters` must be an integer in 1..4.*got 5"):
        mdp.split(model, clusters=5)
    with pytest.raises(ValueError, match='`method` must be "exhaustive" or "subsets"'):
        mdp.best_clustering(model, 2, method="guess")
    with pytest.raises(ValueError, match="needs agents that move by their own state"):
        mdp.best_clustering(model, 2, method="subsets")
    with pytest.raises(ValueError, match=r"`weights` must be 16 finite numbers"):
        mdp.split(model, weights=np.ones(4))
    with pytest.raises(ValueError, match=r'None or "norm"; got \'max\''):
        mdp.split(model, weights="max")
