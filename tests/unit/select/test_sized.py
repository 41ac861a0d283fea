"""Clusters of limited size from random starts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.select import sized

KEY = jax.random.key(0)


def on_a_line(n, k, seed=0):
    """Points on a line, whose best clusters of equal size are blocks in their order."""
    x = np.random.default_rng(seed).exponential(size=(n, 1))
    blocks = np.sort(x, axis=0).reshape(k, n // k)
    return x, np.mean(np.var(blocks, axis=1)), np.mean(blocks, axis=1)


def equal(x, k):
    return mj.Clustering(x, k, capacity=mj.Equal(np.full(k, 1 / k)))


@pytest.mark.slow
def test_equal_sizes_are_blocks_on_a_line():
    x, cost, centres = on_a_line(24, 4)
    problem = equal(x, 4)
    solved = mj.solve(problem, key=KEY)
    assert solved.runs.name == ("random start",) * sized.STARTS
    solution = solved.solution.raise_if_failed()
    hard = problem.harden(solution.params, capacities="assign")
    np.testing.assert_array_equal(np.bincount(hard.assignments), 6)
    np.testing.assert_allclose(hard.cost, cost, rtol=1e-6)
    np.testing.assert_allclose(np.sort(solution.params.primal[:, 0]), centres, rtol=1e-6)
    assert float(solution.entropy) < 1e-3 * np.log(4)
    # As many inner steps as a few rough stages and one that is solved take.
    assert np.nansum(solution.trace.steps) < 200


@pytest.mark.slow
def test_a_sample_is_looked_at_first_and_all_are_solved(monkeypatch):
    monkeypatch.setattr(sized, "_FEWEST", 16)
    monkeypatch.setattr(sized, "_PER_CLUSTER", 8)
    x, cost, _ = on_a_line(240, 4)
    problem = equal(x, 4)
    solved = mj.solve(problem, key=KEY, starts=5)
    assert len(solved.runs.cost) == 2
    hard = problem.harden(solved.solution.params, capacities="assign")
    np.testing.assert_allclose(hard.cost, cost, rtol=1e-6)


@pytest.mark.slow
def test_sizes_that_differ_are_told_apart_by_an_anneal_too():
    x, _, _ = on_a_line(20, 2)
    problem = mj.Clustering(x, 2, capacity=mj.Equal([0.7, 0.3]))
    solved = mj.solve(problem, key=KEY, starts=2)
    assert solved.runs.name == ("random start", "random start", "exact")
    ordered = np.sort(x[:, 0])
    best = min(
        len(one) * np.var(one) + len(other) * np.var(other)
        for one, other in (np.split(ordered, [14]), np.split(ordered, [6]))
    )
    hard = problem.harden(solved.solution.params, capacities="assign")
    np.testing.assert_allclose(hard.cost * len(x), best, rtol=1e-6)


@pytest.mark.slow
def test_inside_a_program_it_is_the_same_and_has_derivatives():
    """The envelope: the cost's derivative in a point is twice its way to the centre over N."""
    x, cost, _ = on_a_line(12, 2)

    @jax.jit
    @jax.value_and_grad
    def lowest(x):
        solved = mj.solve(equal(x, 2), key=KEY, starts=3, adjoint=mj.Envelope())
        return solved.solution.distortion

    found, slope = lowest(jnp.asarray(x))
    np.testing.assert_allclose(found, cost, rtol=1e-6)
    ordered = np.sort(x, axis=0).reshape(2, 6)
    means = np.where(x <= ordered[0].max(), ordered[0].mean(), ordered[1].mean())
    np.testing.assert_allclose(slope, 2 * (x - means) / len(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("bad", [5e3, 5e6])
def test_one_bad_record_hides_no_group(bad):
    """Nine points in three places of three, of which one is a record far away."""
    x = np.concatenate([[0.0, 0.01, 0.02, 1.0, 1.01, 1.02, 2.0, 2.01], [bad]])[:, None]
    problem = equal(x, 3)
    solved = mj.solve(problem, key=KEY)
    hard = problem.harden(solved.solution.params, capacities="assign")
    expected = np.repeat([0, 1, 2], 3)
    found = np.asarray(hard.assignments)
    assert len({(a, b) for a, b in zip(found.tolist(), expected.tolist(), strict=True)}) == 3


def test_what_is_asked_for_is_done_whole():
    problem = equal(np.arange(6.0)[:, None], 2)
    open_ended = mj.CriticalJump()
    assert not sized.suits(problem, mj.Geometric(0.5, 50.0, 2.0))
    assert sized.suits(problem, open_ended) and sized.alike(problem)
    assert not sized.suits(mj.Clustering(problem.x, 2), open_ended)
    strays = mj.Clustering(problem.x, 2, capacity=[0.6, 0.6], autonomy=mj.autonomy.Uniform(0.1))
    assert not sized.suits(strays, open_ended)
