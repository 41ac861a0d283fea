"""Costs against plain NumPy and SciPy: values, derivatives, M-steps, first transitions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.problems.costs import weighted_sum
from mepjax.problems.costs.entities import WeightedEntities

from ..jitted import jitted
from ..registry.clustering import PseudoHuber, map_place, positive
from . import costs_numpy as oracle

N, K, D = 30, 3, 2
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, D)) + [1.0, 0.5]
Y = RNG.normal(size=(K, D)) + [1.0, 0.5]
WEIGHTS = RNG.uniform(0.5, 1.5, N)
RHO = WEIGHTS / WEIGHTS.sum()
SHARES = RNG.dirichlet(np.ones(K), size=N) * RHO[:, None]
RADIUS, SMOOTHING = 60.0, 0.3

same = lambda points: points  # noqa: E731
# mepjax's cost, the same in NumPy, and what brings points into its domain.
COSTS: dict[str, tuple[Any, Any, Any]] = {
    "euclidean": (
        mj.costs.Euclidean(SMOOTHING),
        lambda x, y: oracle.euclidean(x, y, SMOOTHING),
        same,
    ),
    "euclidean without smoothing": (mj.costs.Euclidean(0.0), oracle.euclidean, same),
    "manhattan": (mj.costs.Manhattan(), oracle.manhattan, same),
    "kullback-leibler": (mj.costs.KullbackLeibler(), oracle.kullback_leibler, positive),
    "itakura-saito": (mj.costs.ItakuraSaito(), oracle.itakura_saito, positive),
    "bregman": (
        mj.costs.Bregman(lambda z: jnp.sum(z**2 + z**4 / 12)),
        oracle.quartic_bregman,
        same,
    ),
    "great-circle": (
        mj.costs.GreatCircle(RADIUS, SMOOTHING),
        lambda x, y: oracle.great_circle(x, y, RADIUS, SMOOTHING),
        map_place,
    ),
    "cosine": (mj.costs.Cosine(), oracle.cosine, same),
    "function": (
        mj.costs.CostFunction(PseudoHuber(0.5), block=8),
        lambda x, y: oracle.pseudo_huber(x, y, 0.5),
        same,
    ),
}
SMOOTH = [name for name in COSTS if name != "manhattan"]
# Each compiles for seconds; the default run takes those that differ most.
QUICK = ["euclidean", "manhattan", "kullback-leibler"]
EACH = [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in COSTS]
INEXACT = ["euclidean", "euclidean without smoothing", "great-circle", "function"]


def weighted(weights, x) -> WeightedEntities:
    return WeightedEntities(jnp.asarray(weights), jnp.asarray(x))


def table(d, x, y):
    return np.stack([d(x, centre) for centre in y], axis=1)


def sums(d, weights, x, y):
    return (weights * table(d, x, y)).sum(axis=0)


def problem_of(name, **options):
    cost, _, place = COSTS[name]
    return mj.Clustering(place(X), K, weights=WEIGHTS, cost=cost, **options)


# Values and derivatives.


@pytest.mark.parametrize("name", COSTS)
def test_values_and_free_energy_equal_the_oracle(name):
    _, d, place = COSTS[name]
    problem, x, y = problem_of(name), place(X), place(Y)
    np.testing.assert_allclose(problem.distances(y), table(d, x, y), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        jitted.free_energy(problem, jnp.asarray(y), 1.7),
        oracle.free_energy(d, x, y, RHO, 1.7),
        rtol=1e-10,
    )


@pytest.mark.parametrize("name", ["kullback-leibler", "itakura-saito", "euclidean", "cosine"])
def test_many_features_equal_the_oracle(name):
    # Above four features pairs are compared by a matrix product.
    cost, d, place = COSTS[name]
    rng = np.random.default_rng(1)
    x, y = place(rng.normal(size=(12, 7)) + 3), place(rng.normal(size=(4, 7)) + 3)
    own, centres = jnp.asarray(x), jnp.asarray(y)
    np.testing.assert_allclose(cost.pairwise(own, centres), table(d, x, y), rtol=1e-9)
    slope = jax.grad(lambda y: jnp.sum(cost.pairwise(own, y)))(centres)
    expected = [oracle.gradient(lambda z: d(x, z).sum(), centre) for centre in y]
    np.testing.assert_allclose(slope, expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", SMOOTH)
def test_residual_is_the_gradient_of_f(name):
    _, d, place = COSTS[name]
    x, y = place(X), place(Y)

    def energy(flat):
        return oracle.free_energy(d, x, flat.reshape(K, D), RHO, 1.7)

    expected = oracle.gradient(energy, y.ravel(), 1e-3).reshape(K, D)
    np.testing.assert_allclose(
        jitted.residual(problem_of(name), jnp.asarray(y), 1.7), expected, rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("name", ["euclidean", "great-circle", "function"])
def test_hessians_of_weighted_sums_equal_the_oracle(name):
    cost, d, place = COSTS[name]
    x, y = place(X), place(X[:K]) + 0.4
    metric = cost.metric(weighted(SHARES, x), jnp.asarray(y))
    for k in range(K):
        block = oracle.hessian(lambda z, k=k: (SHARES[:, k] * d(x, z)).sum(), y[k])
        values, vectors = np.linalg.eigh(block)
        block = (vectors * np.abs(values)) @ vectors.T
        for direction in np.eye(D):
            got = metric.mv(jnp.zeros((K, D)).at[k].set(direction))[k]
            np.testing.assert_allclose(got, block @ direction, rtol=1e-5, atol=1e-8)


# M-steps.


@pytest.mark.parametrize("name", SMOOTH)
def test_minimisers_of_weighted_sums_equal_scipy(name):
    cost, d, place = COSTS[name]
    x = place(X)
    got = np.asarray(eqx.filter_jit(cost.minimise)(weighted(SHARES, x)))
    for k in range(K):
        if name == "cosine":
            chart = lambda t: np.concatenate([np.cos(t), np.sin(t)])  # noqa: E731
            start = [np.arctan2(*got[k][::-1]) + 0.1]
            expected = chart(oracle.minimiser(d, x, SHARES[:, k], start, chart))
        else:
            expected = oracle.minimiser(d, x, SHARES[:, k], got[k] + 0.05)
        np.testing.assert_allclose(got[k], expected, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", EACH)
def test_steps_never_raise_the_weighted_sums(name):
    cost, d, place = COSTS[name]
    step = eqx.filter_jit(cost.step)
    rng = np.random.default_rng(2)
    x = place(X)
    for trial in range(40):
        # Half of the starts lie on entities, some far from all of them.
        y = place(3 * rng.normal(size=(K, D))) if trial % 2 else x[rng.integers(N, size=K)]
        weights = rng.dirichlet(0.3 * np.ones(K), size=N) * RHO[:, None]
        new = np.asarray(step(weighted(weights, x), jnp.asarray(y)))
        assert (sums(d, weights, x, new) <= sums(d, weights, x, y) * (1 + 1e-13) + 1e-15).all()


@pytest.mark.parametrize("name", EACH)
def test_a_centre_without_mass_stays(name):
    cost, _, place = COSTS[name]
    x, y = jnp.asarray(place(X)), jnp.asarray(place(Y))
    if name == "cosine":
        y = y / jnp.linalg.norm(y, axis=1, keepdims=True)
    weights = jnp.asarray(SHARES).at[:, 1].set(0.0)
    np.testing.assert_allclose(cost.step(weighted(weights, x), y)[1], y[1], rtol=1e-15)


def test_medians_are_where_no_other_entity_is_better():
    cost = mj.costs.Manhattan()
    y = np.asarray(cost.step(weighted(SHARES, X), jnp.asarray(Y)))
    for k in range(K):
        for f in range(D):
            got = (SHARES[:, k] * np.abs(X[:, f] - y[k, f])).sum()
            best = oracle.weighted_median_sum(X[:, f], SHARES[:, k])
            assert got == pytest.approx(best, rel=1e-12)
    # Between two equal halves the middle; entities of no weight do not count.
    column = jnp.array([[0.0], [1.0], [3.0], [2.0]])
    weights = jnp.array([[1.0], [1.0], [2.0], [0.0]])
    middle = cost.step(weighted(weights, column), jnp.zeros((1, 1)))
    assert float(middle[0, 0]) == 2.0


def test_bregman_centres_are_weighted_means():
    for name in ("kullback-leibler", "itakura-saito", "bregman"):
        cost, _, place = COSTS[name]
        x = place(X)
        means = SHARES.T @ x / SHARES.sum(axis=0)[:, None]
        np.testing.assert_allclose(
            cost.step(weighted(SHARES, x), jnp.asarray(means + 1)),
            means,
            rtol=1e-13,
        )


def test_cosine_centres_are_directions_of_sums_of_unit_vectors():
    units = X / np.linalg.norm(X, axis=1, keepdims=True)
    expected = SHARES.T @ units
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(
        mj.costs.Cosine().step(weighted(SHARES, 7 * X), jnp.asarray(Y)),
        expected,
        rtol=1e-12,
    )
    opposite = jnp.array([[1.0, 0.0], [-1.0, 0.0]])
    stays = mj.costs.Cosine().step(
        weighted(np.full((2, 1), 0.5), opposite), jnp.array([[0.0, 1.0]])
    )
    np.testing.assert_allclose(stays, [[0.0, 1.0]])


# Where centre and entity coincide.


@pytest.mark.parametrize("name", EACH)
def test_derivatives_at_coincident_points_are_finite(name):
    cost, _, place = COSTS[name]
    x = jnp.asarray(place(X))
    total = lambda y: jnp.sum(cost.pairwise(x, y))  # noqa: E731
    assert np.isfinite(jax.grad(total)(x[:K])).all()
    assert np.isfinite(jax.hessian(total)(x[:K])).all()
    slope = jax.grad(lambda y: cost.pairwise(x[:1], y)[0, 0])(x[:1])
    np.testing.assert_allclose(slope, 0, atol=1e-12)


def test_without_smoothing_weiszfeld_stays_on_a_heavy_entity_and_leaves_a_light_one():
    # Vardi and Zhang: an entity is the median where its weight is at least the pull of the others.
    x = jnp.array([[0.0, 0.0], [4.0, 0.0], [0.0, 3.0], [1.0, 1.0]])
    cost = mj.costs.Euclidean(0.0)
    pull = np.linalg.norm([1 + 0.5**0.5, 1 + 0.5**0.5])
    for heavy in (1.001 * pull, 0.999 * pull):
        weights = jnp.array([heavy, 1.0, 1.0, 1.0])[:, None]
        new = cost.step(weighted(weights, x), x[:1])
        assert bool(jnp.all(new == x[:1])) == (heavy > pull)


@pytest.mark.parametrize("smoothing", [None, 0.1])
def test_centres_split_off_an_entity_that_is_the_median(smoothing):
    # The geometric median of this cross is its middle point: smoothing lets centres leave it.
    x = np.array([[0.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    weights = np.array([1.0, 1.0, 1.0, 0.5, 0.5])
    problem = mj.Clustering(x, 3, weights=weights, cost=mj.costs.Euclidean(smoothing))
    solution = mj.anneal(problem, mj.Geometric(0.5, 2e3, 1.2), key=jax.random.key(0))
    assert int(solution.code) == Code.OK
    assert int(solution.n_transitions) >= 1
    if smoothing:
        # The best three centres: the ends of the long bar, and the middle.
        assert float(solution.transitions[0]) < 10
        hard = oracle.euclidean(x[:, None], np.asarray(solution.params)[None]).min(axis=1)
        assert weights @ hard / weights.sum() == pytest.approx(0.125, abs=1e-3)


def test_a_centre_between_two_equal_entities_settles():
    # Every point between them is a median, so the weighted sum is flat that way.
    x = jnp.array([[0.0, 0.0], [1.0, 0.5]])
    problem = mj.Clustering(x, 1, cost="euclidean")
    solution = mj.anneal(problem, mj.Explicit([1.0]), key=jax.random.key(0), init=x[:1] + 0.1)
    assert int(solution.code) == Code.OK
    assert int(solution.trace.steps[0]) < 50
    assert np.abs(jitted.residual(problem, solution.params, 1.0)).max() < 1e-9


# The first transition.


@pytest.mark.parametrize(
    "name",
    # Curvatures take long to compile; most of these costs are under contract as well.
    [pytest.param(n, marks=pytest.mark.slow) for n in SMOOTH],
)
def test_first_transition_is_where_curvature_changes_sign(name):
    _, d, place = COSTS[name]
    problem, x = problem_of(name), place(X)
    if name == "cosine":
        chart = lambda t: np.concatenate([np.cos(t), np.sin(t)])  # noqa: E731
        expected = oracle.first_transition(d, x, RHO, [0.4], chart)
    else:
        expected = oracle.first_transition(d, x, RHO, RHO @ x)
    np.testing.assert_allclose(problem.beta_scale(), expected, rtol=1e-6)
    start = problem.init(jax.random.key(0))
    np.testing.assert_allclose(
        mj.critical_beta(problem, start, 0.5 * expected), expected, rtol=1e-6
    )
    for factor, sign in ((0.99, 1), (1.01, -1)):
        assert sign * float(mj.curvature(problem, start, factor * expected)) > 1e-3


def test_first_transition_of_squared_distances_is_half_the_inverse_variance():
    as_function = mj.costs.CostFunction(lambda x, y: jnp.sum((x - y) ** 2))
    largest = np.linalg.eigvalsh(np.cov(X.T, aweights=RHO, ddof=0))[-1]
    for cost in ("sqeuclidean", as_function, mj.costs.Bregman(lambda z: jnp.sum(z**2))):
        problem = mj.Clustering(X, K, weights=WEIGHTS, cost=cost)
        np.testing.assert_allclose(problem.beta_scale(), 0.5 / largest, rtol=1e-10)


def test_squared_distance_as_a_function_solves_alike():
    schedule = mj.Geometric(0.3, 8.0, 1.25)
    plain = mj.Clustering(X, K, weights=WEIGHTS)
    general = mj.Clustering(X, K, weights=WEIGHTS, cost=lambda x, y: jnp.sum((x - y) ** 2))
    y = jnp.asarray(Y)
    np.testing.assert_allclose(
        jitted.update(general, y, 1.7), jitted.update(plain, y, 1.7), rtol=1e-10
    )
    watch = {"key": jax.random.key(1), "detector": mj.Detector()}
    a, b = (mj.anneal(q, schedule, **watch) for q in (plain, general))
    np.testing.assert_allclose(a.params, b.params, atol=1e-8)
    np.testing.assert_allclose(a.transitions, b.transitions, rtol=1e-8)


def test_concave_parts_of_a_function_are_descended_too():
    # Far from the data this cost is concave; a plain Newton step would run away.
    def saturating(x, y):
        return 1 - jnp.exp(-jnp.sum((x - y) ** 2))

    cost = mj.costs.CostFunction(saturating)
    x, y = jnp.zeros((1, 2)), jnp.array([[1.5, 0.0], [0.0, 1.1]])
    weights, step = jnp.full((1, 2), 0.5), eqx.filter_jit(cost.step)
    for _ in range(30):
        new = step(weighted(weights, x), y)
        assert (cost.pairwise(x, new) <= cost.pairwise(x, y) + 1e-15).all()
        y = new
    np.testing.assert_allclose(y, 0, atol=1e-8)


# Great circles.


def test_known_distances_on_earth():
    cost = mj.costs.GreatCircle(smoothing=0.0)
    # Airport to airport, on a sphere of 6371.0088 km: JFK-LHR and across the 180 degree meridian.
    jfk, lhr = jnp.array([[-73.7781, 40.6413]]), jnp.array([[-0.4543, 51.4700]])
    assert float(cost.pairwise(jfk, lhr)[0, 0]) == pytest.approx(5540, abs=2)
    east, west = jnp.array([[179.5, 0.0]]), jnp.array([[-179.5, 0.0]])
    assert float(cost.pairwise(east, west)[0, 0]) == pytest.approx(np.radians(1) * 6371.0088)
    pole, antipode = jnp.array([[10.0, 90.0]]), jnp.array([[-100.0, -90.0]])
    assert float(cost.pairwise(pole, antipode)[0, 0]) == pytest.approx(np.pi * 6371.0088, rel=1e-6)


def test_near_points_keep_their_digits_in_float32():
    cost = mj.costs.GreatCircle(smoothing=0.0)
    x = np.array([[-0.1276, 51.5072]], np.float32)
    y = x + np.array([[2e-4, 1e-4], [0.02, 0.0], [0.0, 1.0]], np.float32)
    expected = table(
        lambda a, b: oracle.great_circle(a, b, 6371.0088), x.astype(float), y.astype(float)
    )
    with jax.enable_x64(False):
        low = mj.costs.GreatCircle(jnp.float32(6371.0088), smoothing=jnp.float32(0.0))
        np.testing.assert_allclose(
            low.pairwise(jnp.asarray(x), jnp.asarray(y)), expected, rtol=2e-6
        )
    np.testing.assert_allclose(
        cost.pairwise(jnp.asarray(x, float), jnp.asarray(y, float)), expected, rtol=1e-7
    )


@pytest.mark.slow
def test_weiszfeld_steps_on_the_sphere_do_not_see_longitudes():
    # Turning everything about the axis turns the step along; at a pole too.
    rng = np.random.default_rng(8)
    cost = mj.costs.GreatCircle(1.0, 1e-3)
    x = np.stack([rng.uniform(-180, 180, 9), rng.uniform(70, 90, 9)], axis=1)
    weights = jnp.asarray(rng.uniform(size=(9, 3)))
    y = np.array([[20.0, 80.0], [-170.0, 89.999], [0.0, 90.0]])
    new = np.asarray(cost.step(weighted(weights, x), jnp.asarray(y)))
    for turn in (35.0, 180.0, -359.0):
        turned = cost.step(weighted(weights, x + [turn, 0]), jnp.asarray(y + [turn, 0]))
        np.testing.assert_allclose(
            oracle.on_sphere(np.asarray(turned)), oracle.on_sphere(new + [turn, 0]), atol=1e-12
        )
    best = [oracle.minimiser(lambda a, b: oracle.great_circle(a, b, 1.0, 1e-3), x,
                             np.asarray(weights)[:, k], [0.0, 85.0]) for k in range(3)]  # fmt: skip
    got = eqx.filter_jit(cost.minimise)(weighted(weights, x))
    np.testing.assert_allclose(
        oracle.on_sphere(np.asarray(got)), oracle.on_sphere(np.array(best)), atol=1e-7
    )


@pytest.mark.slow
def test_clusters_across_the_180_degree_meridian_are_found():
    rng = np.random.default_rng(4)
    fiji, samoa = np.array([178.5, -18.0]), np.array([-172.0, -13.7])
    x = np.concatenate([fiji + rng.normal(size=(20, 2)), samoa + rng.normal(size=(20, 2))])
    x = np.asarray(mj.costs.GreatCircle.wrap(x))
    assert (x[:20, 0] < 0).any()
    problem = mj.Clustering(x, 2, cost="haversine")
    b = float(problem.beta_scale())
    solution = mj.anneal(problem, mj.Geometric(0.5 * b, 1e3 * b, 1.2), key=jax.random.key(0))
    assert int(solution.code) == Code.OK
    assignments = np.asarray(problem.harden(solution.params).assignments)
    assert len(set(assignments[:20])) == len(set(assignments[20:])) == 1
    centres = np.asarray(mj.costs.GreatCircle.wrap(solution.params))
    distances = table(
        lambda a, b: oracle.great_circle(a, b, 6371.0), np.stack([fiji, samoa]), centres
    )
    assert distances.min(axis=1).max() < 60


# Costs without second derivatives.


def test_manhattan_says_that_curvature_and_gradients_are_not_defined():
    problem = mj.Clustering(X, K, weights=WEIGHTS, cost="l1")
    schedule = mj.Geometric(0.5, 100.0, 1.25)

    def solve(x):
        moved = eqx.tree_at(lambda q: q.x, problem, x)
        return mj.anneal(moved, schedule, key=jax.random.key(0))

    solution = solve(jnp.asarray(X)).raise_if_failed()
    assert int(solution.code) == Code.NOT_DEFINED
    assert np.isnan(solution.trace.curvature).all()
    assert np.isnan(mj.curvature(problem, solution.params, 1.0))
    assert len(np.unique(np.asarray(solution.params).round(6), axis=0)) == K
    np.testing.assert_allclose(
        jitted.update(problem, solution.params, solution.beta), solution.params
    )
    slope = jax.grad(lambda x: jnp.sum(solve(x).params ** 2))(jnp.asarray(X))
    np.testing.assert_array_equal(slope, 0)
    # The optimal free energy has a derivative all the same: that with centres held.
    through = jax.grad(lambda x: solve(x).free_energy)(jnp.asarray(X))
    held = mj.gradients(problem, solution.params, solution.beta).x
    np.testing.assert_allclose(through, held, atol=1e-12)
    with pytest.raises(ValueError, match="without second derivatives does not show"):
        mj.anneal(problem, mj.CriticalJump(0.5, 10.0), key=jax.random.key(0))


# Autonomy works with any cost.


@pytest.mark.parametrize(
    "name",
    ["euclidean"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("great-circle", "function", "kullback-leibler")
    ],
)
def test_autonomy_weights_reach_the_step(name):
    cost, d, place = COSTS[name]
    x, y = place(X), place(Y)
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.05, 0.15, 0.8]])
    problem = problem_of(name, autonomy=mj.autonomy.Matrix(p))
    mean = table(d, x, y) @ p.T
    policy = np.exp(-1.7 * (mean - mean.min(axis=1, keepdims=True)))
    policy /= policy.sum(axis=1, keepdims=True)
    weights = RHO[:, None] * (policy @ p)
    np.testing.assert_allclose(problem.association_weights(jnp.asarray(y), 1.7), weights, rtol=1e-9)
    np.testing.assert_allclose(
        jitted.update(problem, jnp.asarray(y), 1.7),
        cost.step(weighted(weights, x), jnp.asarray(y)),
        rtol=1e-9,
    )


def test_weighted_sums_are_differentiated_without_pairs_of_features():
    x, y = jnp.zeros((1000, 5)), jnp.ones((8, 5))
    cost = mj.costs.Euclidean(0.1)
    text = str(jax.make_jaxpr(lambda w: weighted_sum.hessians(cost, WeightedEntities(w, x), y))(
        jnp.ones((1000, 8))
    ))  # fmt: skip
    assert "[1000,8]" in text or "[5,1000,8]" in text
    assert "[1000,8,5" not in text
