"""Tabular learners: equivalences, limits, and what they refuse."""

import os
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import mdp
from mepjax.datasets import frozen_lake, gridworld

from ...oracles import mdp_numpy as oracle


def small(discount=0.8):
    """Five states in a row with a short cut that costs more; the last one ends."""
    after = np.array([[1, 2, 0], [2, 3, 0], [3, 4, 1], [4, 1, 2], [4, 4, 4]])
    costs = np.array([[1, 2.5, 0.3], [1, 1.5, 1], [1, 3, 1], [0.5, 1, 1], [0, 0, 0.0]])
    kernel = mdp.Deterministic(after)
    # A fifth of all episodes ends where it starts.
    start = np.full(5, 0.2)
    costs_ = jnp.asarray(costs, float)
    model = mdp.MDP(kernel, costs_, discount=discount, terminal=[4], start=start)
    return model, after, costs


def test_mep_is_soft_q_at_beta_over_discount():
    with jax.enable_x64(True):
        env = mdp.Environment(gridworld(discount=0.65))
        options = {"key": jax.random.key(2), "episodes": 12, "max_steps": 60}
        mep = mdp.learn(env, mdp.MEP(), beta=0.1, **options)
        soft = mdp.learn(env, mdp.SoftQ(prior=None), beta=0.1 / 0.65, **options)
        other = mdp.learn(env, mdp.SoftQ(prior=None), beta=0.1, **options)
        np.testing.assert_allclose(mep.action_values, soft.action_values, atol=1e-12)
        assert np.abs(mep.action_values - other.action_values).max() > 0.01
        assert np.array_equal(mep.steps, soft.steps)
        # Every step costs one, so that an episode's cost tells its length.
        assert 0 < mep.steps.min() and mep.steps.max() <= 60
        np.testing.assert_allclose(mep.cost, (1 - 0.65**mep.steps) / 0.35, rtol=1e-12)


@pytest.mark.parametrize(
    ("rule", "entropy", "temperature"),
    [
        (mdp.SoftQ(), "prior", 1.0),
        (mdp.SoftQ(prior=None), "policy", 1.0),
        (mdp.MEP(), "policy", 0.8),
        (mdp.QLearning(epsilon=1.0), "hard", 0.0),
        (mdp.DoubleQ(epsilon=1.0), "hard", 0.0),
    ],
)
def test_learned_values_are_those_of_the_model(rule, entropy, temperature):
    with jax.enable_x64(True):
        model, after, costs = small()
        env, beta = mdp.Environment(model), 1.5
        found = mdp.learn(
            env, rule, key=jax.random.key(0), episodes=10_000, beta=lambda e: 0 * e + beta,
            max_steps=60,
        )  # fmt: skip
        p = np.eye(5)[after]
        inner = np.inf if entropy == "hard" else beta / temperature
        kind = "prior" if entropy == "hard" else entropy
        terminal = np.arange(5) == 4
        values, total = oracle.soft_values(
            p, costs[..., None] * np.ones(5), inner, 0.8, kind, terminal=terminal
        )
        np.testing.assert_allclose(found.action_values[:4], total[:4], atol=5e-3)
        np.testing.assert_allclose(jax.nn.logsumexp(found.log_policy, axis=1), 0, atol=1e-12)
        assert np.mean(found.steps == 0) == pytest.approx(0.2, abs=0.02)


def test_environments_answer_with_the_models_frequencies():
    with jax.enable_x64(True):
        model: Any = gridworld()
        env = mdp.Environment(model)
        uniforms = (jnp.arange(4000) + 0.5) / 4000
        after, cost = jax.vmap(lambda u: env.step(u, 7, 3))(uniforms)
        dense = np.zeros(model.n_states)
        state, action, end = model.kernel.outcomes()
        here = (np.asarray(state) == 7) & (np.asarray(action) == 3)
        dense[np.asarray(end)[here]] = np.asarray(model.kernel.p)[here]
        counts = np.bincount(after, minlength=model.n_states) / 4000
        np.testing.assert_allclose(counts, dense, atol=1e-3)
        np.testing.assert_allclose(cost, 1.0)


def test_curves_fall_and_vmap_over_seeds_and_discounts_is_the_loop():
    with jax.enable_x64(True):
        model = gridworld(discount=0.65)
        env, rule = mdp.Environment(model), mdp.SoftQ()
        keys = jax.random.split(jax.random.key(1), 2)

        def run(key, sigma):
            return mdp.learn(
                env, rule, key=key, episodes=90, beta=sigma, max_steps=100, record=True
            )  # fmt: skip

        both = jax.vmap(run)(keys, jnp.asarray([0.1, 0.3]))
        one = run(keys[1], 0.3)
        np.testing.assert_allclose(both.action_values[1], one.action_values, rtol=1e-10)
        np.testing.assert_array_equal(cast(Any, one.history)[-1], one.action_values)
        best = mdp.solve(model).values
        curve = np.asarray(mdp.learning_curve(model, one, rule, optimal=best))
        assert curve.shape == (90,) and curve[-5:].mean() < 0.5 * curve[0]


def test_shortest_paths_on_the_lakes_of_gymnasium():
    folder = os.environ.get("MEPJAX_DATA_DIR")
    path = Path(folder or ".") / "gridworlds" / "frozenlake_8x8.txt"
    if not path.is_file():
        pytest.skip("needs the public gridworlds")
    with jax.enable_x64(True):
        model: Any = frozen_lake(path.read_text().split())
        found = mdp.solve(model)
        found.raise_if_failed()
        p = np.zeros((64, 4, 64))
        state, action, after = model.kernel.graph()
        np.add.at(p, (state, action, after), np.asarray(model.kernel.p))
        costs = np.asarray(model.costs)[..., None] * np.ones(64)
        best, _ = oracle.soft_values(p, costs, np.inf, 1.0, "prior", terminal=model.terminal)
        np.testing.assert_allclose(found.values, best, rtol=1e-8)


def test_bad_input_is_told():
    model, _, _ = small(0.5)
    env, wrong = mdp.Environment(model), cast(Any, model)
    with pytest.raises(TypeError, match="`env` must be an Environment; got MDP"):
        mdp.learn(wrong, mdp.SoftQ(), key=jax.random.key(0), episodes=1)
    with pytest.raises(TypeError, match="`rule` must be a rule"):
        mdp.learn(env, cast(Any, "soft"), key=jax.random.key(0), episodes=1)
    with pytest.raises(ValueError, match="`episodes` must be at least 1"):
        mdp.learn(env, mdp.SoftQ(), key=jax.random.key(0), episodes=0)
    with pytest.raises(ValueError, match="`beta` must be > 0; got 0"):
        mdp.learn(env, mdp.SoftQ(), key=jax.random.key(0), episodes=1, beta=0.0)
    with pytest.raises(ValueError, match=r"`omega` must be in \[0, 1\]; got 2"):
        mdp.learn(env, mdp.SoftQ(), key=jax.random.key(0), episodes=1, omega=2.0)
    with pytest.raises(ValueError, match="`prior` must be 'uniform' or None"):
        mdp.SoftQ(prior="sharp")
