"""Words and shares that files, pages and the terminal have in common."""

import numpy as np

from .cluster import Result


def describe_autonomy(result: Result) -> str:
    """The autonomy in words, such as `softmax autonomy (kappa 0.3, ...)`."""
    options = result.options
    if options.kind == "none":
        return "no autonomy"
    numbers = ", ".join(f"{name} {value:g}" for name, value in options.parameters.items())
    return f"{options.kind} autonomy" + (f" ({numbers})" if numbers else "")


def shares(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Weight told to join each cluster, and weight that ends there at the last beta."""
    weights = np.asarray(result.problem.weights, np.float64)
    told = np.bincount(result.assignments, weights, minlength=result.problem.k)
    return told / np.sum(weights), result.mixture.sum(axis=0)
