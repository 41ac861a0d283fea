"""How many slots are at different places."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

X: Any = np.array([[-1.1, 0.0], [-0.9, 0.0], [0.9, 0.0], [1.1, 0.0]])


def test_slots_within_reach_are_one():
    problem = mj.Clustering(X, 4)
    scale = float(problem.params_scale(X))
    places = np.zeros((4, 2))
    places[1, 0], places[2, 1], places[3, 0] = 0.9e-2 * scale, 1.1e-2 * scale, 5.0
    assert int(mj.n_distinct(problem, places)) == 3
    assert int(mj.n_distinct(problem, places, rtol=0.1)) == 2
    assert int(mj.n_distinct(problem, places, rtol=0)) == 4
    with pytest.raises(ValueError, match="`rtol` must be >= 0; got -1"):
        mj.n_distinct(problem, places, rtol=-1)


@pytest.mark.parametrize(
    "capacity", [None, pytest.param(mj.Equal(np.array([0.5, 0.5])), marks=pytest.mark.slow)]
)
def test_facilities_part_as_beta_rises(capacity):
    problem = mj.FacilityPath(X, np.array([0.0, 3.0]), 2, entry_capacity=capacity)
    b = problem.beta_scale()
    schedule = mj.Geometric(0.2 * b, 50 * b, 1.3)
    record = mj.Record(params=True)
    solution = mj.anneal(problem, schedule, key=jax.random.key(0), record=record)
    counts = jax.vmap(lambda params: mj.n_distinct(problem, params))(solution.trace.params)
    counts = np.asarray(counts)[: int(solution.n_stages)]
    assert counts[0] == 1 and counts[-1] == 2
    assert np.all(np.diff(counts) >= 0)
    np.testing.assert_array_equal(counts[-1], mj.n_distinct(problem, solution.params))


def test_it_is_the_same_inside_jit_and_for_permuted_slots():
    problem = mj.Clustering(X, 3)
    places = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    count = jax.jit(lambda places: mj.n_distinct(problem, places))
    assert [int(count(places[jnp.array(p)])) for p in ([0, 1, 2], [2, 1, 0], [1, 0, 2])] == [2] * 3
