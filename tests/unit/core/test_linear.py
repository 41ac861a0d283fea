"""Small matrices, one after the other."""

import jax
import jax.numpy as jnp
import numpy as np

from mepjax._core.linear import for_each, orientation

RNG = np.random.default_rng(0)
HALF = RNG.normal(size=(5, 3, 3))
MATRICES = HALF + HALF.swapaxes(1, 2) + 6 * np.eye(3)
VECTORS = RNG.normal(size=(5, 3))


def test_it_is_the_batch():
    for got, expected in zip(
        for_each(jnp.linalg.eigh, MATRICES), np.linalg.eigh(MATRICES), strict=True
    ):
        np.testing.assert_allclose(np.abs(got), np.abs(expected), rtol=1e-10)
    expected = np.linalg.solve(MATRICES, VECTORS[..., None])[..., 0]
    np.testing.assert_allclose(for_each(jnp.linalg.solve, MATRICES, VECTORS), expected, rtol=1e-10)


def test_it_has_derivatives_and_lanes():
    def total(scale):
        return jnp.sum(for_each(jnp.linalg.solve, scale * MATRICES, VECTORS))

    np.testing.assert_allclose(jax.grad(total)(2.0), -total(2.0) / 2, rtol=1e-12)
    scales = jnp.array([1.0, 2.0])
    np.testing.assert_allclose(jax.vmap(total)(scales), total(1.0) / scales, rtol=1e-12)


def test_eigenvectors_are_oriented_whatever_their_sign():
    vectors = jnp.array([[1.0, -1.0], [0.0, 1.0], [1.0, 0.0], [-0.3, -0.2]])
    for each in (vectors, -vectors):
        oriented = orientation(each)[:, None] * each
        np.testing.assert_array_equal(oriented, vectors * jnp.array([[1], [1], [1], [-1]]))
