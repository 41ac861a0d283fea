"""`partial_fit`: batches, one after the other."""

import pickle
from typing import Any

import numpy as np
import pytest

import mepjax as mj
from mepjax.estimators import AutonomyAwareClustering, LearnedAutonomyClustering

CORNERS = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])


def batch(seed, n=60):
    rng = np.random.default_rng(seed)
    return CORNERS[rng.integers(4, size=n)] + rng.normal(size=(n, 2))


def estimator(**options: Any) -> AutonomyAwareClustering:
    # Of few stages, all of which fit into the batches below.
    settings: dict[str, Any] = {"beta_min": 0.01, "beta_max": 0.5} | options
    return AutonomyAwareClustering(4, **settings)


def test_batches_end_where_all_at_once_do():
    model = estimator()
    for seed in range(80):
        model.partial_fit(batch(seed))
    assert model.solution_code_ == mj.Code.OK and model.n_iter_ == 80
    fresh = batch(1000, 2000)
    # The means are known, and beta of 0.5 still leaves decisions firm at this distance.
    known = float(np.min(np.sum((fresh[:, None] - CORNERS) ** 2, axis=2), axis=1).mean())
    assert -model.score(fresh) / len(fresh) <= 1.01 * known
    order = np.argsort(model.predict(CORNERS))
    np.testing.assert_allclose(model.cluster_centers_, CORNERS[order], atol=0.5)
    np.testing.assert_array_equal(model.labels_, model.predict(batch(79)))
    assert model.inertia_ == pytest.approx(-model.score(batch(79)))


def test_it_goes_on_after_a_fit_and_after_a_pickle():
    model: Any = estimator()
    # As `fit` would leave it.
    model.cluster_centers_, model.beta_, model.n_features_in_ = CORNERS + 0.3, 0.5, 2
    model.partial_fit(batch(0).astype(np.float64))
    assert model.solution_code_ == mj.Code.OK and model.beta_ == 0.5
    np.testing.assert_allclose(model.cluster_centers_, CORNERS, atol=0.6)
    copy = pickle.loads(pickle.dumps(model))
    for each in (model, copy):
        each.partial_fit(batch(1))
    np.testing.assert_array_equal(copy.cluster_centers_, model.cluster_centers_)


def test_batches_of_other_sizes_and_types():
    model = estimator().partial_fit(batch(0).astype(np.float32))
    assert model.cluster_centers_.dtype == np.float32
    model.partial_fit(batch(1, 3), sample_weight=[1.0, 0.0, 2.0])
    assert model.labels_.shape == (3,)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(batch(2)[:, :1])
    model.n_clusters = 5
    with pytest.raises(ValueError, match="`n_clusters` must be 4, as in the batches before"):
        model.partial_fit(batch(2))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"cost": "euclidean"}, "cost"),
        ({"capacity": [0.4, 0.4, 0.4, 0.4]}, "capacity"),
        ({"scale": "zscore"}, "scale"),
    ],
)
def test_what_batches_cannot_have_is_named(options, name):
    model = estimator(**options)
    with pytest.raises(ValueError, match=f"`{name}` must be .* with partial_fit"):
        model.partial_fit(batch(0))
    assert not hasattr(model, "cluster_centers_")


@pytest.mark.parametrize(
    "options", [{"kappa": 0.2, "temperature": 0.5}, {"autonomy": np.full((4, 4), 0.25)}]
)
def test_an_autonomy_that_batches_cannot_have_leaves_no_partial_fit_and_is_named(options):
    model = estimator(**options)
    assert not hasattr(model, "partial_fit")
    with pytest.raises(AttributeError, match="no attribute 'partial_fit'") as told:
        model.partial_fit(batch(0))
    assert "`autonomy` must be none or uniform with partial_fit" in str(told.value.__cause__)


def test_what_learns_from_a_log_takes_no_batches():
    assert hasattr(AutonomyAwareClustering, "partial_fit")
    assert not hasattr(LearnedAutonomyClustering(), "partial_fit")
