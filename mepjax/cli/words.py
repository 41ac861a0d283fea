"""Words and shares that files, pages and the terminal have in common."""

import jax
import numpy as np

from .cluster import Result


def describe_autonomy(result: Result) -> str:
    """The autonomy in words, such as `softmax autonomy (kappa 0.3, ...)`."""
    options = result.options
    if options.kind == "none":
        return "no autonomy"
    numbers = ", ".join(f"{name} {value:g}" for name, value in options.parameters.items())
    return f"{options.kind} autonomy" + (f" ({numbers})" if numbers else "")


def largest_probabilities(result: Result) -> list[tuple[str, np.ndarray]]:
    """The largest soft probability of each point, at betas whose names come with it.

    Near 1 for nearly all at the last beta; so first at that of the last transition, if any was
    met, where the finest clusters are just told apart.
    """
    problem, centres = result.problem, result.best.solution.params
    found = []
    met = [np.asarray(run.solution.transitions, np.float64) for run in result.best.path]
    betas = np.concatenate(met)
    if np.any(np.isfinite(betas)):
        beta = float(np.max(betas[np.isfinite(betas)]))
        with jax.enable_x64(result.options.float64):
            log_policy = np.asarray(problem.policy(centres, beta), np.float64)
        name = f"at the last transition, β = {beta:.4g}"
        found.append((name, np.exp(np.max(log_policy, axis=1))))
    name = f"at the last β = {float(result.best.solution.beta):.4g}"
    return [*found, (name, np.max(result.policy, axis=1))]


def shares(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Weight told to join each cluster, and weight that ends there at the last beta."""
    weights = np.asarray(result.problem.weights, np.float64)
    told = np.bincount(result.assignments, weights, minlength=result.problem.k)
    return told / np.sum(weights), result.mixture.sum(axis=0)


def excess(result: Result) -> np.ndarray:
    """By how much the weight told to join each cluster exceeds its bound, or misses its share."""
    assert result.options.capacity is not None
    gap = shares(result)[0] - result.options.capacity.values
    return gap if result.options.capacity.equal else np.maximum(gap, 0.0)
