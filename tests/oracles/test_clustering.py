"""mepjax against the independent oracle and the numbers of math-clustering.md section 8."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

from ..jitted import jitted
from . import clustering_numpy as oracle

N, K, D = 18, 4, 3
RNG = np.random.default_rng(3)
X = RNG.normal(size=(N, D))
WEIGHTS = RNG.uniform(0.5, 1.5, N)
RHO = WEIGHTS / WEIGHTS.sum()
Y = RNG.normal(size=(K, D))
P = 0.3 * RNG.dirichlet(np.ones(K), size=K) + 0.7 * np.eye(K)
P3 = RNG.dirichlet(2 * np.ones(K), size=(N, K))
GROUP = np.arange(N) % 3
KAPPAS = np.linspace(0.0, 0.5, N)
METRIC = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, 0.2], [0.0, 0.2, 0.5]])
CROSS = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]])


def soft(kappa, zeta, gamma, temperature, **options):
    model = mj.autonomy.Softmax(kappa, zeta, gamma, temperature, **options)
    return model, oracle.dense_softmax(X, Y, kappa, zeta, gamma, temperature)


MODELS = {
    "none": (None, oracle.dense_autonomy_none(N, K)),
    "uniform": (mj.autonomy.Uniform(0.2), oracle.dense_uniform(N, K, 0.2)),
    "uniform per entity": (mj.autonomy.Uniform(KAPPAS), oracle.dense_uniform(N, K, KAPPAS)),
    "matrix": (mj.autonomy.Matrix(P), oracle.dense_matrix(N, P)),
    "dense": (mj.autonomy.Dense(P3), P3),
    "grouped": (mj.autonomy.Grouped(P3[:3], GROUP, block=5), P3[GROUP]),
    "softmax": soft(0.3, 1.0, 0.5, 0.7),
    "softmax factorised": soft(0.3, 1.0, 0.5, 0.7, direct_limit=0),
    "softmax per entity": soft(KAPPAS, 1.0, 0.5, 0.2, direct_limit=0),
    "softmax cold": soft(0.4, 1.0, 1.0, 0.003, direct_limit=0),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_values_equal_the_oracle(name, offset):
    model, p = MODELS[name]
    problem = mj.Clustering(X + offset, K, weights=WEIGHTS, autonomy=model)
    y, beta = jnp.asarray(Y + offset), 1.7
    dbar = oracle.d_avg(p, oracle.distances(X, Y))
    close: Any = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(problem.probabilities(y), p, atol=1e-9)
    np.testing.assert_allclose(problem.average_distances(y), dbar, **close)
    np.testing.assert_allclose(problem.policy(y, beta), oracle.log_policy(dbar, beta), **close)
    energy = oracle.free_energy(dbar, RHO, beta)
    np.testing.assert_allclose(jitted.free_energy(problem, y, beta), energy, **close)
    terms = jitted.terms(problem, y, beta)
    np.testing.assert_allclose(terms.distortion, oracle.distortion(dbar, RHO, beta), **close)
    np.testing.assert_allclose(terms.entropy, oracle.entropy(dbar, RHO, beta), **close)
    hard = problem.harden(y)
    np.testing.assert_allclose(hard.cost, oracle.hard_cost(dbar, RHO), **close)
    np.testing.assert_array_equal(hard.assignments, dbar.argmin(axis=1))
    pi = np.exp(oracle.log_policy(dbar, beta))
    told = np.arange(N) % K
    np.testing.assert_allclose(
        problem.override_probabilities(y, jnp.asarray(told)), p[np.arange(N), told], atol=1e-9
    )
    weights = oracle.effective_weights(p, pi, RHO)
    np.testing.assert_allclose(problem.association_weights(y, beta), weights, **close)
    frozen = mj.Clustering(X + offset, K, weights=WEIGHTS, autonomy=model, stationarity="frozen")
    np.testing.assert_allclose(
        jitted.update(frozen, y, beta) - offset, oracle.update(X, Y, p, RHO, beta), **close
    )


@pytest.mark.parametrize(
    "name",
    [
        m if m in ("none", "dense") else pytest.param(m, marks=pytest.mark.slow)
        for m in MODELS
        if not m.startswith("softmax")
    ],
)
def test_derivatives_equal_the_oracle(name):
    model, p = MODELS[name]
    problem = mj.Clustering(X, K, weights=WEIGHTS, autonomy=model)
    y, beta = jnp.asarray(Y), 1.7
    args = (X, Y, p, RHO, beta)
    np.testing.assert_allclose(
        jitted.residual(problem, y, beta), oracle.gradient_frozen(*args), atol=1e-10
    )
    hessian = jax.jacfwd(problem.residual)(y, beta).reshape(K * D, K * D)
    np.testing.assert_allclose(hessian, oracle.hessian_frozen(*args), atol=1e-10)
    expected = oracle.curvature(*args)
    np.testing.assert_allclose(mj.curvature(problem, y, beta), expected, atol=1e-10)
    lanczos = mj.Detector(dense_limit=1, krylov=12)
    np.testing.assert_allclose(
        mj.curvature(problem, y, beta, detector=lanczos), expected, atol=1e-8
    )
    predicted: Any = oracle.predict_frozen_y(X, Y, p, RHO, 0.05)
    np.testing.assert_allclose(mj.critical_beta(problem, y, 0.05), predicted, rtol=1e-6)


@pytest.mark.parametrize("name", ["softmax", "softmax factorised"])
def test_exact_softmax_gradient_and_curvature_equal_the_oracle(name):
    model, p = MODELS[name]
    problem = mj.Clustering(X, K, weights=WEIGHTS, autonomy=model)
    y, beta, args = jnp.asarray(Y), 1.7, (0.3, 1.0, 0.5, 0.7)
    expected = oracle.softmax_exact_gradient(X, Y, RHO, beta, *args)
    np.testing.assert_allclose(jitted.residual(problem, y, beta), expected, atol=1e-10)
    hessian = oracle.softmax_exact_hessian(X, Y, RHO, beta, *args)
    np.testing.assert_allclose(
        mj.curvature(problem, y, beta),
        oracle.curvature(X, Y, p, RHO, beta, hessian=hessian),
        atol=1e-6,
    )


def test_mahalanobis_equals_the_oracle():
    problem = mj.Clustering(X, K, weights=WEIGHTS, cost=mj.costs.Mahalanobis(METRIC))
    p, y, beta = oracle.dense_autonomy_none(N, K), jnp.asarray(Y), 1.7
    distances = oracle.distances(X, Y, METRIC)
    np.testing.assert_allclose(problem.distances(y), distances, rtol=1e-10)
    np.testing.assert_allclose(
        jitted.residual(problem, y, beta),
        oracle.gradient_frozen(X, Y, p, RHO, beta, METRIC),
        atol=1e-10,
    )
    for detector in (mj.Detector(), mj.Detector(dense_limit=1, krylov=12)):
        np.testing.assert_allclose(
            mj.curvature(problem, y, beta, detector=detector),
            oracle.curvature(X, Y, p, RHO, beta, METRIC),
            atol=1e-8,
        )


def test_oracle_a():
    p = mj.autonomy.Dense([[[0.9, 0.1], [0.4, 0.6]]])
    problem = mj.Clustering([[0.0]], 2, autonomy=p)
    y = jnp.array([[1.0], [3.0]])
    np.testing.assert_allclose(problem.average_distances(y), [[1.8, 5.8]])
    np.testing.assert_allclose(
        jnp.exp(problem.policy(y, 1.0)), [[0.98201379, 0.01798621]], atol=1e-8
    )
    assert float(problem.free_energy(y, 1.0)) == pytest.approx(1.7818500721, abs=1e-10)


@pytest.mark.parametrize(
    ("k", "kappa", "expected"),
    [(2, 0.0, 0.25), (3, 0.1, 0.3460207612), (4, 0.25, 0.5625), (4, 0.9, 6.25), (4, 0.75, np.inf)],
)
def test_oracle_b(k, kappa, expected):
    problem = mj.Clustering(CROSS, k, autonomy=mj.autonomy.Uniform(kappa))
    got = float(mj.critical_beta(problem, jnp.zeros((k, 2)), 0.1))
    assert got == pytest.approx(expected, rel=1e-9)


def test_oracle_c():
    p = mj.autonomy.Matrix([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]])
    problem = mj.Clustering(CROSS, 3, autonomy=p)
    got = float(mj.critical_beta(problem, jnp.zeros((3, 2)), 0.1))
    assert got == pytest.approx(0.6036781436, rel=1e-9)


LINE = np.array([0.0, 0.1, 0.25, 1.0, 1.2, 2.0])[:, None]


@pytest.mark.parametrize(
    ("k", "kappa", "expected"),
    [
        (2, 0.0, 0.0986111111),
        (2, 0.1, 0.2468361111),
        (2, 0.2, 0.3621222222),
        (2, 0.4, 0.4938777778),
        (3, 0.1, 0.1642297900),
        (3, 0.3, 0.3636211295),
    ],
)
def test_oracle_d_global_optima(k, kappa, expected):
    problem = mj.Clustering(LINE, k, autonomy=mj.autonomy.Uniform(kappa))
    optimum = oracle.enumerate_uniform(LINE, k, kappa, np.full(6, 1 / 6))
    assert optimum.cost == pytest.approx(expected, abs=1e-9)
    b = float(problem.beta_scale())
    best = min(
        float(problem.harden(sol.params).cost)
        for seed in range(1 if k == 2 else 3)
        for sol in [
            mj.anneal(
                problem, mj.Geometric(0.5 * b, 1e4 * b, 1.02), key=jax.random.key(seed)
            ).raise_if_failed()
        ]
    )
    assert best == pytest.approx(expected, abs=1e-8)


def test_oracle_e_corner_points():
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    optima = [0.248889, 0.462222, 0.64, 0.782222, 0.888889]
    ignored = [0.266667, 0.533333, 0.8, 1.066667, 1.333333]
    gaps = [7.1429, 15.3846, 25.0, 36.3636, 50.0]
    for kappa, best, worse, gap in zip(
        (0.1, 0.2, 0.3, 0.4, 0.5), optima, ignored, gaps, strict=True
    ):
        problem = mj.Clustering(corners, 4, autonomy=mj.autonomy.Uniform(kappa))
        solution = mj.anneal(
            problem, mj.Geometric(0.5, 1e4, 1.1, max_stages=128), key=jax.random.key(0)
        )
        variance = 0.5
        aware = float(problem.evaluate(solution.params).cost)
        naive = float(problem.evaluate(corners).cost)
        assert aware / variance == pytest.approx(best, abs=1e-6)
        assert naive / variance == pytest.approx(worse, abs=1e-6)
        assert 100 * (naive / aware - 1) == pytest.approx(gap, abs=1e-3)


def test_oracle_f_exact_reaches_the_optimum_and_frozen_does_not():
    x = np.array([0.0, 0.2, 1.0, 1.1, 2.0])[:, None]
    model = mj.autonomy.Softmax(0.3, 1.0, 0.5, 0.1)
    schedule = mj.Geometric(0.2, 1e4, 1.05)
    for stationarity, expected in (("exact", 0.2188769493), ("frozen", 0.236198)):
        problem = mj.Clustering(x, 3, autonomy=model, stationarity=stationarity)
        costs = [
            float(problem.harden(mj.anneal(problem, schedule, key=jax.random.key(s)).params).cost)
            for s in range(3)
        ]
        np.testing.assert_allclose(costs, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("kappa", "ratio"), [(0.0, 2.0), (0.1, 1.2), (0.25, 1.2), (0.25, 10.0), (0.1, 0.8)]
)
def test_oracle_g_two_points_for_all_beta(kappa, ratio):
    a = 1 - 2 * kappa
    beta = ratio / (2 * a**2)
    exact = oracle.two_point(kappa, beta)
    p = mj.autonomy.Matrix([[1 - kappa, kappa], [kappa, 1 - kappa]])
    problem = mj.Clustering([[-1.0], [1.0]], 2, autonomy=p)
    schedule = mj.Geometric(0.3 / a**2, beta, 1.05, max_stages=128)
    solution = mj.anneal(problem, schedule, key=jax.random.key(0)).raise_if_failed()
    y = np.sort(np.asarray(solution.params[:, 0]))
    np.testing.assert_allclose(y, [-exact.t, exact.t], atol=1e-9)
    assert float(solution.free_energy) == pytest.approx(exact.free_energy, abs=1e-10)
    curvature = float(mj.curvature(problem, solution.params, beta))
    assert 1 - curvature == pytest.approx(exact.spectral_radius, abs=1e-8)
    if ratio > 1:
        assert int(solution.n_transitions) == 1
        assert float(solution.transitions[0]) == pytest.approx(1 / (2 * a**2), rel=1e-6)
        slope = np.abs(mj.sensitivity(problem, solution.params, beta))[:, 0]
        np.testing.assert_allclose(slope, exact.dt_dbeta, rtol=1e-6)
    else:
        assert int(solution.n_transitions) == 0
        assert not np.isfinite(solution.transitions).any()


def test_oracle_h():
    x = np.array([[0.0, 0.0], [1.0, 0.3]])
    y = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    expected = [[0.30988825, 0.70296715, 2.85472766], [0.79842636, 0.39377687, 2.9367378]]
    for limit in (0, 1000):
        model = mj.autonomy.Softmax(0.3, 1.0, 0.5, 1.0, direct_limit=limit)
        problem = mj.Clustering(x, 3, autonomy=model)
        np.testing.assert_allclose(problem.average_distances(y), expected, atol=1e-8)


# Limits of the autonomy models.


def average(model, y=Y):
    return np.asarray(mj.Clustering(X, K, autonomy=model).average_distances(jnp.asarray(y)))


def test_limits_of_autonomy():
    own = oracle.distances(X, Y)
    uniform = average(mj.autonomy.Uniform(0.3))
    np.testing.assert_allclose(average(mj.autonomy.Softmax(0.0, 1.0, 0.5, 0.1)), own, rtol=1e-12)
    np.testing.assert_allclose(average(mj.autonomy.Softmax(0.3, 1, 0.5, 1e9)), uniform, rtol=1e-7)
    np.testing.assert_allclose(
        average(mj.autonomy.Softmax(0.3, 0.0, 0.0, 0.1)), uniform, rtol=1e-12
    )
    np.testing.assert_allclose(average(mj.autonomy.Matrix(np.eye(K))), own, rtol=1e-12)
    broadcast = mj.autonomy.Dense(np.broadcast_to(P, (N, K, K)))
    np.testing.assert_allclose(average(broadcast), average(mj.autonomy.Matrix(P)), rtol=1e-12)
    # T -> 0 with gamma = 0: all override mass on the centre nearest to y_j.
    between = oracle.distances(Y, Y) + 1e9 * np.eye(K)
    nearest = between.argmin(axis=1)
    cold = average(mj.autonomy.Softmax(0.3, 1.0, 0.0, 1e-4, direct_limit=0))
    np.testing.assert_allclose(cold, 0.7 * own + 0.3 * own[:, nearest], rtol=1e-9)
    # K = 2 leaves one alternative only.
    two = [
        mj.Clustering(X, 2, autonomy=mj.autonomy.Softmax(0.3, *rest)).average_distances(
            jnp.asarray(Y[:2])
        )
        for rest in ((1.0, 0.5, 0.1), (0.2, 2.0, 10.0))
    ]
    np.testing.assert_allclose(two[0], two[1], rtol=1e-12)


def test_relabelling_centres_and_p_together_changes_nothing():
    order = np.array([2, 0, 3, 1])
    a = mj.Clustering(X, K, autonomy=mj.autonomy.Matrix(P))
    b = mj.Clustering(X, K, autonomy=mj.autonomy.Matrix(P[np.ix_(order, order)]))
    np.testing.assert_allclose(
        a.free_energy(jnp.asarray(Y), 2.0), b.free_energy(jnp.asarray(Y[order]), 2.0), rtol=1e-12
    )
    entities = np.random.default_rng(0).permutation(N)
    c = mj.Clustering(X, K, autonomy=mj.autonomy.Dense(P3))
    d = mj.Clustering(X[entities], K, autonomy=mj.autonomy.Dense(P3[entities]))
    np.testing.assert_allclose(
        c.free_energy(jnp.asarray(Y), 2.0), d.free_energy(jnp.asarray(Y), 2.0), rtol=1e-12
    )


def test_critical_temperature_of_the_continuation():
    """Curvature at coincident centres is 1 - T_c / T as beta -> 0: the closed form of `relaxed`."""
    k, gamma = 4, 0.7
    model = mj.autonomy.Softmax(KAPPAS, 1.0, gamma, 1.0)
    problem: Any = mj.Clustering(X, k, weights=WEIGHTS, autonomy=model)
    mean = RHO @ X
    spread = (RHO * KAPPAS)[:, None] * (X - mean)
    critical = 4 * gamma * k * (k - 2) / (k - 1) ** 2
    critical *= np.linalg.eigvalsh(spread.T @ (X - mean))[-1]
    start = jnp.broadcast_to(jnp.asarray(mean), (k, D))
    np.testing.assert_allclose(mj.curvature(problem, start, 1e-7), 1 - critical, atol=1e-5)
    relaxed = problem.relaxed(jnp.asarray(0.0))
    np.testing.assert_allclose(relaxed.autonomy.temperature, max(4 * critical, 1.0), rtol=1e-9)
    np.testing.assert_allclose(problem.relaxed(jnp.asarray(1.0)).autonomy.temperature, 1.0)


def test_sensitivity_and_envelope_identity():
    """dY/dbeta against differences of solutions, and dF/dbeta = H / beta^2 along the branch."""
    problem = mj.Clustering(X, K, weights=WEIGHTS, autonomy=mj.autonomy.Uniform(0.1))
    key, step = jax.random.key(0), 1e-4

    def at(beta):
        schedule = mj.Geometric(0.1, beta, 1.1, max_stages=64)
        return mj.anneal(problem, schedule, key=key).raise_if_failed()

    low, middle, high = at(3.0 - step), at(3.0), at(3.0 + step)
    slope = (high.params - low.params) / (2 * step)
    np.testing.assert_allclose(
        mj.sensitivity(problem, middle.params, 3.0), slope, rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(
        (high.free_energy - low.free_energy) / (2 * step), middle.entropy / 9.0, rtol=1e-6
    )


def four_square(n: int = 800, sd: float = 0.05, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return np.repeat(corners, n // 4, axis=0) + sd * rng.normal(size=(n, 2))


@pytest.mark.slow
def test_table_1_ignored_column_at_temperature_100():
    """The paper's gaps 6.67 15.08 24.71 35.92 49.21 within half a percentage point."""
    x = four_square()
    paper = [6.67, 15.08, 24.71, 35.92, 49.21]
    schedule = mj.Geometric(0.5, 5e4, 1.05, max_stages=256)
    ignorant = mj.anneal(mj.Clustering(x, 4), schedule, key=jax.random.key(0)).raise_if_failed()
    for kappa, expected in zip((0.1, 0.2, 0.3, 0.4, 0.5), paper, strict=True):
        model = mj.autonomy.Softmax(jnp.asarray(kappa), 1.0, 0.0, 100.0)
        problem = mj.Clustering(x, 4, autonomy=model)
        aware = mj.anneal(problem, schedule, key=jax.random.key(0)).raise_if_failed()
        ratio = problem.evaluate(ignorant.params).cost / problem.evaluate(aware.params).cost
        assert 100 * (float(ratio) - 1) == pytest.approx(expected, abs=0.5)


# float32 in the factorised form, math-clustering.md section 5 (times three).


@pytest.mark.parametrize(
    ("zeta", "gamma", "temperature"),
    [(1, 0, 1.0), (1, 0.5, 0.1), (1, 0, 0.01), (1, 0.5, 0.01), (1, 1, 0.01), (0, 1, 0.01)],
)
@pytest.mark.parametrize("coincident", [False, True])
def test_factorised_softmax_in_float32(zeta, gamma, temperature, coincident):
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(400, 2)).astype(np.float32)
    y = x[rng.integers(400, size=20)]
    if coincident:
        y = np.broadcast_to(x.mean(axis=0), y.shape).astype(np.float32)
    exact = oracle.d_avg(
        oracle.dense_softmax(
            x.astype(float), y.astype(float), 0.5, zeta, gamma, np.float32(temperature)
        ),
        oracle.distances(x.astype(float), y.astype(float)),
    )
    with jax.enable_x64(False):
        model = mj.autonomy.Softmax(0.5, zeta, gamma, temperature, direct_limit=0)
        problem = mj.Clustering(x, 20, autonomy=model)
        got = problem.average_distances(jnp.asarray(y))
        assert got.dtype == np.float32
        gradient = jax.grad(problem.free_energy)(jnp.asarray(y), jnp.float32(1e3))
        assert np.isfinite(gradient).all()
    assert (np.abs(got - exact) / exact).max() < 1e-5


@pytest.mark.slow
def test_float32_gradient_of_the_untrusted_branch_equals_float64():
    rng = np.random.default_rng(5)
    x = rng.uniform(size=(300, 2)).astype(np.float32)
    y = x[rng.integers(300, size=12)]
    results = []
    for x64 in (False, True):
        with jax.enable_x64(x64):
            dtype = np.float64 if x64 else np.float32
            model = mj.autonomy.Softmax(0.5, 1.0, 1.0, np.asarray(0.01, dtype), direct_limit=0)
            problem = mj.Clustering(x.astype(dtype), 12, autonomy=model)
            beta = jnp.asarray(50.0, dtype)
            results.append(np.asarray(jax.grad(problem.free_energy)(jnp.asarray(y, dtype), beta)))
    np.testing.assert_allclose(results[0], results[1], rtol=2e-3, atol=2e-5)


def test_vanishing_mass_leaves_the_centre_where_it_is():
    p = mj.autonomy.Matrix([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.5, 0.5, 0.0]])
    problem = mj.Clustering(CROSS, 3, autonomy=p)
    y = jnp.array([[-1.0, 0.0], [1.0, 0.0], [7.0, 7.0]])
    updated = problem.update(y, 5.0)
    np.testing.assert_array_equal(updated[2], y[2])
    solution = mj.anneal(problem, mj.Geometric(0.1, 50.0, 1.3), key=jax.random.key(0))
    assert int(solution.code) == Code.OK
    assert np.isfinite(solution.params).all()


@pytest.mark.slow
def test_gamma_zero_is_the_limit_of_small_gamma_in_value_and_derivative():
    y, beta = jnp.asarray(Y), 1.7
    zero: Any = mj.Clustering(
        X, K, weights=WEIGHTS, autonomy=mj.autonomy.Softmax(0.3, 1.0, 0.0, 0.7)
    )
    tiny: Any = mj.Clustering(
        X, K, weights=WEIGHTS, autonomy=mj.autonomy.Softmax(0.3, 1.0, 1e-9, 0.7)
    )
    np.testing.assert_allclose(zero.average_distances(y), tiny.average_distances(y), rtol=1e-7)
    a, b = mj.gradients(zero, y, beta), mj.gradients(tiny, y, beta)
    for name in ("kappa", "zeta", "gamma", "temperature"):
        np.testing.assert_allclose(
            getattr(a.autonomy, name), getattr(b.autonomy, name), rtol=1e-6, err_msg=name
        )
    np.testing.assert_allclose(a.x, b.x, rtol=1e-6, atol=1e-10)
    mixed = [
        jax.grad(lambda g, p=p: jnp.sum(mj.gradients(_with_gamma(p, g), y, beta).x ** 2))(
            p.autonomy.gamma
        )
        for p in (zero, tiny)
    ]
    np.testing.assert_allclose(mixed[0], mixed[1], rtol=1e-5)


def _with_gamma(problem, gamma):
    return eqx.tree_at(lambda q: q.autonomy.gamma, problem, gamma)


def test_replacing_gamma_zero_is_an_error_not_a_wrong_answer():
    problem = mj.Clustering(X, K, autonomy=mj.autonomy.Softmax(0.3))
    changed = _with_gamma(problem, jnp.asarray(0.5))
    options = {"key": jax.random.key(0), "detector": mj.NoDetector()}
    solution = mj.anneal(changed, mj.Explicit([0.1]), **options)
    with pytest.raises(ValueError, match="gamma was later replaced by 0.5"):
        solution.raise_if_failed()
