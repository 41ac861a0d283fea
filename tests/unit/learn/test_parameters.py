"""Policy and parameters from answers alone: Algorithm 4 against the model it does not see."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import learn, mdp
from mepjax.datasets import small_cells

KEY = jax.random.key(0)
WRONG: Any = 3
CHAIN = {
    "kernel": mdp.Deterministic([[1], [2], [2]]), "unknown_states": [1], "terminal": [2],
    "state_params": np.array([[0.0, 0.0], [9.0, 9.0], [4.0, 2.0]]),
}  # fmt: skip
OPTIONS = {"beta": [1.0, 2.0], "actors": 4, "max_steps": 3, "rounds": 30}


class Broken(learn.AbstractProcess):
    """A process whose answers are of no use once params are away from zero, or at once."""

    inner: learn.SimulatedProcess
    how: str = eqx.field(static=True)
    n_states: int = eqx.field(static=True)
    n_actions: int = eqx.field(static=True)
    permitted: Any

    def __init__(self, inner, how="cost"):
        self.inner, self.permitted, self.how = inner, None, how
        self.n_states, self.n_actions = inner.n_states, inner.n_actions

    def reset(self, key):
        return self.inner.reset(key)

    def step(self, key, state, action, params):
        after, cost, ended = self.inner.step(key, state, action, params)
        away = jnp.abs(params[0, 0]) > 1
        if self.how == "state":
            return jnp.where(away, 7, after), cost, ended
        if self.how == "shapes":
            return after, jnp.ones(2) * cost, ended
        return after, jnp.where(away, jnp.nan, cost), ended


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_one_way_has_its_relay_where_the_model_has_it(discount):
    """Two legs, the second discounted: the cost is least at their weighted mean."""
    problem = mj.ParametricMDP(**CHAIN, discount=discount)
    env = learn.SimulatedProcess(problem)
    found = learn.learn_parameters(env, jnp.zeros((1, 2)), key=KEY, discount=discount, **OPTIONS)
    place = discount / (1 + discount) * np.array([4.0, 2.0])
    np.testing.assert_allclose(found.params[0], place, atol=1e-2)
    expected = np.sum(place**2) + discount * np.sum((np.array([4.0, 2.0]) - place) ** 2)
    np.testing.assert_allclose(found.cost[-1], expected, rtol=1e-2)
    np.testing.assert_allclose(found.action_values[0, 0], expected, rtol=1e-2)
    # Two steps an episode; by chance, ten times before the first beta, twice at rest, and judged;
    # where parameters move each is asked five times: here, and beside in two coordinates.
    assert float(found.interactions) == 4 * 2 * (15 + 10 * 15 + 2 * 15 + 30 + 2 * 15 * 5)
    np.testing.assert_allclose(found.sampled_cost, expected, rtol=1e-2)
    assert int(found.code) == 0 and int(found.failed) == 0


@pytest.mark.parametrize("how", ["cost", pytest.param("state", marks=pytest.mark.slow)])
def test_seeds_vmap_and_answers_of_no_use_leave_the_last_good_parameters(how):
    env = Broken(learn.SimulatedProcess(mj.ParametricMDP(**CHAIN)), how)
    run = lambda key: learn.learn_parameters(env, jnp.zeros((1, 2)), key=key, **OPTIONS)  # noqa: E731
    found = jax.vmap(run)(jax.random.split(KEY, 2))
    assert np.all(np.asarray(found.code) == int(mj.Code.NON_FINITE))
    assert np.all(np.isfinite(found.params)) and np.all(np.asarray(found.failed) > 0)
    assert np.all(np.abs(np.asarray(found.params)) < 3)
    with pytest.raises(mj.SolveError, match="2 of 2 lanes failed; lane 0"):
        found.raise_if_failed()


@pytest.mark.slow
def test_traced_bad_input_has_its_code_and_sentence():
    env = learn.SimulatedProcess(mj.ParametricMDP(**CHAIN))
    options = OPTIONS | {"rounds": 4}
    run = jax.jit(
        lambda keep: learn.learn_parameters(env, jnp.zeros((1, 2)), key=KEY, keep=keep, **options)
    )
    found = run(2.0)
    assert int(found.code) == mj.Code.INVALID_INPUT
    with pytest.raises(ValueError, match=r"`keep` must be in \[0, 1\]; got 2"):
        found.raise_if_failed()
    run(0.25).raise_if_failed()


def test_bad_input_is_told():
    env = learn.SimulatedProcess(mj.ParametricMDP(**CHAIN))
    start = jnp.zeros((1, 2))
    with pytest.raises(TypeError, match="`env` must be an AbstractProcess"):
        learn.learn_parameters(WRONG, start, key=KEY, **OPTIONS)
    with pytest.raises(ValueError, match=r"`beta` must have shape \(stages,\); got \(\)"):
        learn.learn_parameters(env, start, key=KEY, beta=1.0)
    with pytest.raises(ValueError, match="`discount` must be in"):
        learn.learn_parameters(env, start, key=KEY, discount=2.0, **OPTIONS)
    with pytest.raises(ValueError, match="`init` must be finite"):
        learn.learn_parameters(env, start + jnp.nan, key=KEY, **OPTIONS)
    with pytest.raises(ValueError, match="`keep` must be in"):
        learn.learn_parameters(env, start, key=KEY, keep=2.0, **OPTIONS)
    with pytest.raises(ValueError, match="`rounds` must be at least 1"):
        learn.learn_parameters(env, start, key=KEY, beta=[1.0], rounds=0)
    with pytest.raises(ValueError, match=r"answer a cost of shape \(\); got \(2,\)"):
        learn.learn_parameters(Broken(env, "shapes"), start, key=KEY, **OPTIONS)
    with pytest.raises(TypeError, match="`problem` must be a ParametricMDP; got int"):
        learn.SimulatedProcess(WRONG)
    with pytest.raises(ValueError, match="no horizon and no capacities"):
        learn.SimulatedProcess(mj.ParametricMDP(**CHAIN, horizon=2))


@pytest.mark.slow
def test_states_that_wait_for_nothing_do_not_hold_each_other_below_what_they_cost():
    """Two relays at one place at a high beta: from an empty table packets would stay there."""
    problem = mj.ParametricMDP(
        mdp.Deterministic([[1, 2, 3], [1, 2, 3], [1, 2, 3], [3, 3, 3]]), unknown_states=[1, 2],
        state_params=np.array([[0.0, 0.0], [9.0, 9.0], [9.0, 9.0], [4.0, 2.0]]), terminal=[3],
        permitted=np.array([[1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]], bool),
    )  # fmt: skip
    place = np.array([2.0, 1.0])
    found = learn.learn_parameters(
        learn.SimulatedProcess(problem), jnp.tile(place, (2, 1)), key=KEY, beta=[1e3], actors=16,
        max_steps=30, rounds=20, damping=1e-6,
    )  # fmt: skip
    assert int(found.code) == 0 and float(found.ended[-1]) > 0.99
    # The hard values: to a relay and on to the base, or straight on.
    values = np.asarray(found.action_values)
    np.testing.assert_allclose(values[0, :2].min(), 10.0, rtol=0.01)
    np.testing.assert_allclose(values[1:3].min(axis=1), 5.0, rtol=0.02)
    np.testing.assert_allclose(found.sampled_cost, 10.0, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("slip", [0.0, 0.1])
def test_learned_cells_cost_little_more_than_those_of_the_model(slip):
    """The better of four seeds by sampled cost, judged by the hard plan of the model."""
    problem = small_cells(10, 2, seed=1, slip=slip).problem()
    known = mj.anneal(problem, key=KEY).raise_if_failed()
    best = float(problem.harden(known.params).cost)
    env, first = learn.SimulatedProcess(problem), float(problem.beta_scale())
    beta = np.geomspace(0.5 * first, 200 * first, 30)
    run = lambda key: learn.learn_parameters(  # noqa: E731
        env, problem.init(KEY), key=key, beta=beta, rounds=24, actors=32, max_steps=16
    )
    found = jax.vmap(run)(jax.random.split(KEY, 4))
    assert np.all(found.code == 0)
    chosen = int(jnp.argmin(found.sampled_cost))
    cost = float(problem.harden(found.params[chosen]).cost)
    assert cost <= (1.02 if slip == 0 else 1.05) * best, (cost, best)
