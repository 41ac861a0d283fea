"""The stationary distribution of a chain, differentiable in its transitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from ..._core import checks
from .rows import AbstractRows

# States named in a message.
_NAMED = 6


def stationary_distribution(owner: str, rows: AbstractRows) -> Float[Array, " n"]:
    """rho with rho P = rho and sum one; states that are left for ever weigh nothing.

    Solves (I - P^T + 1 1^T / n) rho = 1 / n densely.

    NaN for a traced chain with several closed classes, which has as many as one likes.

    **Raises:** `ValueError` for such a concrete chain, naming the states of the classes.
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
    rho = rho / jnp.sum(rho)
    if not checks.is_concrete(rows):
        # The system is singular, and rounding decides what its solution is.
        rho = jnp.where(has_one_closed_class(matrix), rho, jnp.nan)
    return rho


def has_one_closed_class(matrix: Float[Array, "n n"]) -> Bool[Array, ""]:
    """Whether some state is reached from all, in products of n x n matrices; legal under `jit`."""
    n = matrix.shape[0]
    linked = (matrix > 0) | jnp.eye(n, dtype=bool)

    def twice_as_far(_: Any, reached: Array) -> Array:
        # Each of n terms is 0 or 1, so that nothing rounds to zero.
        steps = reached.astype(matrix.dtype)
        return steps @ steps > 0

    reached = jax.lax.fori_loop(0, max(n - 1, 1).bit_length(), twice_as_far, linked)
    return jnp.any(jnp.all(reached, axis=0))


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
