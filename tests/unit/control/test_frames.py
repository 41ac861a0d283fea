"""Baselines that solve every frame, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.control import every_frame

X = np.array([[-1.1], [-0.9], [0.9], [1.1]], np.float32)
START = np.array([[-1.0], [1.0]], np.float32)
TIMES = np.array([0.0, 0.5, 2.0], np.float32)


def apart(time, problem, centres):
    """Two groups of points drift away from each other, by 1 per unit of time."""
    return {"x": jnp.sign(problem.x)}


def frames(**options):
    options = {"init": START, "beta": 10.0, "velocity": apart, **options}
    return every_frame(mj.Clustering(X, 2), TIMES, key=jax.random.key(0), **options)


def test_warm_frames_are_where_the_groups_are():
    found = frames().raise_if_failed()
    # At this beta the groups do not see each other, so that centres are their means.
    np.testing.assert_allclose(found.values, START * (1 + TIMES[:, None, None]), atol=1e-5)
    np.testing.assert_allclose(found.jump, [0.0, 0.5, 1.5], atol=1e-5)
    np.testing.assert_allclose(found.speed, [0.0, 1.0, 1.0], atol=1e-5)
    for row in range(3):
        problem = found.problem_at(row)
        np.testing.assert_allclose(problem.x, X + TIMES[row] * np.sign(X), atol=1e-6)
        energy = problem.free_energy(found.values_at(row), 10.0)
        np.testing.assert_allclose(found.free_energy[row], energy, atol=1e-6)
        hard = problem.harden(found.values_at(row)).cost
        np.testing.assert_allclose(found.distortion[row], hard, atol=1e-4)


@pytest.mark.slow
def test_cold_frames_are_the_same_up_to_order_and_take_more_steps():
    warm = frames()
    cold = frames(init=None, start="cold").raise_if_failed()
    np.testing.assert_allclose(np.sort(cold.values, axis=1), warm.values, atol=1e-4)
    assert np.all(np.asarray(cold.n_steps) > np.asarray(warm.n_steps))


def test_bad_arguments_are_refused_by_name():
    bad = [
        (ValueError, '`start` must be "warm" or "cold"; got "hot"'.replace('"hot"', "'hot'"),
         {"start": "hot"}),
        (TypeError, '`init` is for start="warm"', {"start": "cold"}),
        (ValueError, "every_frame: `init` must be params of this", {"init": START[:1]}),
        (ValueError, "every_frame: `beta` must be > 0", {"beta": -1.0}),
        (TypeError, "^every_frame: say what moves in exactly one", {"velocity": None}),
        (TypeError, "^every_frame: `velocity` must be callable", {"velocity": 1.0}),
        (TypeError, "^every_frame: `velocity` must return a", {"velocity": lambda t, p, y: p.x}),
        (TypeError, "^every_frame: `at` must return a Problem",
         {"velocity": None, "at": lambda time: time}),
        (TypeError, "^every_frame: `traces` must map", {"velocity": None, "traces": [1.0]}),
        (ValueError, "^every_frame: the trace of `x` must cover",
         {"velocity": None, "traces": {"x": (TIMES[:2], np.stack([X, X]))}}),
    ]  # fmt: skip
    for error, match, changed in bad:
        with pytest.raises(error, match=match):
            frames(**changed)
