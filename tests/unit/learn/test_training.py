"""Training a network by asking: its loss, its batches, what it learns, and how it breaks down."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import mepjax as mj
from mepjax import Code, learn
from mepjax.learn.networks.learnt_costs import units
from mepjax.learn.networks.settings import Recipe
from mepjax.learn.networks.steps import descended, rate_of, regressed, until_settled
from mepjax.reproduce.numbers import TABLE_2

from . import cases

KEY = jax.random.key(0)
STARTS, CYCLES, STEPS, BATCH, ENTITIES, DRAWS = 2, 3, 100, 2, 16, 2
FEW = 5
SMALL: dict[str, Any] = {"width": 8, "heads": 2, "feedforward": 16, "head": (16,)}
TRUTH = mj.autonomy.Uniform(0.2)


def training(rate=1e-2, **options):
    settings: dict[str, Any] = {
        "options": SMALL, "batch": BATCH, "entities": ENTITIES, "draws": DRAWS, "cycles": CYCLES,
        "prefit": 9 * STEPS, "network_steps": STEPS, "centre_steps": 2, "warm_up": 5,
        "average": 0.9, "learning_rate": np.float64(rate),
    }  # fmt: skip
    return learn.Training(**(settings | options))


@eqx.filter_jit
def learnt(learner, key, truth=TRUTH):
    base = cases.problem()
    return learn.interact(
        base,
        learn.Simulated(truth),
        learner,
        key=key,
        starts=STARTS,
        fresh=100,
        explore=learn.Explore(1.0, floor=1.0),
    )


@eqx.filter_jit
def both(learned):
    """Average costs as learnt and as they are, and as they would be without autonomy."""
    base = cases.problem()
    aware = mj.Clustering(base.x, cases.K, weights=base.weights, autonomy=TRUTH)
    as_problem = learned.problem(base)
    found = as_problem.harden(learned.params).cost, learned.costs(base)
    return *found, aware.average_distances(learned.params), base.distances(learned.params)


def test_learns_average_costs_without_being_told_where_entities_go():
    learned = learnt(training(), KEY)
    assert int(learned.code) == int(Code.OK)
    asked = (9 + CYCLES) * STEPS * STARTS * BATCH * ENTITIES * DRAWS
    assert int(learned.n_interactions) == asked + 100 * STARTS
    hard, costs, exact, plain = map(np.asarray, both(learned))
    error, without = (np.sqrt(np.mean((a - exact) ** 2)) for a in (costs, plain))
    assert error < 0.4 * without
    weights = cases.WEIGHTS / cases.WEIGHTS.sum()
    np.testing.assert_allclose(hard, weights @ costs.min(axis=1), rtol=1e-12)
    loss = np.asarray(learned.trace.loss)
    assert loss[-1] < loss[0]
    assert np.all(np.diff(learned.trace.beta) > 0)


@pytest.mark.slow
def test_lanes_of_a_map_over_seeds_are_single_runs():
    # Few steps, as rounding may change who is told what.
    few, keys = training(network_steps=FEW, prefit=2 * FEW), jax.random.split(KEY, 2)
    many = eqx.filter_vmap(learnt, in_axes=(None, 0))(few, keys)
    for lane in range(2):
        one = learnt(few, keys[lane])
        np.testing.assert_allclose(many.params[lane], one.params, atol=1e-6)
        np.testing.assert_allclose(many.trace.loss[lane], one.trace.loss, rtol=1e-5)


def test_what_leaves_the_data_ends_with_a_code_and_what_was_good():
    learned = learnt(training(rate=1e300), KEY)
    assert int(learned.code) == int(Code.NON_FINITE)
    assert np.all(np.isfinite(learned.params))
    with pytest.raises(mj.SolveError, match=r"loss .* Lower `learning_rate` \(1e\+300"):
        learned.raise_if_failed()
    # Where the loss of the last level was finite it was the centres that left.
    lost = np.isnan(learned.trace.loss)
    finite = eqx.tree_at(lambda s: s.trace.loss, learned, np.where(lost, 0.25, learned.trace.loss))
    with pytest.raises(mj.SolveError, match=r"left the box .* \(0\.25\).* Lower `centre_rate`"):
        finite.raise_if_failed()


def test_centres_that_leave_the_box_are_no_numbers_and_others_stay():
    base, learner = cases.problem(), training(centre_rate=np.float64(1e6))
    state = learner.init(KEY, base)
    after = eqx.tree_at(lambda s: s.step, state, state.step + learner.prefit + 1)
    log = _log(DRAWS).for_problem(base)
    move = eqx.filter_jit(learner.move)
    asked = log, jnp.zeros(log.entity.shape, bool), KEY
    centres = base.x[: cases.K]
    assert np.any(np.isnan(move(after, base, centres, jnp.asarray(1.0), *asked)))
    # Before `prefit` steps are over they do not move.
    np.testing.assert_array_equal(move(state, base, centres, jnp.asarray(1.0), *asked), centres)


def test_without_flax_it_is_said_what_to_install(monkeypatch):
    for name in ("aden", "training"):
        monkeypatch.delitem(sys.modules, f"mepjax.learn.networks.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "flax", None)
    for name in ("Training", "ADEN"):
        with pytest.raises(ImportError, match=rf'{name} needs .*pip install "mepjax\[learn\]"'):
            getattr(learn, name)


def _log(draws):
    """Rounds as of the loop: two starts, sets of three entities, each asked `draws` times."""
    rng = np.random.default_rng(1)
    sets = STARTS * FEW * BATCH
    entity = np.repeat(rng.integers(0, cases.N, (sets, 3)), draws, axis=1)
    told = np.repeat(rng.integers(0, cases.K, (sets, 3)), draws, axis=1)
    return learn.Interactions(
        entity.ravel(),
        told.ravel(),
        cost=rng.uniform(size=entity.size),
        centres=rng.normal(size=(sets, cases.K, 2)) + 3,
        round=np.repeat(np.arange(sets), 3 * draws),
        times=rng.integers(0, 3, entity.size).astype(float),
    )


def test_batches_hold_each_start_at_its_own_centres_and_means_of_what_was_paid():
    log = _log(DRAWS)
    found = training(network_steps=FEW).in_motion().batches(log, log.cost, KEY)
    paid = np.asarray(log.cost).reshape(STARTS, FEW, BATCH, 3, DRAWS)
    times = np.asarray(log.times).reshape(paid.shape)
    who = np.asarray(log.entity).reshape(paid.shape)
    sets = np.asarray(log.centres).reshape(STARTS, FEW, BATCH, cases.K, 2)
    for step in range(FEW):
        for start in range(STARTS):
            for number in range(BATCH):
                place = step, start * BATCH + number
                at = start, step, number
                np.testing.assert_array_equal(found.centres[place], sets[at])
                np.testing.assert_array_equal(found.entity[place], who[at][:, 0])
                count = times[at].sum(axis=1)
                np.testing.assert_array_equal(found.count[place], count)
                mean = (times[at] * paid[at]).sum(axis=1) / np.maximum(count, 1)
                np.testing.assert_allclose(found.target[place], mean, atol=1e-12)
    # In any order, each row keeps its own centres.
    rows = training(network_steps=FEW).batches(log, log.cost, KEY)
    first = np.asarray(rows.target)[0, :, 0]
    row = [int(np.flatnonzero(np.asarray(log.cost) == value)[0]) for value in first]
    np.testing.assert_array_equal(
        rows.centres[0], np.asarray(log.centres)[np.asarray(log.round)[row]]
    )
    np.testing.assert_array_equal(rows.prescribed[0, :, 0], log.prescribed[row])


def test_loss_is_that_of_the_mathematics_and_its_gradient_that_of_differences():
    base, learner = cases.problem(), training(network_steps=FEW).in_motion()
    state = learner.init(KEY, base)
    rng = np.random.default_rng(2)
    leaves, tree = jax.tree.flatten(state.params)
    moved = jax.tree.unflatten(tree, [a + 0.3 * rng.normal(size=a.shape) for a in leaves])
    towards = jax.tree.unflatten(tree, [rng.normal(size=a.shape) for a in leaves])
    log = _log(DRAWS)
    batch = jax.tree.map(lambda a: a[0], learner.batches(log, log.cost, KEY))
    costs = learner.learnt_costs(state, base)

    @jax.jit
    def loss(step):
        params = jax.tree.map(lambda a, b: a + step * b, moved, towards)
        return regressed(params, costs.network, batch, base.x, costs.origin, costs.spacing, None)

    @jax.jit
    def told():
        at = lambda a: (a - costs.origin) / costs.spacing  # noqa: E731
        return costs.network(moved, at(base.x[batch.entity]), at(batch.centres), None, False)

    found = np.asarray(told())
    there = np.take_along_axis(found, np.asarray(batch.prescribed)[..., None], axis=-1)[..., 0]
    squares = (np.asarray(batch.target) / float(costs.spacing) ** 2 - there) ** 2
    count = np.asarray(batch.count)
    np.testing.assert_allclose(loss(0.0), (count * squares).sum() / count.sum(), rtol=1e-10)
    slope = jax.jit(jax.grad(loss))(0.0)
    np.testing.assert_allclose(slope, (loss(1e-5) - loss(-1e-5)) / 2e-5, rtol=1e-6)


def test_going_on_eagerly_and_compiled_is_the_same():
    base, learner = cases.problem(), training(network_steps=2)
    state = learner.init(KEY, base)
    log = _log(DRAWS).for_problem(base)
    one, told = learner.update(state, base, log, KEY)
    two, again = eqx.filter_jit(learner.update)(state, base, log, KEY)
    np.testing.assert_allclose(told["loss"], again["loss"], rtol=1e-9)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-9)
    assert int(two.step) == 2


def test_starts_from_what_another_has_learnt_of_as_many_features():
    base, learner = cases.problem(), training()
    before = learner.init(jax.random.key(7), base)
    after = training(init=before).init(KEY, base)
    for a, b in zip(jax.tree.leaves(before.average), jax.tree.leaves(after.params), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match=r"Training: `init` must be of the same network"):
        training(init=before).init(KEY, mj.Clustering(np.eye(5), 2))
    with pytest.raises(TypeError, match=r"Training: `init` must be what a Training has learnt"):
        training(init=3)


def test_published_settings_are_those_of_the_table_and_of_the_networks():
    paper, released = learn.Training.paper(), learn.Training.released()
    for learner, count in ((paper, 150_914), (released, 143_874)):
        network = nnx.eval_shape(
            lambda learner=learner: learner.network(2, rngs=0, **dict(learner.options))
        )
        sizes = [np.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))]
        assert sum(sizes) == count
    for name in ("batch", "entities", "learning_rate", "weight_decay", "smoothing",
                 "centre_steps", "centre_rate"):  # fmt: skip
        assert getattr(paper, name) == TABLE_2[name]
    assert paper.draws == TABLE_2["draws"] and paper.network_steps == TABLE_2["network_steps"][0]
    base = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    spacing = float(units(base)[1])
    np.testing.assert_allclose(paper.perturbation[0] * spacing, TABLE_2["perturbation"], rtol=0.05)
    # The released code weighs the new value by what the paper weighs the old one.
    assert released.smoothing == pytest.approx(1 - TABLE_2["smoothing"])
    schedule: Any = paper.schedule(jnp.asarray(1.0), base)
    assert float(schedule.beta_min) == TABLE_2["beta_min"]
    assert float(schedule.beta_max) == TABLE_2["beta_max"][0]
    assert float(schedule.factor) == TABLE_2["factor"]
    starts = np.asarray(paper.starts(base, 3, KEY))
    assert np.abs(starts - np.asarray(base.x).mean(axis=0)).max() < 0.1


def test_the_published_recipe_steps_plainly_at_a_constant_rate_and_starts_afresh():
    base = cases.problem()
    plain = training(network_steps=2, recipe=Recipe(constant_rate=True, plain_descent=True))
    np.testing.assert_array_equal([rate_of(plain, s) for s in (99, 9999)], [1e-2, 1e-2])
    assert float(rate_of(training(), jnp.asarray(9999))) < 1e-3
    costs, beta, rate = plain.learnt_costs(plain.init(KEY, base), base), 2.0, 0.1
    centres = base.x[: cases.K]
    moved = eqx.filter_jit(descended)(costs, base, centres, beta, rate, 1, 5, KEY, True)
    # At the start costs are squared distances, whose gradient is known.
    d = ((cases.X[:, None] - np.asarray(centres)) ** 2).sum(axis=2)
    policy = np.exp(-beta * (d - d.min(axis=1, keepdims=True)))
    policy *= (cases.WEIGHTS / cases.WEIGHTS.sum() / policy.sum(axis=1))[:, None]
    slope = 2 * (policy.sum(axis=0)[:, None] * np.asarray(centres) - policy.T @ cases.X)
    np.testing.assert_allclose(moved, np.asarray(centres) - rate * slope, rtol=1e-6)
    log = _log(DRAWS).for_problem(base)
    again = training(network_steps=2, smoothing=0.5, recipe=Recipe(restarts=True))
    update = eqx.filter_jit(again.update)
    state = again.init(KEY, base)
    once, _ = update(state, base, log, KEY)
    # The second level from other moments and another table is the same level.
    used = eqx.tree_at(lambda s: (s.optimiser, s.table), state, (once.optimiser, once.table))
    for a, b in zip(*(jax.tree.leaves(update(s, base, log, KEY)[0]) for s in (state, used)),
                    strict=True):  # fmt: skip
        np.testing.assert_array_equal(a, b)


def test_steps_stop_once_values_settle_and_those_skipped_are_no_values():
    given = np.array([8.0, 4.0, 3.9, 1.0, 0.5])
    held, values, taken = until_settled(
        lambda total, value: (total + value, jnp.asarray(value)), 0.0, jnp.asarray(given),
        lambda new, old: abs(new - old) < 0.2,
    )  # fmt: skip
    assert float(held) == pytest.approx(15.9)
    np.testing.assert_array_equal(taken, [True, True, True, False, False])
    np.testing.assert_allclose(values, np.where(taken, given, np.nan))


def test_the_greedy_recipe_tells_the_cheapest_and_explores_by_the_logarithm_of_beta():
    greedy, plain = training(recipe=Recipe(greedy=True)), training()
    costs = jnp.asarray([[3.0, 1.0, 2.0], [0.5, 1.0, 2.0]])
    np.testing.assert_array_equal(greedy.prescribed(costs, 2.0), [[0, 1, 0], [1, 0, 0]])
    weights = np.exp(-2 * np.asarray(costs))
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(plain.prescribed(costs, 2.0), weights, rtol=1e-6)
    explore: Any = greedy.explore
    assert plain.explore is None
    for beta, share in ((0.1, 1.0), (10.0, 1 / np.log(11)), (1e6, 0.1)):
        np.testing.assert_allclose(explore.at(beta, 3.0), share, rtol=1e-6)


@pytest.mark.slow
def test_levels_and_centres_end_by_tolerance_and_centres_get_noise():
    base, log = cases.problem(), _log(DRAWS).for_problem(cases.problem())
    steps = {}
    # Changes are never below the first tolerance, always below the second.
    for first, second in ((1e-300, 1e-300), (1e300, 1e300)):
        learner = training(network_steps=FEW, centre_steps=3, prefit=0,
                           recipe=Recipe(tolerances=(first, second)))  # fmt: skip
        state = learner.init(KEY, base)
        after, told = eqx.filter_jit(learner.update)(state, base, log, KEY)
        assert np.isfinite(told["loss"])
        steps[first] = int(after.step)
        moved = eqx.filter_jit(learner.move)(
            after, base, base.x[: cases.K], jnp.asarray(1.0), log, None, KEY
        )
        # Adam's first steps are of its rate, in every direction.
        far = np.abs(np.asarray(moved - base.x[: cases.K])).max() / float(units(base)[1])
        np.testing.assert_allclose(far, 3e-3 * (3 if first < 1 else 2), rtol=0.02)
    assert steps == {1e-300: FEW, 1e300: 2}
    noisy = training(prefit=0, recipe=Recipe(noise=10.0))
    moved = noisy.move(after, base, base.x[: cases.K], jnp.asarray(1.0), log, None, KEY)
    far = np.asarray(moved - base.x[: cases.K]) / float(units(base)[1])
    assert 5 < np.nanstd(far) < 20


def test_a_log_of_costs_alone_becomes_a_problem():
    base = cases.problem()
    seen = learn.collect(base, learn.Simulated(TRUTH), key=KEY, rounds=40, each=50)
    # Nobody saw where they went.
    log = learn.Interactions(
        seen.entity, seen.prescribed, cost=seen.costs(base), centres=seen.centres, round=seen.round
    )
    fitted = learn.fit_costs(base, log, training(), steps=300, key=KEY).raise_if_failed()
    assert fitted.n_held_out == 200
    assert float(fitted.error) < float(fitted.error_of_base)
    centres = base.x[: cases.K]
    aware = mj.Clustering(base.x, cases.K, weights=base.weights, autonomy=TRUTH)

    @eqx.filter_jit
    def told(found):
        return (found.average_distances(centres), aware.average_distances(centres),
                base.distances(centres))  # fmt: skip

    found, exact, plain = map(np.asarray, told(fitted.problem))
    assert np.mean((found - exact) ** 2) < np.mean((plain - exact) ** 2)
    with pytest.raises(ValueError, match=r"fit_costs: `interactions` must be at least 20; got 10"):
        learn.fit_costs(base, log.take(np.arange(10)), training())
    with pytest.raises(TypeError, match=r"fit_costs: `training` must be a learn.Training"):
        learn.fit_costs(base, log, learn.Counts())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"network": "transformer"}, "`network` must be 'aden', 'mlp' or a constructor"),
        ({"cycles": 0}, "`cycles` must be"),
        ({"warm_up": -1}, "`warm_up` must be an int >= 0"),
        ({"perturbation": (0.3, 0.1)}, "`perturbation`"),
        ({"perturbation": (0.1,)}, "`perturbation` must be"),
        ({"learning_rate": -1.0}, "`learning_rate`"),
        ({"smoothing": 1.5}, "`smoothing`"),
        ({"options": {"width": 8, "heads": 3}}, "`heads` must divide `width`; got 3 and 8"),
        ({"network": "mlp", "options": {"head": ()}}, "`head` must be a sequence of sizes"),
    ],
)
def test_bad_settings_are_named(options, match):
    with pytest.raises(ValueError, match=f"Training: {match}"):
        learn.Training(**options)


@pytest.mark.slow
def test_costs_that_are_no_numbers_end_learning_with_a_code_and_what_was_good():
    def asked(entity, told, centres):
        del told, centres
        return np.full(entity.shape, np.nan)

    few = training(prefit=0, cycles=2, network_steps=2)
    learned = learn.interact(
        cases.problem(), learn.FromCallback(asked, "cost"), few, key=KEY, starts=STARTS, fresh=50
    )
    assert int(learned.code) == int(Code.INVALID_INPUT)
    assert np.all(np.isfinite(learned.params))
    with pytest.raises(mj.SolveError, match="`cost` must be finite numbers"):
        learned.raise_if_failed()


def test_costs_without_a_formula_need_a_network_without_a_base():
    base = mj.Clustering(cases.X, 2, cost="manhattan")
    with pytest.raises(ValueError, match=r"Training: the base of the network"):
        training().init(KEY, base)
    state = training(options=SMALL | {"base": None}).init(KEY, base)
    assert jnp.ndim(state.step) == 0
