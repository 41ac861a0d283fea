"""Rows of clusterings by a function for the average costs."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from .points import K, points_row, rho_of


class UniformAverage(eqx.Module):
    """The average cost under uniform autonomy, in squared distances."""

    kappa: jax.Array

    def __call__(self, x: jax.Array, y: jax.Array) -> jax.Array:
        d = jnp.sum((x[:, None] - y) ** 2, axis=-1)
        share = self.kappa / max(len(y) - 1, 1)
        return (1 - len(y) * share) * d + share * jnp.sum(d, axis=1, keepdims=True)


def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K) -> mj.AveragedClustering:
    return mj.AveragedClustering(
        jnp.asarray(x, dtype),
        k,
        UniformAverage(jnp.asarray(0.2, dtype)),
        jnp.asarray(weights, dtype),
        translation_invariant=True,
        convex=True,
    )


def first_transition(x: np.ndarray, weights: np.ndarray) -> float:
    """1 / (2 a^2 lambda_max(Cov(x))) with a = 1 - K kappa / (K - 1)."""
    rho = rho_of(weights)
    z = x - rho @ x
    firmness = 1 - K * 0.2 / (K - 1)
    return 1 / (2 * firmness**2 * np.linalg.eigvalsh((rho[:, None] * z).T @ z)[-1])


ROWS = [
    points_row(
        "averaged",
        build,
        {"x": lambda q: q.x, "weights": lambda q: q.weights, "kappa": lambda q: q.costs.kappa},
        first_transition=first_transition,
        monotone=False,
        default=True,
    )
]
