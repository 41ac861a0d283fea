"""Item 1: jit, vmap and seeds change nothing, and a second call compiles nothing."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import Code

from .programs import (
    GOOD,
    SEEDS,
    SHIFT,
    SHIFTED,
    assert_same,
    each,
    geometric,
    key,
    lane,
    lanes_of,
    problem_of,
    solve,
    solved,
    traces_of,
)


def result(solution):
    return solution.params, solution.code, solution.free_energy, solution.n_stages


@each()
def test_the_problem_says_what_the_row_expects(row):
    problem = problem_of(row)
    assert problem.variational == row.variational
    assert problem.smooth == row.smooth
    # A problem may promise less than is true of this row's data.
    assert row.convex_at_zero or not problem.convex_at_zero


@each()
def test_jit_equals_eager(row):
    eager, jitted = solved(row).solution, lane(lanes_of(row).solution, GOOD)
    assert int(eager.code) == int(jitted.code) == row.code
    assert_same(result(jitted), result(eager), rtol=1e-9, atol=1e-9)


@each()
def test_vmap_equals_loop(row):
    alone = solve(row, row.shifted(problem_of(row), SHIFT), seed=SEEDS[1])
    batched = lane(lanes_of(row).solution, SHIFTED)
    assert_same(result(batched), result(alone), rtol=1e-7, atol=1e-7)


@each()
def test_seeds_reproduce_and_pieces_are_the_whole(row):
    whole = solve(row, problem_of(row))
    assert_same(result(whole), result(solved(row).solution), rtol=0)


@each()
def test_functions_equal_without_jit(row):
    problem, params = problem_of(row), solved(row).solution.params
    functions = lambda q, p: (q.free_energy(p, 2.0), q.update(p, 2.0))  # noqa: E731
    with jax.disable_jit():
        plain = functions(problem, params)
    assert_same(plain, eqx.filter_jit(functions)(problem, params), rtol=1e-12, atol=1e-12)


@each()
def test_a_second_call_compiles_nothing_and_traces_are_few(row, caplog):
    assert 1 <= solved(row).traces <= 4
    solve(row, problem_of(row))  # the programs may have been let go since, see `forget_programs`
    moved, schedule = row.shifted(problem_of(row), 0.1), geometric(row, row.schedule[0] * 1.1)
    other_key = key(4)
    seen = traces_of(row)
    seen.new()
    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        jax.jit(lambda: jnp.zeros(3))()
        assert "Compiling" in caplog.text
        caplog.clear()
        solution = solve(row, moved, schedule, seed=other_key)
    assert seen.new() == 0
    assert "Compiling" not in caplog.text
    assert int(solution.code) in (row.code, Code.NEAR_CRITICAL)


@each(lambda row: row.bad)
def test_bad_traced_values_mark_only_their_lane(row):
    solutions = lanes_of(row).solution
    assert int(solutions.code[GOOD]) == row.code
    lane(solutions, GOOD).raise_if_failed()
    for index, bad in enumerate(row.bad, start=3):
        assert int(solutions.code[index]) == bad.code
        with pytest.raises(ValueError, match=bad.says):
            lane(solutions, index).raise_if_failed()
    assert np.isfinite(solutions.free_energy[: SHIFTED + 1]).all()
