"""`problem.replace`: as if built anew, measured again, also where values are traced."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

RNG = np.random.default_rng(0)
X, FAR = RNG.normal(size=(12, 2)), 5 + 30 * RNG.normal(size=(9, 2))
WEIGHTS = RNG.uniform(0.5, 1.5, 9)


def same(one, other, rtol=1e-12):
    leaves, others = jax.tree.leaves(one), jax.tree.leaves(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for leaf, expected in zip(leaves, others, strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=rtol)


@pytest.mark.parametrize("cost", ["sqeuclidean", "euclidean", mj.costs.Euclidean(0.5)])
def test_a_clustering_on_other_data_is_the_one_built_on_them(cost):
    options = {"cost": cost, "capacity": mj.Equal(np.array([0.4, 0.6]))}
    problem = mj.Clustering(X, 2, **options)
    expected = mj.Clustering(FAR, 2, weights=WEIGHTS, **options)
    assert not np.allclose(problem.spread, expected.spread)
    same(problem.replace(x=FAR, weights=WEIGHTS), expected)
    traced = eqx.filter_jit(lambda x, w: problem.replace(x=x, weights=w))
    same(traced(FAR, WEIGHTS), expected, rtol=1e-9)


def test_a_network_on_other_data_is_the_one_built_on_them():
    options = {"stage_costs": "euclidean", "max_hops": 1, "direct": True}
    problem = mj.FacilityPath(X, np.zeros(2), 2, entry_capacity=np.array([0.5, 0.7]), **options)
    expected = mj.FacilityPath(
        FAR, np.zeros(2), 2, entry_capacity=np.array([0.9, 0.7]), weights=WEIGHTS, **options
    )
    new = {"nodes": FAR, "weights": WEIGHTS, "entry_capacity": np.array([0.9, 0.7]), "max_hops": 1}
    same(problem.replace(**new), expected)


def test_what_is_not_replaced_stays():
    points = mj.paths.Samples(RNG.normal(size=(4, 3, 2)))
    problem = mj.FacilityPath(points, np.zeros(2), 1, stage_costs=(None, None, "sqeuclidean"))
    same(problem.replace(), problem)
    moved = mj.Clustering(X, 2).on(mj.Streaming(block=4)).replace(weights=np.arange(1.0, 13.0))
    assert moved.executor == mj.Streaming(block=4)


def test_what_replaces_is_checked_and_names_are_known():
    problem = mj.Clustering(X, 2)
    with pytest.raises(TypeError, match="there is no `weigths`; expected one of autonomy,"):
        problem.replace(weigths=WEIGHTS)
    with pytest.raises(ValueError, match="`weights` must be >= 0"):
        problem.replace(weights=-np.ones(12))
    with pytest.raises(ValueError, match=r"`weights` must have shape \(9,\)"):
        problem.replace(x=FAR)
    assert jnp.all(mj.Clustering(X, 2).replace(k=3).x == X)
