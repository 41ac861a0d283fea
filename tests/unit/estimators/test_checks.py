"""The whole of scikit-learn's own checks, none expected to fail and none skipped."""

import os
from unittest import SkipTest

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from mepjax.estimators import AutonomyAwareClustering

# Coarse: the checks are about the interface, and their data are small.
ESTIMATORS = [
    AutonomyAwareClustering(factor=1.5, restarts=1),
    AutonomyAwareClustering(3, kappa=0.2, factor=1.5, restarts=1),
]


@parametrize_with_checks(ESTIMATORS)
def test_scikit_learn_check(estimator, check):
    assert os.environ["SCIPY_ARRAY_API"] == "1"
    try:
        check(estimator)
    except SkipTest as skipped:
        pytest.fail(f"skipped: {skipped}")
