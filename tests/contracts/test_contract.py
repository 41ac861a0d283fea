"""Architecture section 9: what every problem in tests/registry.py must satisfy."""

import functools
import itertools
import logging
from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mepjax as mj
from mepjax import Code

from ..registry import ROWS, D, K, N, Row, points

KEY_SEED = 3
SCHEDULE = (0.2, 8.0, 1.25)
# One static length for nearly all anneals, so that each row compiles them once.
MAX_STAGES = 64

# Each anneal compiles for several seconds, so the default run takes the rows that differ most, and
# CI a few more; the rest are run before a release.
DEFAULT = {"none", "uniform"}
SLOW = {
    "dense", "softmax-entity", "softmax-frozen", "paths", "paths-masked", "paths-shares",
    "euclidean", "great-circle", "clustering-shares",
}  # fmt: skip
# Odd input meets the same code in most rows.
ODD_ROWS = {"uniform", "softmax-frozen", "great-circle"}


def each_anneal(rows: list[Row], slow: set[str]) -> Any:
    def mark(row: Row) -> Any:
        if row.name in DEFAULT:
            return []
        return pytest.mark.slow if row.name in slow else pytest.mark.exhaustive

    marks = [mark(row) for row in rows]
    return pytest.mark.parametrize(
        "row",
        [pytest.param(row, marks=mark) for row, mark in zip(rows, marks, strict=True)],
        ids=[row.name for row in rows],
    )


anneals = each_anneal(ROWS, SLOW)
odd_anneals = each_anneal(ROWS, ODD_ROWS)
# A free energy without second derivatives is exempt from items 3 and 5.
SMOOTH = [row for row in ROWS if row.code != Code.NOT_DEFINED]
smooth_anneals = each_anneal(SMOOTH, SLOW)


def key(seed: int = KEY_SEED):
    return jax.random.key(seed)


@functools.cache
def problem_of(row: Row) -> Any:
    with jax.enable_x64(True):
        return row.build(*points())


@functools.cache
def solved(row: Row) -> mj.Solution:
    with jax.enable_x64(True):
        return solve(problem_of(row))


def geometric(beta_min=SCHEDULE[0], beta_max=SCHEDULE[1], factor=SCHEDULE[2]) -> mj.Geometric:
    return mj.Geometric(beta_min, beta_max, factor, max_stages=MAX_STAGES)


def solve(problem, seed: int = KEY_SEED, schedule: mj.Geometric | None = None):
    return mj.anneal(problem, schedule or geometric(), key=key(seed))


def random_params(row: Row, problem: Any, seed: int, beta: Any) -> Any:
    values = row.place(np.random.default_rng(seed).normal(size=(K, D)) + 0.8)
    return _settle(problem, problem.at(jnp.asarray(values)), beta)


@eqx.filter_jit
def _settle(problem, params, beta):
    return problem.settle(params, beta)


def values(params: Any) -> Any:
    """What is placed: params less prices, where there are any."""
    return getattr(params, "locations", getattr(params, "centres", params))


def assert_same(got: Any, expected: Any, **tolerance: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), got, expected)


# 1. Transformations.


@anneals
def test_eager_equals_jit_and_seeds_reproduce(row):
    problem = problem_of(row)
    eager = solved(row)
    jitted = eqx.filter_jit(lambda q, b: solve(q, schedule=geometric(beta_max=b)))(
        problem, jnp.asarray(SCHEDULE[1])
    )
    assert int(eager.code) == int(jitted.code) == row.code
    assert_same(eager.params, jitted.params, rtol=1e-9, atol=1e-9)
    assert_same(solve(problem).params, eager.params, rtol=0)


@anneals
def test_functions_equal_without_jit(row):
    problem, params = problem_of(row), solved(row).params
    with jax.disable_jit():
        plain = problem.free_energy(params, 2.0), problem.update(params, 2.0)
    compiled = eqx.filter_jit(lambda q, p: (q.free_energy(p, 2.0), q.update(p, 2.0)))(
        problem, params
    )
    assert_same(plain, compiled, rtol=1e-12, atol=1e-12)


@anneals
def test_vmap_equals_loop(row):
    base = problem_of(row)
    shifts = jnp.asarray([0.0, 0.03])
    betas = jnp.asarray([6.0, 8.0])
    keys = jax.random.split(jax.random.key(5), 2)

    def run(shift, key, beta_max):
        problem = eqx.tree_at(row.data, base, row.data(base) * (1 + shift))
        solution = mj.anneal(problem, geometric(beta_max=beta_max), key=key)
        return solution.params, solution.code, solution.free_energy, solution.n_stages

    batched = jax.jit(jax.vmap(run))(shifts, keys, betas)
    for lane in range(2):
        single = run(shifts[lane], keys[lane], betas[lane])
        assert_same(jax.tree.map(lambda a, i=lane: a[i], batched), single, rtol=1e-7, atol=1e-7)


@anneals
def test_second_call_compiles_nothing_and_traces_are_few(row, caplog):
    problem = problem_of(row)
    traces = itertools.count()

    class Counting(type(problem)):
        def update(self, params, beta):
            next(traces)
            return super().update(params, beta)

    counting: Any = object.__new__(Counting)
    for name, value in vars(problem).items():
        object.__setattr__(counting, name, value)
    schedule = mj.Explicit([0.5, 1.0])
    mj.anneal(counting, schedule, key=key())
    first = next(traces)
    assert 1 <= first <= 4
    moved = eqx.tree_at(row.data, counting, row.data(counting) + 0.1)
    with jax.log_compiles(True), caplog.at_level(logging.WARNING):
        caplog.clear()
        mj.anneal(moved, mj.Explicit([0.6, 1.1]), key=key(4))
        compiled = [r.getMessage() for r in caplog.records if "anneal" in r.getMessage()]
    assert next(traces) == first + 1
    assert not compiled


# 2. Policies and the free energy.


@eqx.filter_jit
def _evaluate(problem, params, beta):
    return (
        problem.policy(params, beta),
        problem.terms(params, beta),
        problem.free_energy(params, beta),
        problem.harden(params).cost,
    )


@anneals
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), log_beta=st.floats(-4, 8))
def test_policy_rows_sum_to_one_and_f_is_d_minus_h_over_beta(row, seed, log_beta):
    problem = problem_of(row)
    beta = float(np.exp(log_beta))
    params = random_params(row, problem, seed, beta)
    log_policy, terms, energy, hard = _evaluate(problem, params, jnp.asarray(beta))
    paid, size = 0.0, 1.0
    if terms.constraints is not None:
        parts = jax.tree.map(lambda price, gap: price * gap, params.prices, terms.constraints)
        paid = sum(float(part.sum()) for part in jax.tree.leaves(parts))
        size = max(float(abs(price).max()) for price in jax.tree.leaves(params.prices))
    # Costs of paths, of order ten and prices included, are rounded before beta multiplies them.
    rounding = 1e-12 + 64 * np.finfo(float).eps * beta * size
    np.testing.assert_allclose(jax.nn.logsumexp(log_policy, axis=-1), 0, atol=rounding)
    np.testing.assert_allclose(
        energy, terms.distortion - terms.entropy / beta + paid, rtol=1e-9, atol=1e-12 * size
    )
    assert hard <= terms.distortion + 1e-12 * size
    if terms.constraints is not None:
        return  # hard decisions leave capacities out
    assert energy <= hard + 1e-12
    assert hard - energy <= row.log_choices / beta + 1e-12


@anneals
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**31), log_beta=st.floats(-4, 8))
def test_inner_loop_never_raises_f(row, seed, log_beta):
    problem = problem_of(row)
    if not problem.variational:
        pytest.skip("frozen stationarity does not descend on F")
    beta = jnp.asarray(np.exp(log_beta))
    params = random_params(row, problem, seed, beta)
    if row.monotone:
        new = _update(problem, params, beta)
    else:
        solver = problem.default_solver()
        new, _, _ = _one_step(solver, problem, params, beta)
    before, after = problem.free_energy(params, beta), problem.free_energy(new, beta)
    assert after <= before + 1e-13 * max(1.0, abs(before))
    if row.monotone and row.degree == 2:
        # At fixed weights F is a quadratic of curvature `metric` whose minimiser is `new`.
        slope = values(problem.residual(params, beta))
        gain = 0.5 * jnp.sum(slope * problem.precondition(params, beta, slope))
        assert before - after >= gain - 1e-12 * max(1.0, abs(before))


@eqx.filter_jit
def _update(problem, params, beta):
    return problem.update(params, beta)


@eqx.filter_jit
def _one_step(solver, problem, params, beta):
    return solver.step(problem, params, beta, solver.init(problem, params, beta))


# 3. Solutions and gradients.


@smooth_anneals
def test_solution_makes_residual_zero(row):
    problem, solution = problem_of(row), solved(row)
    assert int(solution.code) == Code.OK
    steps = np.asarray(solution.trace.steps)[: int(solution.n_stages)]
    assert (steps > 0).all()
    residual = problem.residual(solution.params, solution.beta)
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(residual)) < 1e-9
    assert float(solution.beta) == SCHEDULE[1]
    terms = problem.terms(solution.params, solution.beta)
    np.testing.assert_allclose(solution.distortion, terms.distortion, rtol=1e-12)
    np.testing.assert_allclose(solution.entropy, terms.entropy, rtol=1e-12)


def readout(solution, weights):
    return jnp.sum(jnp.sin(values(solution.params)) * weights) + solution.distortion


@smooth_anneals
def test_gradients_match_finite_differences_in_both_modes(row):
    problem = problem_of(row)
    rng = np.random.default_rng(11)
    weights = jnp.asarray(rng.normal(size=(K, D)))

    def value(pair):
        problem, beta_max = pair
        return readout(solve(problem, schedule=geometric(beta_max=beta_max)), weights)

    pair = problem, jnp.asarray(SCHEDULE[1])
    evaluate = eqx.filter_jit(value)
    reverse, reverse_beta = eqx.filter_jit(eqx.filter_grad(value))(pair)
    forward = eqx.filter_jit(lambda p, t: eqx.filter_jvp(value, (p,), (t,))[1])
    still = jax.tree.map(jnp.zeros_like, eqx.filter(pair, eqx.is_inexact_array))
    step = 1e-5

    for name, get in row.arrays.items():
        array = np.asarray(get(problem))
        change = row.project(name, rng.normal(size=array.shape))
        inside = functools.partial(lambda get, p: get(p[0]), get)
        moved = [
            eqx.tree_at(inside, pair, jnp.asarray(array + sign * step * change)) for sign in (1, -1)
        ]
        expected = (evaluate(moved[0]) - evaluate(moved[1])) / (2 * step)
        got = jnp.sum(get(reverse) * change)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-9, err_msg=name)
        tangent = eqx.tree_at(inside, still, jnp.asarray(change))
        np.testing.assert_allclose(forward(pair, tangent), got, rtol=1e-7, atol=1e-11, err_msg=name)

    moved = [(problem, pair[1] + sign * step) for sign in (1, -1)]
    expected = (evaluate(moved[0]) - evaluate(moved[1])) / (2 * step)
    np.testing.assert_allclose(reverse_beta, expected, rtol=1e-5, atol=1e-9)


@smooth_anneals
def test_implicit_equals_unrolled(row):
    problem = problem_of(row)
    weights = jnp.asarray(np.random.default_rng(2).normal(size=(K, D)))

    def gradient(adjoint):
        def loss(problem):
            solution = mj.anneal(problem, geometric(), key=key(), adjoint=adjoint)
            return readout(solution, weights)

        return eqx.filter_jit(eqx.filter_grad(loss))(problem)

    implicit = gradient(mj.Implicit())
    unrolled = gradient(mj.Unroll(steps=400, damping=row.damping))
    for name, get in row.arrays.items():
        np.testing.assert_allclose(get(unrolled), get(implicit), rtol=1e-6, atol=1e-8, err_msg=name)


@smooth_anneals
def test_near_a_transition_the_code_says_so(row):
    problem = problem_of(row)
    critical = float(mj.critical_beta(problem, problem.init(key()), 1e-3))
    if not np.isfinite(critical) or not row.rests:
        pytest.skip("no fixed point at which the transition is exact")
    # The start is stationary for every beta here, so only the curvature can tell.
    solution = solve(problem, schedule=geometric(0.5 * critical, critical * (1 - 1e-9), 1.5))
    assert int(solution.code) == Code.NEAR_CRITICAL
    solution.raise_if_failed()


@smooth_anneals
def test_failing_code_gives_nan_gradient_per_lane(row):
    problem = problem_of(row)
    kind: Any = type(problem.default_solver())
    solver = kind(max_steps=2)

    def loss(x, beta_max):
        moved = eqx.tree_at(row.data, problem, x)
        solution = mj.anneal(moved, geometric(beta_max=beta_max), key=key(), solver=solver)
        return jnp.sum(values(solution.params) ** 2), solution.code

    lanes = jnp.asarray([SCHEDULE[0], 3.0])
    (value, code), gradient = jax.jit(
        jax.vmap(jax.value_and_grad(loss, has_aux=True), in_axes=(None, 0))
    )(row.data(problem), lanes)
    assert np.isfinite(value).all()
    assert int(code[1]) == Code.MAX_STEPS
    assert np.isnan(gradient[1]).all()
    if int(code[0]) == Code.OK:
        assert np.isfinite(gradient[0]).all()


# 4. Limits.


@anneals
def test_small_beta_gives_the_known_minimiser(row):
    problem = problem_of(row)
    convex = problem.convex_at_zero if row.convex_at_zero is None else row.convex_at_zero
    if not convex:
        pytest.skip("not convex as beta -> 0")
    start = problem.init(key())
    solution = solve(problem, schedule=geometric(1e-6, 1e-6))
    np.testing.assert_allclose(values(solution.params), values(start), atol=1e-5)
    if problem.smooth:
        at_rest = solution.params if row.capacities else start
        assert float(mj.curvature(problem, at_rest, 1e-6)) == pytest.approx(1.0, abs=1e-4)
    # It is the minimiser: no random displacement lowers F.
    rng = np.random.default_rng(0)
    energy = problem.free_energy(solution.params, 1e-6)
    for _ in range(5):
        moved = values(solution.params) + 0.05 * rng.normal(size=values(start).shape)
        moved = problem.settle(problem.at(moved), 1e-6)
        assert problem.free_energy(moved, 1e-6) >= energy - 1e-9 * max(1, abs(energy))


@anneals
def test_large_beta_gives_a_fixed_point_of_the_hard_update(row):
    problem = problem_of(row)
    # Prices of what is scarce balance differences of 1 / beta, which rounding hides at larger ones.
    beta_max = 4e3 if row.capacities else 4e4
    solution = solve(problem, schedule=geometric(0.2, beta_max, 1.5))
    assert int(solution.code) in (row.code, Code.NEAR_CRITICAL)
    if row.capacities:
        # Hard decisions leave capacities out, and soft ones share what is scarce at any beta.
        np.testing.assert_allclose(solution.free_energy, solution.distortion, rtol=1e-3)
        assert problem.harden(solution.params).cost <= solution.distortion * (1 + 1e-9)
        return
    hard = problem.harden(solution.params)
    np.testing.assert_allclose(solution.distortion, hard.cost, rtol=1e-3)
    np.testing.assert_allclose(solution.free_energy, hard.cost, rtol=1e-3)
    # Hard policy: the update at an even larger beta moves nothing.
    moved = problem.update(solution.params, 1e8)
    if problem.variational and row.monotone:
        np.testing.assert_allclose(moved, solution.params, atol=1e-4)


# 5. Phase transitions.


@smooth_anneals
def test_first_transition_is_the_closed_form(row):
    if row.first_transition is None:
        pytest.skip("no closed form")
    problem = problem_of(row)
    expected = row.first_transition(*points())
    start = problem.init(key())
    got = mj.critical_beta(problem, start, 0.3 * expected)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    downward = mj.critical_beta(problem, start, 3 * expected)
    np.testing.assert_allclose(downward, expected, rtol=1e-6)
    solution = solve(problem, schedule=geometric(0.5 * expected, 1.5 * expected, 1.05))
    np.testing.assert_allclose(solution.transitions[0], expected, rtol=1e-6)
    assert int(solution.n_transitions) >= 1


# 6. Invariances.


@anneals
def test_permuting_entities_changes_nothing(row):
    if row.name == "dense":
        pytest.skip("p is given entity by entity: see the unit test that permutes it along")
    x, weights = points()
    order = np.random.default_rng(4).permutation(N)
    permuted = row.build(x[order], weights[order])
    params = solved(row).params
    np.testing.assert_allclose(
        permuted.free_energy(params, 3.0), problem_of(row).free_energy(params, 3.0), rtol=1e-12
    )
    np.testing.assert_allclose(
        permuted.policy(params, 3.0), problem_of(row).policy(params, 3.0)[order], atol=1e-10
    )
    again = solve(permuted)
    np.testing.assert_allclose(again.free_energy, solved(row).free_energy, rtol=1e-8)


@anneals
def test_permuting_slots_permutes_the_policy(row):
    if not row.permutes_slots:
        pytest.skip("slots are labelled by p")
    problem, params = problem_of(row), solved(row).params
    order = np.array([2, 0, 1])
    np.testing.assert_allclose(
        problem.free_energy(params[order], 3.0), problem.free_energy(params, 3.0), rtol=1e-12
    )
    np.testing.assert_allclose(
        problem.update(params[order], 3.0), problem.update(params, 3.0)[order], atol=1e-12
    )
    policy = problem.policy(params, 3.0)
    # Choices that are no slots (a destination, say) come after them.
    columns = np.concatenate([order, np.arange(K, policy.shape[1])])
    np.testing.assert_allclose(problem.policy(params[order], 3.0), policy[:, columns], atol=1e-12)


@anneals
def test_translation_moves_the_solution_along(row):
    if not row.moves_along:
        pytest.skip("the cost knows where the origin is")
    x, weights = points()
    shift = np.array([50.0, -20.0])
    moved = solve(row.build(x + shift, weights))
    np.testing.assert_allclose(values(moved.params) - shift, values(solved(row).params), atol=1e-7)
    np.testing.assert_allclose(moved.free_energy, solved(row).free_energy, rtol=1e-8)


@anneals
def test_scaling_the_cost_scales_beta_inversely(row):
    if not row.scale_free:
        pytest.skip("the user's function has its own length scale")
    if row.degree is None:
        pytest.skip("the cost has its own length scale")
    x, weights = points()
    s = 3.0
    factor = s**row.degree
    scaled = row.build(s * x, weights)
    if "softmax" in row.name:
        scaled = eqx.tree_at(
            lambda q: q.autonomy.temperature, scaled, scaled.autonomy.temperature * factor
        )
    schedule = geometric(SCHEDULE[0] / factor, SCHEDULE[1] / factor)
    solution = solve(scaled, schedule=schedule)
    expected = s * values(solved(row).params)
    np.testing.assert_allclose(values(solution.params), expected, atol=1e-7)
    np.testing.assert_allclose(solution.free_energy, factor * solved(row).free_energy, rtol=1e-8)
    np.testing.assert_allclose(
        scaled.beta_scale(), problem_of(row).beta_scale() / factor, rtol=1e-10
    )


# 7. Odd input.


def fits(row, **change):
    """A problem of this row on other data, or None where its autonomy is tied to (N, K)."""
    x, weights = change.pop("x", points()[0]), change.pop("weights", points()[1])
    k = change.pop("k", K)
    tied = row.tied_sizes
    if tied and ((tied[0] not in (None, len(x))) or tied[1] != k):
        return None
    return row.build(x, weights, k=k)


ODD = {
    "zero weights": lambda x, w: {"weights": np.where(np.arange(N) % 2, w, 0.0)},
    "duplicates": lambda x, w: {"x": np.repeat(x[:4], 6, axis=0)},
    "constant": lambda x, w: {"x": np.ones_like(x)},
    "outlier": lambda x, w: {"x": np.concatenate([x[:-1], [[1e6, -1e6]]])},
    "one cluster": lambda x, w: {"k": 1},
    "more clusters than entities": lambda x, w: {"x": x[:2], "weights": w[:2], "k": 3},
}


@odd_anneals
@pytest.mark.parametrize("kind", ODD)
def test_odd_input_gives_finite_answers(row, kind):
    problem = fits(row, **ODD[kind](*points()))
    if problem is None:
        pytest.skip("autonomy is given for other sizes")
    b = float(problem.beta_scale())
    solution = solve(problem, schedule=geometric(0.5 * b, 200 * b, 1.5))
    assert np.isfinite(jax.flatten_util.ravel_pytree(solution.params)[0]).all()
    assert np.isfinite(solution.free_energy)
    allowed = {row.code, Code.NEAR_CRITICAL}
    if kind == "outlier" and "softmax" in row.name:
        # Temperature 1e-12 of the data's scale: no line search resolves such an override.
        allowed |= {Code.STALLED, Code.MAX_STEPS}
    if kind == "more clusters than entities" and row.name == "paths-bounds":
        # Two nodes do not fit the masks and bounds, as a linear program over the paths confirms.
        allowed = {Code.INFEASIBLE}
    assert int(solution.code) in allowed
    assert np.isfinite(problem.harden(solution.params).cost)


@odd_anneals
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_traced_input_marks_only_its_lane(row, bad):
    base = problem_of(row)

    def run(x, weights):
        problem = eqx.tree_at(lambda q: (row.data(q), q.weights), base, (x, weights))
        return mj.anneal(problem, mj.Explicit([0.5, 1.0]), key=key())

    x = row.data(base)
    xs = jnp.stack([x, x.at[1, 0].set(bad), x])
    weights = jnp.stack([base.weights, base.weights, base.weights.at[0].set(-1.0)])
    solution = jax.jit(jax.vmap(run))(xs, weights)
    assert list(solution.code) == [row.code, Code.NON_FINITE_INPUT, Code.INVALID_INPUT]
    with pytest.raises(ValueError, match=rf"`{row.entities}` must be finite; got 1 NaN"):
        jax.tree.map(lambda leaf: leaf[1], solution).raise_if_failed()
    with pytest.raises(ValueError, match=r"`weights` must be >= 0; got -1"):
        jax.tree.map(lambda leaf: leaf[2], solution).raise_if_failed()
    jax.tree.map(lambda leaf: leaf[0], solution).raise_if_failed()


# 8. Precision.


@anneals
def test_float32_agrees_with_float64(row):
    x, weights = points()
    side = np.ptp(x, axis=0).max()
    x = ((x - x.mean(axis=0)) / side).astype(np.float32)
    weights = weights.astype(np.float32)
    results = {}
    for dtype in (np.float32, np.float64):
        with jax.enable_x64(dtype == np.float64):
            problem = row.build(x, weights, dtype=dtype)
            start, beta_min = None, 0.5
            if row.capacities and row.rests:
                # Which of coincident centres of different capacity goes where is drawn at random,
                # and not alike in the two precisions: start where they are apart.
                start, beta_min = problem.at(jnp.asarray(x[:K], dtype)), 20.0
            schedule = geometric(beta_min, 2e3, 1.3)
            sol = mj.anneal(problem, schedule, key=key(), init=start)
            assert int(sol.code) in (row.code, Code.NEAR_CRITICAL)
            assert values(sol.params).dtype == dtype
            kept = results.setdefault(
                "params", jax.tree.map(lambda a: np.asarray(a, np.float64), sol.params)
            )
            params = jax.tree.map(lambda a, dtype=dtype: jnp.asarray(a, dtype), kept)
            results[dtype] = {
                beta: (
                    float(problem.free_energy(params, jnp.asarray(beta, dtype))),
                    np.exp(np.asarray(problem.policy(params, jnp.asarray(beta, dtype)))),
                )
                for beta in (1.0, 1e3, 1e5)
            } | {"hard": float(problem.harden(sol.params).cost)}
    low, high = results[np.float32], results[np.float64]
    for beta in (1.0, 1e3, 1e5):
        assert low[beta][0] == pytest.approx(high[beta][0], rel=1e-4, abs=1e-6)
        np.testing.assert_allclose(low[beta][1], high[beta][1], atol=1e-3)
    assert low["hard"] == pytest.approx(high["hard"], rel=1e-3)
