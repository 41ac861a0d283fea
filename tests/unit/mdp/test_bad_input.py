"""What cannot be refused when an object is built, as it is traced: a code and the same sentence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import mdp
from mepjax._core import checks

EDGES = {
    "state": np.array([0, 0, 1, 1, 2, 2]),
    "action": np.array([0, 1, 0, 1, 0, 1]),
    "next": np.array([1, 0, 2, 0, 2, 2]),
    "p": np.ones(6),
}
ALL = np.ones((3, 2), bool)


def edges(terminal=(2,), permitted=ALL, **given):
    kernel = mdp.Sparse(**(EDGES | given), n_states=3, n_actions=2)
    return mdp.MDP(kernel, np.ones((3, 2)), discount=0.9, terminal=terminal, permitted=permitted)


def places(unknown_states=(2,), unknown_actions=None, terminal=(3,)):
    return mj.ParametricMDP(
        mdp.Deterministic([[2, 2], [2, 2], [3, 3], [3, 3]]), "sqeuclidean",
        state_params=np.array([[0.0, 1.0], [0.0, -1.0], [0.0, 0.0], [6.0, 0.0]]),
        unknown_states=unknown_states, unknown_actions=unknown_actions,
        action_params=None if unknown_actions is None else np.zeros((2, 2)),
        discount=1.0, terminal=terminal,
    )  # fmt: skip


def without(*places):
    return {name: np.delete(value, places) for name, value in EDGES.items()}


def reordered(order):
    return {name: value[order] for name, value in EDGES.items()}


def traced(build, given):
    """The report of a program to which all that is given comes as an argument."""
    return jax.jit(lambda given: checks.report(build(**given).checks()))(given)


SAME = {
    "an action without an edge": (edges, without(3)),
    "a state without an edge": (edges, without(2, 3)),
    "edges of no chance": (edges, {"p": np.array([1.0, 1, 1, 0, 1, 1])}),
    "a next state too far": (edges, {"next": np.array([1, 0, 9, 0, 2, 2])}),
    "a negative next state": (edges, {"next": np.array([1, 0, -1, 0, 2, 2])}),
    "chances that do not sum to one": (edges, {"p": np.array([1.0, 1, 0.5, 1, 1, 1])}),
    "a terminal state too far": (edges, {"terminal": np.array([3])}),
    "a negative terminal state": (edges, {"terminal": np.array([-1])}),
    "no action": (edges, {"permitted": np.array([[True, True], [False, False], [True, True]])}),
    "an unknown state too far": (places, {"unknown_states": np.array([7])}),
    "a negative unknown state": (places, {"unknown_states": np.array([-1])}),
    "an unknown state twice": (places, {"unknown_states": np.array([1, 2, 1])}),
    "an unknown action twice": (places, {"unknown_actions": np.array([1, 1])}),
    "an unknown action too far": (places, {"unknown_actions": np.array([0, 2])}),
    "a terminal place that is not there": (places, {"terminal": np.array([-1])}),
}


@pytest.mark.parametrize("name", SAME)
def test_traced_input_says_what_concrete_input_does(name):
    build, given = SAME[name]
    with pytest.raises(ValueError) as refused:
        build(**given)
    found = traced(build, given)
    assert int(found.code) == mj.Code.INVALID_INPUT
    assert found.message(int(found.index), float(found.got)) == str(refused.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"state": np.array([0, 0, 1, 1, 2, 7])}, "`state` below 3 and `action` below 2.*got 1"),
        ({"action": np.array([0, 1, 0, 1, 0, -1])}, "`state` below 3 and `action` below 2.*got 1"),
        (reordered([3, 2, 1, 0, 4, 5]), "sorted by state, then action; got 3"),
    ],
)
def test_traced_edges_are_in_range_and_sorted(given, says):
    found = traced(edges, EDGES | given)
    assert int(found.code) == mj.Code.INVALID_INPUT
    with pytest.raises(ValueError, match=says):
        raise ValueError(found.message(int(found.index), float(found.got)))


@pytest.mark.parametrize(
    ("build", "given"), [(edges, EDGES), (places, {"unknown_states": np.array([2, 1])})]
)
def test_good_input_passes(build, given):
    build(**given)
    assert int(traced(build, given).code) == mj.Code.OK


def test_an_action_without_an_edge_may_be_left_out():
    permitted = np.array([[True, True], [True, False], [False, False]])
    model = edges(permitted=permitted, **without(3, 4, 5))
    np.testing.assert_allclose(mdp.solve(model).values, [1.9, 1.0, 0.0], rtol=1e-6)


def test_traced_actions_that_are_not_there_cost_no_number():
    model, env = edges(), mdp.Environment(edges())
    cost = jax.jit(lambda policy: mdp.evaluate(model, policy))(jnp.array([0, 2, 0]))
    assert not np.isfinite(cost[:2]).any()
    seen = jax.jit(lambda policy: mdp.frequencies(model, policy))(jnp.array([0, -1, 0]))
    assert not np.isfinite(seen[1]).any()
    drawn = jax.jit(
        lambda policy: mdp.sample_paths(env, policy, key=jax.random.key(0), paths=2, steps=2)
    )(jnp.array([2, 2, 0]))
    assert np.isnan(drawn.costs[:, 0][drawn.states[:, 0] < 2]).all()


def test_learning_with_bad_numbers_fails():
    env = mdp.Environment(edges())

    def learn(beta):
        return mdp.learn(
            env, mdp.SoftQ(), key=jax.random.key(0), episodes=2, beta=beta, max_steps=4
        )

    with pytest.raises(ValueError) as refused:
        learn(-1.0)
    found = jax.jit(learn)(jnp.array(-1.0))
    assert int(found.code) == mj.Code.INVALID_INPUT
    with pytest.raises(ValueError) as told:
        found.raise_if_failed()
    assert str(told.value) == str(refused.value)
    jax.jit(learn)(jnp.array(1.0)).raise_if_failed()


@pytest.mark.parametrize("action", [-1, 2, 0.5])
def test_an_environment_refuses_actions_that_are_not_there(action):
    pytest.importorskip("gymnasium")
    env = mdp.as_gymnasium(edges())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="`action` must be an integer below 2"):
        env.step(action)
