"""scikit-learn's own checks of the estimators that choose a number, none skipped."""

from unittest import SkipTest

import pytest
from sklearn.utils import estimator_checks as checks

from mepjax.estimators import MarkovAggregator, PersistentClustering, SparseRegressor


def _run(check, estimator):
    try:
        check(estimator)
    except SkipTest as skipped:
        pytest.fail(f"skipped: {skipped}")


@checks.parametrize_with_checks([SparseRegressor()])
def test_regressor_passes(estimator, check):
    _run(check, estimator)


@pytest.mark.slow
@checks.parametrize_with_checks([SparseRegressor("return"), SparseRegressor(2)])
def test_other_ways_pass(estimator, check):
    _run(check, estimator)


def cannot_pass(estimator):
    """This check standardises its data, though the estimator's tags ask for positive ones."""
    if isinstance(estimator, MarkovAggregator):
        return {"check_clustering": "its data are negative, which no count is"}
    return {}


# On data of many shapes, for each of which something is compiled.
@pytest.mark.slow
@checks.parametrize_with_checks(
    [
        PersistentClustering(4, references=0, starts=1),
        MarkovAggregator(2, weights="equal", counts=True, starts=1),
        MarkovAggregator(weights="equal", counts=True, max_size=3, starts=1),
    ],
    expected_failed_checks=cannot_pass,
)
def test_clusterers_pass(estimator, check):
    _run(check, estimator)
