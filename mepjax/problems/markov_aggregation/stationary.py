"""The stationary distribution of a chain, differentiable in its transitions."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks
from .rows import AbstractRows

# States named in a message.
_NAMED = 6


def stationary_distribution(owner: str, rows: AbstractRows) -> Float[Array, " n"]:
    """rho with rho P = rho and sum one; states that are left for ever weigh nothing.

    Solves (I - P^T + 1 1^T / n) rho = 1 / n densely.

    **Raises:** `ValueError` for a concrete chain with several closed classes, naming their states:
    it has as many stationary distributions as one likes.
    """
    n, s = rows.shape
    if n != s:
        raise ValueError(
            f"{owner}: `weights` 'stationary' needs a chain, as many rows as states; got shape "
            f"({n}, {s}). Give the weights of the rows."
        )
    matrix = rows.dense()
    if checks.is_concrete(rows):
        classes = closed_classes(np.asarray(matrix) > 0)
        if len(classes) > 1:
            told = "; ".join(_named(states) for states in classes[:3])
            raise ValueError(
                f"{owner}: `transitions` must have one closed class of states for stationary "
                f"weights; got {len(classes)}: {told}{'; ...' if len(classes) > 3 else ''}. Give "
                "`weights`, or aggregate each by itself."
            )
    mean = jnp.full((n, n), 1 / n, matrix.dtype)
    rho = jnp.linalg.solve(jnp.eye(n, dtype=matrix.dtype) - matrix.T + mean, mean[0])
    # Rounding leaves transient states a little below zero.
    rho = jnp.where(rho > jnp.finfo(matrix.dtype).eps, rho, 0.0)
    return rho / jnp.sum(rho)


def closed_classes(linked: Any) -> list[np.ndarray]:
    """The sets of states that, once entered, are never left."""
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(linked, directed=True, connection="strong")
    sources, targets = np.nonzero(linked)
    leaving = np.zeros(count, bool)
    crossing = label[sources] != label[targets]
    leaving[label[sources[crossing]]] = True
    return [np.flatnonzero(label == place) for place in range(count) if not leaving[place]]


def _named(states: np.ndarray) -> str:
    told = ", ".join(map(str, states[:_NAMED]))
    return f"states {told}{', ...' if len(states) > _NAMED else ''}"
