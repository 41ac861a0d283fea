"""Many anneals in one call."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code
from mepjax.engine.sweep import lanes_at_once

from ...registry.points import points

KEY = jax.random.key(0)
X, WEIGHTS = points()
SCHEDULE = mj.Geometric(0.2, 4.0, 1.5)


def build(setting):
    autonomy = mj.autonomy.Uniform(setting["kappa"])
    return mj.Clustering(setting.get("x", X), 3, autonomy=autonomy)


def kappas(*numbers):
    return {"kappa": jnp.asarray(numbers)}


@pytest.fixture(scope="module")
def swept():
    with jax.enable_x64(True):
        seen = []
        settings = kappas(0.1, 1.5, 0.3)
        result = mj.sweep(build, settings, key=KEY, seeds=2, schedule=SCHEDULE, monitor=seen.append)
        jax.block_until_ready(result.cost)
        jax.effects_barrier()
        return result, seen


def test_lanes_are_the_runs_one_by_one(swept):
    result, _ = swept
    keys = jax.random.split(KEY, (3, 2))
    for setting, kappa in ((0, 0.1), (2, 0.3)):
        problem = build({"kappa": kappa})
        for seed in range(2):
            alone = mj.anneal(problem, SCHEDULE, key=keys[setting, seed])
            lane = result.solutions.params[setting, seed]
            np.testing.assert_allclose(lane, alone.params, atol=1e-9)
            hard = problem.harden(alone.params).cost
            np.testing.assert_allclose(result.cost[setting, seed], hard, rtol=1e-9)


def test_a_failing_lane_marks_only_itself(swept):
    result, _ = swept
    codes = np.asarray(result.solutions.code)
    assert np.all(codes[1] == int(Code.INVALID_INPUT))
    assert np.all(codes[[0, 2]] == int(Code.OK))
    assert np.all(np.isinf(np.asarray(result.cost)[1]))
    assert np.all(np.isfinite(np.asarray(result.cost)[[0, 2]]))
    with pytest.raises(ValueError, match=r"2 of 6 lanes failed; lane 1, 0: .*`kappa`"):
        result.solutions.raise_if_failed()


def test_the_best_seed_of_each_setting_is_chosen(swept):
    result, _ = swept
    for setting, seed in enumerate(np.argmin(np.asarray(result.cost), axis=1)):
        assert int(result.best_seed[setting]) == seed
        expected = result.solutions.params[setting, seed]
        np.testing.assert_array_equal(result.best.params[setting], expected)
    assert result.best.trace.beta.shape == (3, SCHEDULE.max_stages)


def test_the_monitor_hears_of_every_lane_once(swept):
    result, seen = swept
    assert sorted((done.setting, done.seed) for done in seen) == [
        (setting, seed) for setting in range(3) for seed in range(2)
    ]
    assert all(done.lanes == 6 for done in seen)
    costs = [float(result.cost[done.setting, done.seed]) for done in seen]
    # The host's callback thread has the default precision.
    np.testing.assert_allclose([done.cost for done in seen], costs, rtol=1e-6)


@pytest.mark.slow
def test_batches_and_outer_transformations_give_the_same(swept):
    result, _ = swept
    options = {"key": KEY, "seeds": 2, "schedule": SCHEDULE}
    settings = kappas(0.1, 1.5, 0.3)
    batched = mj.sweep(build, settings, batch=4, **options)
    np.testing.assert_allclose(batched.cost, result.cost, rtol=1e-9)
    inside = jax.jit(lambda s: mj.sweep(build, s, **options).cost)(settings)
    np.testing.assert_allclose(inside, result.cost, rtol=1e-9)

    def energy(numbers):
        return jnp.sum(mj.sweep(build, {"kappa": numbers}, **options).solutions.free_energy)

    numbers, step = jnp.array([0.1, 0.2]), 1e-5
    difference = (energy(numbers + step) - energy(numbers - step)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(jax.grad(energy)(numbers)), difference, rtol=1e-6)


@pytest.mark.slow
def test_data_sets_and_an_objective_of_ones_own():
    settings = {"x": jnp.stack([X, 2 * X]), "kappa": jnp.zeros(2)}
    result = mj.sweep(
        build,
        settings,
        key=KEY,
        schedule=SCHEDULE,
        objective=lambda problem, solution: jnp.max(jnp.abs(solution.params)),
    )
    expected = jnp.max(jnp.abs(result.best.params), axis=(1, 2))
    np.testing.assert_array_equal(result.cost[:, 0], expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kappa": np.zeros(2), "x": np.zeros((3, 4, 2))}, r"same length; got settings\['kappa'\]"),
        ({"kappa": 0.1}, r"settings\['kappa'\]` must be an array"),
        ({}, "at least one array"),
        ({"kappa": np.zeros(0)}, "not be empty"),
    ],
)
def test_settings_of_other_shapes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        mj.sweep(build, settings, key=KEY)


def test_static_fields_cannot_be_swept():
    with pytest.raises(ValueError, match="static field"):
        mj.sweep(lambda k: mj.Clustering(X, k), np.array([2, 3]), key=KEY)


def test_other_mistakes_are_named():
    with pytest.raises(TypeError, match=r"must return a mepjax\.Problem; got ArrayImpl|Shape"):
        mj.sweep(lambda kappa: kappa, np.zeros(2), key=KEY)
    with pytest.raises(ValueError, match="`seeds`"):
        mj.sweep(build, kappas(0.1), key=KEY, seeds=0)
    with pytest.raises(ValueError, match="`batch`"):
        mj.sweep(build, kappas(0.1), key=KEY, batch=0)
    with pytest.raises(ValueError, match="`init`"):
        mj.sweep(build, kappas(0.1), key=KEY, init=jnp.zeros((3, 2)))


def test_lanes_at_once_fill_half_of_an_accelerator():
    def lane(part):
        return part[0] * jnp.ones(250)

    lanes = (jnp.ones((40, 250)),)
    device = SimpleNamespace(platform="gpu", memory_stats=lambda: {"bytes_limit": 100_000})
    each = 250 * 8 * 2
    assert 50_000 // (2 * each) <= lanes_at_once(lane, lanes, 40, device) <= 50_000 // each
    unknown = SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    assert lanes_at_once(lane, lanes, 40, unknown) == 40
    assert lanes_at_once(lane, lanes, 40) == 1


def test_with_capacities_what_meets_them_is_compared():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(24, 2)))
    capacity = mj.Equal(jnp.array([0.125, 0.25, 0.625]))

    def build(shift):
        return mj.Clustering(x + shift, 3, capacity=capacity)

    schedule = mj.Geometric(20.0, 200.0, 2.0)
    start = lambda problem, key: problem.scatter(key)  # noqa: E731
    options: dict[str, Any] = {
        "schedule": schedule,
        "init": start,
        "detector": mj.NoDetector(noise=0.0),
    }
    result = mj.sweep(build, jnp.zeros(1), key=KEY, seeds=5, **options)
    problem = build(0.0)
    lanes = [jax.tree.map(lambda leaf, r=r: leaf[0, r], result.solutions.params) for r in range(5)]
    assigned = [float(problem.harden(p, capacities="assign").cost) for p in lanes]
    assert len({round(cost, 6) for cost in assigned}) > 1
    assert assigned[int(result.best_seed[0])] <= min(assigned) * 1.01


def test_lanes_have_starts_and_schedules_of_their_own():
    x = jnp.asarray(np.random.default_rng(1).normal(size=(30, 2)))

    def build(setting):
        return mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(setting["kappa"]))

    def schedule(setting):
        return mj.Geometric(1.0, setting["beta"], 1.5, max_stages=16)

    def start(problem, key):
        return problem.scatter(key)

    settings = {"kappa": jnp.array([0.0, 0.2]), "beta": jnp.array([20.0, 50.0])}
    options: dict[str, Any] = {"detector": mj.NoDetector(noise=0.0)}
    result = mj.sweep(build, settings, key=KEY, seeds=2, schedule=schedule, init=start, **options)
    keys = jax.random.split(KEY, (2, 2))
    for s in range(2):
        setting = jax.tree.map(lambda leaf, s=s: leaf[s], settings)
        for r in range(2):
            alone = mj.anneal(
                build(setting), schedule(setting), key=keys[s, r], init=start, **options
            )
            np.testing.assert_allclose(result.solutions.params[s, r], alone.params, rtol=1e-9)
            np.testing.assert_allclose(result.solutions.beta[s, r], settings["beta"][s])
    assert not np.allclose(result.solutions.params[0, 0], result.solutions.params[0, 1])


def test_settings_that_are_no_numbers_are_named():
    with pytest.raises(ValueError, match="`settings` must be an array of numbers; got dtype <U6"):
        mj.sweep(lambda s: None, np.array(["exact", "frozen"]), key=KEY)  # pyright: ignore
