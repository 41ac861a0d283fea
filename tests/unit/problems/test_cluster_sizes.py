from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax._core.params import primal_of

from ...jitted import jitted

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 2))
Y = RNG.normal(size=(3, 2))
SHARES = np.array([0.5, 0.3, 0.2])
SCHEDULE = mj.Explicit([0.4, 1.0, 2.5])


def build(capacity: Any = SHARES, x: Any = X, k: int = 3, **options: Any) -> mj.Clustering:
    return mj.Clustering(x, k, capacity=capacity, **options)


@pytest.mark.parametrize(
    ("capacity", "error", "sentence"),
    [
        ([0.5, 0.5], ValueError, r"`capacity` must have shape \(3,\); got \(2,\)"),
        (0.5, ValueError, r"`capacity` must have shape \(3,\); got \(\)"),
        ([0.2, 0.2, 0.2], ValueError, r"`capacity` must have a sum of at least 1.*; got 0\.6"),
        (mj.Equal([0.5, 0.5, 0.5]), ValueError, r"given as Equal must have the sum 1.*; got 1\.5"),
        (mj.Equal([0.3, 0.3, 0.3]), ValueError, r"given as Equal must have the sum 1.*; got 0\.9"),
        ([1.5, -0.5, 0.5], ValueError, r"`capacity` must be >= 0; got -0\.5"),
        ([np.nan, 1, 1], ValueError, r"`capacity` must be >= 0; got nan"),
        ("wide", TypeError, "`capacity` must be an array of real numbers"),
        (np.ones(3, np.float32), TypeError, "`capacity` has dtype float32 but the data have"),
    ],
)
def test_bad_capacities_are_named(capacity, error, sentence):
    with pytest.raises(error, match=sentence):
        build(capacity)


def test_lanes_that_cannot_be_met_say_so_and_leave_the_others_alone():
    base = build(mj.Equal(SHARES))

    def run(limit):
        problem = eqx.tree_at(lambda q: q.capacity.limit, base, limit)
        return mj.anneal(problem, SCHEDULE, key=KEY, detector=mj.NoDetector())

    limits = jnp.array([SHARES, [0.4, 0.3, 0.2], [1.2, -0.2, 0.0]])
    lanes_of = jax.jit(jax.vmap(run))
    lanes = lanes_of(limits)
    assert list(lanes.code) == [Code.OK, Code.INFEASIBLE, Code.INVALID_INPUT]
    with pytest.raises(ValueError, match=r"`capacity` given as Equal must have the sum 1.*got 0.9"):
        jax.tree.map(lambda leaf: leaf[1], lanes).raise_if_failed()
    good = lanes_of(limits[np.zeros(3, int)])
    np.testing.assert_array_equal(good.code, Code.OK)
    np.testing.assert_allclose(lanes.params.primal[0], good.params.primal[0], atol=1e-8)
    np.testing.assert_allclose(lanes.params.dual[0], good.params.dual[0], atol=1e-8)


def test_params_are_bare_without_a_capacity_and_values_undo_at():
    free, bounded = build(None), build()
    assert free.at(Y) is Y
    params = bounded.at(Y)
    assert isinstance(params, mj.Params)
    np.testing.assert_array_equal(primal_of(params), Y)
    np.testing.assert_array_equal(params.dual, 0)
    with pytest.raises(ValueError, match=r"`centres` must have shape \(3, 2\); got \(2, 2\)"):
        bounded.at(Y[:2])
    assert free.has_slot_spectrum and free.exchangeable
    assert not bounded.has_slot_spectrum and not bounded.exchangeable
    assert bounded.scatter(KEY).primal.shape == (3, 2)


def test_slack_bounds_change_nothing():
    free, bounded = build(None), build(np.array([1.0, 1.0, np.inf]))
    params = jitted.eliminate(bounded, bounded.at(Y), 2.0)
    np.testing.assert_array_equal(params.dual, 0)
    np.testing.assert_allclose(
        jitted.update(bounded, params, 2.0).primal, jitted.update(free, Y, 2.0), rtol=1e-12
    )
    np.testing.assert_allclose(
        jitted.free_energy(bounded, params, 2.0), jitted.free_energy(free, Y, 2.0)
    )
    ignoring = bounded.harden(params)
    np.testing.assert_array_equal(ignoring.assignments, free.harden(Y).assignments)
    np.testing.assert_array_equal(ignoring.excess, 0)
    assert free.harden(Y).excess is None


def test_a_bound_that_is_met_exactly_without_a_price_is_flagged():
    told = np.exp(build(None).policy(Y, 2.0)).mean(axis=0)
    problem = build(np.array([told[0], 1.0, 1.0]))
    assert (
        int(jitted.constraint_code(problem, jitted.eliminate(problem, problem.at(Y), 2.0), 2.0))
        == Code.WEAKLY_ACTIVE
    )
    roomy = build(np.array([told[0] + 0.01, 1.0, 1.0]))
    assert (
        int(jitted.constraint_code(roomy, jitted.eliminate(roomy, roomy.at(Y), 2.0), 2.0))
        == Code.OK
    )
    assert int(jitted.constraint_code(problem, problem.at(Y), 2.0)) == Code.WEAKLY_ACTIVE
    tight = build(np.array([told[0] - 0.1, 1.0, 1.0]))
    # Prices that were not solved miss the capacity.
    assert int(jitted.constraint_code(tight, tight.at(Y), 2.0)) == Code.INFEASIBLE


def test_the_price_is_the_derivative_of_free_energy():
    limits = jnp.array([[0.2, 0.9, 0.9], [0.3, 0.4, 0.35]])

    def energy(limit):
        problem = build(limit)
        params = jitted.eliminate(problem, problem.at(jnp.asarray(Y)), 2.0)
        return jitted.free_energy(problem, params, 2.0), params.dual

    run = jax.jit(jax.vmap(jax.value_and_grad(energy, has_aux=True)))
    (_, prices), slopes = run(limits)
    # A wider capacity saves its price.
    np.testing.assert_allclose(slopes, -prices, atol=1e-8)
    step = 1e-5
    for j in range(3):
        (up, _), _ = run(limits.at[:, j].add(step))
        (down, _), _ = run(limits.at[:, j].add(-step))
        np.testing.assert_allclose((up - down) / (2 * step), slopes[:, j], atol=1e-7)


def test_settled_prices_have_derivatives():
    problem = build(mj.Equal(SHARES))

    @jax.jit
    def price(y):
        prices = jitted.eliminate(problem, problem.at(y), 2.0).dual
        return prices[0] - prices[1]

    change = RNG.normal(size=Y.shape)
    got = jnp.sum(jax.grad(price)(jnp.asarray(Y)) * change)
    step = 1e-5
    expected = (price(Y + step * change) - price(Y - step * change)) / (2 * step)
    np.testing.assert_allclose(got, expected, rtol=1e-6)


@pytest.mark.parametrize("equality", [True, False])
def test_gauge_is_declared_only_where_every_limit_is_met(equality):
    limit = mj.Equal(SHARES) if equality else SHARES + 0.1
    problem = build(limit)
    params = jitted.eliminate(problem, problem.at(Y), 2.0)
    row = problem.gauge(params)
    np.testing.assert_array_equal(row.dual, np.full((1, 3), float(equality)))
    if equality:
        moved = jax.tree.map(lambda p, r: p + 0.7 * r[0], params, row)
        np.testing.assert_allclose(
            jitted.free_energy(problem, moved, 2.0),
            jitted.free_energy(problem, params, 2.0),
            rtol=1e-12,
        )
    # Bounds without room are equalities.
    np.testing.assert_array_equal(build(SHARES).gauge(None).dual, 1.0)


@pytest.mark.parametrize("autonomy", ["none", "uniform"])
@pytest.mark.parametrize("d", [2, 6])
def test_blocks_equal_the_plain_form(autonomy, d, monkeypatch):
    n, k = 2700, 30
    x, weights = RNG.normal(size=(n, d)) + 3, RNG.uniform(0.1, 1.0, size=n)
    model = None if autonomy == "none" else mj.autonomy.Uniform(np.linspace(0.0, 0.6, n))
    limit = RNG.dirichlet(np.full(k, 5.0)) * 1.02
    limit[3] = 0.0
    problem = build(limit / min(limit.sum(), 1.0), x, k, weights=weights, autonomy=model)
    assert problem._in_blocks

    def settled(problem):
        return problem.eliminate(problem.at(problem.x[:k] + 0.01), 3.0)

    def functions(problem, params):
        terms = problem.terms(params, 3.0)
        gradient = eqx.filter_grad(lambda p: p[0].free_energy(p[1], 3.0))((problem, params))
        moved = problem._moved(params, 3.0)
        metric = problem.metric(params, 3.0).mv(moved)
        step = problem.precondition(params, 3.0, moved)
        rest = (problem.residual(params, 3.0), gradient, terms, metric, step, moved)
        return [leaf for leaf in jax.tree.leaves(rest) if eqx.is_inexact_array(leaf)]

    # Programs of their own for each form, whose first call traces them.
    own = lambda function: eqx.filter_jit(lambda *args: function(*args))  # noqa: E731
    params = own(settled)(problem)
    assert int(jitted.constraint_code(problem, params, 3.0)) == Code.OK
    # Off the solution, where nothing compared is zero but for rounding.
    moved = eqx.tree_at(lambda p: p.dual, params, 1.1 * params.dual + 0.01)
    got = own(functions)(problem, moved)
    monkeypatch.setattr(mj.Clustering, "is_soft_means", property(lambda self: False))
    np.testing.assert_allclose(own(settled)(problem).dual, params.dual, atol=1e-9)
    for blocked, plain in zip(got, own(functions)(problem, moved), strict=True):
        scale = 1e-300 + np.max(np.abs(plain))
        np.testing.assert_allclose(blocked / scale, plain / scale, atol=1e-10)


@pytest.mark.parametrize("limit", [mj.Equal(SHARES), np.array([0.6, 0.0, 0.7])])
def test_hardening_in_blocks_is_that_in_memory(limit):
    problem = build(limit, autonomy=mj.autonomy.Uniform(np.linspace(0.0, 0.6, 12)))
    moved, params = problem.on(mj.Streaming(block=5)), problem.at(Y)
    got, expected = moved.harden(params), problem.harden(params)
    np.testing.assert_array_equal(got.assignments, expected.assignments)
    np.testing.assert_allclose(got.cost, expected.cost, rtol=1e-14)
    np.testing.assert_allclose(np.asarray(got.excess), np.asarray(expected.excess), atol=1e-14)
    # An entity for each row, but never a cluster for each column.
    assert "[12,3]" in str(jax.make_jaxpr(problem.harden)(params))
    program = str(jax.make_jaxpr(moved.harden)(params))
    assert "[5,3]" in program and "[12,3]" not in program


def test_a_million_entities_are_not_laid_out_by_cluster():
    x = jax.ShapeDtypeStruct((10**6, 16), jnp.float32)

    def step(x, y, prices):
        problem = build(mj.Equal(np.full(8, 1 / 8, np.float32)), x, 8)
        params = mj.Params(y, prices)
        new = jitted.update(problem, params, 3.0)
        return (
            new,
            problem.residual(new, 3.0),
            problem.terms(new, 3.0),
            jitted.constraint_code(problem, new, 3.0),
        )

    with jax.enable_x64(False):
        centres = jax.ShapeDtypeStruct((8, 16), jnp.float32)
        prices = jax.ShapeDtypeStruct((8,), jnp.float32)
        program = str(jax.make_jaxpr(step)(x, centres, prices))
    assert "1000000,8]" not in program and "8,1000000]" not in program


def test_odd_weights_and_coincident_points_have_an_answer():
    x = np.repeat(X[:2], 6, axis=0)
    weights = np.where(np.arange(12) % 3 == 0, 0.0, 1.0)
    problem = build(mj.Equal(SHARES), x, weights=weights)
    solution = mj.anneal(problem, mj.Geometric(0.2, 50.0, 1.5), key=KEY)
    assert int(solution.code) in (Code.OK, Code.NEAR_CRITICAL)
    told = np.asarray(problem._shares()) @ np.exp(jitted.policy(problem, solution.params, 50.0))
    np.testing.assert_allclose(told, SHARES, atol=1e-8)


def test_a_closed_cluster_is_empty_and_its_centre_stays():
    problem = build(np.array([0.6, 0.0, 0.7]))
    solution = mj.anneal(problem, SCHEDULE, key=KEY).raise_if_failed()
    assert np.isneginf(jitted.policy(problem, solution.params, 2.5)[:, 1]).all()
    assert not (problem.harden(solution.params).assignments == 1).any()
    gradient = jax.grad(
        lambda b: mj.anneal(problem, mj.Explicit(jnp.stack([0.4, 1.0, b])), key=KEY).distortion
    )(2.5)
    assert np.isfinite(gradient)


def test_harden_refuses_what_it_cannot_do():
    problem = build()
    with pytest.raises(ValueError, match="must be 'ignore' or 'assign'; got 'meet'"):
        problem.harden(problem.at(Y), capacities="meet")
    with pytest.raises(TypeError, match="solves a transport on the host"):
        jax.jit(lambda y: problem.harden(problem.at(y), capacities="assign").cost)(Y)


def test_sizes_are_rounded_down_and_the_largest_remainders_up():
    for limit, sizes in (
        (mj.Equal(np.array([0.45, 0.35, 0.2])), [5, 4, 3]),  # of 5.4, 4.2 and 2.4
        (np.array([1 / 3, 1 / 3, 1 / 3]), [4, 4, 4]),
    ):
        problem = build(limit)
        hard = problem.harden(Y, capacities="assign")
        if isinstance(limit, mj.Equal):
            assert sorted(np.bincount(hard.assignments)) in ([3, 4, 5], [2, 4, 6])
        assert np.abs(np.asarray(hard.excess)).max() < 1 / 12
        assert np.bincount(hard.assignments).sum() == sum(sizes)


def test_evaluate_takes_params_of_either_kind():
    problem = build(mj.Equal(SHARES))
    params = jitted.eliminate(problem, problem.at(Y), 2.0)
    np.testing.assert_array_equal(problem.evaluate(params).cost, problem.evaluate(Y).cost)


@pytest.mark.slow
def test_frozen_curvature_sees_the_prices():
    autonomy = mj.autonomy.Softmax(0.3, 1.0, 0.4, 0.6)
    problem = build(mj.Equal(SHARES), autonomy=autonomy, stationarity="frozen")
    params = jitted.eliminate(problem, problem.at(Y), 0.5)
    update = jax.jit(lambda params: jitted.update(problem, params, 0.5))
    for _ in range(100):
        params = update(params)

    def primal(y):
        settled = jitted.eliminate(problem, problem.at(y.reshape(3, 2)), 0.5)
        return jitted.update(problem, settled, 0.5).primal.ravel()

    jacobian = jax.jit(jax.jacfwd(primal))(params.primal.ravel())
    expected = 1 - np.linalg.eigvals(jacobian).real.max()
    np.testing.assert_allclose(mj.curvature(problem, params, 0.5), expected, rtol=1e-6)


def test_an_unlimited_cluster_takes_what_is_left():
    x = np.array([[0.0], [0.1], [0.2], [5.0]])
    problem = mj.Clustering(x, 3, capacity=np.array([np.inf, 0.25, np.inf]))
    params = problem.at(np.array([[5.0], [0.1], [3.0]]))
    hard = problem.harden(params, capacities="assign")
    assert np.sum(hard.assignments == 1) == 1
    np.testing.assert_array_equal(hard.excess, 0.0)


@pytest.mark.slow
def test_many_small_capacities_are_met_in_float32():
    k = 64
    x = np.random.default_rng(0).normal(size=(640, 3)).astype(np.float32)
    with jax.enable_x64(False):
        problem = mj.Clustering(x, k, capacity=mj.Equal(np.full(k, 1 / k, np.float32)))
        start = problem.scatter(jax.random.key(0))
        schedule, quiet = mj.Explicit([5.0, 20.0]), mj.NoDetector(noise=0.0)
        options = {"key": jax.random.key(1), "init": start, "detector": quiet}
        solution = mj.anneal(problem, schedule, **options).raise_if_failed()
        told = jnp.exp(jitted.policy(problem, solution.params, solution.beta)).mean(axis=0)
    np.testing.assert_allclose(told, 1 / k, rtol=4e-3)
