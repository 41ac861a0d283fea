"""Item 2: policies, F = D - H / beta, and steps that never raise F."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mepjax._core.params import dual_of

from .programs import each, problem_of, random_params, said


def examples(test):
    """Random params at random beta."""
    test = given(seed=st.integers(0, 2**31), share=st.floats(0, 1))(test)
    return settings(
        max_examples=15,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )(test)


def at_random(row, seed, share):
    low, high = row.log_betas
    beta = float(np.exp(low + share * (high - low)))
    params = random_params(row, seed, beta)
    return beta, params, said(row, problem_of(row), params, jnp.asarray(beta))


def paid(problem, params, terms):
    """What prices add to F, and how large the largest is (at least 1)."""
    prices = dual_of(params)
    parts = jax.tree.map(lambda price, gap: price * gap, prices, terms.constraints)
    total = sum(float(part.sum()) for part in jax.tree.leaves(parts))
    return total, max(float(abs(price).max()) for price in jax.tree.leaves(prices))


@each(lambda row: not row.capacities)
@examples
def test_policies_sum_to_one_and_f_is_d_minus_h_over_beta(row, seed, share):
    beta, _, says = at_random(row, seed, share)
    # Costs of paths, of order ten, are rounded before beta multiplies them.
    rounding = 1e-12 + 64 * np.finfo(float).eps * beta
    np.testing.assert_allclose(jax.nn.logsumexp(says.policy, axis=-1), 0, atol=rounding)
    total = says.terms.distortion - says.terms.entropy / beta
    np.testing.assert_allclose(says.free_energy, total, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(says.terms.free_energy, says.free_energy, rtol=1e-12, atol=1e-12)
    assert says.terms.constraints is None


@each(lambda row: row.capacities)
@examples
def test_policies_sum_to_one_and_f_is_d_minus_h_over_beta_and_prices(row, seed, share):
    beta, params, says = at_random(row, seed, share)
    bought, size = paid(problem_of(row), params, says.terms)
    size = max(1.0, size)
    rounding = 1e-12 + 64 * np.finfo(float).eps * beta * size
    np.testing.assert_allclose(jax.nn.logsumexp(says.policy, axis=-1), 0, atol=rounding)
    total = says.terms.distortion - says.terms.entropy / beta + bought
    np.testing.assert_allclose(says.free_energy, total, rtol=1e-9, atol=1e-12 * size)
    told = says.terms.free_energy
    np.testing.assert_allclose(told, says.free_energy, rtol=1e-12, atol=1e-12 * size)
    # Hard decisions leave capacities out.
    assert says.hard_cost <= says.terms.distortion + 1e-12 * size


@each(lambda row: row.log_choices is not None)
@examples
def test_hard_decisions_cost_at_most_d_and_little_more_than_f(row, seed, share):
    beta, _, says = at_random(row, seed, share)
    assert says.hard_cost <= says.terms.distortion + 1e-12
    assert says.free_energy <= says.hard_cost + 1e-12
    assert says.hard_cost - says.free_energy <= row.log_choices / beta + 1e-12


@each(lambda row: row.variational)
@examples
def test_a_step_never_raises_f(row, seed, share):
    _, _, says = at_random(row, seed, share)
    before, rounding = says.free_energy, max(1.0, abs(says.free_energy))
    assert says.stepped_energy <= before + 1e-13 * rounding
    # `gain` is zero where F at fixed weights is no quadratic.
    assert before - says.stepped_energy >= says.gain - 1e-12 * rounding
