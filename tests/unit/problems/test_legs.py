"""Costs of clustering as legs of paths."""

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import mepjax as mj

from ...jitted import jitted

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(7, 2)), RNG.normal(size=(2, 2))
Y: Any = RNG.normal(size=(3, 2))
PLACES: Any = [0.0, 50.0] + 5 * RNG.normal(size=(3, 4, 2))


def test_euclidean_legs_are_distances():
    problem = mj.FacilityPath(X, Z, 3, stage_costs=mj.costs.Euclidean(0.0), direct=True)
    costs: Any = jitted.leg_costs(problem, Y)
    distance = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=2)  # noqa: E731
    np.testing.assert_allclose(costs.first, distance(X, Y), rtol=1e-12)
    np.testing.assert_allclose(costs.last, distance(Y, Z), rtol=1e-12)
    np.testing.assert_allclose(costs.direct, distance(X, Z), rtol=1e-12)
    apart = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(costs.links[apart], distance(Y, Y)[apart], rtol=1e-12)
    assert np.all(np.isposinf(costs.links[~apart]))


def test_great_circle_legs_are_kilometres():
    x, y, z = PLACES
    problem = mj.FacilityPath(x, z, 4, stage_costs="great_circle")
    (a, b), (c, d) = np.radians(x.T)[:, :, None], np.radians(y.T)[:, None]
    h = np.sin((b - d) / 2) ** 2 + np.cos(b) * np.cos(d) * np.sin((a - c) / 2) ** 2
    expected = 2 * 6371.0088 * np.arcsin(np.sqrt(h))
    legs: Any = problem.stage_costs
    smoothing = legs.cost.smoothing
    np.testing.assert_allclose(
        jitted.leg_costs(problem, y).first, np.sqrt(expected**2 + smoothing**2), rtol=1e-9
    )


@pytest.mark.parametrize("cost", ["euclidean", "great_circle"])
def test_the_metric_is_the_hessian_of_the_cost_of_fixed_traffic(cost):
    x, y, z = PLACES
    problem = mj.FacilityPath(x, z, 4, stage_costs=cost)
    beta = problem.beta_scale()
    flow = jitted.traffic(problem, y, beta)

    def total(y):
        costs = problem.leg_costs(y)
        pairs = zip(jax.tree.leaves(flow), jax.tree.leaves(costs), strict=True)
        return sum(jnp.sum(f * jnp.where(jnp.isposinf(c), 0.0, c)) for f, c in pairs)

    expected = jax.jit(jax.hessian(total))(y).reshape(8, 8)
    np.linalg.cholesky(expected)  # so that nothing had to be made positive
    product = jax.jit(lambda v: problem.metric(y, beta).mv(v))
    found = np.stack([product(row.reshape(4, 2)).ravel() for row in np.eye(8)])
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10 * np.abs(expected).max())
    vector = RNG.normal(size=(4, 2))
    solved = jitted.precondition(problem, y, beta, product(vector))
    np.testing.assert_allclose(solved, vector, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("cost", ["euclidean", "sqeuclidean"])
def test_one_stage_with_free_exits_is_clustering(cost):
    weights = RNG.uniform(0.5, 2, size=7)
    paths = mj.FacilityPath(X, Z, 3, weights=weights, n_stages=1, stage_costs=(cost, None, None))
    clusters = mj.Clustering(X, 3, weights=weights, cost=cost)
    np.testing.assert_allclose(paths.beta_scale(), clusters.beta_scale(), rtol=1e-8)
    # A path also chooses its destination, of which there are two at no cost.
    constant = np.log(2) / 3.0
    np.testing.assert_allclose(
        jitted.free_energy(paths, Y, 3.0) + constant,
        jitted.free_energy(clusters, Y, 3.0),
        rtol=1e-10,
    )


def _median_cost(points):
    """Smallest sum of distances to one place, which is convex, by a peer's simplex search."""
    if len(points) == 0:
        return 0.0
    total = lambda y: np.linalg.norm(points - y, axis=1).sum()  # noqa: E731
    options = {"xatol": 1e-10, "fatol": 1e-12}
    run = scipy.optimize.minimize(total, points.mean(0), method="Nelder-Mead", options=options)
    # It may lie on a point, where the simplex meets a kink.
    return min(run.fun, *map(total, points))


def test_tiny_medians_against_every_assignment():
    x = np.random.default_rng(3).normal(size=(7, 2))
    splits = ([*sides, 0] for sides in itertools.product((0, 1), repeat=6))
    best = min(
        _median_cost(x[np.equal(side, 0)]) + _median_cost(x[np.equal(side, 1)]) for side in splits
    )
    # With so few nodes a small smoothing keeps facilities on them: anneal with a larger one first.
    smooth, sharp = (
        mj.FacilityPath(x, x[:1], 2, n_stages=1, stage_costs=(mj.costs.Euclidean(s), None, None))
        for s in (0.3, 1e-3)
    )
    beta = 1e3 * smooth.beta_scale()
    annealed = mj.anneal(smooth, key=jax.random.key(0))
    solution = mj.anneal(
        sharp, mj.Explicit([beta]), init=annealed, key=jax.random.key(0), detector=mj.NoDetector()
    )
    found = float(sharp.harden(solution.params).cost)
    np.testing.assert_allclose(7 * found, best, rtol=2e-3)
    assert 7 * found >= best * (1 - 1e-6)


@pytest.mark.slow
def test_gradients_through_distances_match_finite_differences():
    # The default smoothing follows the data, as a constant for derivatives.
    distance = mj.costs.Euclidean(smoothing=0.01)
    x, z = X, np.array([[4.0, 0.0]])

    def solve(x):
        problem = mj.FacilityPath(x, z, 2, stage_costs=(distance, "sqeuclidean", distance))
        return mj.anneal(problem, mj.Explicit([1.0, 8.0]), key=jax.random.key(0))

    weights = RNG.normal(size=(2, 2))

    # One program for the derivative and for the values that its differences are of.
    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def loss(x):
        solution = solve(x)
        return jnp.sum(weights * solution.params), solution.code

    (_, code), found = loss(x)
    assert int(code) == mj.Code.OK
    step = 1e-5
    for i, j in ((0, 0), (3, 1), (6, 0)):
        change = np.zeros_like(x)
        change[i, j] = step
        expected = (loss(x + change)[0][0] - loss(x - change)[0][0]) / (2 * step)
        np.testing.assert_allclose(found[i, j], expected, rtol=1e-5, atol=1e-8)


def test_degrees_need_two_columns_and_their_range():
    with pytest.raises(ValueError, match="must have two columns, longitude and latitude"):
        mj.FacilityPath(np.ones((2, 3)), np.ones(3), 1, stage_costs="great_circle")
    with pytest.raises(ValueError, match=r"latitude x\[:, 1\]` must be in"):
        mj.FacilityPath(np.ones((2, 2)), np.array([0.0, 95.0]), 1, stage_costs="great_circle")


@pytest.mark.parametrize("x", [X, np.array([[0.0, 0.0]]), np.array([[-1.0, 0], [0, 0], [1, 0]])])
def test_a_function_with_a_kink_still_has_a_scale_of_beta(x):
    distance = lambda a, b: jnp.sqrt(jnp.sum((a - b) ** 2))  # noqa: E731
    problem = mj.FacilityPath(x, np.array([4.0, 0.0]), 2, stage_costs=distance)
    squared = mj.FacilityPath(x, np.array([4.0, 0.0]), 2)
    assert 1e-2 < float(problem.beta_scale() / squared.beta_scale()) < 1e2
