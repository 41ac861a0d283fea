"""Tables of other libraries, there and back."""

from typing import Any

import jax
import numpy as np
import pytest

from mepjax import mdp
from mepjax.datasets import frozen_lake

from ...oracles import mdp_numpy as oracle


def test_quantecon_arrays_there_and_back():
    with jax.enable_x64(True):
        p, costs = oracle.random_mdp(0, 5, 3)
        rewards = -(p * costs).sum(-1)
        rewards[1, 2] = -np.inf
        model = mdp.from_quantecon(rewards, p, 0.9)
        q = (rewards > -np.inf) / (rewards > -np.inf).sum(1, keepdims=True)
        best, _ = oracle.soft_values(p, costs, np.inf, 0.9, "prior", q)
        np.testing.assert_allclose(mdp.solve(model).values, best, rtol=1e-9)
        again = mdp.to_quantecon(model)
        np.testing.assert_array_equal(again[0], rewards)
        np.testing.assert_allclose(again[1], p)
        lake = frozen_lake(["SFF", "FHF", "FFG"], discount=0.9)
        r, chances, beta = mdp.to_quantecon(lake)
        np.testing.assert_allclose(chances.sum(-1), 1)
        same = mdp.solve(mdp.from_quantecon(r, chances, beta))
        np.testing.assert_allclose(same.values, mdp.solve(lake).values, rtol=1e-9, atol=1e-9)


def test_tables_of_gymnasium():
    with jax.enable_x64(True):
        lake = frozen_lake(["SF", "FG"], discount=0.9)
        table = {s: {a: [] for a in range(4)} for s in range(4)}
        kernel: Any = lake.kernel
        state, action, after = map(np.asarray, kernel.outcomes())
        for s, a, n, p in zip(state, action, after, np.asarray(kernel.p), strict=True):
            table[int(s)][int(a)].append((float(p), int(n), -1.0, int(n) == 3))
        found = mdp.solve(mdp.from_gymnasium(table, discount=0.9, start=[1, 0, 0, 0]))
        np.testing.assert_allclose(found.values[:3], mdp.solve(lake).values[:3], rtol=1e-9)
        del table[1][2]
        with pytest.raises(ValueError, match="state 1 has"):
            mdp.from_gymnasium(table, discount=0.9)


def test_one_agent_is_a_dense_process_and_quantecon_agrees():
    quantecon = pytest.importorskip("quantecon")
    p, costs = oracle.random_mdp(1, 60, 3)
    rewards = -(p * costs).sum(-1)
    model = mdp.FactoredMDP([p], mdp.Separable([rewards]), sizes=[60], signals=3, discount=0.95)
    found = mdp.steer(model, [0], method=mdp.ModifiedPolicyIteration()).raise_if_failed()
    plain = mdp.solve(mdp.from_quantecon(rewards, p, 0.95))
    best = quantecon.markov.DiscreteDP(rewards, p, 0.95).solve(method="policy_iteration")
    np.testing.assert_allclose(found.values, best.v, atol=1e-8)
    np.testing.assert_allclose(-plain.values, best.v, atol=1e-8)
    np.testing.assert_array_equal(found.policy[:, 0], best.sigma)


def test_one_agent_is_a_dense_process():
    p, costs = oracle.random_mdp(1, 12, 3)
    rewards = -(p * costs).sum(-1)
    model = mdp.FactoredMDP([p], mdp.Separable([rewards]), sizes=[12], signals=3, discount=0.9)
    found = mdp.steer(model, [0], method=mdp.PolicyIteration()).raise_if_failed()
    plain = mdp.solve(mdp.from_quantecon(rewards, p, 0.9))
    np.testing.assert_allclose(found.values, -plain.values, atol=1e-8)
    np.testing.assert_array_equal(found.policy[:, 0], plain.actions)
