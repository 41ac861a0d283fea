"""Capacities of clusters against prices found without duality, hard ones against brute force."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import mepjax as mj
from mepjax import Code
from mepjax.problems.clustering.transport import whole_sizes

from ..jitted import jitted
from . import cluster_sizes_numpy as oracle

N, K, D = 9, 3, 2
RNG = np.random.default_rng(0)
X, Y, WEIGHTS = RNG.normal(size=(N, D)), RNG.normal(size=(K, D)), RNG.uniform(0.2, 1.5, N)
WEIGHTS[4] = 0.0
RHO = WEIGHTS / WEIGHTS.sum()
MATRIX = 0.3 * RNG.dirichlet(np.ones(K), size=K) + 0.7 * np.eye(K)
LIMITS = {
    "equal": (mj.Equal(np.array([0.6, 0.3, 0.1])), True),
    "bound": (np.array([0.4, 0.38, 0.36]), False),
    "bound without room": (np.array([0.6, 0.3, 0.1]), False),
    "slack": (np.array([0.9, 1.0, np.inf]), False),
    "one bound": (np.array([np.inf, 0.1, np.inf]), False),
    "closed": (np.array([0.0, 0.7, 0.8]), False),
    "closed and equal": (mj.Equal(np.array([0.45, 0.0, 0.55])), True),
}
AUTONOMY = {
    "none": lambda: None,
    "uniform": lambda: mj.autonomy.Uniform(0.3),
    "matrix": lambda: mj.autonomy.Matrix(MATRIX),
    "softmax": lambda: mj.autonomy.Softmax(0.3, 1.0, 0.4, 0.6),
}


@eqx.filter_jit
def solve(problem, y, beta):
    params = problem.eliminate(problem.at(y), beta)
    return {
        "params": params,
        "energy": problem.free_energy(params, beta),
        "terms": problem.terms(params, beta),
        "policy": problem.policy(params, beta),
        "weights": problem.association_weights(params, beta),
        "residual": problem.residual(params, beta),
        "moved": problem.update(params, beta),
        "code": problem.constraint_code(params, beta),
        "p": problem.probabilities(params),
    }


COMBINATIONS = [
    pytest.param(
        case, autonomy,
        marks=() if autonomy == "none" or (case, autonomy) == ("bound", "softmax")
        else pytest.mark.slow,
    )
    for case in LIMITS for autonomy in AUTONOMY
]  # fmt: skip


@pytest.mark.parametrize(("case", "autonomy"), COMBINATIONS)
def test_prices_bring_what_is_told_to_the_capacity(case, autonomy):
    capacity, equality = LIMITS[case]
    limit = np.asarray(getattr(capacity, "values", capacity))
    problem = mj.Clustering(
        X, K, weights=WEIGHTS, autonomy=AUTONOMY[autonomy](), capacity=capacity
    )  # fmt: skip
    met = equality or limit.sum() < 1 + 1e-12
    for beta in (0.3, 4.0, 60.0):
        got = solve(problem, Y, beta)
        assert int(got["code"]) == Code.OK
        p = np.asarray(got["p"])
        costs = oracle.average_costs(X, Y, p)
        expected = oracle.prices(costs, RHO, beta, limit, equality=met)
        found = np.asarray(got["params"].dual)
        shift = (found - expected)[limit > 0].mean() if met else 0.0
        counts = np.isfinite(limit) & (limit > 0)
        np.testing.assert_allclose((found - shift)[counts], expected[counts], atol=1e-7)
        assert (found[~counts] == 0).all()

        charged = costs + expected + np.where(limit == 0, np.inf, 0.0)
        pi = oracle.gibbs(charged, beta)
        used = RHO @ pi
        np.testing.assert_allclose(np.exp(got["policy"]), pi, atol=1e-9)
        assert (used <= limit + 1e-9).all()
        if met:
            np.testing.assert_allclose(used, limit, atol=1e-9)
        worth = expected[counts] @ limit[counts]
        energy = oracle.free_energy(charged, RHO, beta) - worth
        np.testing.assert_allclose(got["energy"], energy, rtol=1e-9)
        terms = got["terms"]
        logs = np.log(np.where(pi > 0, pi, 1.0))
        np.testing.assert_allclose(terms.distortion, RHO @ (pi * costs).sum(1), rtol=1e-8)
        np.testing.assert_allclose(terms.entropy, -RHO @ (pi * logs).sum(1), atol=1e-8)
        gap = np.where(counts, used - np.where(counts, limit, 0), 0)
        np.testing.assert_allclose(terms.constraints, gap, atol=1e-9)

        received = np.einsum("i,ij,ijk->ik", RHO, pi, p)
        np.testing.assert_allclose(got["weights"], received, atol=1e-9)
        if autonomy != "softmax":
            mass = received.sum(0)
            slope = 2 * (mass[:, None] * Y - received.T @ X)
            np.testing.assert_allclose(got["residual"].primal, slope, atol=1e-8)
            mean = np.where(mass[:, None] > 0, received.T @ X / np.where(mass, mass, 1)[:, None], Y)
            np.testing.assert_allclose(got["moved"].primal, mean, atol=1e-7)
        assert np.abs(got["residual"].dual).max() < 1e-9


def test_gradient_in_the_centres_is_that_of_the_settled_free_energy():
    limit = np.array([0.5, 0.3, 0.2])
    autonomy = mj.autonomy.Softmax(0.3, 1.0, 0.4, 0.6)
    problem = mj.Clustering(X, K, weights=WEIGHTS, autonomy=autonomy, capacity=mj.Equal(limit))
    got = solve(problem, Y, 2.0)["residual"].primal

    def energy(y):
        costs = oracle.average_costs(X, y, np.asarray(problem.probabilities(y)))
        price = oracle.prices(costs, RHO, 2.0, limit, equality=True)
        return oracle.free_energy(costs + price, RHO, 2.0) - price @ limit

    step = 1e-5
    for place in np.ndindex(K, D):
        change = np.zeros((K, D))
        change[place] = step
        expected = (energy(Y + change) - energy(Y - change)) / (2 * step)
        np.testing.assert_allclose(got[place], expected, atol=1e-8)


@pytest.mark.parametrize("equality", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_whole_entities_are_assigned_as_by_brute_force(equality, seed):
    rng = np.random.default_rng(seed)
    n = 8
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(K, 2))
    limit = rng.dirichlet(np.ones(K))
    if not equality:
        limit = limit + 0.1
    if seed == 3:
        limit = np.array([0.5, 0.5, 0.0])
    capacity = mj.Equal(limit) if equality else limit
    problem = mj.Clustering(x, K, capacity=capacity, autonomy=mj.autonomy.Matrix(MATRIX))
    wanted = whole_sizes(n * limit, n, 1e-16)
    costs = np.asarray(problem.average_distances(y))
    expected, _ = oracle.cheapest(costs, np.ones(n), wanted * equality, wanted)
    # The prices are where the search starts: any lead to the same answer.
    for prices in (np.zeros(K), rng.normal(size=K), 10 * rng.normal(size=K)):
        params = eqx.tree_at(lambda p: p.dual, problem.at(y), jnp.asarray(prices))
        hard: Any = problem.harden(params, capacities="assign")
        sizes = np.bincount(hard.assignments, minlength=K)
        assert (sizes <= wanted).all() and (not equality or (sizes == wanted).all())
        np.testing.assert_allclose(hard.cost, expected / n, rtol=1e-10)


@pytest.mark.parametrize("equality", [True, False])
def test_many_entities_are_assigned_as_by_linear_programming(equality):
    rng = np.random.default_rng(1)
    n, k = 300, 5
    x, y = rng.normal(size=(n, 2)), rng.normal(size=(k, 2))
    limit = np.array([0.4, 0.05, 0.15, 0.2, 0.2]) + (0 if equality else 0.03)
    problem = mj.Clustering(x, k, capacity=mj.Equal(limit) if equality else limit)
    wanted = whole_sizes(n * limit, n, 1e-16)
    costs = np.asarray(problem.average_distances(y))
    each = np.kron(np.eye(n), np.ones(k))
    size = np.tile(np.eye(k), n)
    rows = {"A_ub": size, "b_ub": wanted}
    found = linprog(
        costs.ravel(), A_eq=np.concatenate([each, size]) if equality else each,
        b_eq=np.concatenate([np.ones(n), wanted]) if equality else np.ones(n),
        **({} if equality else rows),
    )  # fmt: skip
    for params in (problem.at(y), jitted.eliminate(problem, problem.at(y), 50.0)):
        hard: Any = problem.harden(params, capacities="assign")
        np.testing.assert_allclose(hard.cost, found.fun / n, rtol=1e-9)
        assert float(jnp.max(hard.excess)) <= 1 / n


@pytest.mark.parametrize("equality", [True, False])
def test_unequal_weights_split_few_entities_and_cost_what_the_transport_costs(equality):
    rng = np.random.default_rng(2)
    n, k = 120, 4
    x, y, weights = rng.normal(size=(n, 2)), rng.normal(size=(k, 2)), rng.uniform(0.1, 1.0, n)
    weights[7] = 0.0
    rho = weights / weights.sum()
    limit = np.array([0.4, 0.1, 0.2, 0.3]) + (0 if equality else 0.02)
    capacity = mj.Equal(limit) if equality else limit
    problem = mj.Clustering(x, k, weights=weights, capacity=capacity)
    hard: Any = problem.harden(problem.at(y), capacities="assign")
    costs = np.asarray(problem.average_distances(y))
    each, size = np.kron(np.eye(n), np.ones(k)), np.tile(np.eye(k), n)
    found = linprog(
        costs.ravel(), A_ub=size, b_ub=limit, A_eq=each, b_eq=rho
    )  # fmt: skip
    split = (found.x.reshape(n, k) > 1e-9).sum(1) > 1
    told = np.bincount(hard.assignments, weights=rho, minlength=k)
    np.testing.assert_allclose(
        hard.excess, told - limit if equality else np.maximum(told - limit, 0), atol=1e-12
    )
    assert split.sum() <= k - 1
    assert np.abs(hard.excess).max() <= rho[split].sum() + 1e-12
    # All but the split ones are where the transport puts them.
    same = hard.assignments == found.x.reshape(n, k).argmax(1)
    assert same[rho > 0].all()


def told_of(problem, solution):
    policy = np.exp(problem.policy(solution.params, solution.beta))
    return np.asarray(problem.weights / problem.weights.sum()) @ policy


def test_the_last_beta_meets_the_capacities_and_the_wrong_sizes_cost_less():
    rng = np.random.default_rng(5)
    x = np.concatenate([rng.normal(c, 0.3, size=(m, 2)) for c, m in ((0, 30), (3, 10), (6, 20))])
    limit = np.array([0.25, 0.35, 0.4])
    problem = mj.Clustering(x, 3, capacity=mj.Equal(limit))
    b = float(problem.beta_scale())
    solution = mj.anneal(problem, mj.Geometric(0.5 * b, 1e3 * b, 1.2), key=jax.random.key(0))
    solution.raise_if_failed()
    told = told_of(problem, solution)
    np.testing.assert_allclose(told, limit, atol=1e-7)
    ignored: Any = problem.harden(solution.params)
    assigned: Any = problem.harden(solution.params, capacities="assign")
    np.testing.assert_array_equal(np.bincount(assigned.assignments), [15, 21, 24])
    np.testing.assert_allclose(assigned.excess, 0, atol=1e-12)
    assert np.abs(ignored.excess).max() > 0.05
    assert ignored.cost < solution.distortion < assigned.cost * 1.001
    np.testing.assert_allclose(solution.distortion, assigned.cost, rtol=2e-2)
