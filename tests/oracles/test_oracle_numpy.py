# pyright: reportOperatorIssue=false, reportPossiblyUnboundVariable=false
"""Checks of the NumPy oracle: finite differences, identities, and oracles O-A ... O-H.

"Section n" and "O-x" refer to the mathematics document the oracle was written from. Nothing here
imports the library.
"""

import itertools

import numpy as np
import pytest

from . import clustering_numpy as oracle

CROSS = np.array([[-2.0, 0.0], [2.0, 0.0], [0.0, -1.0], [0.0, 1.0]])
CROSS_P = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]])
LINE6 = np.array([0.0, 0.1, 0.25, 1.0, 1.2, 2.0])
LINE5 = np.array([0.0, 0.2, 1.0, 1.1, 2.0])
LINE5_AUTONOMY = (0.3, 1.0, 0.5, 0.1)
SKEW = np.array([[2.0, 0.3], [0.3, 0.5]])
METRICS = pytest.mark.parametrize("matrix", [None, SKEW], ids=["euclidean", "mahalanobis"])


def equal_weights(n):
    """Weights 1/N."""
    return np.full(n, 1 / n)


def random_problem(seed, n=7, k=3, d=2):
    """Random x, y, dense p, rho: nothing symmetric, nothing equal."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)), rng.normal(size=(k, d))
    p = rng.dirichlet(np.ones(k), size=(n, k))
    return x, y, p, rng.dirichlet(3 * np.ones(n))


def converge(x, y, p, rho, beta, matrix=None):
    """Iterate T(Y) until it stops moving."""
    for _ in range(20000):
        new = oracle.update(x, y, p, rho, beta, matrix)
        if np.abs(new - y).max() < 1e-15:
            break
        y = new
    return new


def numerical_jacobian(function, y, step=1e-3):
    """Fourth-order central differences of a scalar- or array-valued function, last axis = y."""
    columns = []
    for index in range(y.size):
        kick = np.zeros(y.size)
        kick[index] = step
        kick = kick.reshape(y.shape)
        near = np.ravel(function(y + kick) - function(y - kick))
        far = np.ravel(function(y + 2 * kick) - function(y - 2 * kick))
        columns.append((8 * near - far) / (12 * step))
    return np.stack(columns, axis=-1)


def frozen_free_energy(x, y, p, rho, beta, matrix=None):
    """F(Y) for a fixed p."""
    return oracle.free_energy(oracle.d_avg(p, oracle.distances(x, y, matrix)), rho, beta)


# ---------------------------------------------------------------- section 1: basic identities


def test_distances_by_loops():
    """Both metrics against the definition."""
    x, y, _, _ = random_problem(0)
    for i, k in itertools.product(range(len(x)), range(len(y))):
        z = x[i] - y[k]
        assert oracle.distances(x, y)[i, k] == pytest.approx(z @ z, rel=1e-14)
        assert oracle.distances(x, y, SKEW)[i, k] == pytest.approx(z @ SKEW @ z, rel=1e-14)


def test_rows_sum_to_one():
    """Rows of every p and of pi, and the total mass."""
    x, y, p, rho = random_problem(1)
    kappa = np.linspace(0, 1, len(x))
    for q in (
        p,
        oracle.dense_autonomy_none(7, 3),
        oracle.dense_uniform(7, 3, kappa),
        oracle.dense_matrix(7, CROSS_P),
        oracle.dense_softmax(x, y, kappa, 1.0, 0.5, 0.1),
    ):
        assert q.shape == (7, 3, 3)
        np.testing.assert_allclose(q.sum(axis=2), 1, atol=1e-14)
        pi = np.exp(oracle.log_policy(oracle.d_avg(q, oracle.distances(x, y)), 2.0))
        np.testing.assert_allclose(pi.sum(axis=1), 1, atol=1e-14)
        w = oracle.effective_weights(q, pi, rho)
        np.testing.assert_allclose(w.sum(axis=1), rho, atol=1e-15)
        assert oracle.masses(w).sum() == pytest.approx(1, abs=1e-14)


def test_single_cluster():
    """K = 1 leaves no alternative, whatever kappa."""
    x = np.zeros((3, 2))
    assert (oracle.dense_uniform(3, 1, 0.4) == 1).all()
    assert (oracle.dense_softmax(x, np.ones((1, 2)), 0.4, 1.0, 0.5, 1.0) == 1).all()


@pytest.mark.parametrize("beta", [0.1, 1.0, 30.0, 5e4])
def test_energy_identities(beta):
    """F = D - H / beta, and F <= D_hard <= D, D_hard - F <= log(K) / beta."""
    x, y, p, rho = random_problem(2)
    dbar = oracle.d_avg(p, oracle.distances(x, y))
    F, H = oracle.free_energy(dbar, rho, beta), oracle.entropy(dbar, rho, beta)
    D, hard = oracle.distortion(dbar, rho, beta), oracle.hard_cost(dbar, rho)
    assert pytest.approx(D - H / beta, abs=1e-13) == F
    assert F <= hard + 1e-15
    assert hard <= D + 1e-15
    assert hard - F <= np.log(3) / beta + 1e-15


def test_policy_is_the_exact_minimiser():
    """No other policy has a lower F(Y, pi)."""
    x, y, p, rho = random_problem(3)
    dbar, beta = oracle.d_avg(p, oracle.distances(x, y)), 1.7
    rng = np.random.default_rng(0)
    for concentration in (0.3, 1.0, 10.0):
        pi = rng.dirichlet(np.full(3, concentration), size=7)
        value = rho @ (pi * dbar + pi * np.log(pi) / beta).sum(axis=1)
        assert value >= oracle.free_energy(dbar, rho, beta)


@METRICS
def test_envelope_theorem(matrix):
    """dF/dbeta = H / beta^2 along a converged branch."""
    x, y, p, rho = random_problem(4)
    y0 = converge(x, y, p, rho, 1.0, matrix)
    F = [
        frozen_free_energy(x, converge(x, y0, p, rho, b, matrix), p, rho, b, matrix)
        for b in (1 - 1e-4, 1 + 1e-4)
    ]
    dbar = oracle.d_avg(p, oracle.distances(x, y0, matrix))
    assert (F[1] - F[0]) / 2e-4 == pytest.approx(oracle.entropy(dbar, rho, 1.0), rel=1e-7)


def test_relabelling_and_translation():
    """(Y, p) relabelled jointly, and everything moved: F unchanged."""
    x, y, p, rho = random_problem(5)
    order = np.array([2, 0, 1])
    F = frozen_free_energy(x, y, p, rho, 2.0)
    relabelled = p[:, order][:, :, order]
    assert frozen_free_energy(x, y[order], relabelled, rho, 2.0) == pytest.approx(F, abs=1e-14)
    assert frozen_free_energy(x + 5, y + 5, p, rho, 2.0) == pytest.approx(F, abs=1e-13)
    args = (0.3, 1.0, 0.5, 0.2)
    np.testing.assert_allclose(
        oracle.dense_softmax(x, y[order], *args),
        oracle.dense_softmax(x, y, *args)[:, order][:, :, order],
        atol=1e-15,
    )


def test_scaling():
    """Scaling x by s, beta by s^-2, T by s^2 multiplies D and F by s^2 and keeps lambda."""
    x, y, _, rho = random_problem(6)
    s, beta, temperature = 3.0, 1.3, 0.7
    p = oracle.dense_softmax(x, y, 0.3, 1.0, 0.5, temperature)
    scaled = oracle.dense_softmax(s * x, s * y, 0.3, 1.0, 0.5, s**2 * temperature)
    np.testing.assert_allclose(scaled, p, atol=1e-14)
    assert frozen_free_energy(s * x, s * y, p, rho, beta / s**2) == pytest.approx(
        s**2 * frozen_free_energy(x, y, p, rho, beta), rel=1e-13
    )
    assert oracle.spectral_radius(s * x, s * y, p, rho, beta / s**2) == pytest.approx(
        oracle.spectral_radius(x, y, p, rho, beta), rel=1e-12
    )


# --------------------------------------------------------- section 2: derivatives, frozen p


@METRICS
@pytest.mark.parametrize("seed", range(3))
def test_frozen_gradient_and_hessian(seed, matrix):
    """Analytic gradient and Hessian against finite differences of F and of the gradient."""
    x, y, p, rho = random_problem(seed)
    beta = 0.9
    grad = oracle.gradient_frozen(x, y, p, rho, beta, matrix)
    numeric = numerical_jacobian(lambda v: frozen_free_energy(x, v, p, rho, beta, matrix), y)
    np.testing.assert_allclose(grad.ravel(), numeric.ravel(), atol=2e-10)
    hessian = oracle.hessian_frozen(x, y, p, rho, beta, matrix)
    numeric = numerical_jacobian(lambda v: oracle.gradient_frozen(x, v, p, rho, beta, matrix), y)
    np.testing.assert_allclose(hessian, numeric, atol=2e-9)
    np.testing.assert_allclose(hessian, hessian.T, atol=1e-14)


@METRICS
def test_fixed_point_map_is_a_preconditioned_step(matrix):
    """T(Y) = Y - M^-1 grad F / 2, the factor 1/2 included."""
    x, y, p, rho = random_problem(7)
    grad = oracle.gradient_frozen(x, y, p, rho, 2.0, matrix)
    mass = oracle.mass_matrix(x, y, p, rho, 2.0, matrix)
    step = np.linalg.solve(mass, grad.ravel()).reshape(y.shape) / 2
    np.testing.assert_allclose(oracle.update(x, y, p, rho, 2.0, matrix), y - step, atol=1e-14)


def test_hessian_vector_product():
    """The matrix-free product of section 2 against the assembled matrix."""
    x, y, p, rho = random_problem(8)
    beta = 1.4
    V = np.random.default_rng(1).normal(size=y.shape)
    pi = np.exp(oracle.log_policy(oracle.d_avg(p, oracle.distances(x, y)), beta))
    m = oracle.masses(oracle.effective_weights(p, pi, rho))
    z = y[None] - x[:, None]
    s = oracle.d_avg(p, np.einsum("ikd,kd->ik", z, V))
    c = pi * (s - (pi * s).sum(axis=1, keepdims=True))
    q = np.einsum("i,ij,ijk->ik", rho, c, p)
    product = 2 * m[:, None] * V - 4 * beta * np.einsum("ik,ikd->kd", q, z)
    hessian = oracle.hessian_frozen(x, y, p, rho, beta)
    np.testing.assert_allclose(hessian @ V.ravel(), product.ravel(), atol=1e-13)


@METRICS
@pytest.mark.parametrize("beta", [0.2, 1.0, 8.0])
def test_spectral_radius_curvature_and_jacobian(beta, matrix):
    """At a fixed point the Jacobian of T has real eigenvalues >= 0, the largest lambda < 1."""
    x, y, p, rho = random_problem(9)
    y = converge(x, y, p, rho, beta, matrix)
    radius = oracle.spectral_radius(x, y, p, rho, beta, matrix)
    assert oracle.curvature(x, y, p, rho, beta, matrix) == pytest.approx(1 - radius, abs=1e-12)
    jacobian = numerical_jacobian(lambda v: oracle.update(x, v, p, rho, beta, matrix), y, 3e-4)
    eigenvalues = np.linalg.eigvals(jacobian)
    # Several eigenvalues are nearly zero, where differencing noise can pair them up.
    assert np.abs(eigenvalues.imag).max() < 1e-6
    assert eigenvalues.real.min() > -1e-6
    assert eigenvalues.real.max() == pytest.approx(radius, abs=1e-8)
    assert radius < 1


def test_delta_is_a_covariance():
    """Delta is positive semidefinite also where beta is large."""
    x, y, p, rho = random_problem(10)
    for beta in (0.1, 10.0, 1e4):
        assert np.linalg.eigvalsh(oracle.delta_matrix(x, y, p, rho, beta))[0] > -1e-15


def test_massless_codevector():
    """A codevector nobody can be sent to stays put and does not enter lambda or the curvature."""
    x, y, _, rho = random_problem(11)
    P = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.5, 0.5, 0.0]])
    p = oracle.dense_matrix(len(x), P)
    np.testing.assert_array_equal(oracle.update(x, y, p, rho, 1.0)[2], y[2])
    radius = oracle.spectral_radius(x, y, p, rho, 1.0)
    assert oracle.curvature(x, y, p, rho, 1.0) == pytest.approx(1 - radius, abs=1e-12)


@pytest.mark.parametrize("k", [2, 3, 4, 8])
@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.3, 0.5])
def test_critical_beta_is_lambda_one(k, kappa):
    """At coincident codevectors lambda = beta / beta_cr, so Theorem 2 reads lambda = 1."""
    x, _, _, rho = random_problem(12, k=k)
    y = np.tile(rho @ x, (k, 1))
    p = oracle.dense_uniform(len(x), k, kappa)
    critical = oracle.beta_cr_uniform(x, rho, k, kappa)
    if np.isinf(critical):  # K = 2, kappa = 1/2
        assert oracle.spectral_radius(x, y, p, rho, 10.0) == pytest.approx(0, abs=1e-13)
        return
    assert oracle.spectral_radius(x, y, p, rho, critical) == pytest.approx(1, abs=1e-12)
    assert oracle.spectral_radius(x, y, p, rho, 0.4 * critical) == pytest.approx(0.4, abs=1e-12)
    assert oracle.beta_cr_matrix(x, rho, p[0]) == pytest.approx(critical, rel=1e-12)
    if kappa == 0:
        assert oracle.beta_cr_none(x, rho) == pytest.approx(critical, rel=1e-14)


def test_critical_beta_of_a_random_matrix():
    """The same for an entity-independent P without any symmetry."""
    x, _, _, rho = random_problem(13, k=4)
    P = np.random.default_rng(3).dirichlet(np.ones(4), size=4)
    critical = oracle.beta_cr_matrix(x, rho, P)
    y, p = np.tile(rho @ x, (4, 1)), oracle.dense_matrix(len(x), P)
    assert oracle.spectral_radius(x, y, p, rho, critical) == pytest.approx(1, abs=1e-12)


def test_closed_forms_insist_on_normalised_weights():
    """Unnormalised weights are refused, not silently scaled."""
    with pytest.raises(ValueError, match="sum to one"):
        oracle.beta_cr_none(CROSS, np.ones(4))


@pytest.mark.parametrize("kappa", [0.25, 0.9])
def test_codevectors_separate_at_the_critical_beta(kappa):
    """2 % below they stay together, 2 % above they separate, also for a < 0 (kappa = .9)."""
    rho, p = equal_weights(4), oracle.dense_uniform(4, 4, kappa)
    critical = oracle.beta_cr_uniform(CROSS, rho, 4, kappa)
    spread = []
    for factor in (0.98, 1.02):
        y, _ = oracle.anneal_reference(
            CROSS, 4, rho, p, [factor * critical], np.random.default_rng(0), tol=1e-12
        )
        spread.append(np.ptp(y, axis=0).max())
    assert spread[0] < 1e-8
    assert spread[1] > 1e-2


def test_all_policies_equivalent():
    """K = 4, kappa = 3/4: nothing ever separates (Figure 1(c))."""
    p = oracle.dense_uniform(4, 4, 0.75)
    y, _ = oracle.anneal_reference(
        CROSS, 4, equal_weights(4), p, [1.0, 100.0, 1e4], np.random.default_rng(0)
    )
    np.testing.assert_allclose(y, 0, atol=1e-12)


def test_prediction_with_frozen_y():
    """From below the first transition it is exact; later it lies nearer than beta / lambda."""
    rng = np.random.default_rng(0)
    centres = np.array([[-4, -0.6], [-4, 0.6], [4, -0.5], [4, 0.5]])
    x = (centres[:, None] + 0.1 * rng.normal(size=(4, 8, 2))).reshape(-1, 2)
    rho = equal_weights(32)
    p = oracle.dense_uniform(32, 4, 0.05)
    first = oracle.beta_cr_uniform(x, rho, 4, 0.05)
    coincident = np.tile(rho @ x, (4, 1))
    predicted = oracle.predict_frozen_y(x, coincident, p, rho, first / 3)
    assert predicted == pytest.approx(first, rel=1e-10)

    start = np.repeat([[-3.0, 0.0], [3.0, 0.0]], 2, axis=0)
    low, high = 0.3, 5.0  # lambda crosses 1 between these on the symmetric two-group branch

    def two_groups(beta):
        # Averaging each pair keeps the state on the (possibly unstable) two-group branch.
        y = start
        for _ in range(300):
            y = oracle.update(x, y, p, rho, beta).reshape(2, 2, 2).mean(axis=1).repeat(2, axis=0)
        return y, oracle.spectral_radius(x, y, p, rho, beta)

    for _ in range(25):
        middle = (low + high) / 2
        low, high = (middle, high) if two_groups(middle)[1] < 1 else (low, middle)
    y, radius = two_groups(0.6 * low)
    frozen = oracle.predict_frozen_y(x, y, p, rho, 0.6 * low)
    naive = 0.6 * low / radius
    assert oracle.spectral_radius(x, y, p, rho, frozen) == pytest.approx(1, abs=1e-9)
    assert abs(frozen - low) <= abs(naive - low) + 1e-9
    assert frozen == pytest.approx(low, rel=0.05)


# -------------------------------------------------------- section 3: convergence, sensitivity


def test_guaranteed_decrease():
    """F(Y) - F(T(Y)) >= sum m |dy|^2 >= |grad F|^2 / 4 on random steps (Theorem 1)."""
    for seed, beta in itertools.product(range(30), (0.1, 1.0, 10.0, 1000.0)):
        x, y, p, rho = random_problem(seed)
        for _ in range(3):
            new = oracle.update(x, y, p, rho, beta)
            drop = frozen_free_energy(x, y, p, rho, beta) - frozen_free_energy(x, new, p, rho, beta)
            pi = np.exp(oracle.log_policy(oracle.d_avg(p, oracle.distances(x, y)), beta))
            m = oracle.masses(oracle.effective_weights(p, pi, rho))
            moved = (m * ((new - y) ** 2).sum(axis=1)).sum()
            grad = oracle.gradient_frozen(x, y, p, rho, beta)
            assert drop >= moved - 1e-13
            assert moved >= (grad**2).sum() / 4 - 1e-13
            y = new


@METRICS
def test_sensitivity(matrix):
    """dY/dbeta of Theorem 3 (corrected) against re-converged solutions, and its bound."""
    x, y, p, rho = random_problem(14)
    beta, h = 1.5, 1e-4
    y = converge(x, y, p, rho, beta, matrix)
    slope = oracle.sensitivity(x, y, p, rho, beta, matrix)
    ahead, behind = (converge(x, y, p, rho, beta + s * h, matrix) for s in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), atol=1e-8)

    mass = oracle.mass_matrix(x, y, p, rho, beta, matrix)
    gap = oracle.curvature(x, y, p, rho, beta, matrix)
    dbar = oracle.d_avg(p, oracle.distances(x, y, matrix))
    pi = np.exp(oracle.log_policy(dbar, beta))
    variance = rho @ ((pi * dbar**2).sum(axis=1) - (pi * dbar).sum(axis=1) ** 2)
    bound = np.sqrt((1 - gap) / (2 * beta) * variance) / gap
    assert np.sqrt(slope.ravel() @ mass @ slope.ravel()) <= bound


# ----------------------------------------------------------------- section 4: p depends on Y


@METRICS
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kappa", [0.4, np.linspace(0.0, 0.9, 7)], ids=["scalar", "per-entity"])
def test_softmax_exact_gradient(seed, kappa, matrix):
    """The C_ijk formula against finite differences of F(Y), p recomputed at every Y."""
    x, y, _, rho = random_problem(seed)
    args = (kappa, 1.0, 0.5, 0.8, matrix)
    numeric = numerical_jacobian(lambda v: oracle.softmax_free_energy(x, v, rho, 1.2, *args), y)
    grad = oracle.softmax_exact_gradient(x, y, rho, 1.2, *args)
    np.testing.assert_allclose(grad.ravel(), numeric.ravel(), atol=1e-9)


def test_softmax_exact_hessian():
    """Symmetric, equal to a second difference of F, and to the frozen Hessian at kappa = 0."""
    x, y, _, rho = random_problem(15)
    args = (0.4, 1.0, 0.5, 0.8)
    hessian = oracle.softmax_exact_hessian(x, y, rho, 1.2, *args)
    v = np.random.default_rng(0).normal(size=y.shape)
    F = [oracle.softmax_free_energy(x, y + s * 1e-3 * v, rho, 1.2, *args) for s in (-1, 0, 1)]
    second = (F[0] - 2 * F[1] + F[2]) / 1e-6
    assert v.ravel() @ hessian @ v.ravel() == pytest.approx(second, rel=1e-4)
    none = oracle.dense_autonomy_none(len(x), 3)
    np.testing.assert_allclose(
        oracle.softmax_exact_hessian(x, y, rho, 1.2, 0.0, 1.0, 0.5, 0.8),
        oracle.hessian_frozen(x, y, none, rho, 1.2),
        atol=1e-9,
    )


def test_curvature_accepts_the_true_hessian():
    """Positive at a minimiser of F(Y) for eq. 72."""
    x, rho = LINE5[:, None], equal_weights(5)
    betas = np.geomspace(1.0, 8.0, 20)
    y = oracle.anneal_softmax_exact(x, 3, rho, betas, np.random.default_rng(0), *LINE5_AUTONOMY)
    grad = oracle.softmax_exact_gradient(x, y, rho, 8.0, *LINE5_AUTONOMY)
    assert np.abs(grad).max() < 1e-7
    p = oracle.dense_softmax(x, y, *LINE5_AUTONOMY)
    hessian = oracle.softmax_exact_hessian(x, y, rho, 8.0, *LINE5_AUTONOMY)
    assert oracle.curvature(x, y, p, rho, 8.0, hessian=hessian) > 0


def test_softmax_limits():
    """The limits listed under section 8."""
    x, y, _, _ = random_problem(16, n=9, k=4)
    uniform = oracle.dense_uniform(9, 4, 0.3)
    none = oracle.dense_autonomy_none(9, 4)
    softmax = oracle.dense_softmax
    np.testing.assert_array_equal(softmax(x, y, 0.0, 1.0, 0.5, 0.1), none)
    np.testing.assert_allclose(softmax(x, y, 0.3, 1.0, 0.5, 1e12), uniform, atol=1e-11)
    np.testing.assert_allclose(softmax(x, y, 0.3, 0.0, 0.0, 0.1), uniform, atol=1e-15)
    np.testing.assert_allclose(
        oracle.d_avg(none, oracle.distances(x, y)), oracle.distances(x, y), atol=0
    )
    # K = 2: a single alternative, so zeta, gammabar and T do not matter.
    np.testing.assert_allclose(
        softmax(x, y[:2], 0.3, 1.0, 0.5, 0.01), oracle.dense_uniform(9, 2, 0.3), atol=1e-15
    )
    # T -> 0, gammabar = 0: all override mass on the codevector nearest to y_j.
    cold = softmax(x, y, 0.3, 1.0, 0.0, 1e-6)
    between = oracle.distances(y, y) + np.diag(np.full(4, np.inf))
    nearest = 0.7 * np.eye(4) + 0.3 * np.eye(4)[between.argmin(axis=1)]
    np.testing.assert_allclose(cold, oracle.dense_matrix(9, nearest), atol=1e-15)
    # T -> 0 with both terms: the codevector (other than j) nearest to c_ij (section 5).
    cold = softmax(x, y, 0.3, 1.0, 0.5, 1e-6)
    for i, j in itertools.product(range(9), range(4)):
        c = (y[j] + 0.5 * x[i]) / 1.5
        distance = ((y - c) ** 2).sum(axis=1)
        distance[j] = np.inf
        assert cold[i, j, distance.argmin()] == pytest.approx(0.3, abs=1e-12)


def test_softmax_matches_matrix_product_form():
    """Section 5: Dbar = (1-kappa) D + kappa num/den with two matrix products, mild temperature."""
    x, y, _, _ = random_problem(17, n=9, k=4)
    D = oracle.distances(x, y)
    A = np.exp(-1.0 * oracle.distances(y, y) / 3.0)
    np.fill_diagonal(A, 0)
    B = np.exp(-0.5 * D / 3.0)
    expected = 0.7 * D + 0.3 * ((B * D) @ A.T) / (B @ A.T)
    p = oracle.dense_softmax(x, y, 0.3, 1.0, 0.5, 3.0)
    np.testing.assert_allclose(oracle.d_avg(p, D), expected, rtol=1e-13)


def test_softmax_survives_extreme_exponents():
    """Unscaled coordinates at a low temperature: still finite, rows still sum to one."""
    x, y, _, _ = random_problem(18, n=9, k=4)
    p = oracle.dense_softmax(400 * x, 400 * y, 0.3, 1.0, 0.5, 0.1)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=2), 1, atol=1e-14)


def test_structured_d_avg():
    """Uniform and entity-independent autonomy: the closed forms of the section 5 table."""
    x, y, _, rho = random_problem(19)
    D = oracle.distances(x, y)
    a, b = 1 - 0.2 * 3 / 2, 0.2 / 2
    uniform = oracle.d_avg(oracle.dense_uniform(7, 3, 0.2), D)
    np.testing.assert_allclose(uniform, a * D + b * D.sum(axis=1, keepdims=True), rtol=1e-13)
    p = oracle.dense_matrix(7, CROSS_P)
    np.testing.assert_allclose(oracle.d_avg(p, D), D @ CROSS_P.T, rtol=1e-13)
    pi = np.exp(oracle.log_policy(oracle.d_avg(p, D), 1.0))
    w = oracle.effective_weights(p, pi, rho)
    np.testing.assert_allclose(w, rho[:, None] * (pi @ CROSS_P), rtol=1e-13)


# --------------------------------------------------------------- section 4: the Ignored column


def test_table1_ignored_formula():
    """The quoted values for the square, the paper's column, and the T = .01 pairing limit."""
    kappa = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(
        oracle.table1_ignored(kappa, 0.01), [6.87, 15.06, 24.62, 35.90, 49.44], atol=0.005
    )
    paper = np.array([6.67, 15.08, 24.71, 35.92, 49.21])
    deviation = np.abs(oracle.table1_ignored(kappa, 0.0116) - paper).max()
    # The document prints 0.15; it is 0.1551 here, and 0.1549 at the best ratio 0.011595.
    assert deviation == pytest.approx(0.1551, abs=5e-5)
    np.testing.assert_allclose(
        oracle.table1_ignored(kappa, 0.0128, K=2), [10.7, 24.5, 42.2, 65.8, 98.7], atol=0.05
    )
    a = oracle.uniform_contrast(4, kappa)
    np.testing.assert_allclose(oracle.table1_ignored(kappa, 0.0), 100 * (1 - a) / (1 + a))


def test_four_gaussians_statistically():
    """Sampled square, T = 100: gaps within 0.3 points of the formula (section 8, statistical)."""
    rng = np.random.default_rng(0)
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    x = np.repeat(corners, 50, axis=0) + 0.05 * rng.normal(size=(200, 2))
    rho = equal_weights(200)
    ignored = corners
    for _ in range(3):
        ignored = oracle.update(x, ignored, oracle.dense_autonomy_none(200, 4), rho, 5e4)
    kappas = (0.1, 0.2, 0.3, 0.4, 0.5)
    for kappa, expected in zip(kappas, (6.87, 15.06, 24.62, 35.90, 49.44), strict=True):
        args = (kappa, 1.0, 0.0, 100.0)
        y = ignored
        for _ in range(30):
            y = oracle.update(x, y, oracle.dense_softmax(x, y, *args), rho, 5e4)
        best = oracle.softmax_hard_cost(x, y, rho, *args)
        gap = 100 * (oracle.softmax_hard_cost(x, ignored, rho, *args) / best - 1)
        assert gap == pytest.approx(expected, abs=0.3)


# ----------------------------------------------------------------------- section 8: O-A .. O-H


def test_o_a():
    """O-A: one entity, two codevectors, an entity-independent P."""
    x, y = np.array([[0.0]]), np.array([[1.0], [3.0]])
    p = oracle.dense_matrix(1, [[0.9, 0.1], [0.4, 0.6]])
    D = oracle.distances(x, y)
    np.testing.assert_allclose(D, [[1, 9]], atol=0)
    dbar = oracle.d_avg(p, D)
    np.testing.assert_allclose(dbar, [[1.8, 5.8]], atol=1e-14)
    pi = np.exp(oracle.log_policy(dbar, 1.0))
    np.testing.assert_allclose(pi, [[0.98201379, 0.01798621]], atol=5e-9)
    assert oracle.free_energy(dbar, np.ones(1), 1.0) == pytest.approx(1.7818500721, abs=5e-11)


def test_o_b():
    """O-B: critical beta on the cross, uniform autonomy."""
    rho = equal_weights(4)
    assert np.linalg.eigvalsh(oracle.weighted_covariance(CROSS, rho))[-1] == pytest.approx(2)
    assert oracle.beta_cr_none(CROSS, rho) == pytest.approx(0.25, abs=1e-14)
    for k, kappa, expected in (
        (3, 0.1, 0.3460207612),
        (4, 0.25, 0.5625),
        (4, 0.9, 6.25),
        (4, 0.75, np.inf),
    ):
        value = oracle.beta_cr_uniform(CROSS, rho, k, kappa)
        assert value == pytest.approx(expected, abs=5e-11)
        P = oracle.dense_uniform(1, k, kappa)[0]
        assert oracle.beta_cr_matrix(CROSS, rho, P) == pytest.approx(expected, abs=5e-11)


def test_o_c():
    """O-C: critical beta on the cross, general P."""
    assert oracle.autonomy_sigma2(CROSS_P) == pytest.approx(0.4141279631, abs=5e-11)
    critical = oracle.beta_cr_matrix(CROSS, equal_weights(4), CROSS_P)
    assert critical == pytest.approx(0.6036781436, abs=5e-11)


@pytest.mark.parametrize(
    ("kappa", "cost", "y"),
    [
        (0.0, 0.0986111111, (0.116667, 1.4)),
        (0.1, 0.2468361111, (0.245, 1.271667)),
        (0.2, 0.3621222222, (0.373333, 1.143333)),
        (0.4, 0.4938777778, (0.63, 0.886667)),
    ],
)
def test_o_d_two_clusters(kappa, cost, y):
    """O-D, K = 2: enumeration gives the quoted optimum and annealing reaches it."""
    rho = equal_weights(6)
    optimum = oracle.enumerate_uniform(LINE6, 2, kappa, rho)
    assert optimum.cost == pytest.approx(cost, abs=5e-11)
    np.testing.assert_allclose(optimum.y[:, 0], y, atol=5e-7)
    x, p = LINE6[:, None], oracle.dense_uniform(6, 2, kappa)
    start = 0.5 * oracle.beta_cr_none(x, rho)
    found, path = oracle.anneal_reference(
        x, 2, rho, p, np.geomspace(start, 5e4, 120), np.random.default_rng(0)
    )
    assert path.shape == (120, 2, 1)
    value = oracle.hard_cost(oracle.d_avg(p, oracle.distances(x, found)), rho)
    assert value == pytest.approx(cost, abs=1e-9)
    np.testing.assert_allclose(np.sort(found[:, 0]), y, atol=1e-6)


def test_o_d_three_clusters():
    """O-D, K = 3."""
    rho = equal_weights(6)
    weak = oracle.enumerate_uniform(LINE6, 3, 0.1, rho)
    assert weak.cost == pytest.approx(0.1642297900, abs=5e-11)
    assert weak.assignment == (0, 0, 0, 1, 1, 2)
    strong = oracle.enumerate_uniform(LINE6, 3, 0.3, rho)
    assert strong.cost == pytest.approx(0.3636211295, abs=5e-11)
    assert strong.assignment == (0, 0, 0, 1, 2, 2)
    np.testing.assert_allclose(strong.y[:, 0], (0.343137, 0.85, 1.22125), atol=5e-7)


def test_enumeration_is_consistent():
    """The enumerated cost is D_hard at the enumerated Y; labels cover every assignment class."""
    classes = list(oracle.canonical_assignments(5, 3))
    assert len(set(classes)) == 1 + 15 + 25  # Stirling numbers of the second kind
    x, _, _, rho = random_problem(20)
    optimum = oracle.enumerate_uniform(x, 3, 0.2, rho)
    dbar = oracle.d_avg(oracle.dense_uniform(7, 3, 0.2), oracle.distances(x, optimum.y))
    assert oracle.hard_cost(dbar, rho) == pytest.approx(optimum.cost, abs=1e-14)
    np.testing.assert_array_equal(dbar.argmin(axis=1), optimum.assignment)


@pytest.mark.parametrize(
    ("kappa", "optimal", "ignored", "gap"),
    [
        (0.1, 0.248889, 0.266667, 7.1429),
        (0.2, 0.462222, 0.533333, 15.3846),
        (0.3, 0.64, 0.8, 25),
        (0.4, 0.782222, 1.066667, 36.3636),
        (0.5, 0.888889, 1.333333, 50),
    ],
)
def test_o_e(kappa, optimal, ignored, gap):
    """O-E: four corner points, by enumeration and by the formula."""
    corners = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    rho = equal_weights(4)
    V = np.trace(oracle.weighted_covariance(corners, rho))
    best = oracle.enumerate_uniform(corners, 4, kappa, rho).cost
    p = oracle.dense_uniform(4, 4, kappa)
    own = oracle.hard_cost(oracle.d_avg(p, oracle.distances(corners, corners)), rho)
    assert best / V == pytest.approx(optimal, abs=5e-7)
    assert own / V == pytest.approx(ignored, abs=5e-7)
    assert 100 * (own / best - 1) == pytest.approx(gap, abs=5e-5)
    assert oracle.table1_ignored(kappa, 0.0) == pytest.approx(gap, abs=5e-5)


@pytest.mark.slow
def test_o_f_enumeration():
    """O-F: optimum over Y and assignments, and no point of a grid of Y is below it."""
    rho = equal_weights(5)
    optimum = oracle.enumerate_softmax_1d(LINE5, 3, rho, *LINE5_AUTONOMY)
    assert optimum.cost == pytest.approx(0.2188769493, abs=5e-11)
    assert optimum.assignment == (0, 0, 1, 1, 2)
    np.testing.assert_allclose(optimum.y, (0.093963, 0.930806, 1.556997), atol=5e-7)
    x, y = LINE5[:, None], optimum.y[:, None]
    value = oracle.softmax_hard_cost(x, y, rho, *LINE5_AUTONOMY)
    assert value == pytest.approx(optimum.cost, abs=1e-14)

    grid = np.linspace(0, 2, 41)
    lowest = min(
        oracle.softmax_hard_cost(x, np.array(y)[:, None], rho, *LINE5_AUTONOMY)
        for y in itertools.combinations_with_replacement(grid, 3)
    )
    assert optimum.cost < lowest < optimum.cost + 0.005


def test_o_f_annealing():
    """O-F: the annealed exact gradient attains the optimum, the frozen iteration does not."""
    x, rho = LINE5[:, None], equal_weights(5)
    betas = np.geomspace(0.5, 5e4, 160)
    exact = oracle.anneal_softmax_exact(x, 3, rho, betas, np.random.default_rng(0), *LINE5_AUTONOMY)
    cost = oracle.softmax_hard_cost(x, exact, rho, *LINE5_AUTONOMY)
    assert cost == pytest.approx(0.2188769493, abs=1e-9)
    frozen = oracle.anneal_softmax_frozen(
        x, 3, rho, betas, np.random.default_rng(0), *LINE5_AUTONOMY
    )
    cost = oracle.softmax_hard_cost(x, frozen, rho, *LINE5_AUTONOMY)
    assert cost == pytest.approx(0.236198, abs=5e-7)


@pytest.mark.parametrize(
    ("kappa", "beta", "t", "F", "radius", "slope"),
    [
        (0.1, 0.9375, 0.5268557283, 0.2349367532, 0.67954320, 1.19170295),
        (0.0, 1.0, 0.9575040241, -0.0196710680, 0.16637209, None),
        (0.25, 2.4, 0.3292848302, 0.7011471692, None, None),
    ],
)
def test_o_g_values(kappa, beta, t, F, radius, slope):
    """O-G: quoted values of the +-1 problem (betas 1.2, 2 and 1.2 times critical)."""
    state = oracle.two_point(kappa, beta)
    assert state.t == pytest.approx(t, abs=5e-11)
    assert state.free_energy == pytest.approx(F, abs=5e-11)
    if radius is not None:
        assert state.spectral_radius == pytest.approx(radius, abs=5e-9)
    if slope is not None:
        assert state.dt_dbeta == pytest.approx(slope, abs=5e-9)


@pytest.mark.parametrize("kappa", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("ratio", [0.8, 1.2, 2.0, 10.0])
def test_o_g_against_the_general_formulas(kappa, ratio):
    """O-G: every closed form equals the dense oracle at (-t, t)."""
    a = 1 - 2 * kappa
    beta = ratio / (2 * a**2)
    state = oracle.two_point(kappa, beta)
    x, y = np.array([[-1.0], [1.0]]), np.array([[-state.t], [state.t]])
    rho, p = equal_weights(2), oracle.dense_uniform(2, 2, kappa)
    np.testing.assert_allclose(oracle.update(x, y, p, rho, beta), y, atol=1e-14)
    assert frozen_free_energy(x, y, p, rho, beta) == pytest.approx(state.free_energy, abs=1e-14)
    radius = oracle.spectral_radius(x, y, p, rho, beta)
    assert radius == pytest.approx(state.spectral_radius, abs=1e-12)
    slope = oracle.sensitivity(x, y, p, rho, beta)
    np.testing.assert_allclose(slope[:, 0], [-state.dt_dbeta, state.dt_dbeta], atol=1e-11)
    if ratio < 1:
        assert state.t == 0
        assert state.spectral_radius == pytest.approx(ratio)
    else:
        assert state.spectral_radius < 1


def test_o_g_limits():
    """O-G: t = a and F = D_hard = 1 - a^2 at large beta; continuous at the transition."""
    for kappa in (0.0, 0.1, 0.25, 0.9):
        a = abs(1 - 2 * kappa)
        state = oracle.two_point(kappa, 1e8)
        assert state.t == pytest.approx(a, abs=1e-14)
        assert state.free_energy == pytest.approx(1 - a**2, abs=1e-7)
        assert state.dt_dbeta == pytest.approx(0, abs=1e-14)
    just_above = oracle.two_point(0.1, 0.78125 * (1 + 1e-6))
    assert just_above.t == pytest.approx(0.8 * np.sqrt(3e-6), rel=1e-5)
    assert oracle.two_point(0.1, 0.78125 * (1 - 1e-6)).t == 0


def test_o_h():
    """O-H: eq. (72) for two entities and three codevectors."""
    x = np.array([[0.0, 0.0], [1.0, 0.3]])
    y = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    p = oracle.dense_softmax(x, y, 0.3, 1.0, 0.5, 1.0)
    expected = [
        [
            [0.7, 0.29670392, 0.00329608],
            [0.29925821, 0.7, 0.00074179],
            [0.24527234, 0.05472766, 0.7],
        ],
        [
            [0.7, 0.29778254, 0.00221746],
            [0.29865112, 0.7, 0.00134888],
            [0.1867378, 0.1132622, 0.7],
        ],
    ]
    np.testing.assert_allclose(p, expected, atol=6e-9)
    np.testing.assert_allclose(
        oracle.d_avg(p, oracle.distances(x, y)),
        [[0.30988825, 0.70296715, 2.85472766], [0.79842636, 0.39377687, 2.9367378]],
        atol=6e-9,
    )
