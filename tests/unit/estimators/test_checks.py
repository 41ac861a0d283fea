"""The whole of scikit-learn's own checks, none expected to fail and none skipped."""

from unittest import SkipTest

import array_api_strict
import pytest
import scipy.special
from sklearn.utils import estimator_checks as checks

from mepjax.estimators import AutonomyAwareClustering, LearnedAutonomyClustering

QUICK = {"factor": 1.5, "restarts": 1}


def _run(check, *arguments):
    try:
        check(*arguments)
    except SkipTest as skipped:
        pytest.fail(f"skipped: {skipped}")


def test_scipy_has_its_array_api_switched_on():
    array = scipy.special.expit(array_api_strict.zeros(1))
    assert isinstance(array, type(array_api_strict.zeros(1)))


# Some fifty, on data of many shapes, for each of which an anneal is compiled. The second, which has
# no autonomy before it has a log, runs the programs of the first.
@pytest.mark.slow
@checks.parametrize_with_checks([AutonomyAwareClustering(), LearnedAutonomyClustering()])
def test_the_default_passes(estimator, check):
    _run(check, estimator)


# Few starts and coarse stages: what differs from the default is the autonomy.
@pytest.mark.slow
@checks.parametrize_with_checks(
    [
        AutonomyAwareClustering(3, kappa=0.2, **QUICK),
        AutonomyAwareClustering(3, kappa=0.2, temperature=0.5, **QUICK),
    ]
)
def test_aware_ones_pass(estimator, check):
    _run(check, estimator)


# Public checks that `parametrize_with_checks` leaves to the estimators of scikit-learn itself.
FURTHER = [
    checks.check_set_output_transform,
    checks.check_set_output_transform_pandas,
    checks.check_set_output_transform_polars,
    checks.check_global_output_transform_pandas,
    checks.check_global_set_output_transform_polars,
    # On data of other shapes, for which more is compiled.
    pytest.param(checks.check_dataframe_column_names_consistency, marks=pytest.mark.slow),
    pytest.param(checks.check_transformer_get_feature_names_out, marks=pytest.mark.slow),
    pytest.param(checks.check_transformer_get_feature_names_out_pandas, marks=pytest.mark.slow),
]


# Some fit with names and then transform without, of which scikit-learn itself warns.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.parametrize("check", FURTHER, ids=lambda check: check.__name__)
def test_further_checks_pass(check):
    _run(check, "AutonomyAwareClustering", AutonomyAwareClustering(**QUICK))
