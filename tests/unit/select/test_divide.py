"""Clustering by division against hand-made answers and plain NumPy."""

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.select import Stop, divide_and_conquer

KEY = jax.random.key(0)


def blobs(seed=0):
    """Four tight groups of 12, two near each other on either side."""
    rng = np.random.default_rng(seed)
    places = np.array([[0.0, 0.0], [2.0, 0.0], [20.0, 0.0], [22.0, 0.0]])
    return places[np.arange(48) % 4] + 0.1 * rng.normal(size=(48, 2))


def cost_of(x, weights, centres):
    d = ((x[:, None] - np.asarray(centres)[None]) ** 2).sum(axis=2)
    shares = weights / weights.sum()
    return shares @ d.min(axis=1), d.argmin(axis=1)


def test_groups_are_found_and_all_is_counted():
    x, weights = blobs(), np.random.default_rng(1).uniform(0.5, 1.5, 48)
    found = divide_and_conquer(x, 4, weights=weights, key=KEY)
    assert found.code is Code.OK
    cost, assignments = cost_of(x, weights, found.centres)
    np.testing.assert_allclose(found.cost, cost, rtol=1e-12)
    np.testing.assert_array_equal(found.assignments, assignments)
    # Each group is one of the four, at its weighted mean.
    for j in range(4):
        rows = found.assignments == j
        assert len(set(np.flatnonzero(rows) % 4)) == 1
        mean = np.average(x[rows], axis=0, weights=weights[rows])
        np.testing.assert_allclose(found.centres[j], mean, atol=1e-9)
    assert [split.size for split in found.splits] == [48, 24, 24]
    # Divisions look at two centres of their own points, polish at all centres of all points.
    divided = sum(split.pair_evaluations for split in found.splits)
    assert found.pair_evaluations == divided + 48 + 48 * 4 * 6
    one = cost_of(x, weights, [np.average(x, axis=0, weights=weights)])[0]
    np.testing.assert_allclose(one - sum(s.saved for s in found.splits), found.cost, rtol=1e-6)


def test_polish_never_raises_the_cost_and_without_it_it_is_a_seeding():
    x = np.random.default_rng(2).normal(size=(60, 2))
    costs = [divide_and_conquer(x, 5, key=KEY, polish=p).cost for p in (0, 1, 5, 50)]
    assert np.all(np.diff(costs) <= 1e-12)
    seeds = divide_and_conquer(x, 5, key=KEY, polish=0)
    problem = mj.Clustering(x, 5)
    beta = 1e3 * problem.beta_scale()
    solution = mj.anneal(problem, mj.Explicit(beta[None]), key=KEY, init=seeds.centres)
    assert float(problem.harden(solution.params).cost) <= seeds.cost + 1e-12


@pytest.mark.filterwarnings("ignore")
def test_what_does_not_divide_is_merged_again():
    same = divide_and_conquer(np.zeros((5, 2)), 3, key=KEY)
    assert same.centres.shape == (1, 2) and same.splits == () and same.cost == 0
    few = divide_and_conquer([[0.0], [0.0], [1.0], [1000.0]], 4, key=KEY)
    np.testing.assert_allclose(np.sort(np.ravel(few.centres)), [0, 1, 1000], atol=1e-9)
    assert few.cost == pytest.approx(0, abs=1e-12)
    weightless = divide_and_conquer(blobs(), 4, weights=[1.0] * 4 + [0.0] * 44, key=KEY)
    assert weightless.cost == pytest.approx(0, abs=1e-12)
    assert weightless.assignments.shape == (48,)


def test_float32_data_give_float32_centres_that_agree():
    x = blobs()
    wide = divide_and_conquer(x, 4, key=KEY)
    narrow = divide_and_conquer(jnp.asarray(x, jnp.float32), 4, key=KEY)
    assert narrow.centres.dtype == jnp.float32
    np.testing.assert_allclose(narrow.cost, wide.cost, rtol=1e-4)


def test_stops():
    x = blobs()
    by_cost = divide_and_conquer(x, 4, key=KEY, stop=Stop(cost=2.0))
    assert by_cost.centres.shape[0] == 2 and by_cost.cost <= 2.0
    assert divide_and_conquer(x, 4, key=KEY, stop=Stop(seconds=0.0)).centres.shape[0] == 1


def test_bad_input_is_named():
    x = blobs()
    with pytest.raises(ValueError, match="`k` must be"):
        divide_and_conquer(x, 0, key=KEY)
    with pytest.raises(ValueError, match="`polish` must be an integer >= 0; got -1"):
        divide_and_conquer(x, 2, key=KEY, polish=-1)
    with pytest.raises(TypeError, match="`stop` must be a Stop"):
        divide_and_conquer(x, 2, key=KEY, stop=cast(Any, 3))
    with pytest.raises(ValueError, match=r"`stop.seconds` must be >= 0; got -1"):
        divide_and_conquer(x, 2, key=KEY, stop=Stop(seconds=-1))
    with pytest.raises(TypeError, match="must not be traced"):
        jax.jit(lambda x: divide_and_conquer(x, 2, key=KEY).centres)(jnp.asarray(x))
    with pytest.raises(ValueError, match="`x`"):
        divide_and_conquer(np.full((3, 2), np.nan), 2, key=KEY)
