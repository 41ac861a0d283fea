"""Multipliers of a scalable clustering: reciprocity, finite differences, budgets."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.select import multiplier_report, with_budget

from ...oracles.test_scalable_clustering import data

KEY = jax.random.key(0)
BETA = 1.7


def build(interaction=1.0, computation=0.8):
    x, _ = data()
    return mj.ScalableClustering(x, 3, interaction=interaction, computation=computation)


SCHEDULE = mj.Geometric(0.08, BETA, 1.3)


@functools.cache
def solved():
    with jax.enable_x64(True):
        problem = build()
        return problem, mj.anneal(problem, SCHEDULE, key=KEY).raise_if_failed()


def test_costs_and_entropy_are_those_of_the_solution():
    problem, solution = solved()
    report = multiplier_report(problem, solution, solution.beta)
    v = problem.variance()
    np.testing.assert_allclose(report.multipliers, BETA * np.array([1, 1, 0.8 * v]), rtol=1e-12)
    np.testing.assert_allclose(report.log_partition, -BETA * solution.free_energy, rtol=1e-12)
    np.testing.assert_allclose(report.entropy, solution.entropy, atol=1e-12)
    np.testing.assert_allclose(
        report.costs @ np.array([1, 1, 0.8 * v]), solution.distortion, rtol=1e-12
    )


def test_response_is_symmetric_and_equals_finite_differences_of_new_solves():
    problem, solution = solved()
    report = multiplier_report(problem, solution, solution.beta)
    response = np.asarray(report.response)
    np.testing.assert_allclose(response, response.T, atol=1e-10)
    assert np.linalg.eigvalsh(response).max() < 1e-12
    resolve = jax.jit(
        lambda q, beta: mj.anneal(
            q, mj.Explicit(beta[None]), key=KEY, init=solution.params, detector=mj.NoDetector()
        )
    )

    def at(multipliers):
        first, second, third = multipliers
        moved = build(second / first, third / first / problem.variance())
        again = resolve(moved, first)
        parts = moved.costs_by_part(again.params, first)
        costs = np.array([parts.coverage, parts.interaction, parts.computation])
        return costs, float(again.entropy)

    step = 1e-4
    for j in range(3):
        up, down = np.array(report.multipliers), np.array(report.multipliers)
        up[j], down[j] = up[j] * (1 + step), down[j] * (1 - step)
        (high, s_high), (low, s_low) = at(up), at(down)
        width = up[j] - down[j]
        np.testing.assert_allclose((high - low) / width, response[:, j], atol=1e-7)
        # So dS = sum_k beta_k dF_k: a multiplier is what entropy gains for each unit of its cost.
        np.testing.assert_allclose((s_high - s_low) / width, report.entropy_slopes[j], atol=1e-7)
    np.testing.assert_allclose(report.exchange_rate(2, 0), response[0, 2] / response[2, 2])


def test_report_under_jit_and_vmap():
    problem, solution = solved()
    alone = multiplier_report(problem, solution.params, solution.beta)
    betas = jnp.array([BETA, BETA * 1.01])
    lanes = jax.vmap(lambda beta: multiplier_report(problem, solution.params, beta))(betas)
    np.testing.assert_allclose(lanes.response[0], alone.response, atol=1e-12)


@pytest.mark.parametrize(("name", "target"), [("computation_cost", 0.1), ("kept", 0.5)])
def test_a_budget_is_met(name, target):
    found = with_budget(build(), SCHEDULE, key=KEY, **{name: target})
    assert int(found.code) == Code.OK
    np.testing.assert_allclose(found.spent, target, rtol=1e-2)
    # The solution returned is one of the problem returned, and spends what is said.
    parts = found.problem.costs_by_part(found.solution.params, found.solution.beta)
    spent = parts.kept if name == "kept" else parts.computation
    np.testing.assert_allclose(spent, found.spent, rtol=1e-12)
    np.testing.assert_allclose(found.problem.computation, found.computation)
    slope = found.problem.residual(found.solution.params, found.solution.beta)
    assert max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slope)) < 1e-5


def test_what_no_multiplier_meets_is_infeasible():
    # Three groups of three computing with all of it spend 3 x (1/3 x 1) = 1 at most.
    found = with_budget(build(), SCHEDULE, key=KEY, computation_cost=5.0)
    assert int(found.code) == Code.INFEASIBLE
    assert float(found.spent) < 5.0


def test_bad_input_is_named():
    problem, solution = solved()
    with pytest.raises(TypeError, match="`problem` must be a ScalableClustering; got Clustering"):
        multiplier_report(cast(Any, mj.Clustering(jnp.ones((3, 1)), 2)), solution.params, 1.0)
    printed = mj.ScalableClustering(data()[0], 3, radius="printed")
    with pytest.raises(ValueError, match="radius='minimum'"):
        with_budget(printed, key=KEY, kept=0.5)
    with pytest.raises(ValueError, match="either `kept` or `computation_cost`; got neither"):
        with_budget(problem, key=KEY)
    with pytest.raises(ValueError, match=r"`kept` must be in \(0, 1\); got 1.5"):
        with_budget(problem, key=KEY, kept=1.5)
    with pytest.raises(ValueError, match="`rtol` must be > 0; got 0"):
        with_budget(problem, key=KEY, kept=0.5, rtol=0.0)
