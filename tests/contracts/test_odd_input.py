"""Item 7: input at the edge of what is allowed has the right code, never a silent NaN."""

import jax
import numpy as np

from .programs import each_with, geometric, like, solve


@each_with(lambda row: list(row.odd.items()))
def test_odd_input_gives_finite_answers(row, item):
    problem = like(row, item.build())
    b = float(problem.beta_scale())
    solution = solve(row, problem, geometric(row, 0.5 * b, 200 * b, 1.5))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(solution.params))
    assert np.isfinite(solution.free_energy)
    assert int(solution.code) in item.codes
    assert np.isfinite(problem.harden(solution.params).cost)
