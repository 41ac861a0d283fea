"""Gymnasium's own checks of the unit-horizon process."""

import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import learn

from .cases import K, X, problem

gymnasium = pytest.importorskip("gymnasium")


def test_it_passes_the_checks_of_gymnasium_and_pays_the_average_cost():
    from gymnasium.utils.env_checker import check_env

    base = problem()
    env = learn.as_gymnasium(base, learn.Simulated(mj.autonomy.Uniform(0.4)), centres=X[:K])
    with warnings.catch_warnings():
        # It warns of bounds and of what has no registration.
        warnings.simplefilter("ignore")
        check_env(env, skip_render_check=True)
    env.reset(seed=3)
    paid, expected = [], []
    aware = mj.Clustering(X, K, weights=base.weights, autonomy=mj.autonomy.Uniform(0.4))
    average = np.asarray(aware.average_distances(jnp.asarray(X[:K])))
    for step in range(400):
        _, info = env.reset()
        _, reward, terminated, truncated, after = env.step(step % K)
        assert terminated and not truncated and after["entity"] == info["entity"]
        paid.append(-reward)
        expected.append(average[info["entity"], step % K])
    off = np.mean(paid) - np.mean(expected)
    assert abs(off) < 4 * np.std(np.subtract(paid, expected)) / 20
    anywhere = learn.as_gymnasium(base, learn.Simulated(None))
    anywhere.reset(seed=0)
    assert anywhere.step(0)[1] <= 0.0
    with pytest.raises(ValueError, match=r"`centres` must have shape \(3, 2\); got \(2, 2\)"):
        learn.as_gymnasium(base, learn.Simulated(None), centres=X[:2])


def test_a_step_without_an_answer_raises():
    def down(entity, prescribed, centres):
        raise OSError("no link")

    cases = {
        "broke down: OSError: no link": learn.FromCallback(down),
        "no answer for entity": learn.Replay(learn.Interactions([0], [0], [1], times=[0.0])),
        "what cannot be": learn.FromFunction(lambda key, i, x, j, y: (j + K, None)),
    }
    for text, environment in cases.items():
        env = learn.as_gymnasium(problem(), environment, centres=X[:K])
        env.reset(seed=0)
        with pytest.raises((RuntimeError, ValueError), match=text):
            env.step(1)
