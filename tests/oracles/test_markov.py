"""Aggregation of chains against closed forms, enumeration and autodiff."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import sparse

import mepjax as mj
from mepjax.problems.costs.mean import MeanCost
from mepjax.problems.mean_spectrum import divergence_of, mean_spectrum
from mepjax.select import marginal_return

KEY = jax.random.key(0)
COURTOIS = np.array(
    [
        [0.85, 0, 0.149, 0.0009, 0, 0.00005, 0, 0.00005],
        [0.1, 0.65, 0.249, 0, 0.0009, 0.00005, 0, 0.00005],
        [0.1, 0.8, 0.0996, 0.0003, 0, 0, 0.0001, 0],
        [0, 0.0004, 0, 0.7, 0.2995, 0, 0.0001, 0],
        [0.0005, 0, 0.0004, 0.399, 0.6, 0.0001, 0, 0],
        [0, 0.00005, 0, 0, 0.00005, 0.6, 0.2499, 0.15],
        [0.00003, 0, 0.00003, 0.00004, 0, 0.1, 0.8, 0.0999],
        [0, 0.00005, 0, 0, 0.00005, 0.1999, 0.25, 0.55],
    ]
)


def chain(n=10, seed=0, concentration=0.5):
    return np.random.default_rng(seed).dirichlet(np.full(n, concentration), size=n)


def stationary(p):
    values, vectors = np.linalg.eig(p.T)
    rho = np.real(vectors[:, np.argmax(np.real(values))])
    return rho / rho.sum()


def divergence(p, q):
    """KL(p || q), infinite where q has no place for p."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(p > 0, p * np.log(p / q), 0.0).sum()


def cost_of(p, rho, labels):
    total = 0.0
    for j in np.unique(labels):
        own = labels == j
        z = np.average(p[own], axis=0, weights=rho[own])
        total += sum(rho[i] * divergence(p[i], z) for i in np.flatnonzero(own))
    return total


def inertia(p, w):
    """Theorem 13 by its definition, w normalised."""
    z = w @ p
    kept = z > 0
    s = np.sqrt(w)[:, None] * (p - z)[:, kept] / np.sqrt(z[kept])
    return np.linalg.norm(s, 2) ** 2


def information(joint):
    left, right = joint.sum(1), joint.sum(0)
    kept = joint > 0
    return np.sum(joint[kept] * np.log((joint / np.outer(left, right))[kept]))


def partitions(n):
    """Restricted growth strings."""

    def grow(prefix, used):
        if len(prefix) == n:
            yield prefix
            return
        for label in range(used + 1):
            yield from grow((*prefix, label), max(used, label + 1))

    yield from grow((0,), 1)


def test_first_transition_is_where_the_curvature_vanishes():
    for p in (chain(8), COURTOIS):
        problem = mj.MarkovAggregation(p, 3)
        start, beta = problem.init(KEY), problem.beta_scale()
        np.testing.assert_allclose(beta, 1 / inertia(p, stationary(p)), rtol=1e-9)
        np.testing.assert_allclose(mj.curvature(problem, start, beta), 0, atol=1e-9)
        np.testing.assert_allclose(mj.critical_beta(problem, start, 0.9 * beta), beta, rtol=1e-9)


def test_two_states_and_a_reversible_chain_in_closed_form():
    a, b = 0.3, 0.15
    two = np.array([[1 - a, a], [b, 1 - b]])
    np.testing.assert_allclose(mj.MarkovAggregation(two, 2).beta_scale(), (1 - a - b) ** -2)
    weights = np.random.default_rng(0).uniform(size=(7, 7))
    walk = weights + weights.T
    walk = walk / walk.sum(1, keepdims=True)
    second = np.sort(np.abs(np.linalg.eigvals(walk)))[-2]
    np.testing.assert_allclose(mj.MarkovAggregation(walk, 2).beta_scale(), second**-2, rtol=1e-9)


def test_critical_temperatures_are_within_0_and_1():
    for seed in range(20):
        assert mj.MarkovAggregation(chain(6, seed, 0.1), 2).beta_scale() >= 1 - 1e-12
    decomposed = np.kron(np.eye(2), np.full((2, 2), 0.5))
    problem = mj.MarkovAggregation(decomposed, 2, weights=np.ones(4))
    np.testing.assert_allclose(problem.beta_scale(), 1)


def soft_solution(p, k=3, factor=20.0):
    problem = mj.MarkovAggregation(p, k)
    b = float(problem.beta_scale())
    solution = mj.anneal(problem, mj.Geometric(0.5 * b, factor * b, 1.15), key=KEY)
    assert int(solution.code) == 0
    return problem, solution


def test_the_soft_chain_keeps_the_stationary_distribution():
    problem, solution = soft_solution(chain())
    psi = problem.aggregated(solution.params, solution.beta)
    told = np.exp(problem.policy(solution.params, solution.beta)) * problem.weights[:, None]
    q = told.sum(0)
    np.testing.assert_allclose(psi.sum(1), 1, rtol=1e-12)
    np.testing.assert_allclose(q @ psi, q, atol=1e-10)
    np.testing.assert_allclose(solution.params.sum(1), 1, rtol=1e-12)


def test_what_is_lost_is_information():
    problem, solution = soft_solution(chain(), factor=500.0)
    hard, rho = problem.harden(solution.params), stationary(chain())
    np.testing.assert_allclose(hard.weights @ hard.transitions, hard.weights, rtol=1e-12)
    onehot = np.eye(3)[hard.assignments]
    joint = rho[:, None] * chain()
    lost = information(joint) - information(onehot.T @ joint)
    np.testing.assert_allclose(hard.information_loss, lost, rtol=1e-10)
    np.testing.assert_allclose(hard.cost, lost, rtol=1e-5)  # at beta = 500 b
    np.testing.assert_allclose(lost, cost_of(chain(), rho, np.array(hard.assignments)))
    rate = information(joint) - information(onehot.T @ joint @ onehot)
    np.testing.assert_allclose(hard.kl_rate, rate, rtol=1e-10)
    np.testing.assert_allclose(problem.information(), information(joint), rtol=1e-10)


def test_on_positive_rows_it_is_clustering_by_relative_entropy():
    p = chain(12, concentration=2.0)
    rho = stationary(p)
    one = mj.MarkovAggregation(p, 3)
    other = mj.Clustering(p, 3, weights=rho, cost="kullback_leibler")
    z = jnp.asarray(chain(12, 5, 2.0)[:3])

    @jax.jit
    def read(z):
        return [
            (q.free_energy(z, 5.0), q.residual(z, 5.0), q.slot_spectrum(z, 5.0))
            for q in (one, other)
        ]

    (energy, residual, spectrum), (energy_, residual_, spectrum_) = read(z)
    np.testing.assert_allclose(energy, energy_, rtol=1e-12)
    np.testing.assert_allclose(residual, residual_, rtol=1e-9)
    for name in ("critical_beta", "gain", "removal", "mass"):
        first, second = getattr(spectrum, name), getattr(spectrum_, name)
        np.testing.assert_allclose(first, second, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("cost", ["sqeuclidean", "itakura_saito", "kullback_leibler"])
def test_twins_split_where_the_spectrum_of_any_mean_cost_says(cost):
    """Against the autodiff Hessian of a slot and a twin of it, other slots present."""
    x = np.random.default_rng(0).uniform(1, 3, size=(30, 2))
    x[:15, 0] += 4
    problem = mj.Clustering(x, 2, cost=cost)
    beta = jnp.asarray(30.0)
    y = problem.init(KEY).at[0].set(x[:15].mean(0)).at[1].set(x[15:].mean(0))
    y = jax.jit(lambda y: jax.lax.fori_loop(0, 500, lambda _, y: problem.update(y, beta), y))(y)
    own, mean_cost = y - problem.origin, problem.cost
    assert isinstance(mean_cost, MeanCost)
    policy = jnp.exp(problem.policy(y, beta))
    shares = problem.weights / problem.weights.sum()
    spectrum = mean_spectrum(
        divergence_of(mean_cost, jnp.asarray(x - problem.origin)),
        own,
        shares[:, None] * policy,
        shares,
        beta,
    )
    metric = jnp.diag(problem.metric(y, beta).mv(jnp.ones_like(y)).ravel())
    for slot in range(2):
        # At fixed policy: mass Hess - beta sum_i told g g^T loses definiteness at critical beta.
        g = jax.vmap(
            jax.grad(lambda c, e: problem.cost.pairwise(e[None], c[None])[0, 0]), (None, 0)
        )(own[slot], x - problem.origin)
        told = shares * policy[:, slot]
        block = metric[2 * slot : 2 * slot + 2, 2 * slot : 2 * slot + 2]
        h = block - spectrum.critical_beta[slot] * (told[:, None] * g).T @ g
        half = np.linalg.inv(np.linalg.cholesky(block))
        scaled = np.linalg.eigvalsh(half @ h @ half.T)
        np.testing.assert_allclose(scaled[0], 0, atol=1e-6)


@pytest.mark.slow
def test_growth_and_repair_come_with_other_mean_costs():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(1, 1.2, (20, 2)) * scale for scale in (1.0, 3.0, 9.0)])
    problem = mj.Clustering(x, 3, cost="itakura_saito")
    solution = mj.anneal(problem, key=KEY, detector=mj.Growth(), repair=mj.Repair())
    labels = np.asarray(problem.harden(solution.params).assignments).reshape(3, 20)
    assert all(len(set(row)) == 1 for row in labels) and len(set(labels[:, 0])) == 3


@pytest.fixture(scope="module")
def courtois():
    """Of each size the best partition, by exhaustion."""
    rho = stationary(COURTOIS)
    best = {}
    for labels in map(np.array, partitions(8)):
        k = labels.max() + 1
        cost = cost_of(COURTOIS, rho, labels)
        if k not in best or cost < best[k][0]:
            best[k] = (cost, labels)
    return rho, best


def test_courtois_by_exhaustion(courtois):
    rho, best = courtois
    np.testing.assert_allclose(
        rho, [0.089283, 0.092758, 0.040488, 0.158533, 0.118938, 0.120385, 0.277795, 0.101819],
        atol=1e-6,
    )  # fmt: skip
    np.testing.assert_allclose(mj.MarkovAggregation(COURTOIS, 3).weights, rho, rtol=1e-9)
    costs = [best[k][0] for k in range(1, 8)]
    expected = [1.239334, 0.547201, 0.206536, 0.119936, 0.040103, 0.015079, 0.002263]
    np.testing.assert_allclose(costs, expected, atol=1e-6)
    tables = {k: best[k][1] for k in range(1, 8)}
    report = marginal_return(COURTOIS, tables, mass=False)
    expected = [0.999600, 0.997129, 0.622841, 0.304343, 0.214556, 0.091281, 0.030614]
    np.testing.assert_allclose(report.critical, expected, atol=2e-6)
    by_mass = marginal_return(COURTOIS, {k: tables[k] for k in range(1, 5)})
    np.testing.assert_allclose(by_mass.returns[1:], [0.696, 1.187, 0.000], atol=1e-3)
    assert by_mass.best == 3
    # Without partitions it finds them.
    own = marginal_return(COURTOIS)
    np.testing.assert_allclose(own.critical, by_mass.critical, rtol=1e-6)


def test_anneal_of_courtois_finds_the_best_three(courtois):
    _, best = courtois
    problem = mj.MarkovAggregation(COURTOIS, 3)
    solution = mj.anneal(problem, key=KEY, detector=mj.Growth(), repair=mj.Repair())
    assert int(solution.code) == 0
    np.testing.assert_allclose(
        problem.harden(solution.params).information_loss, best[3][0], rtol=1e-9
    )


def test_sparse_chains_are_the_dense_ones():
    dense, z = mj.MarkovAggregation(COURTOIS, 3), jnp.asarray(chain(8)[:3])
    thin = mj.MarkovAggregation(sparse.BCOO.fromdense(jnp.asarray(COURTOIS), nse=60), 3)
    assert dense.rows.shape == thin.rows.shape == (8, 8)
    np.testing.assert_allclose(thin.free_energy(z, 4.0), dense.free_energy(z, 4.0), rtol=1e-12)
    np.testing.assert_allclose(thin.residual(z, 4.0), dense.residual(z, 4.0), atol=1e-12)
    np.testing.assert_allclose(thin.beta_scale(), dense.beta_scale(), rtol=1e-9)
    np.testing.assert_array_equal(thin.harden(z).assignments, dense.harden(z).assignments)
    np.testing.assert_allclose(thin.harden(z).cost, dense.harden(z).cost, rtol=1e-12)


def test_returns_of_many_states_by_theorem_13_dense_and_sparse():
    """Above 256 rows by products alone, of the stored entries where they are few."""
    rng = np.random.default_rng(0)
    n = 260
    kept = rng.uniform(size=(n, n)) < 0.1
    p = np.where(kept | np.eye(n, dtype=bool), rng.uniform(size=(n, n)), 0.0)
    p[:130, :130] *= 4
    p[130:, 130:] *= 4
    p /= p.sum(1, keepdims=True)
    weights = rng.uniform(0.5, 1.5, n)
    labels = {1: np.zeros(n, int), 2: np.arange(n) // 130}
    expected = []
    for row in labels.values():
        shares = weights / weights.sum()
        groups = [shares[row == j] for j in range(row.max() + 1)]
        found = [w.sum() * inertia(p[row == j], w / w.sum()) for j, w in enumerate(groups)]
        expected.append((max(found), int(np.argmax(found))))
    for rows in (p, sparse.BCOO.fromdense(jnp.asarray(p), nse=int((p > 0).sum()) + 5)):
        report = marginal_return(rows, labels, weights=weights)
        np.testing.assert_allclose(report.critical, [e[0] for e in expected], rtol=1e-6)
        np.testing.assert_array_equal(report.culprit, [e[1] for e in expected])


def test_gradient_through_the_stationary_distribution():
    change = chain(6, 3) - chain(6)

    def cost(step):
        problem = mj.MarkovAggregation(jnp.asarray(chain(6)) + step * change, 2)
        return mj.anneal(problem, mj.Explicit([3.0, 6.0]), key=KEY).free_energy

    exact = jax.jit(jax.grad(cost))(0.0)
    run = jax.jit(cost)
    fine = (run(1e-6) - run(-1e-6)) / 2e-6
    np.testing.assert_allclose(exact, fine, rtol=1e-6)


def coupled(eps, dtype=np.float32):
    """Two parts of two states, left at eps and 3 eps: the first weighs 3/4."""
    inside = np.kron(np.eye(2), [[0.5, 0.5], [0.2, 0.8]])
    across = np.kron([[-1, 1], [3, -3]], np.full((2, 2), 0.5))
    return (inside + eps * across).astype(dtype)


def test_stationary_weights_have_all_digits_however_weak_the_coupling():
    weights = jax.jit(lambda p: mj.MarkovAggregation(p, 2).weights)
    slope = jax.jit(jax.grad(lambda q, p: mj.MarkovAggregation(p * q, 2).weights[:2].sum()))
    out = np.where(np.kron([[0, 1], [0, 0]], np.ones((2, 2))) > 0, 1.0, 0.0)
    for eps in (1e-2, 1e-7, 1e-12):
        p = coupled(eps)
        for found in (weights(p), mj.MarkovAggregation(p, 2).weights):
            assert found.dtype == np.float32
            np.testing.assert_allclose(np.asarray(found, float).reshape(2, 2).sum(1), [0.75, 0.25],
                                       rtol=1e-6)  # fmt: skip
        # a / (a + b) by the rate b at which the first part is left: the derivative by log b.
        d = slope(jnp.ones((4, 4), np.float32), p)
        np.testing.assert_allclose(np.sum(out * d), -0.75 * 0.25, rtol=1e-5)


@pytest.mark.parametrize("n", [7, 140])
def test_stationary_weights_of_many_states(n):
    p = chain(n, concentration=0.2)
    rho = mj.MarkovAggregation(p, 2).weights
    np.testing.assert_allclose(rho @ p, rho, rtol=1e-12)
    np.testing.assert_allclose(rho, stationary(p), rtol=1e-9)


def test_second_derivatives_of_stationary_weights():
    change, reward = chain(6, 3) - chain(6), np.arange(6.0)

    def mean(step):
        return mj.MarkovAggregation(chain(6) + step * change, 2).weights @ reward

    run, h = jax.jit(mean), 1e-4
    fine = (run(h) - 2 * run(0.0) + run(-h)) / h**2
    np.testing.assert_allclose(jax.jit(jax.grad(jax.grad(mean)))(0.0), fine, rtol=1e-5)


def test_nearly_decomposable_chains():
    for seed, eps in itertools.product(range(2), (0.1, 0.5)):
        rng = np.random.default_rng(seed)
        # Of the shape of Courtois' chain, whose program serves again.
        part = np.array([0, 0, 0, 1, 1, 1, 2, 2])
        blocks = (part[:, None] == part) * rng.uniform(size=(8, 8))
        p = blocks / blocks.sum(1, keepdims=True)
        noise = rng.uniform(size=(8, 8))
        p = (1 - eps) * p + eps * noise / noise.sum(1, keepdims=True)
        problem = mj.MarkovAggregation(p, 3)
        solution = mj.anneal(problem, key=KEY, detector=mj.Growth(), repair=mj.Repair())
        labels = np.asarray(problem.harden(solution.params).assignments)
        assert len(set(zip(part.tolist(), labels.tolist(), strict=True))) == 3 == len(set(labels))


@pytest.mark.parametrize(
    ("transitions", "options", "message"),
    [
        ([[0.5, 0.4], [0.5, 0.5]], {}, "row 0 is off by -0.1"),
        ([[1.5, -0.5], [0.5, 0.5]], {}, "`transitions` must be >= 0; got -0.5"),
        ([[np.nan, 1.0], [0.5, 0.5]], {}, "`transitions` must be finite"),
        (np.kron(np.eye(2), np.full((2, 2), 0.5)), {}, "got 2: states 0, 1; states 2, 3"),
        (np.full((2, 3), 1 / 3), {}, "'stationary' needs a chain"),
        (np.full((2, 2), 0.5), {"k": 3}, "at most the number of rows, 2; got 3"),
        (np.full((2, 2), 0.5), {"k": 0}, "`k` must be at least 1"),
        (np.full((2, 2), 0.5), {"weights": [1.0]}, "`weights` must have shape"),
        (np.full((2, 2), 0.5), {"weights": [0.0, 0.0]}, "must not all be zero"),
        (np.full((2, 2), 0.5), {"weights": "uniform"}, "must be 'stationary' or an array"),
        (np.ones(3), {}, "must be 2-D"),
    ],
)
def test_bad_input_is_named(transitions, options, message):
    with pytest.raises(ValueError, match=message):
        mj.MarkovAggregation(transitions, **({"k": 2} | options))


def test_states_left_for_ever_weigh_nothing():
    p = np.array([[0.5, 0.25, 0.25], [0, 0.5, 0.5], [0, 0.2, 0.8]])
    weights = mj.MarkovAggregation(p, 2).weights
    np.testing.assert_allclose(weights, [0, 2 / 7, 5 / 7], rtol=1e-12)


def test_bad_rows_that_are_traced_become_a_code():
    solve = jax.jit(
        lambda p: mj.anneal(
            mj.MarkovAggregation(p, 2, weights=jnp.ones(3)), mj.Explicit([1.0]), key=KEY
        )
    )
    solution = solve(jnp.asarray(np.full((3, 3), 0.5)))
    with pytest.raises(ValueError, match="must sum to one"):
        solution.raise_if_failed()


def test_traced_chains_of_several_closed_classes_become_a_code():
    weights = jax.jit(lambda p: mj.MarkovAggregation(p, 2).weights)
    solve = jax.jit(lambda p: mj.anneal(mj.MarkovAggregation(p, 2), mj.Explicit([1.0]), key=KEY))
    parts = [
        np.kron(np.diag([1.0, 0.0]), chain(4, seed))
        + np.kron(np.diag([0.0, 1.0]), chain(4, seed + 9))
        for seed in range(3)
    ]
    for p in parts:
        assert np.all(np.isnan(weights(p)))
    with pytest.raises(ValueError, match="must have one closed class"):
        solve(parts[-1]).raise_if_failed()
    # A cycle takes the longest way round; a chain that ends in one class has but this one.
    cycle = np.roll(np.eye(8), 1, axis=1)
    np.testing.assert_allclose(weights(cycle), np.full(8, 1 / 8), rtol=1e-9)
    line = np.eye(8, k=1)
    line[-1, -1] = 1
    np.testing.assert_allclose(weights(line), np.eye(8)[-1], atol=1e-12)


def test_another_chain_has_its_own_stationary_weights():
    one, other = mj.MarkovAggregation(chain(6), 2), mj.MarkovAggregation(chain(6, 3), 2)
    np.testing.assert_array_equal(one.replace(transitions=chain(6, 3)).weights, other.weights)
    given = mj.MarkovAggregation(chain(6), 2, weights=np.arange(1.0, 7.0))
    np.testing.assert_array_equal(given.replace(transitions=chain(6, 3)).weights, given.weights)
    assert one.replace(k=3).k == 3
    with pytest.raises(TypeError, match="there is no `rows`; expected one of k, transitions"):
        one.replace(rows=chain(6, 3))


def test_states_that_nothing_reaches_move_nothing_else():
    """With exact zeros in z the Jacobian of the residual is symmetric, as a Hessian is."""
    problem = mj.MarkovAggregation(COURTOIS, 2)
    z = jnp.asarray(COURTOIS[:2])
    jacobian = jax.jit(jax.jacobian(lambda z: problem.residual(z, 3.0)))
    matrix = np.asarray(jacobian(z)).reshape(16, 16)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-8 * np.abs(matrix).max())
