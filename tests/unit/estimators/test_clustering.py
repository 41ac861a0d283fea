"""The estimator: what it finds, in which units and types, and what it says when it cannot."""

import importlib
import pickle
import sys
from typing import Any

import jax
import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mepjax as mj
from mepjax.estimators import AutonomyAwareClustering

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
P = np.array([[0.7, 0.1, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4]])


def blobs(n=60, seed=0):
    rng = np.random.default_rng(seed)
    return 10 * CORNERS[np.arange(n) % 4] + rng.normal(size=(n, 2))


def estimator(n_clusters: Any = 4, **options: Any) -> AutonomyAwareClustering:
    """Quick, and of one shape and schedule, so that few programs are compiled."""
    return AutonomyAwareClustering(
        n_clusters, **({"factor": 1.5, "restarts": 1, "random_state": 0} | options)
    )


# scikit-learn's annotations, where there are any, are narrower than what it takes and gives.
copied: Any = clone


AUTONOMY = {
    "none": {},
    "uniform": {"kappa": 0.2},
    "softmax": {"kappa": 0.2, "temperature": 0.1},
    "matrix": {"autonomy": P},
}


# --- What it finds. ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kappa", "optimal", "ignored", "gap"),
    [
        (0.1, 0.248889, 0.266667, 7.1429),
        (0.2, 0.462222, 0.533333, 15.3846),
        (0.3, 0.64, 0.8, 25.0),
        (0.4, 0.782222, 1.066667, 36.3636),
        (0.5, 0.888889, 1.333333, 50.0),
    ],
)
def test_the_square_with_uniform_autonomy(kappa, optimal, ignored, gap):
    # Closed forms, relative to the variance, which is 1/2.
    found = estimator(kappa=kappa).fit(CORNERS)
    assert found.inertia_ / 4 / 0.5 == pytest.approx(optimal, abs=1e-6)
    percent = found.cost_of_ignoring_autonomy_
    assert percent is not None and percent == pytest.approx(gap, abs=1e-3)
    assert optimal * (1 + percent / 100) == pytest.approx(ignored, abs=1e-5)
    assert sorted(found.labels_) == [0, 1, 2, 3] and found.n_used_clusters_ == 4


def test_separated_blobs_without_autonomy_are_those_of_k_means():
    x = blobs()
    weights = 1 + np.arange(60) % 3
    found = estimator().fit(x, sample_weight=weights)
    options: Any = {"n_init": 5, "random_state": 0}
    other = KMeans(4, **options).fit(x, sample_weight=weights)
    assert found.inertia_ == pytest.approx(other.inertia_, rel=1e-9)
    order = np.argsort(found.predict(10 * CORNERS)), np.argsort(other.predict(10 * CORNERS))
    np.testing.assert_array_equal(order[0][found.labels_], order[1][other.labels_])
    assert found.cost_of_ignoring_autonomy_ is None and found.autonomy_ is None
    assert found.found_by_ == "exact" and found.solution_code_ is mj.Code.OK
    assert found.n_iter_ > 20 and len(found.transitions_) >= 1


@pytest.mark.parametrize(("kind", "n"), [("none", 128), ("uniform", 60), ("matrix", 128)])
def test_it_is_what_a_direct_anneal_finds(kind, n):
    # 128 rows are not padded, 60 are.
    x, weights = blobs(n), 1.0 + np.arange(n) % 2
    found = estimator(**AUTONOMY[kind]).fit(x, sample_weight=weights)
    model = {"none": None, "uniform": mj.autonomy.Uniform(0.2), "matrix": mj.autonomy.Matrix(P)}
    with jax.enable_x64(True):
        problem = mj.Clustering(x, 4, weights=weights, autonomy=model[kind])
        # Anew where the blobs leave one good answer; a general matrix has several, of which the
        # one found is solved again at the last beta.
        first = found.beta_ / (1 if kind == "matrix" else 2e4)
        schedule = mj.Geometric(first, found.beta_, 1.5, max_stages=26)
        init = found.cluster_centers_ if kind == "matrix" else None
        grown = {"detector": mj.Growth(sample=None), "repair": mj.Repair()}
        sol = mj.anneal(problem, schedule, key=jax.random.key(3), init=init, **grown)
        sol.raise_if_failed()
        hard = problem.harden(sol.params)
        assert found.inertia_ == pytest.approx(float(hard.cost) * weights.sum(), rel=1e-9)
        centres = jax.numpy.asarray(found.cluster_centers_)
        residual = problem.residual(centres, found.beta_)
        assert float(jax.numpy.max(jax.numpy.abs(residual))) < 1e-7
        np.testing.assert_array_equal(found.labels_, problem.harden(centres).assignments)
        averages = np.asarray(problem.average_distances(centres))
        policy = np.exp(np.asarray(problem.policy(centres, 0.02)))
    np.testing.assert_allclose(found.transform(x), averages, rtol=1e-10)
    np.testing.assert_allclose(found.predict_proba(x, beta=0.02), policy, rtol=1e-8)


@pytest.mark.slow
def test_the_better_of_exact_and_frozen_is_kept_and_named():
    # The optimum by enumeration; a frozen anneal ends at 0.2362.
    x = np.array([[0.0], [0.2], [1.0], [1.1], [2.0]])
    options = {"kappa": 0.3, "zeta": 1.0, "gamma": 0.5, "temperature": 0.1, "scale": "none"}
    found = estimator(3, **options).fit(x)
    assert found.inertia_ / 5 == pytest.approx(0.2188769493, abs=1e-6)
    np.testing.assert_allclose(
        np.sort(found.cluster_centers_[:, 0]), [0.093963, 0.930806, 1.556997], atol=1e-4
    )
    assert found.found_by_ in ("exact", "frozen, then exact", "without autonomy, then exact")
    percent = found.cost_of_ignoring_autonomy_
    assert percent is not None and percent > 0


# --- Sizes. ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["none", "uniform"])
def test_labels_meet_a_capacity_and_predictions_are_the_nearest(kind):
    # Two blobs of 40 and 20 points; halves move ten of the first to the second.
    x = blobs()
    x = np.where(np.arange(60)[:, None] % 3 < 2, x - 10 * CORNERS[np.arange(60) % 4], x / 50 + 8)
    halves = mj.Equal([0.5, 0.5])
    options = AUTONOMY[kind] | {"factor": 2.0}
    found = estimator(2, capacity=halves, **options).fit(x)
    assert list(np.bincount(found.labels_)) == [30, 30] and found.n_used_clusters_ == 2
    assert found.solution_code_ is mj.Code.OK
    costs = found.transform(x)
    np.testing.assert_array_equal(found.predict(x), np.argmin(costs, axis=1))
    assert np.sum(found.predict(x) != found.labels_) > 0
    # The cheapest halves: those with the least extra cost of the first go there.
    extra = np.sort(costs[:, 0] - costs[:, 1])
    expected = costs[:, 1].sum() + extra[:30].sum()
    assert found.inertia_ == pytest.approx(expected, rel=1e-12)
    assert found.inertia_ > -found.score(x)
    # Centres of halves are means of what they receive.
    shares = np.full((2, 2), 0.2) + 0.6 * np.eye(2) if kind == "uniform" else np.eye(2)
    received = shares[found.labels_]
    means = received.T @ x / received.sum(axis=0)[:, None]
    np.testing.assert_allclose(found.cluster_centers_, means, atol=0.2)
    percent = found.cost_of_ignoring_autonomy_
    assert percent is None if kind == "none" else percent is not None and percent > -1e-9
    with pytest.raises(NotFittedError):
        copied(found).predict(x)


def test_a_wide_capacity_changes_nothing():
    x = blobs()
    wide, free = (estimator(capacity=c, random_state=1).fit(x) for c in ([0.9] * 4, None))
    assert wide.inertia_ == pytest.approx(free.inertia_, rel=1e-7)
    np.testing.assert_array_equal(wide.predict(x), wide.labels_)


# --- Weights. ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow if k == "softmax" else ()) for k in AUTONOMY],
)
def test_weights_equal_repetitions(kind):
    x = np.random.default_rng(1).uniform(size=(40, 2))
    weights = np.random.default_rng(2).integers(0, 4, size=40)
    one = estimator(**AUTONOMY[kind]).fit(x, sample_weight=weights)
    other = estimator(**AUTONOMY[kind]).fit(np.repeat(x, weights, axis=0))
    options: Any = {"rtol": 1e-7, "atol": 1e-9}
    np.testing.assert_allclose(one.cluster_centers_, other.cluster_centers_, **options)
    np.testing.assert_allclose(one.transform(x), other.transform(x), **options)
    np.testing.assert_array_equal(np.repeat(one.labels_, weights), other.labels_)
    assert one.inertia_ == pytest.approx(other.inertia_, rel=1e-9)
    assert one.n_used_clusters_ == other.n_used_clusters_
    assert one.score(x, sample_weight=weights) == pytest.approx(-one.inertia_, rel=1e-12)
    assert other.score(np.repeat(x, weights, axis=0)) == pytest.approx(-one.inertia_, rel=1e-9)


def test_a_cluster_of_weightless_points_is_not_used():
    found = estimator().fit(np.vstack([blobs(8), [[99.0, 99.0]]]), sample_weight=[1] * 8 + [0])
    assert found.n_used_clusters_ == 4 and len(found.labels_) == 9


# --- Methods. ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(AUTONOMY))
def test_methods_agree(kind):
    x = blobs()
    model = estimator(**AUTONOMY[kind])
    labels = model.fit_predict(x)
    averages = model.transform(x)
    np.testing.assert_array_equal(labels, model.labels_)
    np.testing.assert_array_equal(labels, np.argmin(averages, axis=1))
    np.testing.assert_array_equal(labels, np.argmax(model.predict_proba(x), axis=1))
    assert model.inertia_ == pytest.approx(averages.min(axis=1).sum(), rel=1e-12)
    # A point by itself is treated as in company.
    np.testing.assert_allclose(model.transform(x[7:8]), averages[7:8], rtol=1e-12)
    soft, ends = model.predict_proba(x, beta=0.02), model.association_weights(x, beta=0.02)
    np.testing.assert_allclose(soft.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(ends.sum(axis=1), 1, rtol=1e-12)
    overrides = {
        "none": np.eye(4),
        "uniform": 0.8 * np.eye(4) + 0.2 / 3 * (1 - np.eye(4)),
        "matrix": P,
    }
    if kind in overrides:
        np.testing.assert_allclose(ends, soft @ overrides[kind], rtol=1e-10, atol=1e-14)
    with pytest.raises(ValueError, match="`beta` must be a finite number > 0; got -1"):
        model.predict_proba(x, beta=-1)


@pytest.mark.slow
def test_a_function_of_point_and_centres_is_seen_in_input_units():
    seen = []

    def overrides(point, centres):
        seen.append((point, centres))
        return jax.numpy.asarray(P) + 0 * point[0]

    x = blobs(40) + 1000
    found = estimator(autonomy=overrides).fit(x)
    same = estimator(autonomy=P).fit(x)
    assert found.inertia_ == pytest.approx(same.inertia_, rel=1e-6)
    assert seen and found.found_by_ in ("exact", "frozen, then exact")

    def far(point, centres):
        # Obeys where x > 500, in input units: here always.
        return jax.numpy.where(point[0] > 500, jax.numpy.eye(4), jax.numpy.asarray(P))

    obedient = estimator(autonomy=far).fit(x)
    assert obedient.inertia_ == pytest.approx(estimator().fit(x).inertia_, rel=1e-9)


# --- Units. ------------------------------------------------------------------------------------


def test_unit_scaling_reports_in_input_units():
    x = blobs()
    side = np.max(np.ptp(x, axis=0))
    small = estimator(**AUTONOMY["softmax"], scale="none").fit((x - 3) / side)
    large = estimator(**AUTONOMY["softmax"]).fit(x)
    assert large.inertia_ == pytest.approx(small.inertia_ * side**2, rel=1e-6)
    np.testing.assert_allclose(large.cluster_centers_, small.cluster_centers_ * side + 3, rtol=1e-4)
    np.testing.assert_array_equal(large.labels_, small.labels_)
    assert large.beta_ == pytest.approx(small.beta_, rel=1e-9)
    # The same model, given as one.
    model = mj.autonomy.Softmax(0.2, temperature=0.1)
    assert estimator(autonomy=model).fit(x).inertia_ == pytest.approx(large.inertia_, rel=1e-9)


def test_zscore_weighs_columns_alike_and_gives_centres_in_input_units():
    x = blobs()
    stretched = x * [1.0, 1000.0] + [5.0, -7.0]
    found = estimator(scale="zscore").fit(stretched)
    plain = estimator().fit((x - x.mean(axis=0)) / x.std(axis=0))
    np.testing.assert_array_equal(found.labels_, plain.labels_)
    assert found.inertia_ == pytest.approx(plain.inertia_, rel=1e-9)
    centres = plain.cluster_centers_ * stretched.std(axis=0) + stretched.mean(axis=0)
    np.testing.assert_allclose(found.cluster_centers_, centres, rtol=1e-6)


def test_another_cost():
    x = blobs()
    cost = mj.costs.Mahalanobis(np.diag([1.0, 100.0]))
    found = estimator(cost=cost).fit(x)
    plain = estimator().fit(x * [1.0, 10.0])
    assert found.inertia_ == pytest.approx(plain.inertia_, rel=1e-9)


# --- Precision and types. ----------------------------------------------------------------------


@pytest.mark.parametrize("enabled", [False, True])
def test_the_precision_of_the_session_is_left_alone(enabled):
    x = blobs()
    reference = estimator(kappa=0.2).fit(x)
    with jax.enable_x64(enabled):
        # Made in the session's own precision.
        given = mj.autonomy.Uniform(jax.numpy.asarray(0.2))
        found = estimator(autonomy=given).fit(x)
        for method in (found.predict_proba, found.transform, found.association_weights):
            assert method(x).dtype == np.float64
        assert jax.numpy.zeros(1).dtype == (np.float64 if enabled else np.float32)
    # 0.2 itself was rounded in float32.
    np.testing.assert_allclose(found.cluster_centers_, reference.cluster_centers_, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_results_have_the_dtype_of_the_data(dtype):
    x = blobs().astype(dtype)
    found = estimator().fit(x)
    for values in (
        found.cluster_centers_, found.transform(x), found.predict_proba(x),
        found.association_weights(x),
    ):  # fmt: skip
        assert values.dtype == dtype
    np.testing.assert_array_equal(found.labels_, found.predict(x))
    exact = estimator().fit(blobs())
    np.testing.assert_allclose(found.inertia_, exact.inertia_, rtol=1e-5)
    assert estimator().fit(blobs().astype(int)).cluster_centers_.dtype == np.float64


@pytest.mark.parametrize(("library", "name"), [(pd, "pandas"), (pl, "polars")])
def test_data_frames_in_and_out(library, name):
    frame = library.DataFrame({"east": blobs()[:, 0], "north": blobs()[:, 1]})
    model: Any = estimator().set_output(transform=name).fit(frame)
    assert list(model.feature_names_in_) == ["east", "north"] and model.n_features_in_ == 2
    out = model.transform(frame)
    assert isinstance(out, library.DataFrame)
    names = [f"autonomyawareclustering{index}" for index in range(4)]
    assert list(out.columns) == names == list(model.get_feature_names_out())
    np.testing.assert_array_equal(model.predict(frame), np.argmin(out.to_numpy(), axis=1))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[["north", "east"]])


# --- In the company of scikit-learn. -----------------------------------------------------------


@pytest.mark.slow
def test_a_grid_search_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), estimator())
    name = "autonomyawareclustering"
    grid = {f"{name}__kappa": [0.0, 0.2], f"{name}__n_clusters": [2, 4]}
    options: Any = {"cv": 2, "error_score": "raise"}
    search = GridSearchCV(pipeline, grid, **options).fit(blobs())
    assert search.best_params_ == {f"{name}__kappa": 0.0, f"{name}__n_clusters": 4}
    assert np.all(np.isfinite(search.cv_results_["mean_test_score"]))
    assert len(np.unique(search.predict(10 * CORNERS))) == 4


@pytest.mark.parametrize("kind", list(AUTONOMY))
def test_cloning_and_pickling(kind):
    x = blobs()
    fitted = estimator(**AUTONOMY[kind]).fit(x)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.transform(x), fitted.transform(x))
    again = copied(fitted)
    with pytest.raises(NotFittedError):
        again.predict(x)
    np.testing.assert_array_equal(again.fit(x).cluster_centers_, fitted.cluster_centers_)


def test_models_survive_cloning_and_pickling():
    model = mj.autonomy.Softmax(jax.numpy.asarray(0.2), temperature=jax.numpy.asarray(0.1))
    fitted = copied(estimator(autonomy=model)).fit(blobs())
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(blobs()), fitted.labels_)


def test_random_state():
    x = np.random.default_rng(0).uniform(size=(60, 2))
    seeds = [np.random.RandomState(5), np.random.RandomState(5), 6]
    # Where slots have no spectrum every start is random; else growth comes first, without chance.
    kicked: Any = {"cost": "manhattan"}
    first, second, third = (estimator(random_state=seed, **kicked).fit(x) for seed in seeds)
    np.testing.assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert not np.array_equal(first.cluster_centers_, third.cluster_centers_)
    best = estimator(restarts=4, random_state=5, **kicked).fit(x)
    grown, again = (estimator(random_state=seed).fit(x) for seed in (5, 6))
    np.testing.assert_array_equal(grown.cluster_centers_, again.cluster_centers_)
    # A seed's first start is not that of one start alone, but four are hardly ever all worse.
    assert best.inertia_ <= max(first.inertia_, third.inertia_) * (1 + 1e-9)


def test_a_sample_only_chooses_where_the_last_stage_starts():
    x = blobs(400)
    whole, drawn = estimator(sample=None).fit(x), estimator(sample=100, restarts=2).fit(x)
    assert whole.sampling_gap_ == 0 < drawn.sampling_gap_
    np.testing.assert_allclose(drawn.inertia_, whole.inertia_, rtol=1e-9)
    # No sample is drawn of as many points as there are.
    assert estimator(sample=400).fit(x).sampling_gap_ == 0


def test_the_last_stage_is_as_exact_as_asked_for():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    rough, exact = (estimator(beta_max=3.0, tol=tol).fit(x) for tol in (1e-3, 1e-10))
    assert rough.n_iter_ < exact.n_iter_
    error = np.max(np.abs(rough.cluster_centers_ - exact.cluster_centers_))
    assert 1e-9 < error < 1e-2


# --- What goes wrong. --------------------------------------------------------------------------


def squared(x: jax.Array, y: jax.Array) -> jax.Array:
    """A cost of one's own, for which there is no growth."""
    return jax.numpy.sum((x - y) ** 2)


def test_a_solve_that_did_not_converge_warns_with_the_sentence_of_its_code():
    x = np.tile([[-1.0, 0.0], [1.0, 0.0]], (4, 1))
    # Just below the first transition, at 1/2, where steps shrink slowly.
    model = estimator(beta_max=0.4999, cost=squared, tol=1e-10)
    with pytest.warns(ConvergenceWarning) as caught:
        model.fit(x)
    (warning,) = caught
    assert str(warning.message) == f"[MAX_STEPS] {mj.Code.MAX_STEPS.message}"
    assert model.solution_code_ is mj.Code.MAX_STEPS
    assert warning.filename == __file__
    np.testing.assert_allclose(model.cluster_centers_, 0, atol=0.1)


BAD = [
    ({"n_clusters": 0}, "`n_clusters` must be an integer >= 1; got 0"),
    ({"n_clusters": 2.0}, "`n_clusters` must be an integer >= 1; got 2.0"),
    ({"n_clusters": True}, "`n_clusters` must be an integer >= 1; got True"),
    ({"n_clusters": 61}, "n_samples=60 should be >= n_clusters=61"),
    ({"kappa": -0.1}, "`kappa` must be a number from 0 to 1; got -0.1"),
    ({"kappa": float("nan")}, "`kappa` must be a number from 0 to 1; got nan"),
    ({"kappa": None}, "`kappa` must be a number from 0 to 1; got None"),
    ({"kappa": [0.1]}, r"`kappa` must be a number from 0 to 1; got \[0.1\]"),
    ({"kappa": 0.2, "temperature": 0}, "`temperature` must be a finite number > 0; got 0"),
    ({"kappa": 0.2, "temperature": "hot"}, "`temperature` must be a finite number > 0; got 'hot'"),
    ({"kappa": 0.2, "gamma": float("inf")}, "`gamma` must be a finite number; got inf"),
    ({"kappa": 0.2, "zeta": "1"}, "`zeta` must be a finite number; got '1'"),
    ({"autonomy": "free"}, "`autonomy` must be one of none, uniform, softmax, or a model; got"),
    ({"autonomy": 3}, "`autonomy`: Matrix: `p` must have shape"),
    ({"autonomy": np.eye(3)}, r"`autonomy`: Matrix: `p` must have shape \(4, 4\)"),
    ({"autonomy": 0.9 * np.eye(4)}, "`autonomy`: Matrix: rows of `p` must sum to one; got a row"),
    ({"autonomy": mj.autonomy.Uniform}, "`autonomy`: `autonomy` must be an instance"),
    ({"autonomy": mj.autonomy.Uniform([0.1] * 60)}, "`autonomy`: Uniform has numbers of its own"),
    ({"autonomy": mj.autonomy.Dense([np.eye(4)])}, "`autonomy`: Dense has numbers of its own"),
    ({"autonomy": P, "kappa": 0.1}, "`kappa` must be 0 beside an `autonomy` that brings its own"),
    ({"autonomy": P, "gamma": 1}, "`gamma` must be None beside an `autonomy` that brings its own"),
    ({"autonomy": "none", "kappa": 0.1}, "`kappa` must be 0 beside autonomy='none'; got 0.1"),
    ({"autonomy": "uniform", "zeta": 1}, "`zeta` must be None beside autonomy='uniform'; got 1"),
    ({"cost": "chebyshev"}, '`cost` must be one of "sqeuclidean"'),
    ({"scale": "big"}, "`scale` must be None or one of none, unit, zscore; got 'big'"),
    ({"restarts": 0}, "`restarts` must be an integer >= 1; got 0"),
    ({"sample": 0}, "`sample` must be an integer >= 1; got 0"),
    ({"sample": 1e4}, "`sample` must be an integer >= 1; got 10000.0"),
    ({"tol": 0.0}, "`tol` must be a finite number > 0; got 0.0"),
    ({"beta_min": 0}, "`beta_min` must be a finite number > 0; got 0"),
    ({"beta_max": float("inf")}, "`beta_max` must be a finite number > 0; got inf"),
    ({"beta_min": 2, "beta_max": 1}, "`beta_max` must be >= 2; got 1"),
    ({"beta_min": 1e9}, "`beta_min` must be <= "),
    ({"factor": 1}, "`factor` must be a finite number > 1; got 1"),
    ({"factor": 1.0000001}, "`factor` must be larger, as it would take 99034"),
    ({"capacity": "equal"}, "`capacity` must be None or 4 shares of the weight, .* got 'equal'"),
    ({"capacity": 0.5}, "`capacity` must be None or 4 shares of the weight, .* got 0.5"),
    ({"capacity": [0.5, 0.5]}, r"`capacity` must be None or 4 shares .* got \[0.5, 0.5\]"),
    ({"capacity": [1, 1, 1, 0]}, "`capacity` must be > 0 for every cluster; got 0.0"),
    ({"capacity": [1, 1, 1, np.nan]}, "`capacity` must be > 0 for every cluster; got nan"),
    ({"capacity": [0.2] * 4}, "`capacity` must have a sum of at least 1, .* got 0.8"),
    ({"capacity": mj.Equal([0.3] * 4)}, "`capacity` given as Equal must have the sum 1.* got 1.2"),
]


@pytest.mark.parametrize(("options", "says"), BAD, ids=lambda value: str(value)[:40])
def test_bad_parameters_are_named(options, says):
    with pytest.raises(ValueError, match=says):
        estimator(**options).fit(blobs())


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([1.0] * 59, "inconsistent numbers of samples"),
        ([-1.0] + [1.0] * 59, "`sample_weight` must be >= 0; got -1.0"),
        ([0.0] * 60, "`sample_weight` must not be zero for all samples"),
        ([np.nan] + [1.0] * 59, "sample_weight contains NaN"),
        ([[1.0]] * 60, "`sample_weight` must be 1-D"),
    ],
)
def test_bad_weights_are_named(weights, says):
    with pytest.raises(ValueError, match=says):
        estimator().fit(blobs(), sample_weight=weights)


@pytest.mark.parametrize(("size", "says"), [(1e200, "smaller"), (1e-170, "larger")])
def test_squares_must_fit_into_a_number(size, says):
    with pytest.raises(ValueError, match=f"expected {says} ones, or scale='unit'"):
        estimator().fit(size * CORNERS)
    assert estimator(scale="unit").fit(size * CORNERS).n_used_clusters_ == 4


def test_a_missing_scikit_learn_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mepjax.estimators")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.base", None)
    with pytest.raises(ImportError, match=r'pip install "mepjax\[sklearn\]"'):
        importlib.import_module("mepjax.estimators")
