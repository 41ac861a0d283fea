"""Item 3: solutions solve their equation; implicit, unrolled and finite differences agree.

A free energy without second derivatives is exempt.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from .programs import (
    BAD,
    GOOD,
    UNFINISHED,
    each,
    finished,
    geometric,
    key,
    lane,
    lanes_of,
    problem_of,
    readout,
    said,
    solve,
    solved,
)

STEP = 1e-5


def smooth(row):
    return row.smooth


@each(smooth)
def test_solutions_make_the_residual_zero(row):
    problem, solution = problem_of(row), solved(row).solution
    assert int(solution.code) == Code.OK
    steps = np.asarray(solution.trace.steps)[: int(solution.n_stages)]
    assert (steps > 0).all()
    assert float(solution.beta) == row.schedule[1]
    says = said(row, problem, solution.params, solution.beta)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(says.residual)) < 1e-9
    np.testing.assert_allclose(solution.distortion, says.terms.distortion, rtol=1e-12)
    np.testing.assert_allclose(solution.entropy, says.terms.entropy, rtol=1e-12)


@functools.cache
def changes_of(row):
    """A legal random change of each array."""
    rng = np.random.default_rng(11)
    problem = problem_of(row)
    return {
        name: row.change(name, rng.normal(size=np.shape(get(problem))))
        for name, get in row.arrays.items()
    }


@each(smooth)
def test_reverse_mode_matches_finite_differences(row):
    problem, gradient = problem_of(row), lane(lanes_of(row).gradient, GOOD)

    def value(problem, schedule=None):
        return readout(problem, solve(row, problem, schedule))

    for name, get in row.arrays.items():
        change = changes_of(row)[name]
        ahead, behind = (
            value(eqx.tree_at(get, problem, jnp.asarray(get(problem) + sign * STEP * change)))
            for sign in (1, -1)
        )
        expected = (ahead - behind) / (2 * STEP)
        got = jnp.sum(get(gradient) * change)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9, err_msg=name)

    beta_max = row.schedule[1]
    ahead, behind = (
        value(problem, geometric(row, beta_max=beta_max + sign * STEP)) for sign in (1, -1)
    )
    got = lanes_of(row).gradient_in_beta[GOOD]
    np.testing.assert_allclose(got, (ahead - behind) / (2 * STEP), rtol=1e-5, atol=1e-9)


@each(smooth)
def test_forward_mode_is_reverse_mode(row):
    problem, gradient = problem_of(row), lane(lanes_of(row).gradient, GOOD)
    still = jax.tree.map(np.zeros_like, eqx.filter(problem, eqx.is_inexact_array))
    tangents = [
        eqx.tree_at(get, still, np.asarray(changes_of(row)[name]))
        for name, get in row.arrays.items()
    ]
    value = finished(row)

    @eqx.filter_jit
    def along(problem, tangents):
        return jax.vmap(lambda t: eqx.filter_jvp(value, (problem,), (t,))[1])(tangents)

    forward = along(problem, jax.tree.map(lambda *leaves: jnp.stack(leaves), *tangents))
    for got, (name, get) in zip(forward, row.arrays.items(), strict=True):
        expected = jnp.sum(get(gradient) * changes_of(row)[name])
        np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-11, err_msg=name)


@each(smooth)
def test_implicit_equals_unrolled(row):
    problem, implicit = problem_of(row), lane(lanes_of(row).gradient, GOOD)
    value = finished(row, mj.Unroll(steps=400, damping=row.damping))
    unrolled = eqx.filter_jit(eqx.filter_grad(value))(problem)
    for name, get in row.arrays.items():
        np.testing.assert_allclose(get(unrolled), get(implicit), rtol=1e-6, atol=1e-8, err_msg=name)


@each(smooth)
def test_a_failing_code_gives_nan_gradients_in_its_lane(row):
    value, solution, gradient, in_beta = lanes_of(row)
    get = next(iter(row.arrays.values()))
    assert np.isfinite(value[: UNFINISHED + 1]).all()
    assert int(solution.code[UNFINISHED]) == Code.MAX_STEPS
    assert np.isnan(get(gradient)[UNFINISHED]).all()
    assert np.isnan(in_beta[UNFINISHED:]).all()
    assert np.isnan(get(gradient)[BAD:]).all()
    assert np.isfinite(get(gradient)[:UNFINISHED]).all()
    assert np.isfinite(in_beta[:UNFINISHED]).all()


@each(lambda row: row.smooth and row.rests)
def test_near_a_transition_the_code_says_so(row):
    problem = problem_of(row)
    critical = float(mj.critical_beta(problem, problem.init(key()), row.schedule[0] * 5e-3))
    assert np.isfinite(critical)
    # The start is stationary for every beta here, so only the curvature can tell; growth by
    # estimates would have left it.
    schedule = geometric(row, 0.5 * critical, critical * (1 - 1e-9), 1.5)
    detector = None if row.growth_is_exact else mj.Detector()
    solution = solve(row, problem, schedule, detector=detector)
    assert int(solution.code) == Code.NEAR_CRITICAL
    solution.raise_if_failed()
