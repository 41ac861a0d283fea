"""`solve` keeps the best of all ways, and is what an anneal is under jit, grad and vmap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

KEY = jax.random.key(0)


def points(n=12, d=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def moved(problem, x):
    return eqx.tree_at(lambda p: p.x, problem, x)


@pytest.fixture(scope="module")
def clusters():
    with jax.enable_x64(True):
        return mj.Clustering(points(), 3, autonomy=mj.autonomy.Uniform(0.2))


def test_the_best_of_all_candidates_is_kept():
    model = mj.autonomy.Softmax(0.4, gamma=0.5, temperature=0.05)
    problem = mj.Clustering(points(), 3, autonomy=model)
    solved = mj.solve(problem, mj.Geometric(0.5, 500.0, 1.5), key=KEY, starts=2)
    runs = solved.runs
    assert runs.name == (
        "exact", "frozen", "frozen, then exact",
        "exact", "random start", "frozen", "frozen, then exact",
    )  # fmt: skip
    assert runs.kept == (True, False, True, True, True, False, True)
    candidates = runs.cost[np.asarray(runs.kept)]
    cost = float(problem.harden(solved.solution.params).cost)
    # Compiled and not, the same sum may differ in its last digit.
    np.testing.assert_allclose(cost, np.min(candidates), rtol=1e-14)
    assert np.max(candidates) - cost < 0.5 * cost
    # What is kept solves the problem itself, also where a frozen solution is cheaper.
    residual = problem.residual(solved.solution.params, solved.solution.beta)
    np.testing.assert_allclose(residual, 0.0, atol=1e-7)
    assert np.all(runs.seconds > 0) and runs.key.shape == (7,)
    assert str(runs).count("\n") == 6 and "frozen, then exact" in str(runs)


def test_jit_vmap_and_gradient(clusters):
    solved = mj.solve(clusters, key=KEY)
    assert solved.runs.name == ("exact", "random start")

    def energy(x):
        return mj.solve(moved(clusters, x), key=KEY).solution.free_energy

    value, slope = jax.jit(jax.vmap(jax.value_and_grad(energy)))(
        jnp.stack([clusters.x, clusters.x + 1.0, clusters.x * jnp.nan])
    )
    np.testing.assert_allclose(value[:2], solved.solution.free_energy, rtol=1e-9)
    assert np.all(np.isnan(slope[2])) and np.all(np.isfinite(slope[:2]))
    # At a solution dF/dx is that with params held.
    expected = mj.gradients(clusters, solved.solution.params, solved.solution.beta).x
    np.testing.assert_allclose(slope[0], expected, atol=1e-8)
    # Eagerly the runs are those without a gradient.
    np.testing.assert_allclose(jax.grad(energy)(clusters.x), expected, atol=1e-8)


def test_params_have_the_implicit_derivative(clusters):
    schedule = mj.Geometric(0.5, 50.0, 1.5)

    def first(scale):
        problem = moved(clusters, clusters.x * jnp.array([1.0, 1.0 + scale]))
        return jnp.sum(mj.solve(problem, schedule, key=KEY).solution.params ** 2)

    h = 1e-5
    expected = (first(h) - first(-h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(first)(0.0), expected, rtol=1e-5)


@pytest.mark.slow
def test_the_derivative_in_the_last_beta(clusters):
    def energy(beta):
        schedule = mj.Geometric(0.5, beta, 1.5, max_stages=16)
        return mj.solve(clusters, schedule, key=KEY).solution.free_energy

    h = 1e-4
    expected = (energy(20.0 + h) - energy(20.0 - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(energy)(20.0), expected, rtol=1e-5)


def test_a_given_start_is_never_worsened(clusters):
    many = mj.solve(clusters, key=KEY, starts=6).solution
    solved = mj.solve(clusters, key=jax.random.key(1), starts=1, init=many)
    assert solved.runs.name == ("exact", "given start")
    best = clusters.harden(many.params).cost
    assert clusters.harden(solved.solution.params).cost <= best * (1 + 1e-12)


@pytest.mark.slow
def test_facilities_grow_or_start_at_random_places():
    nodes, end = points(10), np.array([4.0, 4.0])
    free = mj.FacilityPath(nodes, end, 2)
    masked = mj.FacilityPath(nodes, end, 2, max_hops=1)
    solved = mj.solve(free, key=KEY)
    assert solved.runs.name == ("exact", "random start")
    limited = mj.solve(masked, key=KEY)
    cost = lambda solved: float(np.min(solved.runs.cost))  # noqa: E731
    # What keeps a limit is a start without it, and not worse than the best that keeps it.
    wider = mj.solve(free, key=KEY, init=limited.solution)
    assert cost(wider) <= min(cost(solved), cost(limited)) * (1 + 1e-9)
    start = free.scatter(KEY)
    low, high = np.minimum(nodes.min(0), end), np.maximum(nodes.max(0), end)
    assert np.all((start >= low) & (start <= high))


def test_prices_are_compared_by_their_soft_cost():
    capacity = mj.Equal(np.full(2, 0.5))
    problem = mj.Clustering(points(6), 2, capacity=capacity)
    solved = mj.solve(problem, mj.Geometric(0.5, 50.0, 2.0), key=KEY)
    assert solved.runs.name == ("exact", "exact", "random start")
    np.testing.assert_allclose(solved.solution.distortion, np.min(solved.runs.cost))


def test_where_all_fail_the_code_says_so(clusters):
    broken = jax.jit(lambda x: mj.solve(moved(clusters, x), key=KEY))(clusters.x * jnp.nan)
    assert int(broken.solution.code) == int(mj.Code.NON_FINITE_INPUT)
    assert np.all(np.isnan(broken.runs.seconds))


def test_arguments_are_checked(clusters):
    with pytest.raises(ValueError, match="`starts` must be at least 1; got 0"):
        mj.solve(clusters, key=KEY, starts=0)
    with pytest.raises(TypeError, match="`problem` must be a mepjax.Problem"):
        mj.solve(1, key=KEY)  # pyright: ignore[reportArgumentType]
