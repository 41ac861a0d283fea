import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

from mepjax.solvers.duals import Dual, solve_dual

COSTS = np.random.default_rng(1).uniform(size=(8, 4))


def dual_of(limits, beta, free, active=(True,) * 4, shifts=None):
    """Shares of a soft assignment, which prices bring to `limits`."""

    def value(prices):
        energy = -jax.nn.logsumexp(-beta * (COSTS + prices), axis=1).mean() / beta
        return energy - jnp.asarray(limits) @ prices

    return Dual(
        value_and_gap=jax.value_and_grad(value),
        free=jnp.asarray(free),
        active=jnp.asarray(active),
        shifts=shifts,
        beta=jnp.asarray(beta),
    )


@pytest.mark.parametrize("beta", [0.1, 3.0, 50.0])
def test_bounds_give_the_maximum_that_scipy_finds(beta):
    limits = np.array([0.2, 0.5, 0.2, 0.4])
    dual = dual_of(limits, beta, [False] * 4)
    prices = jax.jit(lambda: solve_dual(dual, jnp.zeros(4)))()
    value, gap = dual.value_and_gap(prices)
    assert (prices >= 0).all() and (gap < 1e-9).all()
    np.testing.assert_allclose(prices * gap, 0, atol=1e-9)
    np.testing.assert_allclose(dual.residual(prices, beta), 0, atol=1e-9)

    def loss(a):
        value, gap = dual.value_and_gap(jnp.asarray(a))
        return -float(value), -np.asarray(gap)

    found = minimize(loss, np.zeros(4), jac=True, bounds=[(0, None)] * 4, method="L-BFGS-B")
    assert value >= -found.fun - 1e-9


def test_equalities_are_met_and_the_gauge_stays_where_it_was():
    limits = np.array([0.4, 0.3, 0.2, 0.1])
    gauge = jnp.full((1, 4), 0.5)
    dual = dual_of(limits, 20.0, [True] * 4, shifts=gauge)
    start = jnp.array([3.0, -2.0, 0.5, 1.5])
    prices = jax.jit(lambda: solve_dual(dual, start))()
    np.testing.assert_allclose(dual.value_and_gap(prices)[1], 0, atol=1e-10)
    np.testing.assert_allclose(prices.sum(), start.sum(), atol=1e-9)


def test_prices_that_are_not_active_stay_zero():
    dual = dual_of([0.1, 0.9, 0.9, 0.9], 5.0, [False] * 4, active=(True, False, True, True))
    prices = jax.jit(lambda: solve_dual(dual, jnp.ones(4)))()
    assert prices[1] == 0
    np.testing.assert_allclose(dual.value_and_gap(prices)[1][0], 0, atol=1e-10)
    np.testing.assert_array_equal(prices[2:], 0)


def test_prices_that_nothing_can_satisfy_end_somewhere_finite():
    dual = dual_of([0.1, 0.2, 0.2, 0.2], 5.0, [False] * 4)
    prices = jax.jit(lambda: solve_dual(dual, jnp.zeros(4)))()
    assert np.isfinite(prices).all()
    _, gap = dual.value_and_gap(prices)
    assert float(jnp.max(jnp.abs(dual.residual(prices, gap)))) > 1e-3


def test_many_prices_are_solved_in_blocks_of_columns():
    rng = np.random.default_rng(2)
    costs, limits = rng.uniform(size=(60, 40)), rng.dirichlet(np.full(40, 5.0))

    def value(prices):
        energy = -jax.nn.logsumexp(-4.0 * (costs + prices), axis=1).mean() / 4.0
        return energy - limits @ prices

    dual = Dual(
        value_and_gap=jax.value_and_grad(value),
        free=jnp.ones(40, bool),
        active=jnp.ones(40, bool),
        shifts=jnp.full((1, 40), 40**-0.5),
        beta=jnp.asarray(4.0),
    )
    prices = jax.jit(lambda: solve_dual(dual, jnp.zeros(40)))()
    np.testing.assert_allclose(dual.value_and_gap(prices)[1], 0, atol=1e-10)
