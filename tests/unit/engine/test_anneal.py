"""Options of `anneal`, each on its non-default branch."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code

from ...registry import row_named

KEY = jax.random.key(1)
SCHEDULE = mj.Geometric(0.2, 4.0, 1.3)


def problem(row: str = "uniform") -> Any:
    return row_named(row).build(np.float64)


def hard_cost(solution):
    return float(problem().harden(solution.params).cost)


@pytest.fixture(scope="module")
def reference():
    with jax.enable_x64(True):
        return mj.anneal(problem(), SCHEDULE, key=KEY).raise_if_failed()


@pytest.mark.parametrize(
    "solver", [mj.Anderson(), mj.Armijo(), mj.FixedPoint(damping=0.7), mj.NewtonKrylov()]
)
def test_solvers_agree_at_the_last_beta(solver, reference):
    solution = mj.anneal(problem(), SCHEDULE, key=KEY, solver=solver).raise_if_failed()
    np.testing.assert_allclose(solution.free_energy, reference.free_energy, rtol=1e-9)


@pytest.mark.slow
def test_anderson_and_newton_need_fewer_steps_near_a_transition():
    critical = float(mj.critical_beta(problem(), problem().init(KEY), 0.1))
    above = mj.anneal(problem(), mj.Geometric(0.5 * critical, 1.1 * critical, 1.2), key=KEY)
    schedule = mj.Explicit([1.02 * critical])
    steps = {}
    for solver in (mj.FixedPoint(), mj.Anderson(), mj.NewtonKrylov()):
        solution = mj.anneal(problem(), schedule, key=KEY, solver=solver, init=above)
        solution.raise_if_failed()
        assert 0 < float(solution.trace.curvature[0]) < 0.2
        steps[type(solver).__name__] = int(solution.trace.steps[0])
    assert steps["Anderson"] < 0.5 * steps["FixedPoint"]
    assert steps["NewtonKrylov"] <= 8


def test_linear_and_explicit_schedules_follow_their_betas(reference):
    linear = mj.anneal(problem(), mj.Linear(0.2, 4.0, 0.5), key=KEY).raise_if_failed()
    betas = np.asarray(linear.trace.beta)
    np.testing.assert_allclose(betas, [*np.arange(0.2, 4.0, 0.5), 4.0])
    explicit = mj.anneal(problem(), mj.Explicit(betas), key=KEY)
    np.testing.assert_array_equal(explicit.params, linear.params)
    np.testing.assert_allclose(linear.free_energy, reference.free_energy, rtol=1e-8)


def test_geometric_ends_exactly_at_beta_max_and_pads_with_nan():
    schedule = mj.Geometric(0.2, 4.0, 1.3, max_stages=20)
    # With growth the curvature is unknown once all slots are apart.
    solution = mj.anneal(problem(), schedule, key=KEY, detector=mj.Detector())
    n = int(solution.n_stages)
    assert n == SCHEDULE.max_stages == 13
    trace = solution.trace
    assert float(trace.beta[n - 1]) == float(solution.beta) == 4.0
    np.testing.assert_allclose(trace.beta[1 : n - 1] / trace.beta[: n - 2], 1.3)
    for field in (trace.beta, trace.free_energy, trace.distortion, trace.entropy, trace.curvature):
        assert np.isfinite(field[:n]).all()
        assert np.isnan(field[n:]).all()
    assert (np.asarray(trace.steps[:n]) > 0).all()


def test_critical_jump_steps_just_past_transitions(reference):
    schedule = mj.CriticalJump(beta_max=4.0)
    solution = mj.anneal(problem(), schedule, key=KEY).raise_if_failed()
    np.testing.assert_allclose(solution.free_energy, reference.free_energy, rtol=1e-8)
    betas = np.asarray(solution.trace.beta)[: int(solution.n_stages)]
    first = float(mj.critical_beta(problem(), problem().init(KEY), 0.1))
    assert ((betas > first) & (betas <= 1.021 * first)).any()
    assert (betas[1:] / betas[:-1] <= 1.5 + 1e-9).all()
    np.testing.assert_allclose(solution.transitions[0], first, rtol=1e-6)
    assert float(solution.beta) == 4.0


def test_critical_jump_has_a_stage_before_a_transition_and_one_after_then_eases_off():
    schedule = mj.CriticalJump(1.0, 1e3)
    nowhere, transition = jnp.asarray(jnp.inf), jnp.asarray(1.4)
    stages = [schedule.init(jnp.asarray(1.0))]
    while stages[-1].beta < transition:
        stages.append(schedule.next(stages[-1], transition))
    while not stages[-1].last:
        stages.append(schedule.next(stages[-1], nowhere))
    betas = np.array([float(stage.beta) for stage in stages])
    before, after = betas[betas < 1.4].max(), betas[betas > 1.4].min()
    np.testing.assert_allclose([before, after], [1.4 / 1.02, 1.4 * 1.02], rtol=1e-6)
    steps = np.diff(np.log(betas))
    place = int(np.argmax(betas > 1.4))
    # Anew from the smallest step, at most half as long again each time, up to the largest.
    np.testing.assert_allclose(steps[place], np.log(1.02), rtol=1e-4)
    assert (steps[place + 1 :] <= 1.5 * steps[place:-1] + 1e-6).all()
    np.testing.assert_allclose(steps.max(), np.log(1.5), rtol=1e-5)
    assert betas[-1] == 1e3
    at_once = mj.CriticalJump(1.0, 1e3, easing=np.inf)
    stage = at_once.next(at_once.init(jnp.asarray(1.0)), transition)
    np.testing.assert_allclose(stage.beta, 1.02 * 1.4, rtol=1e-6)


def test_default_schedule_jumps_where_transitions_are_foretold():
    b = float(problem().beta_scale())
    for detector, kind in (
        (None, mj.CriticalJump),
        (mj.Growth(), mj.CriticalJump),
        (mj.NoDetector(), mj.Geometric),
    ):
        state = mj.begin(problem(), key=KEY, detector=detector)
        schedule = state.options.resolved(state.scale)
        assert type(schedule) is kind
        np.testing.assert_allclose(state.carry.stage.beta, 0.5 * b, rtol=1e-6)
        np.testing.assert_allclose(np.asarray(schedule.expected_end()), 1e4 * b, rtol=1e-6)
        assert schedule.open_ended and schedule.final_beta() is None


def test_default_schedule_meets_the_transitions_of_small_steps():
    spread = mj.Clustering(np.random.default_rng(0).normal(size=(60, 2)), 4)
    b = spread.beta_scale()
    betas = mj.Geometric(0.5 * b, 1e4 * b, 1.02, max_stages=502)
    options = {"key": KEY, "detector": mj.Detector()}
    slow = mj.anneal(spread, betas, **options).raise_if_failed()
    quick = mj.anneal(spread, **options).raise_if_failed()
    assert int(quick.n_stages) < 100
    count = int(slow.n_transitions)
    assert int(quick.n_transitions) == count > 2
    np.testing.assert_allclose(quick.transitions[:count], slow.transitions[:count], rtol=0.02)
    np.testing.assert_allclose(quick.free_energy, slow.free_energy, rtol=1e-8)


def test_no_detector_kicks_by_noise(reference):
    solution = mj.anneal(problem(), SCHEDULE, key=KEY, detector=mj.NoDetector()).raise_if_failed()
    np.testing.assert_allclose(solution.free_energy, reference.free_energy, rtol=1e-8)
    assert np.isnan(solution.trace.curvature).all()
    assert int(solution.n_transitions) == 0


def test_init_continues_from_a_solution(reference):
    further = mj.anneal(problem(), mj.Explicit([4.5]), key=KEY, init=reference).raise_if_failed()
    direct = mj.anneal(problem(), mj.Geometric(0.2, 4.5, 1.3), key=KEY)
    np.testing.assert_allclose(further.params, direct.params, atol=1e-7)
    assert int(further.n_transitions) == 0


def test_init_is_not_undone_by_the_continuation():
    x = np.array([0.0, 0.2, 1.0, 1.1, 2.0])[:, None]
    q = mj.Clustering(x, 3, autonomy=mj.autonomy.Softmax(0.3, 1.0, 0.5, 0.1))
    optimum = np.array([[0.093963], [0.930806], [1.556997]])
    solution = mj.anneal(q, mj.Explicit([1e4]), key=KEY, init=optimum).raise_if_failed()
    assert float(q.harden(solution.params).cost) == pytest.approx(0.2188769493, rel=1e-6)


def test_record_keeps_params_and_statistics():
    record = mj.Record(params=True, statistic=lambda p, y, beta: p.harden(y).cost * beta)
    schedule = mj.Geometric(0.2, 4.0, 1.3, max_stages=16)
    solution = mj.anneal(problem(), schedule, key=KEY, record=record, detector=mj.Detector())
    n = int(solution.n_stages)
    np.testing.assert_array_equal(solution.trace.params[n - 1], solution.params)
    expected = hard_cost(solution) * 4.0
    np.testing.assert_allclose(solution.trace.statistic[n - 1], expected, rtol=1e-9)
    assert np.isnan(solution.trace.params[n:]).all()
    moved = np.linalg.norm(np.diff(solution.trace.params[:n], axis=0), axis=(1, 2))
    np.testing.assert_allclose(solution.trace.displacement[1:n], moved, atol=1e-12)


def test_monitor_is_called_once_per_stage():
    seen = []
    mj.anneal(problem(), mj.Explicit([0.2, 1.0, 4.0]), key=KEY, monitor=seen.append)
    jax.effects_barrier()
    assert sorted(p.stage for p in seen) == [1, 2, 3]
    np.testing.assert_allclose(sorted(p.beta for p in seen), [0.2, 1.0, 4.0], rtol=1e-6)


def test_envelope_gives_the_gradient_of_the_free_energy_only():
    def loss(q, adjoint):
        return mj.anneal(q, SCHEDULE, key=KEY, adjoint=adjoint).free_energy

    gradient = eqx.filter_jit(eqx.filter_grad(loss))
    implicit = gradient(problem(), mj.Implicit())
    envelope = gradient(problem(), mj.Envelope())
    np.testing.assert_allclose(envelope.x, implicit.x, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(
        envelope.autonomy.kappa, implicit.autonomy.kappa, rtol=1e-7, atol=1e-10
    )
    solution = mj.anneal(problem(), SCHEDULE, key=KEY)
    direct = mj.gradients(problem(), solution.params, solution.beta)
    np.testing.assert_allclose(direct.x, implicit.x, rtol=1e-7, atol=1e-10)
    none = eqx.filter_jit(
        eqx.filter_grad(
            lambda q: jnp.sum(mj.anneal(q, SCHEDULE, key=KEY, adjoint=mj.NoGrad()).params)
        )
    )(problem())
    assert not np.any(none.x)


@pytest.mark.parametrize(("policy", "expected"), [("zero", 0.0), ("pass", None)])
def test_on_failure_policies(policy, expected):
    def loss(x):
        q = eqx.tree_at(lambda q: q.x, problem(), x)
        solver = mj.FixedPoint(max_steps=2)
        adjoint = mj.Implicit(on_failure=policy)
        options = {"key": KEY, "solver": solver, "detector": mj.Detector()}
        solution = mj.anneal(q, SCHEDULE, adjoint=adjoint, **options)
        return jnp.sum(solution.params), solution.code

    gradient, code = jax.jit(jax.grad(loss, has_aux=True))(problem().x)
    assert int(code) == Code.MAX_STEPS
    if expected is None:
        assert np.isfinite(gradient).all() and np.any(gradient)
    else:
        np.testing.assert_array_equal(gradient, expected)


@pytest.mark.parametrize("row", ["uniform", pytest.param("softmax-frozen", marks=pytest.mark.slow)])
def test_iterative_implicit_solve_equals_the_dense_one(row):
    weights = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2)))

    def gradient(linear):
        def loss(q):
            adjoint = mj.Implicit(linear=linear)
            return jnp.sum(mj.anneal(q, SCHEDULE, key=KEY, adjoint=adjoint).params * weights)

        return eqx.filter_jit(eqx.filter_grad(loss))(problem(row)).x

    dense = gradient(mj.LinearSolve())
    iterative = gradient(mj.LinearSolve(dense_limit=0))
    np.testing.assert_allclose(iterative, dense, rtol=1e-6, atol=1e-9)
    # One step is not enough: the derivative follows `on_failure`, reverse mode included.
    starved = gradient(mj.LinearSolve(dense_limit=0, max_steps=1, rtol=1e-14))
    assert np.isnan(starved).all()


def test_hessian_of_a_function_of_the_solution():
    base = problem()
    direction = jnp.asarray(np.random.default_rng(1).normal(size=base.x.shape))

    def loss(theta):
        q = eqx.tree_at(
            lambda q: (q.x, q.autonomy.kappa),
            base,
            (base.x + theta[0] * direction, base.autonomy.kappa + theta[1]),
        )
        solution = mj.anneal(q, mj.Geometric(0.2, 4.0 + theta[2], 1.3, max_stages=14), key=KEY)
        return jnp.sum(jnp.sin(solution.params)) + solution.distortion

    zero = jnp.zeros(3)
    gradient = jax.jit(jax.grad(loss))
    hessian = jax.jit(jax.hessian(loss))(zero)
    step = 1e-5
    expected = np.stack(
        [(gradient(zero + step * e) - gradient(zero - step * e)) / (2 * step) for e in np.eye(3)]
    )
    np.testing.assert_allclose(hessian, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-6, atol=1e-8)


def test_memory_of_the_gradient_is_independent_of_stages_and_steps():
    def temporary(stages, steps):
        def loss(x):
            q = eqx.tree_at(lambda q: q.x, problem(), x)
            schedule = mj.Geometric(0.2, 4.0, 1.3, max_stages=stages)
            solver = mj.FixedPoint(max_steps=steps)
            return jnp.sum(mj.anneal(q, schedule, key=KEY, solver=solver).params)

        compiled = jax.jit(jax.grad(loss)).lower(problem().x).compile()
        analysis: Any = compiled.memory_analysis()
        return analysis.temp_size_in_bytes

    small, large = temporary(20, 100), temporary(200, 100_000)
    # The trace is an output: ten numbers a stage are all that may be kept.
    assert large - small <= 180 * 10 * 8


def test_vmap_over_hyper_parameters_has_codes_per_lane():
    def run(kappa, beta_max):
        q = eqx.tree_at(lambda q: q.autonomy.kappa, problem(), kappa)
        return mj.anneal(q, mj.Geometric(0.2, beta_max, 1.3, max_stages=16), key=KEY)

    solution = jax.jit(jax.vmap(run))(jnp.asarray([0.1, 2.0, 0.3]), jnp.asarray([4.0, 4.0, -1.0]))
    assert list(solution.code) == [Code.OK, Code.INVALID_INPUT, Code.INVALID_INPUT]
    with pytest.raises(ValueError, match=r"2 of 3 lanes failed; lane 1: .*`kappa`.*got 2"):
        solution.raise_if_failed()


def test_solution_holds_no_data_and_prints_no_arrays():
    rng = np.random.default_rng(0)
    big = mj.Clustering(rng.normal(size=(2000, 2)), 3)
    solution = mj.anneal(big, mj.Explicit([0.1]), key=KEY)
    assert all(np.size(leaf) < 100 for leaf in jax.tree.leaves(solution))
    assert "f64[3,2]" in repr(solution)


def test_progress_is_absent_from_the_compiled_program():
    text = (
        jax.jit(lambda: mj.anneal(problem(), mj.Explicit([0.1]), key=KEY).params).lower().as_text()
    )
    assert "callback" not in text
