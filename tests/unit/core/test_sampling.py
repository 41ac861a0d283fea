"""Draws from weighted data."""

import jax
import jax.numpy as jnp
import numpy as np

from mepjax._core import sampling


def test_different_draws_depend_on_where_the_weight_is():
    along = jnp.asarray([0.3, -1.0, 2.0, 5.0])
    weights = jnp.asarray([2.0, 1.0, 3.0, 0.0])
    repeated, order = jnp.repeat(along[:3], jnp.asarray([2, 1, 3])), jnp.asarray([3, 0, 5, 1, 4, 2])
    for seed in range(20):
        key = jax.random.key(seed)
        weighted = along[sampling.different(key, along, weights, 3)]
        assert sorted(weighted.tolist()) == [-1.0, 0.3, 2.0]
        rows = sampling.different(key, repeated[order], jnp.ones(6), 3)
        np.testing.assert_array_equal(repeated[order][rows], weighted)
    # More than there are places.
    key = jax.random.key(20)
    assert set(along[sampling.different(key, along, weights, 5)].tolist()) == {-1.0, 0.3, 2.0}


def test_different_draws_follow_the_weights():
    keys = jax.random.split(jax.random.key(0), 2000)
    weights = jnp.asarray([0.1, 0.6, 0.3])
    first = jax.vmap(lambda key: sampling.different(key, jnp.arange(3.0), weights, 1)[0])(keys)
    np.testing.assert_allclose(np.bincount(first) / 2000, weights, atol=0.04)
