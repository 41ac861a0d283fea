"""Lanes that go on their own."""

import jax
import jax.numpy as jnp
import numpy as np

from mepjax._core.lanes import lane_by_lane


def halved(x, by):
    return jax.lax.while_loop(lambda y: jnp.any(y > 1), lambda y: y / by, x)


def test_lanes_are_those_of_a_loop():
    x = jnp.asarray(np.random.default_rng(0).uniform(1, 99, (2, 3, 2)))
    by = jnp.asarray([2.0, 3.0])
    own = lane_by_lane(halved)
    # Over both arguments and, within, over one of them.
    found = jax.jit(jax.vmap(jax.vmap(own, (0, None))))(x, by)
    expected = [[halved(row, step) for row in rows] for rows, step in zip(x, by, strict=True)]
    np.testing.assert_array_equal(found, expected)


def test_gradients_pass_beside_it():
    def read(x):
        return jnp.sum(x**2 * lane_by_lane(halved)(jax.lax.stop_gradient(x), 2.0))

    x = jnp.asarray([[3.0, 5.0], [0.5, 0.25]])
    np.testing.assert_allclose(
        jax.vmap(jax.grad(read))(x), 2 * x * jnp.stack([halved(row, 2.0) for row in x])
    )
