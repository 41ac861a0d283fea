"""An autonomy that is learnt from a log, through scikit-learn."""

import jax
import numpy as np
import pytest
import sklearn
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import mepjax as mj
from mepjax.estimators import AutonomyAwareClustering, LearnedAutonomyClustering

X = np.asarray(mj.datasets.four_square(40)[0], np.float64)
QUICK = {"factor": 1.5, "restarts": 1}


def _log():
    with jax.enable_x64(True):
        problem = mj.Clustering(X, 4)
        asked = mj.learn.Simulated(mj.autonomy.Softmax(0.3, 1.0, 0.5))
        return mj.learn.collect(problem, asked, key=jax.random.key(0), rounds=4, each=200)


@pytest.mark.slow
def test_it_clusters_under_what_the_log_tells():
    log = _log()
    learned = LearnedAutonomyClustering(4, **QUICK).fit(X, interactions=log)
    with jax.enable_x64(True):
        fitted = mj.learn.fit(mj.Clustering(X, 4), log)
    assert isinstance(fitted.autonomy, mj.autonomy.Softmax)
    assert isinstance(learned.autonomy_, mj.autonomy.Softmax)
    np.testing.assert_allclose(learned.autonomy_.kappa, fitted.autonomy.kappa, atol=1e-9)
    told = AutonomyAwareClustering(4, autonomy=fitted.autonomy, scale="none", **QUICK).fit(X)
    np.testing.assert_allclose(learned.cluster_centers_, told.cluster_centers_, atol=1e-6)
    cost = learned.cost_of_ignoring_autonomy_
    assert cost is not None and cost > 1
    assert learned.learned_ is not None and not learned.learned_.test.rejects
    plain = LearnedAutonomyClustering(4, **QUICK).fit(X)
    assert plain.autonomy_ is None and plain.cost_of_ignoring_autonomy_ is None
    with sklearn.config_context(enable_metadata_routing=True):
        routed = LearnedAutonomyClustering(4, **QUICK).set_fit_request(interactions=True)
        pipeline = make_pipeline(FunctionTransformer(), routed).fit(X, interactions=log)
    last = pipeline[-1]
    assert isinstance(last, LearnedAutonomyClustering)
    np.testing.assert_array_equal(last.labels_, learned.labels_)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="`learner` must be one of .*got 'deep'"):
        LearnedAutonomyClustering(4, learner="deep").fit(X, interactions=_log())
    with pytest.raises(TypeError, match="`interactions` must be mepjax.learn.Interactions"):
        LearnedAutonomyClustering(4).fit(X, interactions=[1])
