"""Faults of kinds that users of other libraries reported, tried on this one.

What is right was found independently.
"""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import mepjax as mj
from mepjax._core.arrays import PrecisionWarning
from mepjax.estimators import AutonomyAwareClustering

LINE = np.array([[0.0], [1.0], [10.0], [11.0]])


def masked(values):
    return np.ma.array(values, mask=np.arange(np.size(values)).reshape(np.shape(values)) == 1)


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("x", lambda: mj.Clustering(masked(LINE), 2)),
        ("weights", lambda: mj.Clustering(LINE, 2, weights=masked(np.ones(4)))),
        ("kappa", lambda: mj.autonomy.Uniform(masked(np.full(4, 0.1)))),
        ("p", lambda: mj.autonomy.Matrix(masked(np.eye(2)))),
        ("nodes", lambda: mj.FacilityPath(masked(LINE), [[3.0]], 1)),
        ("destinations", lambda: mj.FacilityPath(LINE, masked([[3.0], [4.0]]), 1)),
        ("X", lambda: AutonomyAwareClustering(2).fit(masked(LINE))),
        (
            "sample_weight",
            lambda: AutonomyAwareClustering(2).fit(LINE, sample_weight=masked(np.ones(4))),
        ),
    ],
)
def test_masks_are_refused_by_name(name, build):
    """What lies under a mask was read as data."""
    with pytest.raises(ValueError, match=f"`{name}` must not have masked entries; got 1"):
        build()


def test_a_masked_array_without_masked_entries_is_data():
    problem = mj.Clustering(np.ma.array(LINE, mask=np.zeros(LINE.shape, bool)), 2)
    np.testing.assert_array_equal(problem.x, LINE)


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16, np.longdouble])
def test_other_precisions_are_cast_with_one_warning(kind, x64):
    """Floating types that solvers do not know died far from where they came in."""
    with jax.enable_x64(x64):
        expected = np.float64 if x64 else np.float32
        name = np.dtype(kind).name
        with pytest.warns(PrecisionWarning, match=f"`x` is {name}") as warned:
            problem = mj.Clustering(LINE.astype(kind), 2)
        assert len(warned) == 1
        assert problem.x.dtype == expected
        np.testing.assert_array_equal(problem.x, LINE)
        scalar = mj.Clustering(LINE.astype(expected), 2, autonomy=mj.autonomy.Uniform(kind(0.5)))
        np.testing.assert_array_equal(scalar.autonomy.kappa, 0.5)
        assert (
            jax.jit(lambda x: mj.Clustering(x, 2).x)(jnp.asarray(LINE, expected)).dtype == expected
        )


@pytest.mark.parametrize("x64", [True, False])
def test_single_precision_tables_of_probabilities_are_taken(x64):
    """Rows of five times .2 in single precision sum to one in that precision only."""
    with jax.enable_x64(x64):
        table = np.full((5, 5), 0.2, np.float32)
        problem = mj.Clustering(
            np.arange(8.0, dtype=np.float32)[:, None], 5, autonomy=mj.autonomy.Matrix(table)
        )
        np.testing.assert_allclose(problem.autonomy.p, 0.2, rtol=1e-7)
        with pytest.raises(ValueError, match="sum to"):
            mj.autonomy.Matrix(np.full((5, 5), 0.21, np.float32))


@pytest.mark.parametrize("weight", [1e-320, 1e308])
@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("weights", lambda w: mj.Clustering(LINE, 2, weights=w)),
        ("weights", lambda w: mj.FacilityPath(LINE, [[3.0]], 1, weights=w)),
        ("sample_weight", lambda w: AutonomyAwareClustering(2).fit(LINE, sample_weight=w)),
    ],
)
def test_weights_beyond_what_a_number_holds_are_refused_by_name(name, build, weight):
    """Weights of 1e-320 had the data blamed, those of 1e308 gave an infinite inertia."""
    with pytest.raises(ValueError, match=f"`{name}`.* a sum "):
        build(np.full(4, weight))


@pytest.mark.parametrize("weight", [1e-300, 1e300])
def test_only_the_shares_of_weights_count(weight):
    found = AutonomyAwareClustering(2).fit(LINE, sample_weight=np.full(4, weight))
    np.testing.assert_allclose(np.sort(found.cluster_centers_[:, 0]), [0.5, 10.5], rtol=1e-9)
    assert found.inertia_ == pytest.approx(weight, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("k", [2, 3, 4, 5, 6, 7])
def test_weights_are_repetitions_for_every_number_of_clusters(k):
    """The same clusters had other labels where rows were repeated instead of weighted."""
    from sklearn.utils import estimator_checks

    estimator = AutonomyAwareClustering(k)
    estimator_checks.check_sample_weight_equivalence_on_dense_data("clusters", estimator)


def test_labels_follow_the_centres_and_not_the_draw():
    x = np.array([[0.0, 1.0], [0.0, -1.0], [5.0, 0.0], [-5.0, 0.0]])
    x = np.concatenate([x + shift for shift in (0.0, 0.01, -0.01)])
    expected = [[-5.0, 0.0], [0.0, -1.0], [0.0, 1.0], [5.0, 0.0]]
    for seed in range(3):
        found = AutonomyAwareClustering(4, random_state=seed).fit(x)
        np.testing.assert_allclose(found.cluster_centers_, expected, atol=1e-6)
        np.testing.assert_array_equal(found.labels_[:4], [2, 1, 3, 0])
