"""Item 6: permutations, translation and scaling change what they should and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np

from mepjax import Code
from mepjax._core.params import join_params, primal_of, split_params

from .programs import assert_same, each_with, geometric, like, problem_of, said, solve, solved


def moved_params(problem, symmetry, params):
    primal, dual = split_params(params)
    multiplied = lambda dual: jax.tree.map(lambda price: symmetry.factor * price, dual)  # noqa: E731
    return join_params(symmetry.values(primal), (symmetry.dual or multiplied)(dual))


@each_with(lambda row: [(symmetry.name, symmetry) for symmetry in row.symmetries])
def test_what_a_problem_says_moves_along(row, item):
    problem, params = problem_of(row), solved(row).solution.params
    changed, beta = like(row, item.problem(problem)), row.schedule[1] / 2.5
    at = said(row, problem, params, jnp.asarray(beta))
    moved = moved_params(problem, item, params)
    then = said(row, changed, moved, jnp.asarray(beta / item.factor))
    expected = item.factor * at.free_energy + item.offset
    np.testing.assert_allclose(then.free_energy, expected, rtol=1e-10)
    np.testing.assert_allclose(then.policy, item.policy(at.policy), atol=1e-9)
    assert_same(then.update, moved_params(problem, item, at.update), atol=1e-9)


@each_with(
    lambda row: [(symmetry.name, symmetry) for symmetry in row.symmetries if symmetry.anneals]
)
def test_the_solution_moves_along(row, item):
    problem, solution = problem_of(row), solved(row).solution
    changed = item.problem(problem)
    beta_min, beta_max, _ = row.schedule
    schedule = geometric(row, beta_min / item.factor, beta_max / item.factor)
    again = solve(row, changed, schedule)
    assert int(again.code) in (row.code, Code.NEAR_CRITICAL)
    expected = item.factor * solution.free_energy + item.offset
    np.testing.assert_allclose(again.free_energy, expected, rtol=1e-8)
    values = primal_of(moved_params(problem, item, solution.params))
    assert_same(primal_of(again.params), values, atol=item.atol)
    scale = problem.beta_scale() / item.factor
    np.testing.assert_allclose(changed.beta_scale(), scale, rtol=1e-10)
