"""Learning from a log: against likelihoods of NumPy, counts by hand and finite differences."""
# pyright: reportArgumentType=false, reportOptionalSubscript=false

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize

import mepjax as mj
from mepjax import Code, learn
from mepjax.learn.learner import updated

from ...oracles import learning_numpy as oracle
from .cases import FIT, TRUTH, K, M, N, X, log, problem, truth

GROUP = np.arange(N) % 2


def columns(found):
    return X, found.entity, found.prescribed, found.realised, found.centres, found.round


def numbers(fitted):
    return np.concatenate([np.ravel(value) for value in fitted.values.values()])


def test_structured_is_the_maximum_of_the_likelihood_and_of_its_information():
    found = log()
    fitted = learn.fit(problem(), found, **FIT).raise_if_failed()

    def likelihood(at):
        return oracle.log_likelihood(at, *columns(found))

    peer = minimize(
        lambda at: -likelihood(at), TRUTH, method="Nelder-Mead", options={"xatol": 1e-7}
    )
    np.testing.assert_allclose(numbers(fitted), peer.x, atol=1e-5)
    assert likelihood(numbers(fitted)) >= -peer.fun - 1e-9
    covariance = np.linalg.inv(-oracle.hessian(likelihood, numbers(fitted)))
    np.testing.assert_allclose(fitted.covariance[0], covariance, rtol=2e-3, atol=1e-7)
    errors = np.concatenate([np.ravel(v) for v in fitted.standard_errors.values()])
    np.testing.assert_allclose(errors, np.sqrt(np.diag(covariance)), rtol=2e-3)
    assert np.all(np.abs(numbers(fitted) - TRUTH) < 4 * errors)
    assert all(map(bool, fitted.identified.values())) and not fitted.test.rejects
    # What it says of rows is what the model says.
    rows = oracle.softmax_rows(*columns(found)[:3], found.centres, found.round, *numbers(fitted))
    learnt = fitted.problem(problem())
    told = np.zeros(N, np.int32)
    told[found.entity[:5]] = found.prescribed[:5]
    first = learnt.override_probabilities(found.centres[found.round[0]], told)
    np.testing.assert_allclose(first[found.entity[0]], rows[0], atol=1e-9)


@pytest.mark.parametrize("share", ["pooled", "none", "group"])
def test_counts_are_counts(share):
    found = log()
    learner = learn.Counts(GROUP if share == "group" else share, prior=0.0, reweight=False)
    fitted = learn.fit(problem(), found, learner, **FIT).raise_if_failed()
    table = {"pooled": np.zeros(N, int), "none": np.arange(N), "group": GROUP}[share]
    counts = np.zeros((table.max() + 1, K, K))
    np.add.at(counts, (table[found.entity], found.prescribed, found.realised), 1)
    told = counts.sum(axis=2, keepdims=True)
    pooled = counts.sum(axis=0) / counts.sum(axis=(0, 2))[:, None]
    expected = np.where(told > 0, counts / np.maximum(told, 1), pooled)
    got = np.asarray(fitted.autonomy.p).reshape(expected.shape)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    known = np.broadcast_to(told > 0, counts.shape)
    identified = np.asarray(fitted.identified["p"]).reshape(counts.shape)
    np.testing.assert_array_equal(identified, known)
    errors = np.asarray(fitted.standard_errors["p"]).reshape(counts.shape)
    np.testing.assert_allclose(
        errors[known], np.sqrt(expected * (1 - expected) / np.maximum(told, 1))[known], atol=1e-12
    )
    assert np.all(np.isinf(errors[~known]))
    kind = {"pooled": mj.autonomy.Matrix, "none": mj.autonomy.Dense, "group": mj.autonomy.Grouped}
    assert isinstance(fitted.autonomy, kind[share])


def test_the_prior_of_a_row_is_the_table_of_all_and_that_of_the_table_has_no_preference():
    found = learn.Interactions([0, 1, 1], [0, 0, 0], [0, 1, 1])
    table = learn.fit(problem(), found, learn.Counts("none", prior=3.0), **FIT).autonomy.p
    overall = np.array([1 + 1, 2 + 1, 1]) / 6
    np.testing.assert_allclose(table[0, 0], (np.array([1, 0, 0]) + 3 * overall) / 4)
    np.testing.assert_allclose(table[1, 0], (np.array([0, 2, 0]) + 3 * overall) / 5)
    np.testing.assert_allclose(table[2, 0], overall)
    np.testing.assert_allclose(table[0, 1], np.full(3, 1 / 3))


def test_pooled_tables_of_entities_that_differ_are_their_average_where_propensities_are_known():
    rng = np.random.default_rng(0)
    m = 200_000
    entity = rng.integers(0, 2, m)
    # The first is mostly told 0, and never stays there.
    chance = np.where(entity == 0, 0.9, 0.1)
    told = (rng.uniform(size=m) > chance).astype(int)
    propensity = np.where(told == 0, chance, 1 - chance)
    went = np.where((entity == 0) & (told == 0), 1, told)
    pair = mj.Clustering(X[:2], 2)
    found = learn.Interactions(entity, told, went, propensity=propensity)
    as_told = learn.fit(pair, found, learn.Counts(reweight=False), bootstrap=1)
    np.testing.assert_allclose(as_told.autonomy.p[0], [0.1, 0.9], atol=0.01)
    average = learn.fit(pair, found, learn.Counts(), bootstrap=1)
    np.testing.assert_allclose(average.autonomy.p[0], [0.5, 0.5], atol=0.01)
    worth = 0.25 / np.asarray(average.standard_errors["p"])[0, 0] ** 2
    assert 0.3 < worth / (m / 2) < 0.8


@pytest.mark.parametrize("learner", [learn.Structured(), learn.Counts(reweight=False)])
def test_jit_vmap_order_labels_and_repetition(learner, count_compiles):
    base, found = problem(), log()
    fitted = learn.fit(base, found, learner, **FIT)
    jitted = eqx.filter_jit(lambda p, log: learn.fit(p, log, learner, **FIT).parameters)
    traced = jax.tree.map(jnp.asarray, found)
    np.testing.assert_allclose(jitted(base, traced), fitted.parameters, atol=1e-10)
    other = log(1)
    with count_compiles() as compiled:
        second = learn.fit(base, other, learner, **FIT)
    assert compiled() == 0
    both = jax.tree.map(lambda a, b: jnp.stack([a, b]), found, other)
    lanes = eqx.filter_vmap(lambda log: learn.fit(base, log, learner, **FIT).parameters)(both)
    np.testing.assert_allclose(lanes[0], fitted.parameters, atol=1e-10)
    np.testing.assert_allclose(lanes[1], second.parameters, atol=1e-10)
    shuffled = found.take(np.random.default_rng(0).permutation(M))
    again = learn.fit(base, shuffled, learner, **FIT)
    np.testing.assert_allclose(again.parameters, fitted.parameters, atol=1e-9)
    twice = dataclasses.replace(found.take(np.arange(M)), times=np.full(M, 2.0))
    repeated = found.extend(dataclasses.replace(found))
    one, two = (learn.fit(base, log, learner, **FIT) for log in (twice, repeated))
    np.testing.assert_allclose(one.parameters, two.parameters, atol=1e-9)
    np.testing.assert_allclose(one.covariance, two.covariance, atol=1e-9)
    # Cluster j is called order[j] now.
    order = np.array([2, 0, 1])
    renamed = dataclasses.replace(
        found,
        prescribed=order[found.prescribed].astype(np.int32),
        realised=order[found.realised].astype(np.int32),
        centres=found.centres[:, np.argsort(order)],
    )
    relabelled = learn.fit(base, renamed, learner, **FIT)
    if isinstance(learner, learn.Counts):
        p = relabelled.autonomy.p[order][:, order]
        np.testing.assert_allclose(p, fitted.autonomy.p, atol=1e-12)
    else:
        np.testing.assert_allclose(relabelled.parameters, fitted.parameters, atol=1e-9)


def test_single_precision_agrees():
    found = log()
    double = learn.fit(problem(), found, **FIT)
    with jax.enable_x64(False):
        single = learn.fit(problem(np.float32), found, **FIT).raise_if_failed()
        assert single.parameters.dtype == np.float32
    np.testing.assert_allclose(single.parameters, double.parameters, atol=1e-3)
    np.testing.assert_allclose(single.covariance, double.covariance, rtol=1e-2, atol=1e-6)


def _ask(base, centres, seed, m=400, kappa=0.4):
    asked = learn.Simulated(mj.autonomy.Softmax(kappa, 2.0, 1.0))
    rng = np.random.default_rng(seed)
    entity = rng.integers(0, base.x.shape[0], m).astype(np.int32)
    told = rng.integers(0, base.k, m).astype(np.int32)
    seen = asked.observe(jax.random.key(seed), base, entity, told, centres)
    return learn.Interactions(entity, told, seen.realised, centres=centres)


def _solved(model):
    return mj.anneal(
        problem(autonomy=model),
        mj.Explicit([40.0]),
        key=jax.random.key(0),
        init=jnp.asarray([[3.2, 3.2], [3.8, 3.3], [3.5, 3.8]]),
        detector=mj.NoDetector(),
    )


@pytest.mark.slow
def test_two_clusters_depend_on_nothing_that_is_not_known():
    pair = mj.Clustering(X, 2)
    fitted = learn.fit(pair, _ask(pair, jnp.asarray(X[:2]), 0), **FIT).raise_if_failed()
    sol = mj.anneal(fitted.problem(pair), mj.Geometric(1.0, 50.0, 1.5), key=jax.random.key(0))
    assert np.isinf(fitted.standard_errors["zeta"])
    assert np.all(np.isfinite(learn.centre_errors(pair, sol, fitted).standard_errors))


def test_what_the_data_do_not_tell_has_an_infinite_error():
    pair = mj.Clustering(X, 2)
    fitted = learn.fit(pair, _ask(pair, jnp.asarray(X[:2]), 0), **FIT).raise_if_failed()
    told = {name: bool(value) for name, value in fitted.identified.items()}
    assert told == {"kappa": True, "zeta": False, "gamma": False}
    assert np.isinf(fitted.standard_errors["zeta"]) and fitted.standard_errors["kappa"] < 0.03
    triangle = 3.5 + 0.4 * jnp.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])
    fitted = learn.fit(problem(), _ask(problem(), triangle, 1), **FIT).raise_if_failed()
    told = {name: bool(value) for name, value in fitted.identified.items()}
    assert told == {"kappa": True, "zeta": False, "gamma": True}
    near = float(fitted.values["gamma"]) - 1
    assert abs(near) < 4 * float(fitted.standard_errors["gamma"])
    sol = _solved(fitted.autonomy)
    assert np.all(np.isinf(learn.centre_errors(problem(), sol, fitted).standard_errors))

    fitted = learn.fit(problem(), _ask(problem(), triangle, 2, kappa=0.0), **FIT)
    fitted.raise_if_failed()
    told = {name: bool(value) for name, value in fitted.identified.items()}
    assert told == {"kappa": True, "zeta": False, "gamma": False}
    assert fitted.values["kappa"] == 0 and 0 < fitted.standard_errors["kappa"] < 0.01


def test_overrides_that_a_rule_explains_end_finite_and_unknown():
    """The nearest always wins: the likelihood has no maximum."""
    cold = learn.Simulated(mj.autonomy.Softmax(0.4, 1.0, 0.0, 1e-4))
    fitted = learn.fit(problem(), log(environment=cold), **FIT)
    assert np.all(np.isfinite(fitted.parameters))
    assert int(fitted.code) == Code.OK and not fitted.identified["zeta"]
    assert fitted.values["zeta"] > 20


def test_kappa_by_group():
    kappas = np.where(GROUP == 0, 0.1, 0.6)
    asked = learn.Simulated(mj.autonomy.Softmax(kappas, 2.0, 1.0))
    found = log(environment=asked)
    fitted = learn.fit(problem(), found, learn.Structured(kappa=GROUP), **FIT)
    strayed = found.realised != found.prescribed
    for group in (0, 1):
        of = GROUP[found.entity] == group
        np.testing.assert_allclose(fitted.values["kappa"][group], strayed[of].mean(), atol=1e-12)
    np.testing.assert_allclose(fitted.autonomy.kappa, np.asarray(fitted.values["kappa"])[GROUP])
    assert fitted.test.spread_p > 0.05
    shared = learn.fit(problem(), found, **FIT)
    assert shared.test.spread_p < 0.05


def test_more_interactions_equal_all_at_once():
    found = log()
    for learner in (learn.Structured(), learn.Counts()):
        base = problem()
        state, info = learner.init(jax.random.key(0), base), {}
        for part in np.split(np.arange(M), 3):
            rows = found.take(part).for_problem(base)
            state, info = updated(learner, state, base, rows, jax.random.key(1))
        assert np.isfinite(info["loss"])
        once = learn.fit(base, found, learner, **FIT)
        np.testing.assert_allclose(learner.parameters(state), once.parameters, atol=1e-6)
        costs = learner.costs(state, base, jnp.arange(N), jnp.asarray(X[:K]))
        learnt = once.problem(base)
        np.testing.assert_allclose(costs, learnt.average_distances(X[:K]), atol=1e-6)


def test_without_room_inside_jit_it_says_so():
    found, base, learner = log(), problem(), learn.Structured()
    rows = found.for_problem(base)

    @eqx.filter_jit
    def learnt(rows, room):
        state = learner.reserve(learner.init(jax.random.key(0), base), base, room)
        count = jnp.zeros((), jnp.int32) * rows.entity[0]
        state = eqx.tree_at(lambda s: s.count, state, count)
        return learner.state_code(learner.update(state, base, rows, jax.random.key(0))[0])

    assert int(learnt(rows, M)) == Code.OK
    assert int(learnt(rows, M - 1)) == Code.INVALID_INPUT


def test_error_bars_of_centres_are_those_of_finite_differences():
    base = problem()
    fitted = learn.fit(base, log(), **FIT)
    sol = _solved(fitted.autonomy).raise_if_failed()
    errors = learn.centre_errors(base, sol, fitted)
    flat = np.asarray(fitted.parameters)[0]
    jacobian = np.zeros((K * 2, 3))
    for place in range(3):
        step = 1e-4 * np.eye(3)[place]
        ahead, behind = (
            np.ravel(_solved(fitted.learner.model(jnp.asarray([flat + sign * step]))).params)
            for sign in (1, -1)
        )
        jacobian[:, place] = (ahead - behind) / 2e-4
    expected = jacobian @ np.asarray(fitted.covariance[0]) @ jacobian.T
    np.testing.assert_allclose(errors.covariance, expected, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(
        np.ravel(errors.standard_errors), np.sqrt(np.diag(expected)), rtol=1e-3
    )


@pytest.mark.slow
def test_error_bars_of_centres_cover():
    """The spread of centres over logs is the one that is told of each."""
    base = problem()
    centres, told = [], []
    for seed in range(25):
        fitted = learn.fit(base, log(seed), **FIT)
        sol = _solved(fitted.autonomy)
        centres.append(np.asarray(sol.params))
        told.append(np.asarray(learn.centre_errors(base, sol, fitted).standard_errors))
    ratio = np.std(centres, axis=0) / np.mean(told, axis=0)
    assert 0.6 < ratio.min() and ratio.max() < 1.5


def _many(count, model, each=None, learner=None):
    """Fits to logs of `count` seeds at once: parameters, errors and p-values."""
    base = problem()
    each = M if each is None else each

    def one(key: Any):
        ask, fit = jax.random.split(key)
        log = learn.collect(base, learn.Simulated(model), key=ask, rounds=4, each=each // 4)
        found = learn.fit(base, log, learner, key=fit, bootstrap=60)
        errors = jnp.sqrt(jnp.diagonal(found.covariance[0]))
        return found.parameters[0], errors, found.test.pearson_p, found.test.spread_p

    return jax.tree.map(
        np.asarray,
        jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(7), count)),
    )


@pytest.mark.slow
def test_intervals_cover_and_tests_keep_their_level():
    parameters, errors, pearson, spread = _many(120, truth())
    covered = np.abs(parameters - TRUTH) < 1.96 * errors
    assert np.all(covered.mean(axis=0) > 0.89) and np.all(covered.mean(axis=0) <= 1.0)
    # 5 % of 120, and what chance adds in one of a thousand.
    assert np.mean(pearson < 0.05) < 0.12 and np.mean(spread < 0.05) < 0.12


@pytest.mark.slow
def test_what_is_not_of_the_family_is_found():
    kappas = np.where(GROUP == 0, 0.1, 0.5)
    _, _, pearson, spread = _many(20, mj.autonomy.Softmax(kappas, 2.0, 1.0), each=2000)
    assert np.mean(spread < 0.05) >= 0.95
    table = mj.autonomy.Matrix([[0.6, 0.0, 0.4], [0.4, 0.6, 0.0], [0.0, 0.4, 0.6]])
    _, _, pearson, _ = _many(20, table, each=2000)
    assert np.mean(pearson < 0.05) >= 0.95


MISTAKES = {
    "aware": (
        lambda: learn.fit(problem(autonomy=truth()), log()),
        ValueError,
        r"fit: `problem` must have no autonomy, as that is what is learnt; got Softmax",
    ),
    "learner": (
        lambda: learn.fit(problem(), log(), 3),
        TypeError,
        r"fit: `learner` must be a learner .* got int 3",
    ),
    "centres unknown": (
        lambda: learn.fit(problem(), learn.Interactions([0], [0], [1])),
        ValueError,
        r"fit: `centres` of the interactions must be given to Structured.*got None",
    ),
    "realised unknown": (
        lambda: learn.fit(problem(), learn.Interactions([0], [0], cost=[1.0]), learn.Counts()),
        ValueError,
        r"fit: `realised` of the interactions must be given to Counts",
    ),
    "one cluster": (
        lambda: learn.fit(mj.Clustering(X, 1), learn.Interactions([0], [0], [0], centres=X[:1])),
        ValueError,
        r"Structured: `problem` must have at least 2 clusters",
    ),
    "groups": (
        lambda: learn.fit(problem(), log(), learn.Counts([0, 1])),
        ValueError,
        r"Counts: `share` must have shape \(40,\) for 40 entities; got \(2,\)",
    ),
    "share": (
        lambda: learn.Counts("all"),
        ValueError,
        r"Counts: `share` must be one of \('pooled', 'none'\) or the group.*got 'all'",
    ),
    "prior": (lambda: learn.Counts(prior=-1.0), ValueError, r"`prior` must be >= 0; got -1"),
    "forget": (
        lambda: learn.Structured(forget=0.0),
        ValueError,
        r"Structured: `forget` must be in \(0, 1\]; got 0",
    ),
    "kappa": (
        lambda: learn.Structured("own"),
        ValueError,
        r"Structured: `kappa` must be 'shared' or the group",
    ),
    "environment": (
        lambda: learn.collect(problem(), truth(), key=jax.random.key(0)),
        TypeError,
        r"collect: `environment` must be an environment.*got Softmax",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    make, kind, text = MISTAKES[name]
    with pytest.raises(kind, match=text):
        make()


def test_traced_mistakes_become_codes():
    found = log()

    @eqx.filter_jit
    def fitted(log):
        return learn.fit(problem(), log, **FIT)

    bad = dataclasses.replace(found, realised=np.where(np.arange(M) == 3, K, found.realised))
    result = fitted(jax.tree.map(jnp.asarray, bad))
    assert int(result.code) == Code.INVALID_INPUT
    with pytest.raises(ValueError, match=r"`realised` must be a cluster, in 0 .. 2; got 3"):
        result.raise_if_failed()


def test_a_row_that_counts_several_times_is_as_many_draws():
    few = log().take(np.arange(60))
    times = np.arange(60) % 4.0
    short = dataclasses.replace(few, times=times)
    whole = few.take(np.repeat(np.arange(60), times.astype(int)))
    one, other = (learn.fit(problem(), found, learn.Counts(), **FIT) for found in (short, whole))
    np.testing.assert_allclose(numbers(one), numbers(other), rtol=1e-12)
    for name in ("pearson", "pearson_p", "spread", "spread_p", "repeated"):
        np.testing.assert_allclose(getattr(one.test, name), getattr(other.test, name), rtol=1e-9)
