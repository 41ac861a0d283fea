"""Annealed sparse regression against enumeration, autodiff and finite differences."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

from .test_sparse import best_subset, instance

KEY = jax.random.key(0)


def small(seed=0, relaxation="categorical"):
    rng = np.random.default_rng(seed)
    design, response = rng.normal(size=(5, 4)), rng.normal(size=5)
    problem = mj.SparseRegression(design, response, 2, relaxation=relaxation)
    return problem, jnp.asarray(rng.dirichlet(np.ones(4), 2))


def test_categorical_d_is_the_expectation_over_placements():
    problem, q = small()
    x = np.asarray(problem.amplitudes(q))
    total = 0.0
    for pair in itertools.product(range(4), repeat=2):
        left = problem.response - problem.design[:, pair] @ x
        total += q[0, pair[0]] * q[1, pair[1]] * (left @ left)
    np.testing.assert_allclose(problem.terms(q, 1.0).distortion, total, rtol=1e-12)


def test_bernoulli_d_is_the_expectation_over_independent_entries():
    problem, q = small(relaxation="bernoulli")
    x = np.asarray(problem.amplitudes(q))
    total = 0.0
    for bits in itertools.product((0, 1), repeat=8):
        v = np.array(bits).reshape(2, 4)
        left = problem.response - problem.design @ v.T @ x
        total += np.prod(np.where(v == 1, q, 1 - q)) * (left @ left)
    np.testing.assert_allclose(problem.terms(q, 1.0).distortion, total, rtol=1e-12)


@pytest.mark.parametrize("relaxation", ["categorical", "bernoulli"])
def test_amplitudes_are_the_best(relaxation):
    problem, q = small(relaxation=relaxation)
    x = problem.amplitudes(q)
    slope = jax.grad(lambda q, x: _distortion_at(problem, q, x), argnums=1)(jnp.asarray(q), x)
    np.testing.assert_allclose(slope, 0, atol=1e-10)


def _distortion_at(problem, q, x):
    placed, spread = problem._parts(q)
    left = problem.response - x @ placed
    return left @ left + jnp.sum(spread * x**2)


@pytest.mark.parametrize("relaxation", ["categorical", "bernoulli"])
def test_reference_scale_is_where_twins_of_uniform_placements_part(relaxation):
    """Against the autodiff Hessian along opposite changes of two rows, sums kept."""
    rng = np.random.default_rng(1)
    problem = mj.SparseRegression(
        rng.normal(size=(7, 5)), rng.normal(size=7), 2, relaxation=relaxation
    )
    start = problem.init(KEY)
    tangent = np.linalg.svd(np.ones((1, 5)))[2][1:]
    beta = problem.beta_scale()

    def energy(c):
        change = c @ tangent
        return problem.free_energy(start + jnp.stack([change, -change]), beta)

    values = np.linalg.eigvalsh(jax.jit(jax.hessian(energy))(jnp.zeros(4)))
    np.testing.assert_allclose(values[0] * beta, 0, atol=1e-7)
    np.testing.assert_allclose(problem.critical_temperatures(start, beta), 1 / beta, rtol=1e-9)


def test_f_never_rises_at_any_temperature():
    design, response, _ = instance(0)
    problem = mj.SparseRegression(design, response, 3)
    update, energy = eqx.filter_jit(problem.update), eqx.filter_jit(problem.free_energy)
    for beta in np.geomspace(1e-3, 1e4, 8):
        q = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(12), 3))
        for _ in range(30):
            new = update(q, beta)
            before, after = energy(q, beta), energy(new, beta)
            assert after <= before + 1e-12 * abs(before)
            q = new
        np.testing.assert_allclose(q.sum(1), 1, rtol=1e-12)


def test_fixed_points_make_the_residual_zero_and_the_scale_has_curvature_one():
    design, response, _ = instance(0)
    problem = mj.SparseRegression(design, response, 3)
    beta = 2 * problem.beta_scale()
    q = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(12), 3))

    @jax.jit
    def settled(q):
        q = jax.lax.fori_loop(0, 3000, lambda _, q: problem.update(q, beta), q)
        return q, *jax.jvp(lambda p: problem.residual(p, beta), (q,), (q,))

    q, residual, along = settled(q)
    np.testing.assert_allclose(residual, 0, atol=1e-8)
    np.testing.assert_allclose(along * beta, np.ones_like(q), atol=1e-5)


def test_gradients_of_solutions():
    design, response, _ = instance(3)
    rng = np.random.default_rng(5)
    change = rng.normal(size=design.shape)
    b = float(mj.SparseRegression(design, response, 3).beta_scale())

    def read(step):
        problem = mj.SparseRegression(jnp.asarray(design) + step * change, response, 3)
        solution = mj.anneal(problem, mj.Geometric(0.3 * b, 3 * b, 1.3), key=KEY)
        return jnp.sum(solution.params * jnp.arange(36.0).reshape(3, 12)), solution.code

    run = jax.jit(read)
    exact, code = jax.jit(jax.grad(read, has_aux=True))(0.0)
    assert int(code) == 0
    fine = (run(1e-5)[0] - run(-1e-5)[0]) / 2e-5
    np.testing.assert_allclose(exact, fine, rtol=1e-5)


def test_anneals_of_small_designs_against_the_best_subset():
    """About half of them are best: it is no rival of `sparse_path`, and the docs say so."""
    solve = jax.jit(jax.vmap(lambda a, y: _solved(mj.SparseRegression(a, y, 3))))
    cases = [instance(seed) for seed in range(6)]
    designs, responses = (jnp.stack([jnp.asarray(case[i]) for case in cases]) for i in (0, 1))
    costs, used, bound, codes = solve(designs, responses)
    least = np.array([best_subset(a, y, 3)[0] for a, y, _ in cases])
    assert np.all(costs >= least * (1 - 1e-9)) and np.all(used <= 3)
    assert np.all(costs <= bound * (1 + 1e-9))
    assert np.mean(costs <= least * (1 + 1e-6)) >= 0.3
    assert set(np.asarray(codes).tolist()) <= {0, int(mj.Code.NEAR_CRITICAL)}


def _solved(problem):
    solution = mj.anneal(problem, mj.Geometric(1e-2, 1e3, 1.3, max_stages=64), key=KEY)
    hard = problem.harden(solution.params)
    return hard.cost, hard.n_used, solution.distortion, solution.code


def steps(problem, q, beta, damping, count=60):
    """How often F rises along so many damped steps, and by what share at most."""

    def step(q, _):
        new = q + damping * (problem.update(q, beta) - q)
        before, after = problem.free_energy(q, beta), problem.free_energy(new, beta)
        return new, (after - before) / abs(before)

    return jax.lax.scan(step, q, length=count)[1]


def test_bernoulli_descends_where_it_is_damped_and_not_as_printed():
    """Algorithm 8 moves all entries at once: F rises; the damping of the default mends it."""
    design, response, _ = instance(0)
    problem = mj.SparseRegression(design, response, 3, relaxation="bernoulli")
    q = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(12), 3))
    run = eqx.filter_jit(steps)
    betas = np.geomspace(1e-3, 1e3, 7)
    printed = np.array([run(problem, q, beta, 1.0) for beta in betas])
    damped = np.array([run(problem, q, beta, 0.3) for beta in betas])
    assert problem.default_solver() == mj.FixedPoint(damping=0.3)
    assert np.mean(printed > 1e-12) > 0.05 and printed.max() > 0.1
    assert damped.max() <= 1e-12


def test_the_multiplier_of_nearly_hard_rows_is_the_root():
    """Off the largest entry a row sums to one less it, to the digits of what is left."""
    design, response, _ = instance(0)
    problem = mj.SparseRegression(design, response, 2, relaxation="bernoulli")
    q = np.full((2, 12), 1e-30)
    q[[0, 1], [3, 5]] = 1 - 11e-30
    beta = 100.0
    new = np.asarray(problem.update(jnp.asarray(q), beta))
    x = np.asarray(problem.amplitudes(jnp.asarray(q)))
    left = response - design @ q.T @ x
    slopes = 2 * x[:, None] * (design.T @ left)
    slopes = slopes - x[:, None] ** 2 * np.sum(design**2, axis=0) * (1 - 2 * q)
    for row, slope in zip(new, slopes, strict=True):
        hot = np.argmax(slope)
        # The others are exp(beta (slope - mu)), and the largest 1 - exp(beta (mu - slope)).
        others = np.delete(slope, hot)
        more = np.log(np.sum(np.exp(beta * (others - slope[hot])))) / beta
        mu = slope[hot] + 0.5 * more
        np.testing.assert_allclose(
            np.delete(row, hot), np.exp(beta * (others - mu)), rtol=1e-6, atol=1e-300
        )


def test_bernoulli_rows_sum_to_one_at_every_temperature():
    design, response, _ = instance(0)
    problem = mj.SparseRegression(design, response, 3, relaxation="bernoulli")
    q = jnp.asarray(np.random.default_rng(0).dirichlet(np.ones(12), 3))
    for beta in (1e-3, 1.0, 1e3, 1e6):
        new = problem.update(q, beta)
        np.testing.assert_allclose(new.sum(1), 1, rtol=1e-9)
        assert np.all(np.isfinite(new)) and np.all(new >= 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 13}, "`k` must be at most 12 columns"),
        ({"relaxation": "gaussian"}, "`relaxation` must be one of"),
        ({"design": np.eye(20)[:, :12] * (np.arange(12) != 3)}, "column 3 has"),
        ({"response": np.full(20, np.nan)}, "`response` must be finite"),
        ({"response": np.ones(3)}, "`response` must have shape"),
        ({"design": np.ones(3)}, "`design` must be 2-D"),
    ],
)
def test_bad_input_is_named(change, message):
    design, response, _ = instance(0)
    with pytest.raises(ValueError, match=message):
        mj.SparseRegression(**({"design": design, "response": response, "k": 3} | change))
