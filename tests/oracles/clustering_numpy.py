# pyright: reportArgumentType=false, reportCallIssue=false, reportOperatorIssue=false
"""Dense float64 NumPy oracle for maximum-entropy clustering with autonomy.

Written from the mathematics document alone ("section n" below refers to its sections, "eq. (n)"
to the equation numbers of the paper it corrects) and on purpose without any of the library's code.
It values clarity over speed: the autonomy ``p`` is always the dense ``(N, K, K)`` array

    p[i, j, k] = p(k | j, i)        j: prescribed cluster (the action), k: realised cluster.

Shapes: ``x (N, d)``, ``y (K, d)``, ``rho (N,)`` summing to one, ``D`` and ``dbar`` ``(N, K)``.
An optional symmetric positive definite ``matrix (d, d)`` replaces the squared Euclidean distance by
``(x - y)^T A (x - y)``; the weighted mean stays the exact M-step, so every formula keeps its form.
"""

import itertools
from typing import NamedTuple

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq, minimize

# A codevector with less mass than this receives nobody: it has no weighted mean and no curvature.
NO_MASS = 1e-200


# ------------------------------------------------------------------------------- autonomy (dense)


def dense_autonomy_none(n, k):
    """No autonomy: the prescribed cluster is the realised one (section 5)."""
    return np.tile(np.eye(k), (n, 1, 1))


def dense_uniform(n, k, kappa):
    """Uniform autonomy: 1 - kappa on the prescription, kappa / (K - 1) elsewhere (section 2).

    ``kappa`` is a scalar or one value per entity. A single cluster leaves no alternative: p = 1.
    """
    if k == 1:
        return np.ones((n, 1, 1))
    kappa = np.broadcast_to(np.asarray(kappa, dtype=float), (n,))
    p = np.empty((n, k, k))
    for i, j, realised in itertools.product(range(n), range(k), range(k)):
        p[i, j, realised] = 1 - kappa[i] if j == realised else kappa[i] / (k - 1)
    return p


def dense_matrix(n, P):
    """Entity-independent autonomy: ``P[j, k] = p(k | j)`` repeated for every entity (section 5)."""
    return np.tile(np.asarray(P, dtype=float), (n, 1, 1))


def softmax_choice(x, y, zeta, gamma, temperature, matrix=None):
    """Choice among the alternatives k != j in eq. (72): ``s (N, K, K)``, zero on k = j.

    Evaluated directly in the log domain, the maximum over the alternatives of every (i, j) being
    subtracted first, so no shift can underflow all of them.
    """
    k = len(y)
    if k == 1:
        return np.zeros((len(x), 1, 1))
    between = distances(y, y, matrix)
    to_entity = distances(x, y, matrix)
    logits = -(zeta * between[None, :, :] + gamma * to_entity[:, None, :]) / temperature
    logits[:, np.arange(k), np.arange(k)] = -np.inf
    weight = np.exp(logits - logits.max(axis=2, keepdims=True))
    return weight / weight.sum(axis=2, keepdims=True)


def dense_softmax(x, y, kappa, zeta, gamma, temperature, matrix=None):
    """Autonomy that depends on Y, eq. (72), with the k = j case the paper omits (section 4).

    ``kappa`` is a scalar or ``(N,)``; ``gamma`` is the document's gammabar.
    """
    n, k = len(x), len(y)
    if k == 1:
        return np.ones((n, 1, 1))
    kappa = np.broadcast_to(np.asarray(kappa, dtype=float), (n,))[:, None, None]
    stay = (1 - kappa) * np.eye(k)
    return stay + kappa * softmax_choice(x, y, zeta, gamma, temperature, matrix)


# ----------------------------------------------------------------- distances, policy, free energy


def distances(x, y, matrix=None):
    """D[i, k] = (x_i - y_k)^T A (x_i - y_k); A is the identity unless given (section 1)."""
    z = np.asarray(x)[:, None, :] - np.asarray(y)[None, :, :]
    return np.einsum("ikd,de,ike->ik", z, _metric(z.shape[2], matrix), z)


def d_avg(p, D):
    """Dbar[i, j] = sum_k p(k | j, i) D[i, k]: the realised cluster is summed out (section 1)."""
    return np.einsum("ijk,ik->ij", p, D)


def log_policy(dbar, beta):
    """Log of the Gibbs policy pi_ij = softmax_j(-beta Dbar_ij), shifted by the row minimum."""
    scaled = -beta * (dbar - dbar.min(axis=1, keepdims=True))
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def free_energy(dbar, rho, beta):
    """F = -(1/beta) sum_i rho_i log sum_j exp(-beta Dbar_ij), shifted (section 1)."""
    lowest = dbar.min(axis=1)
    partition = np.exp(-beta * (dbar - lowest[:, None])).sum(axis=1)
    return rho @ (lowest - np.log(partition) / beta)


def distortion(dbar, rho, beta):
    """Soft distortion D = sum_i rho_i sum_j pi_ij Dbar_ij (section 1)."""
    return rho @ (np.exp(log_policy(dbar, beta)) * dbar).sum(axis=1)


def entropy(dbar, rho, beta):
    """Policy entropy H = -sum_i rho_i sum_j pi_ij log pi_ij, so F = D - H / beta (section 1)."""
    log_pi = log_policy(dbar, beta)
    return -rho @ (np.exp(log_pi) * log_pi).sum(axis=1)


def hard_cost(dbar, rho):
    """D_hard = sum_i rho_i min_j Dbar_ij (section 1)."""
    return rho @ dbar.min(axis=1)


def effective_weights(p, pi, rho):
    """w[i, k] = rho_i sum_j pi_ij p(k | j, i): the share of entity i that ends in k (section 1)."""
    return np.einsum("i,ij,ijk->ik", rho, pi, p)


def masses(w):
    """m_k = sum_i w_ik, the mass arriving at codevector k, autonomy included (section 1)."""
    return w.sum(axis=0)


def update(x, y, p, rho, beta, matrix=None):
    """One pass T(Y) of eq. (1) + (2): Gibbs policy, then weighted means, p fixed.

    A codevector without mass stays in place.
    """
    w = _weights_at(x, y, p, rho, beta, matrix)
    m = masses(w)
    new = np.array(y, dtype=float)
    for k in range(len(y)):
        if m[k] > NO_MASS:
            new[k] = w[:, k] @ x / m[k]
    return new


# ------------------------------------------------------------------------ derivatives, p held fixed


def gradient_frozen(x, y, p, rho, beta, matrix=None):
    """dF/dy_k = 2 sum_i w_ik A (y_k - x_i) with p held fixed, (K, d) (section 2)."""
    w = _weights_at(x, y, p, rho, beta, matrix)
    grad = np.zeros_like(np.asarray(y, dtype=float))
    for k in range(len(y)):
        grad[k] = 2 * _metric(x.shape[1], matrix) @ (w[:, k] @ (y[k] - x))
    return grad


def mass_matrix(x, y, p, rho, beta, matrix=None):
    """M = diag(m) (x) A, (Kd, Kd), ordered like ``y.ravel()`` (section 2)."""
    m = masses(_weights_at(x, y, p, rho, beta, matrix))
    return np.kron(np.diag(m), _metric(x.shape[1], matrix))


def delta_matrix(x, y, p, rho, beta, matrix=None):
    """Delta = sum_i rho_i Cov_{j ~ pi(.|i)}(v_ij), (Kd, Kd) and positive semidefinite (section 2).

    Block k of v_ij is p(k | j, i) A (y_k - x_i). The covariance is summed from centred vectors:
    the difference of second moments would cancel at large beta.
    """
    n, d = x.shape
    pi = np.exp(log_policy(d_avg(p, distances(x, y, matrix)), beta))
    total = np.zeros((y.size, y.size))
    for i in range(n):
        z = (y - x[i]) @ _metric(d, matrix)
        v = np.stack([(p[i, j][:, None] * z).ravel() for j in range(len(y))])
        centred = v - pi[i] @ v
        total += rho[i] * (centred.T * pi[i]) @ centred
    return total


def hessian_frozen(x, y, p, rho, beta, matrix=None):
    """Hess F = 2 (M - 2 beta Delta), p fixed, (Kd, Kd); twice the matrix of (43) (section 2)."""
    mass = mass_matrix(x, y, p, rho, beta, matrix)
    return 2 * (mass - 2 * beta * delta_matrix(x, y, p, rho, beta, matrix))


def spectral_radius(x, y, p, rho, beta, matrix=None):
    """Largest eigenvalue lambda(Y, beta) of 2 beta M^-1 Delta (section 2).

    At a stationary point this is the spectral radius of the Jacobian of the fixed-point map: below
    one the point is a strict local minimum, above one a saddle. Solved as the symmetric generalised
    problem 2 beta Delta u = lambda M u over the codevectors that have mass.
    """
    mass = mass_matrix(x, y, p, rho, beta, matrix)
    keep = _has_mass(mass)
    delta = delta_matrix(x, y, p, rho, beta, matrix)
    return eigh(2 * beta * delta[keep][:, keep], mass[keep][:, keep], eigvals_only=True)[-1]


def curvature(x, y, p, rho, beta, matrix=None, hessian=None):
    """Smallest eigenvalue of (2M)^-1/2 Hess (2M)^-1/2; equals 1 - lambda for frozen p (section 2).

    Pass the true Hessian when p depends on Y (with ``p`` evaluated at ``y``, it only gives M).
    """
    if hessian is None:
        hessian = hessian_frozen(x, y, p, rho, beta, matrix)
    mass = mass_matrix(x, y, p, rho, beta, matrix)
    keep = _has_mass(mass)
    values, vectors = np.linalg.eigh(2 * mass[keep][:, keep])
    root = (vectors / np.sqrt(values)) @ vectors.T
    return np.linalg.eigvalsh(root @ hessian[keep][:, keep] @ root)[0]


def sensitivity(x, y, p, rho, beta, matrix=None):
    """dY/dbeta along a branch of stationary points, p fixed (section 3, Theorem 3 corrected).

    Solves (M - 2 beta Delta) dY/dbeta = b with b_l = sum_i rho_i Cov_pi(Dbar_i., p(l|.,i))
    A (y_l - x_i). Needs a nonsingular Hessian, i.e. every codevector with mass and lambda != 1.
    """
    dbar = d_avg(p, distances(x, y, matrix))
    pi = np.exp(log_policy(dbar, beta))
    b = np.zeros(y.shape)
    for i in range(len(x)):
        centred = pi[i] * (dbar[i] - pi[i] @ dbar[i])
        for k in range(len(y)):
            covariance = centred @ p[i, :, k]
            b[k] += rho[i] * covariance * _metric(x.shape[1], matrix) @ (y[k] - x[i])
    half_hessian = hessian_frozen(x, y, p, rho, beta, matrix) / 2
    return np.linalg.solve(half_hessian, b.ravel()).reshape(y.shape)


def predict_frozen_y(x, y, p, rho, beta, matrix=None, beta_max=1e6):
    """Next transition: the beta' >= beta with lambda(Y, beta') = 1, Y unchanged (section 2).

    Returns the first bracketed crossing on a geometric grid (1 % steps), infinity if there is none.
    """

    def excess(trial):
        return spectral_radius(x, y, p, rho, trial, matrix) - 1

    low = beta
    if excess(low) >= 0:
        return low
    while low < beta_max:
        high = 1.01 * low
        if excess(high) >= 0:
            return brentq(excess, low, high, xtol=1e-14 * high, rtol=1e-14)
        low = high
    return np.inf


# -------------------------------------------------------------------- derivatives, p depends on Y


def softmax_free_energy(x, y, rho, beta, kappa, zeta, gamma, temperature, matrix=None):
    """F(Y) with the autonomy of eq. (72) evaluated at the same Y (section 4)."""
    p = dense_softmax(x, y, kappa, zeta, gamma, temperature, matrix)
    return free_energy(d_avg(p, distances(x, y, matrix)), rho, beta)


def softmax_hard_cost(x, y, rho, kappa, zeta, gamma, temperature, matrix=None):
    """D_hard(Y) with the autonomy of eq. (72) evaluated at the same Y (sections 1 and 4)."""
    p = dense_softmax(x, y, kappa, zeta, gamma, temperature, matrix)
    return hard_cost(d_avg(p, distances(x, y, matrix)), rho)


def softmax_gradient_given_policy(x, y, pi, rho, kappa, zeta, gamma, temperature, matrix=None):
    """Gradient in Y of sum_i rho_i sum_j pi_ij Dbar_ij(Y) with pi fixed and p = p(Y) (section 4).

    The frozen gradient plus sum C_ijk d log-weight_ijk, C_ijk = kappa rho_i pi_ij s_ijk
    (D_ik - Dhat_ij). d(y_j, y_k) moves with both of its ends, hence C + C^T below.
    """
    n, d = x.shape
    A = _metric(d, matrix)
    kappa = np.broadcast_to(np.asarray(kappa, dtype=float), (n,))
    D = distances(x, y, matrix)
    s = softmax_choice(x, y, zeta, gamma, temperature, matrix)
    p = dense_softmax(x, y, kappa, zeta, gamma, temperature, matrix)
    away_from_entities = y[None, :, :] - x[:, None, :]
    away_from_others = y[:, None, :] - y[None, :, :]

    frozen = 2 * np.einsum("ik,ikd->kd", effective_weights(p, pi, rho), away_from_entities) @ A
    dhat = d_avg(s, D)
    C = np.einsum("i,i,ij,ijk->ijk", kappa, rho, pi, s) * (D[:, None, :] - dhat[:, :, None])
    pairs = C.sum(axis=0)
    through_y = np.einsum("kj,kjd->kd", pairs + pairs.T, away_from_others)
    through_x = np.einsum("ijk,ikd->kd", C, away_from_entities)
    return frozen - (2 / temperature) * (zeta * through_y + gamma * through_x) @ A


def softmax_exact_gradient(x, y, rho, beta, kappa, zeta, gamma, temperature, matrix=None):
    """Exact dF/dY for eq. (72), p(Y) differentiated too (section 4).

    The policy minimises F over pi, so by the envelope theorem it may be held at its value.
    """
    p = dense_softmax(x, y, kappa, zeta, gamma, temperature, matrix)
    pi = np.exp(log_policy(d_avg(p, distances(x, y, matrix)), beta))
    return softmax_gradient_given_policy(x, y, pi, rho, kappa, zeta, gamma, temperature, matrix)


def softmax_exact_hessian(x, y, rho, beta, kappa, zeta, gamma, temperature, matrix=None, step=1e-4):
    """True Hessian of F for eq. (72), (Kd, Kd), from fourth-order differences of the gradient.

    Accurate to about ``step**4`` and 1e-15 / ``step`` in units of the problem; meant for use in
    `curvature`, not for tight comparisons.
    """
    hessian = np.zeros((y.size, y.size))
    for column in range(y.size):
        kick = np.zeros(y.size)
        kick[column] = step
        kick = kick.reshape(y.shape)
        plus1, minus1, plus2, minus2 = (
            softmax_exact_gradient(
                x, y + c * kick, rho, beta, kappa, zeta, gamma, temperature, matrix
            )
            for c in (1, -1, 2, -2)
        )
        hessian[:, column] = ((8 * (plus1 - minus1) - (plus2 - minus2)) / (12 * step)).ravel()
    return (hessian + hessian.T) / 2


# ----------------------------------------------------------------------------------- annealing


def anneal_reference(x, k, rho, p, betas, rng, noise=1e-3, tol=1e-10, max_iter=1000, matrix=None):
    """Simple reference annealing for fixed p: at every beta a noise kick, then T(Y) to convergence.

    Starts from eq. (2) with a uniform policy, which is right for every p (section 2, non-symmetric
    autonomy). ``noise`` and ``tol`` are relative to the total standard deviation of x.

    Returns:
        (y, path): final codevectors (K, d) and the codevectors of every level (len(betas), K, d).
    """
    mean = rho @ x
    scale = np.sqrt(rho @ ((x - mean) ** 2).sum(axis=1))
    w = effective_weights(p, np.full((len(x), k), 1 / k), rho)
    m = masses(w)
    y = np.stack([w[:, c] @ x / m[c] if m[c] > NO_MASS else mean for c in range(k)])
    path = []
    for beta in betas:
        y = y + noise * scale * rng.normal(size=y.shape)
        for _ in range(max_iter):
            new = update(x, y, p, rho, beta, matrix)
            moved = np.abs(new - y).max()
            y = new
            if moved <= tol * scale:
                break
        path.append(y)
    return y, np.array(path)


def anneal_softmax_frozen(
    x, k, rho, betas, rng, kappa, zeta, gamma, temperature, noise=1e-3, tol=1e-10, max_iter=300
):
    """Algorithm 1 as printed for eq. (72): p(Y) recomputed, then held fixed in each T(Y).

    Not a minimiser of F (section 4); it may cycle, so the number of sweeps is capped.
    """
    scale = np.sqrt(rho @ ((x - rho @ x) ** 2).sum(axis=1))
    y = np.tile(rho @ x, (k, 1))
    for beta in betas:
        y = y + noise * scale * rng.normal(size=y.shape)
        for _ in range(max_iter):
            p = dense_softmax(x, y, kappa, zeta, gamma, temperature)
            new = update(x, y, p, rho, beta)
            moved = np.abs(new - y).max()
            y = new
            if moved <= tol * scale:
                break
    return y


def anneal_softmax_exact(x, k, rho, betas, rng, kappa, zeta, gamma, temperature, noise=1e-3):
    """Annealed exact gradient for eq. (72): F(Y) minimised by L-BFGS at every beta (section 4)."""
    scale = np.sqrt(rho @ ((x - rho @ x) ** 2).sum(axis=1))
    y = np.tile(rho @ x, (k, 1))
    args = (kappa, zeta, gamma, temperature)
    for beta in betas:
        y = y + noise * scale * rng.normal(size=y.shape)
        y = _minimise(
            lambda v, b=beta: softmax_free_energy(x, v, rho, b, *args),
            lambda v, b=beta: softmax_exact_gradient(x, v, rho, b, *args),
            y,
        )
    return y


# ------------------------------------------------------------------------------- closed forms


def weighted_covariance(x, rho):
    """Cov_rho(X), normalised by the weights (section 2)."""
    _check_weights(rho)
    centred = x - rho @ x
    return (centred.T * rho) @ centred


def beta_cr_none(x, rho):
    """First transition without autonomy: 1 / (2 Lambda), for every K >= 2 (section 2)."""
    return 1 / (2 * np.linalg.eigvalsh(weighted_covariance(x, rho))[-1])


def beta_cr_uniform(x, rho, k, kappa):
    """First transition, uniform autonomy: 1 / (2 a^2 Lambda), a = 1 - kappa K/(K-1) (section 2).

    Infinite at a = 0, where every policy is equivalent.
    """
    a = uniform_contrast(k, kappa)
    return np.inf if abs(a) < 1e-12 else beta_cr_none(x, rho) / a**2


def beta_cr_matrix(x, rho, P):
    """First transition for an entity-independent p(k|j) = P_jk: 1 / (2 Lambda sigma^2) (section 2).

    Infinite where sigma = 0 (all rows of P equal).
    """
    sigma2 = autonomy_sigma2(P)
    return np.inf if sigma2 < 1e-24 else beta_cr_none(x, rho) / sigma2


def autonomy_sigma2(P):
    """sigma^2 = lambda_max(diag(c)^-1/2 (1/K) P^T Hc P diag(c)^-1/2), c = column means of P.

    Computed as a squared singular value, which keeps sigma = 0 clean to rounding squared.
    """
    P = np.asarray(P, dtype=float)
    c = P.mean(axis=0)
    seen = c > 0
    centred = (P - c)[:, seen] / np.sqrt(len(P) * c[seen])
    return np.linalg.norm(centred, ord=2) ** 2


def uniform_contrast(k, kappa):
    """Contrast a = 1 - kappa K/(K-1): P = a I + b 11^T with b = kappa/(K-1) (section 2)."""
    return 1 - kappa * k / (k - 1)


class TwoPoint(NamedTuple):
    """Closed-form state of the +-1 problem at one beta."""

    t: float
    free_energy: float
    spectral_radius: float
    dt_dbeta: float


def two_point(kappa, beta):
    """X = {-1, +1}, equal weights, K = 2, on the stable branch y = (-t, t), t >= 0 (section 2).

    With u = 2 |a| beta t the branch equation reads tanh(u) = u / c, c = 2 a^2 beta = beta/beta_cr.
    It has a positive root iff c > 1; tanh(u) > u (1 - u^2/3) brackets it from below. At c = 1
    dt/dbeta is infinite. For kappa > 1/2 (a < 0) prescriptions and codevectors are anti-aligned;
    the numbers depend on a^2 only.
    """
    a = abs(1 - 2 * kappa)
    c = 2 * a**2 * beta
    if c <= 1:
        u = 0.0
    else:
        floor = 0.9 * np.sqrt(3 * (1 - 1 / c))
        u = brentq(lambda v: np.tanh(v) - v / c, floor, c, xtol=1e-15, rtol=1e-15)
    t = a * np.tanh(u)
    log_2cosh = u + np.log1p(np.exp(-2 * u))
    sech2 = (2 * np.exp(-u) / (1 + np.exp(-2 * u))) ** 2
    radius = c * sech2
    if t > 0:
        slope = 2 * a**2 * t * sech2 / (1 - radius)
    else:
        slope = np.inf if c == 1 else 0.0
    return TwoPoint(t, 1 + t**2 - log_2cosh / beta, radius, slope)


def table1_ignored(kappa, s2_over_V, K=4):
    """Gap in PERCENT from ignoring uniform autonomy, well separated equal groups (section 4).

    (1-a)^2 / (s2/V + 1 - a^2), within-group variance s2 (trace), between-group variance V.
    """
    a = uniform_contrast(K, np.asarray(kappa, dtype=float))
    return 100 * (1 - a) ** 2 / (s2_over_V + 1 - a**2)


# ------------------------------------------------------------------ global optima by enumeration


class Optimum(NamedTuple):
    """Global optimum: hard cost, codevectors, prescribed cluster of every entity."""

    cost: float
    y: np.ndarray
    assignment: tuple


def canonical_assignments(n, k):
    """All assignments of n entities to at most k labels, one per relabelling class.

    Labels appear in increasing order of first use; enough when relabelling (Y, p) jointly leaves
    the cost unchanged, as for uniform autonomy and eq. (72).
    """

    def extend(prefix, used):
        if len(prefix) == n:
            yield tuple(prefix)
            return
        for label in range(min(used + 1, k)):
            yield from extend([*prefix, label], max(used, label + 1))

    yield from extend([], 0)


def enumerate_uniform(x, k, kappa, rho):
    """Global optimum of D_hard for uniform autonomy, by enumerating all assignments (O-D).

    For a fixed assignment the optimal Y is the weighted mean of section 1. ``x`` is (N, d) or (N,);
    ``y`` comes back as (K, d), row c belonging to label c of the assignment.
    """
    _check_weights(rho)
    x = _as_points(x)
    p = dense_uniform(len(x), k, kappa)
    best = Optimum(np.inf, None, None)
    for assignment in canonical_assignments(len(x), k):
        w = effective_weights(p, np.eye(k)[list(assignment)], rho)
        m = masses(w)
        # An unused label without autonomy has no mass: it costs nothing wherever it is.
        y = np.stack([w[:, c] @ x / m[c] if m[c] > NO_MASS else rho @ x for c in range(k)])
        cost = (w * distances(x, y)).sum()
        if cost < best.cost - 1e-14:
            best = Optimum(cost, y, assignment)
    return best


def enumerate_softmax_1d(x, k, rho, kappa, zeta, gamma, temperature, starts=6, seed=0):
    """Global optimum over Y and assignments for eq. (72) on the line, to about 1e-9 (O-F).

    For each assignment: local minimisation from its group means and from ``starts`` random draws of
    k data points (slightly moved, so that coincident codevectors can separate). The assignment
    returned is the best one for the Y found. ``x`` is (N,), ``y`` comes back as (K,).
    """
    _check_weights(rho)
    x = _as_points(x)
    rng = np.random.default_rng(seed)
    args = (kappa, zeta, gamma, temperature)
    spread = np.ptp(x)
    best = Optimum(np.inf, None, None)
    for assignment in canonical_assignments(len(x), k):
        labels = np.array(assignment)
        pi = np.eye(k)[labels]
        guesses = [_group_means(x, labels, k, rho)]
        guesses += [x[rng.integers(len(x), size=k)] for _ in range(starts)]
        for guess in guesses:
            y = _minimise(
                lambda v, pi=pi: _assigned_cost(x, v, pi, rho, *args),
                lambda v, pi=pi: softmax_gradient_given_policy(x, v, pi, rho, *args),
                guess + 0.02 * spread * rng.normal(size=(k, 1)),
            )
            cost = _assigned_cost(x, y, pi, rho, *args)
            if cost < best.cost:
                best = Optimum(cost, y[:, 0], assignment)
    return best


# ------------------------------------------------------------------------------------- helpers


def _metric(d, matrix):
    """The matrix of the squared distance, identity by default."""
    return np.eye(d) if matrix is None else np.asarray(matrix, dtype=float)


def _weights_at(x, y, p, rho, beta, matrix):
    """Effective weights under the Gibbs policy at Y."""
    pi = np.exp(log_policy(d_avg(p, distances(x, y, matrix)), beta))
    return effective_weights(p, pi, rho)


def _has_mass(mass):
    """Which rows of M belong to codevectors that receive anybody."""
    return np.diag(mass) > NO_MASS


def _check_weights(rho):
    """The formulas assume normalised weights; a silent factor would be hard to find."""
    if abs(np.sum(rho) - 1) > 1e-12 or np.min(rho) < 0:
        raise ValueError("rho must be non-negative and sum to one")


def _as_points(x):
    """(N,) or (N, d) data as a float (N, d) array."""
    x = np.asarray(x, dtype=float)
    return x[:, None] if x.ndim == 1 else x


def _group_means(x, labels, k, rho):
    """Weighted mean of every label, the global mean for labels nobody has."""
    means = np.tile(rho @ x, (k, 1))
    for c in range(k):
        if rho[labels == c].sum() > 0:
            means[c] = rho[labels == c] @ x[labels == c] / rho[labels == c].sum()
    return means


def _assigned_cost(x, y, pi, rho, kappa, zeta, gamma, temperature):
    """sum_i rho_i sum_j pi_ij Dbar_ij(Y) for eq. (72) and a given assignment."""
    p = dense_softmax(x, y, kappa, zeta, gamma, temperature)
    return rho @ (pi * d_avg(p, distances(x, y))).sum(axis=1)


def _minimise(value, gradient, y):
    """Local minimiser of a function of a (K, d) array, L-BFGS run to rounding."""
    result = minimize(
        lambda v: value(v.reshape(y.shape)),
        y.ravel(),
        jac=lambda v: gradient(v.reshape(y.shape)).ravel(),
        method="L-BFGS-B",
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 500},
    )
    return result.x.reshape(y.shape)
