"""Given policies: what they cost, where they go, and paths that follow them."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import mdp
from mepjax.datasets import taxi

P = np.array(
    [
        [[0.2, 0.5, 0.3, 0.0], [0.0, 0.1, 0.9, 0.0]],
        [[0.6, 0.0, 0.0, 0.4], [0.0, 0.7, 0.3, 0.0]],
        [[0.0, 0.3, 0.3, 0.4], [0.5, 0.5, 0.0, 0.0]],
        [[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0]],
    ]
)
C = np.array([[1.0, 2.0], [0.5, 0.1], [3.0, -0.2], [7.0, 7.0]])
PI = np.array([[0.3, 0.7], [0.9, 0.1], [0.5, 0.5], [1.0, 0.0]])
MAP = ["+---------+", "|R: | : :G|", "| : | : : |", "| : : : : |", "| | : | : |", "|Y| : |B: |",
       "+---------+"]  # fmt: skip


def model(discount=1.0):
    return mdp.MDP(mdp.Dense(jnp.asarray(P)), jnp.asarray(C), discount=discount, terminal=[3])


def by_hand(discount):
    """Values and visits among the first three states, by NumPy's own solves."""
    chain = np.einsum("sa,sat->st", PI, P)[:3, :3]
    system = np.eye(3) - discount * chain
    return np.linalg.solve(system, (PI * C).sum(1)[:3]), np.linalg.solve(
        system.T, np.full(3, 1 / 3)
    )


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_values_and_frequencies_are_those_of_the_chain(discount):
    with jax.enable_x64(True):
        values, visits = by_hand(discount)
        np.testing.assert_allclose(mdp.evaluate(model(discount), PI)[:3], values, rtol=1e-12)
        found = mdp.frequencies(model(discount), PI)
        np.testing.assert_allclose(found[:3], visits[:, None] * PI[:3], rtol=1e-12)
        assert not np.any(found[3])


def test_the_policy_of_a_solution_costs_its_values_and_derivatives_are_frequencies():
    with jax.enable_x64(True):
        solved = mdp.solve(model(0.9))
        np.testing.assert_allclose(mdp.evaluate(model(0.9), solved), solved.values, rtol=1e-10)
        by_actions = mdp.evaluate(model(0.9), np.asarray(solved.actions))
        np.testing.assert_allclose(by_actions, solved.values, rtol=1e-10)

        def mean(costs):
            moved = mdp.MDP(mdp.Dense(jnp.asarray(P)), costs, discount=0.9, terminal=[3])
            return moved.start @ mdp.evaluate(moved, PI)

        found = mdp.frequencies(model(0.9), PI)
        np.testing.assert_allclose(jax.grad(mean)(jnp.asarray(C)), found, atol=1e-12)


def test_what_does_not_end_is_infinite():
    kernel = mdp.Deterministic([[1, 0], [2, 1], [2, 2], [0, 3]])
    model = mdp.MDP(kernel, jnp.ones((4, 2)), discount=1.0, terminal=[2], start=jnp.eye(4)[1])
    # State 1 ends; 0 waits for ever; 3 may go to 0, which then waits.
    stuck = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_array_equal(mdp.evaluate(model, stuck), [np.inf, 1, 0, np.inf])
    np.testing.assert_array_equal(mdp.frequencies(model, stuck)[1], [1, 0])
    lost = mdp.MDP(kernel, jnp.ones((4, 2)), discount=1.0, terminal=[2], start=jnp.eye(4)[0])
    assert np.isinf(mdp.frequencies(lost, stuck)[0]).all()


def test_paths_follow_the_policy():
    with jax.enable_x64(True):
        drawn = mdp.sample_paths(model(), PI, key=jax.random.key(3), paths=4000, steps=40)
        values, visits = by_hand(1.0)
        totals = np.asarray(drawn.costs).sum(1)
        # Nearly all have ended after 40 steps.
        error = 5 * totals.std() / np.sqrt(len(totals))
        assert abs(totals.mean() - values.mean()) < error < 0.5
        states, actions = np.asarray(drawn.states), np.asarray(drawn.actions)
        assert np.array_equal(actions == -1, states[:, :-1] == 3)
        taken = np.mean(actions[states[:, :-1] == 0] == 1)
        assert abs(taken - 0.7) < 0.03
        assert abs((states[:, :-1] == 1).sum(1).mean() - visits[1]) < 0.15


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (PI[:3], "`policy` must be 4 actions, probabilities of shape"),
        ([0, 0, 2, 0], "`policy`"),
        (PI * 0.5, "rows of `policy` must sum to one; got a row that sums to 0.5"),
        (np.array([[2.0, -1.0], *PI[1:]]), "`policy`"),
    ],
)
def test_bad_policies_are_refused(policy, says):
    with pytest.raises(ValueError, match=says):
        mdp.evaluate(model(), policy)


def test_an_environment_passes_gymnasiums_checks_and_ends_where_all_ends():
    checker = pytest.importorskip("gymnasium.utils.env_checker")
    env = mdp.as_gymnasium(model(), max_steps=30)
    checker.check_env(env, skip_render_check=True)
    env.reset(seed=1)
    steps = [env.step(int(env.action_space.sample())) for _ in range(30)]
    assert any(ended for _, _, ended, _, _ in steps) and steps[-1][3]


def test_the_taxi_is_gymnasiums():
    peer = pytest.importorskip("gymnasium.envs.toy_text.taxi")
    found, table = taxi(MAP), peer.TaxiEnv().P
    after, costs = np.asarray(found.kernel.outcomes().next), np.asarray(found.costs)
    goes_on = np.flatnonzero(~np.asarray(found.terminal))
    assert len(goes_on) == 400
    for state in goes_on:
        for action in range(6):
            ((_, new, reward, ended),) = table[state][action]
            assert new == after[state, action] and ended == found.terminal[new]
            assert costs[state, action] == (1 if ended else -reward)


def test_the_taxi_of_the_data_is_solved_without_discount():
    folder = os.environ.get("MEPJAX_DATA_DIR")
    if folder is None:
        pytest.skip("needs MEPJAX_DATA_DIR")
    text = (Path(folder) / "gridworlds" / "taxi.txt").read_text().split("\n")
    model = taxi([line for line in text if line.strip()])
    values = np.asarray(mdp.solve(model).values)
    # Breadth first search from the end: every useful step costs 1, and detours never help.
    after, costs = np.asarray(model.kernel.outcomes().next), np.asarray(model.costs)
    known = np.where(np.asarray(model.terminal), 0.0, np.inf)
    for _ in range(60):
        known = np.where(np.asarray(model.terminal), 0.0, (costs + known[after]).min(1))
    np.testing.assert_allclose(values, known, rtol=1e-5)
