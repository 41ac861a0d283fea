"""Sums over blocks are the sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax._core.blocks import block_rows, block_sum

RNG = np.random.default_rng(0)


def moments(shares, x):
    return {"mass": jnp.sum(shares), "second": (shares[:, None] * x).T @ x}


@pytest.mark.parametrize("n", [1, 7, 10, 20, 23])
def test_blocks_of_any_fit_add_up(n):
    shares, x = jnp.asarray(RNG.uniform(size=n)), jnp.asarray(RNG.normal(size=(n, 3)))
    whole, blocked = moments(shares, x), block_sum(moments, shares, x, rows=10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13), whole, blocked)


def test_derivatives_of_every_order_are_those_of_the_whole():
    shares, x = jnp.asarray(RNG.uniform(size=23)), jnp.asarray(RNG.normal(size=(23, 2)))
    part = lambda shares, x: jnp.sum(shares * jnp.sum(jnp.cos(x), axis=1) ** 2)  # noqa: E731
    blocked = lambda shares, x: block_sum(part, shares, x, rows=10)  # noqa: E731
    for derivative in (jax.grad, jax.hessian):
        got, expected = derivative(blocked, argnums=1), derivative(part, argnums=1)
        np.testing.assert_allclose(got(shares, x), expected(shares, x), atol=1e-13)


def test_blocks_are_neither_tiny_nor_huge():
    assert block_rows(1) == 4096
    assert block_rows(100) == 327
    assert block_rows(10**6) == 256
