"""Items 4 and 5: beta to zero, beta to infinity, and the first transition between them."""

import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import mepjax as mj
from mepjax import Code
from mepjax._core.params import primal_of

from .programs import assert_same, each, geometric, key, problem_of, said, settled, solve

SMALL = 1e-6


@each(lambda row: row.convex_at_zero)
def test_small_beta_gives_the_known_minimiser(row):
    problem = problem_of(row)
    solution = solve(row, problem, geometric(row, SMALL, SMALL))
    start, found = primal_of(problem.init(key())), primal_of(solution.params)
    assert_same(found, start, atol=1e-5)
    # It is the minimiser: no random displacement lowers F.
    rng = np.random.default_rng(0)
    energy = said(row, problem, solution.params, jnp.asarray(SMALL)).free_energy
    flat, restore = ravel_pytree(found)
    for _ in range(5):
        moved = settled(
            problem, restore(flat + 0.05 * rng.normal(size=flat.shape)), jnp.asarray(SMALL)
        )
        new = said(row, problem, moved, jnp.asarray(SMALL)).free_energy
        assert new >= energy - 1e-9 * max(1, abs(energy))


@each(lambda row: row.convex_at_zero and row.smooth)
def test_the_metric_is_the_hessian_at_small_beta(row):
    problem = problem_of(row)
    at_rest = problem.init(key())
    if row.capacities:  # `init` does not know the prices
        at_rest = solve(row, problem, geometric(row, SMALL, SMALL)).params
    assert float(mj.curvature(problem, at_rest, SMALL)) == pytest.approx(1.0, abs=1e-4)


@each(lambda row: not row.capacities)
def test_hard_cost_is_the_limit_of_f_and_d(row):
    problem = problem_of(row)
    solution = solve(row, problem, geometric(row, row.schedule[0], row.beta_hard, 1.5))
    assert int(solution.code) in (row.code, Code.NEAR_CRITICAL)
    hard = problem.harden(solution.params)
    np.testing.assert_allclose(solution.distortion, hard.cost, rtol=1e-3)
    np.testing.assert_allclose(solution.free_energy, hard.cost, rtol=1e-3)


@each(lambda row: row.hard_fixed_point and not row.capacities)
def test_the_hard_update_moves_no_hard_solution(row):
    problem = problem_of(row)
    solution = solve(row, problem, geometric(row, row.schedule[0], row.beta_hard, 1.5))
    says = said(row, problem, solution.params, jnp.asarray(1e8))
    assert_same(says.update, solution.params, atol=1e-4)


@each(lambda row: row.capacities)
def test_with_capacities_d_is_the_limit_of_f_and_hard_decisions_cost_less(row):
    problem = problem_of(row)
    solution = solve(row, problem, geometric(row, row.schedule[0], row.beta_hard, 1.5))
    assert int(solution.code) in (row.code, Code.NEAR_CRITICAL)
    np.testing.assert_allclose(solution.free_energy, solution.distortion, rtol=1e-3)
    assert problem.harden(solution.params).cost <= solution.distortion * (1 + 1e-9)


@each(lambda row: row.first_transition is not None)
def test_the_first_transition_is_the_closed_form(row):
    problem, expected = problem_of(row), row.first_transition()
    start = problem.init(key())
    upward = mj.critical_beta(problem, start, 0.3 * expected)
    np.testing.assert_allclose(upward, expected, rtol=1e-6)
    downward = mj.critical_beta(problem, start, 3 * expected)
    np.testing.assert_allclose(downward, expected, rtol=1e-6)
    solution = solve(row, problem, geometric(row, 0.5 * expected, 1.5 * expected, 1.05))
    np.testing.assert_allclose(solution.transitions[0], expected, rtol=1e-6)
    assert int(solution.n_transitions) >= 1
