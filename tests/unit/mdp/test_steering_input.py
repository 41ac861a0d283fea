"""What models and `steer` refuse, and how they say it."""

import numpy as np
import pytest

from mepjax import mdp
from tests.oracles.steering_numpy import random_tables

from .steering import SIGNALS, SIZES, mixed_model


def build(**changed):
    rng = np.random.default_rng(0)
    arguments = {
        "behaviours": random_tables(rng, SIZES, SIGNALS),
        "reward": np.zeros(12),
        "sizes": SIZES,
        "signals": SIGNALS,
        "discount": 0.9,
    } | changed
    return mdp.FactoredMDP(arguments.pop("behaviours"), arguments.pop("reward"), **arguments)


def bad_rows():
    tables = random_tables(np.random.default_rng(0), SIZES, SIGNALS)
    tables[1][7, 1] *= 0.5
    return tables


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"discount": 1.0}, r"`discount` must be in \(0, 1\); got 1"),
        ({"discount": -0.5}, r"`discount` must be in \(0, 1\); got -0.5"),
        ({"behaviours": bad_rows()}, r"agent 1.* sums to 0.5 \(state 7, signal 1\)"),
        ({"reward": np.full(12, np.inf)}, r"`reward` must be finite; got 12"),
        ({"reward": np.zeros(11)}, r"`reward` must have shape \(12,\).*got \(11,\)"),
        ({"sizes": (2, 3, 3)}, r"agent 0 must have shape \(18, 2, 2\).*got \(12, 2, 2\)"),
        ({"sizes": (2, 0, 2)}, r"`sizes` must be integers of at least 1; got \[0\]"),
        ({"signals": (2, 2)}, r"`signals` must be one number or one per agent \(3\); got 2"),
        ({"sizes": (2**16, 2**16, 2)}, r"`sizes` make .* joint states"),
        ({"behaviours": [np.ones((12, 2, 2)) / 2]}, r"one per agent outside groups, 3; got 1"),
        (
            {"behaviours": [mdp.NextState(np.full((12, 2), 2)), *bad_rows()[1:]]},
            r"next states of agent 0 must be in 0..1; got 2",
        ),
        ({"reward": mdp.Separable([np.zeros((2, 2))])}, r"one table \(and scope\) per agent, 3"),
        (
            {"behaviours": [mdp.Group([0, 3], np.ones((12, 2, 4)) / 4), *bad_rows()[:1]]},
            r"agents of groups must be distinct agents in 0..2; got \(0, 3\)",
        ),
    ],
)
def test_models_say_what_is_wrong(changed, message):
    with pytest.raises(ValueError, match=message):
        build(**changed)


@pytest.mark.parametrize(
    "labels, changed, message",
    [
        ([0, 1], {}, r"`labels` must be 3 integers"),
        ([0, 2, 2], {}, r"`labels` must be 0..C-1, every one used; got \[0, 2\]"),
        ([0, 1, 1], {"clusters": 4}, r"`clusters` must be an integer in 1..3.*got 4"),
        ([0, 1, 1], {"order": [0, 0]}, r"`order` must be a permutation of 0..1; got \[0 0\]"),
        ([0, 1, 1], {"ties": "last"}, r"`ties` must be one of .*got 'last'"),
        ([0, 1, 1], {"certificate": "sure"}, r"`certificate` must be one of .*got 'sure'"),
        ([0, 1, 1], {"init": np.full((12, 2), 5)}, r"got 5 in state 0 for cluster 0, which has 2"),
        ([0, 1, 1], {"init": np.full(12, 9.0)}, r"must not lie above one step.*violation of 0.9"),
    ],
)
def test_steer_says_what_is_wrong(labels, changed, message):
    with pytest.raises(ValueError, match=message):
        mdp.steer(build(), labels, **changed)


def test_labels_must_not_cut_groups_nor_join_agents_with_other_signals():
    sizes, behaviours, _, _ = mixed_model(np.random.default_rng(0))
    model = mdp.FactoredMDP(behaviours, np.zeros(24), sizes=sizes, signals=2, discount=0.9)
    with pytest.raises(ValueError, match=r"not cut the group of agents 2, 3; got \[0, 1\]"):
        mdp.steer(model, [0, 0, 0, 1])
    rng = np.random.default_rng(0)
    tables = [rng.dirichlet([1, 1], (4, 2)), rng.dirichlet([1, 1], (4, 3))]
    model = mdp.FactoredMDP(tables, np.zeros(4), sizes=(2, 2), signals=(2, 3), discount=0.9)
    with pytest.raises(ValueError, match=r"cluster 0 \(agents 0, 1\) has \[2, 3\]"):
        mdp.steer(model, [0, 0])
    assert mdp.steer(model, [0, 1]).certified


def test_how_large_tables_and_values_would_be_is_told():
    small = np.full((4, 2, 2), 0.5)
    with pytest.raises(ValueError, match=r"holds 2.68e\+08 numbers \(2 GiB in .*`Local`, `Scoped`"):
        mdp.FactoredMDP([small] * 26, np.zeros(4), sizes=[2] * 26, signals=2, discount=0.9)
    agents = 30
    model = mdp.FactoredMDP(
        [mdp.Local(np.full((2, 2, 2), 0.5))] * agents,
        mdp.Separable([np.zeros((2, 2))] * agents),
        sizes=[2] * agents, signals=2, discount=0.9,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"1.07e\+09 joint states and 1 clusters hold .* GiB"):
        mdp.steer(model, np.zeros(agents, int), method=mdp.CVI(), certificate="none")


def test_a_sweep_beyond_memory_is_refused_before_it_starts():
    agents = 24
    local = np.full((2, 9, 2), 0.5)
    model = mdp.FactoredMDP(
        [mdp.Local(local)] * agents,
        mdp.Separable([np.zeros((2, 9))] * agents),
        sizes=[2] * agents,
        signals=9,
        discount=0.9,
    )
    with pytest.raises(ValueError, match=r"joint signals holds .* numbers for one state .*CVI"):
        mdp.steer(model, np.arange(agents))
