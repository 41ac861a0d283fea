"""Deep soft Q-learning: tables and places that are known, and what it refuses."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import learn, mdp
from mepjax.datasets import small_cells
from mepjax.reproduce.figure_3_5 import Patches

from ...oracles import mdp_numpy as oracle

pytest.importorskip("flax")
pytest.importorskip("optax")

KEY = jax.random.key(0)
WRONG: Any = 3
END = np.array([1.0, 0.6])
CHAIN: dict[str, Any] = {
    "kernel": mdp.Deterministic([[1], [2], [2]]), "unknown_states": [1], "terminal": [2],
    "state_params": np.array([[0.0, 0.0], [9.0, 9.0], END]),
}  # fmt: skip
TINY: dict[str, Any] = {
    "beta": [1.0],
    "rounds": 2,
    "hidden": (8,),
    "actors": 4,
    "steps": 2,
    "batch": 8,
}


class Row(learn.AbstractVectorProcess):
    """Five states in a row with a short cut that costs more, told as vectors; no parameters."""

    n_actions: int = eqx.field(static=True)
    after: Any
    costs: Any

    def reset(self, key):
        return jax.nn.one_hot(jax.random.randint(key, (), 0, 4), 5)

    def step(self, key, state, action, params):
        del key, params
        here = jnp.argmax(state)
        return jax.nn.one_hot(self.after[here, action], 5), self.costs[here, action], (
            self.after[here, action] == 4
        )  # fmt: skip


def row():
    after = np.array([[1, 2, 0], [2, 3, 0], [3, 4, 1], [4, 1, 2], [4, 4, 4]])
    costs = np.array([[1, 2.5, 0.3], [1, 1.5, 1], [1, 3, 1], [0.5, 1, 1], [0, 0, 0.0]])
    return after, costs


def test_bad_input_is_told():
    env = learn.Indicators(learn.SimulatedProcess(mj.ParametricMDP(**CHAIN)))
    start = jnp.zeros((1, 2))
    with pytest.raises(TypeError, match="`env` must be an AbstractVectorProcess"):
        learn.deep_soft_q(WRONG, start, key=KEY, **TINY)
    with pytest.raises(TypeError, match="Indicators: `env` must be an AbstractProcess; got int"):
        learn.Indicators(WRONG)
    for name, value, told in (
        ("beta", 1.0, r"`beta` must have shape \(stages,\); got \(\)"),
        ("discount", 2.0, "`discount` must be in"),
        ("batch", 0, "`batch` must be at least 1"),
        ("radius", 0.0, "`radius` must be > 0"),
    ):
        options: dict[str, Any] = TINY | {name: value}
        with pytest.raises(ValueError, match=told):
            learn.deep_soft_q(env, start, key=KEY, **options)
    twice = Row(3, jnp.zeros((5, 3), jnp.int32), jnp.ones((5, 3, 2)))
    with pytest.raises(ValueError, match=r"answer a cost of shape \(\); got \(2,\)"):
        learn.deep_soft_q(twice, key=KEY, **TINY)
    with pytest.raises(ValueError, match="`init` must be finite"):
        learn.deep_soft_q(env, start + jnp.nan, key=KEY, **TINY)


@pytest.mark.slow
def test_traced_bad_input_has_its_code_and_sentence():
    env = learn.Indicators(learn.SimulatedProcess(mj.ParametricMDP(**CHAIN)))
    run = jax.jit(
        lambda radius: learn.deep_soft_q(
            env, jnp.zeros((1, 2)), key=KEY, **(TINY | {"radius": radius})
        )
    )
    found = run(-1.0)
    assert int(found.code) == mj.Code.INVALID_INPUT
    with pytest.raises(ValueError, match="`radius` must be > 0; got -1"):
        found.raise_if_failed()


def test_patches_are_asked_and_only_what_is_permitted_is_done():
    network = small_cells(8, 2, layout="patches")
    env: Any = Patches(network)
    places = jnp.array([[0.2, 0.3], [0.7, 0.6]])
    user = env.reset(KEY)
    corners = np.asarray(network.patches)
    inside = (user[:2] >= corners - 1e-6) & (user[:2] <= corners + 0.2 + 1e-6)
    assert np.any(np.all(inside, axis=1))
    assert env.permitted(user).tolist() == [True, True, False]
    cell, cost, ended = env.step(KEY, user, 1, places)
    np.testing.assert_allclose(cost, np.sum((user[:2] - places[1]) ** 2), rtol=1e-6)
    assert not ended and env.permitted(cell).all()
    base, cost, ended = env.step(KEY, cell, 2, places)
    np.testing.assert_allclose(cost, np.sum((network.base - places[1]) ** 2), rtol=1e-6)
    assert ended and not np.any(np.asarray(base)[:4])


@pytest.mark.slow
def test_without_parameters_it_is_soft_q():
    after, costs = row()
    env, beta = Row(3, jnp.asarray(after), jnp.asarray(costs, jnp.float32)), 1.5
    found = learn.deep_soft_q(
        env, key=KEY, beta=[beta], discount=0.8, rounds=300, max_steps=20, batch=128
    )
    assert int(found.code) == 0 and found.params is None
    _, total = oracle.soft_values(
        np.eye(5)[after], costs[..., None] * np.ones(5), beta, 0.8, "prior",
        terminal=np.arange(5) == 4,
    )  # fmt: skip
    states = jnp.eye(5)[:4]
    np.testing.assert_allclose(found.action_values(states, None), total[:4], atol=0.03)
    policy = np.exp(found.action_values.log_policy(states, None, beta))
    weights = np.exp(-beta * (total[:4] - total[:4].min(1, keepdims=True)))
    np.testing.assert_allclose(policy, weights / weights.sum(1, keepdims=True), atol=0.02)


@pytest.mark.slow
def test_a_relay_is_placed_where_the_model_has_it_and_broken_answers_keep_the_last_good():
    problem = mj.ParametricMDP(**CHAIN)
    env = learn.Indicators(learn.SimulatedProcess(problem))
    run = lambda key: learn.deep_soft_q(  # noqa: E731
        env, jnp.zeros((1, 2)), key=key, beta=[1.0, 2.0, 4.0], rounds=200, hidden=(32, 32),
        actors=32, steps=4, batch=128,
    )  # fmt: skip
    found = jax.vmap(run)(jax.random.split(KEY, 2))
    for places in found.params:
        np.testing.assert_allclose(places[0], END / 2, atol=0.02)
    np.testing.assert_allclose(found.value[:, -1], np.sum(END**2) / 2, rtol=0.02)
    lost = learn.SimulatedProcess(problem, noise=jnp.nan)
    options: dict[str, Any] = TINY | {"kick": 0.0}
    broken = learn.deep_soft_q(learn.Indicators(lost), jnp.ones((1, 2)), key=KEY, **options)
    assert int(broken.code) == int(mj.Code.NON_FINITE) and int(broken.failed) > 0
    np.testing.assert_array_equal(broken.params, jnp.ones((1, 2)))
