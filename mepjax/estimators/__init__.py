"""Estimators for scikit-learn: clustering with autonomy, and what chooses its own number."""

try:
    from .clustering import AutonomyAwareClustering
    from .learned import LearnedAutonomyClustering
    from .markov_aggregator import MarkovAggregator
    from .persistent_clustering import PersistentClustering
    from .sparse_regressor import SparseRegressor
except ImportError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        "mepjax.estimators needs scikit-learn, which is not installed; "
        'run: pip install "mepjax[sklearn]"'
    ) from error

__all__ = [
    "AutonomyAwareClustering",
    "LearnedAutonomyClustering",
    "MarkovAggregator",
    "PersistentClustering",
    "SparseRegressor",
]
