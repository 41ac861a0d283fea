"""Clustering by a function for the average costs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

N, K = 30, 3
RNG = np.random.default_rng(2)
X = RNG.normal(size=(N, 2)) + 3.0
WEIGHTS = RNG.uniform(0.5, 1.5, N)
Y = RNG.normal(size=(K, 2)) + 3.0


class TrueAverage(eqx.Module):
    """What a clustering says itself."""

    problem: mj.Clustering

    def __call__(self, x, y):
        moved = eqx.tree_at(lambda p: p.x, self.problem, x)
        return moved.average_distances(y)


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_with_the_true_average_it_is_the_clustering(gamma):
    known = mj.Clustering(X, K, weights=WEIGHTS, autonomy=mj.autonomy.Softmax(0.4, 1.0, gamma))
    averaged = mj.AveragedClustering(X, K, TrueAverage(known), WEIGHTS)

    @jax.jit
    def said(problem, y, beta):
        # With the weights of a clustering, twice what is told: its metric without overrides.
        energy, slope = jax.value_and_grad(problem.free_energy)(y, beta)
        return energy, slope, problem.policy(y, beta), problem.terms(y, beta), problem.harden(y)

    for beta in (0.1, 5.0, 1e3):
        a, b = (said(problem, jnp.asarray(Y), beta) for problem in (known, averaged))
        for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
            np.testing.assert_allclose(right, left, rtol=1e-12, atol=1e-12)


def test_the_metric_is_twice_what_is_told_or_as_given():
    def squares(x, y):
        return jnp.sum((x[:, None] - y) ** 2, axis=-1)

    problem = mj.AveragedClustering(X, K, squares, WEIGHTS)
    told = WEIGHTS / WEIGHTS.sum() @ np.exp(problem.policy(jnp.asarray(Y), 2.0))
    vector = jnp.asarray(RNG.normal(size=(K, 2)))
    np.testing.assert_allclose(
        problem.precondition(jnp.asarray(Y), 2.0, vector), vector / (2 * told[:, None])
    )
    given = mj.AveragedClustering(X, K, squares, metric=lambda y, told: 3 + 0 * y)
    np.testing.assert_allclose(given.precondition(jnp.asarray(Y), 2.0, vector), vector / 3)
    plain, start = mj.Clustering(X, K, weights=WEIGHTS), jnp.asarray(Y)
    np.testing.assert_allclose(problem.beta_scale(), plain.beta_scale())
    np.testing.assert_allclose(problem.params_scale(start), plain.params_scale(start))
    assert problem.scatter(jax.random.key(0)).shape == (K, 2)


def test_what_is_no_cost_is_refused():
    with pytest.raises(TypeError, match="`costs` must be callable; got int"):
        mj.AveragedClustering(X, K, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"`costs` must return shape \(30, 3\).*got shape \(30,\)"):
        mj.AveragedClustering(X, K, lambda x, y: x[:, 0])
    with pytest.raises(ValueError, match="real floating numbers; got dtype int"):
        mj.AveragedClustering(X, K, lambda x, y: jnp.zeros((len(x), len(y)), int))
    with pytest.raises(ValueError, match="`k` must be"):
        mj.AveragedClustering(X, 0, lambda x, y: x @ y.T)


def test_costs_that_turn_nan_end_with_a_code():
    problem = mj.AveragedClustering(X, K, lambda x, y: jnp.nan * (x @ y.T))
    sol = mj.anneal(problem, mj.Explicit([1.0]), key=jax.random.key(0), adjoint=mj.NoGrad())
    assert mj.Code(int(sol.code)).name == "NON_FINITE"
