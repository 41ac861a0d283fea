"""Estimators for scikit-learn: `AutonomyAwareClustering`."""

try:
    from .clustering import AutonomyAwareClustering
except ImportError as error:
    if (error.name or "").partition(".")[0] != "sklearn":
        raise
    raise ImportError(
        "mepjax.estimators needs scikit-learn, which is not installed; "
        'run: pip install "mepjax[sklearn]"'
    ) from error

__all__ = ["AutonomyAwareClustering"]
