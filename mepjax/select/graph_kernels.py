"""Kernels of graphs of near neighbours, and the partitions that suit them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

# Share of the identity that is added to the Laplacian before it is inverted.
_RIDGE = 1e-6
_NEIGHBOUR = 7


def default_bandwidth(x: Any) -> float:
    """The median distance to the seventh neighbour; 1 where that is zero."""
    x = np.asarray(x, np.float64)
    squares = _squares(x)
    place = min(_NEIGHBOUR, len(x) - 1)
    nearest = np.sqrt(np.partition(squares, place, axis=1)[:, place])
    found = float(np.median(nearest))
    return found if found > 0 else 1.0


def _squares(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=0)
    norms = np.sum(x * x, axis=1)
    return np.maximum(norms[:, None] + norms[None] - 2 * x @ x.T, 0)


def affinity(x: Any, bandwidth: float | None) -> Float[np.ndarray, "n n"]:
    """exp(-|x_i - x_j|^2 / (2 bandwidth^2)), zero on the diagonal."""
    if bandwidth is not None and not (np.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(
            f"persistence: `bandwidth` must be a finite number > 0; got {bandwidth!r}."
        )
    x = np.asarray(x, np.float64)
    length = default_bandwidth(x) if bandwidth is None else float(bandwidth)
    near = np.exp(-_squares(x) / (2 * length**2))
    np.fill_diagonal(near, 0.0)
    return near


def commute_time(x: Any, bandwidth: float | None = None) -> Float[Array, "n n"]:
    """The pseudo-inverse of the normalised Laplacian of a Gaussian graph, with a ridge of 1e-6.

    Its squared distances are, but for degrees, the times a random walk takes to commute; so v(k)
    is the log ratio of the slowest mixing times within clusters. Formed in float64 on the host.
    """
    near = affinity(x, bandwidth)
    degrees = np.maximum(near.sum(axis=1), np.finfo(np.float64).tiny ** 0.5)
    root = 1 / np.sqrt(degrees)
    values, vectors = np.linalg.eigh(np.eye(len(near)) - root[:, None] * near * root)
    # The constant vector of a connected graph carries no distances.
    inverse = 1 / (np.maximum(values, 0) + _RIDGE)
    inverse[0] = 0.0
    kernel = (vectors * inverse) @ vectors.T
    return jnp.asarray(0.5 * (kernel + kernel.T), jnp.result_type(jnp.asarray(x)))


def spectral_partitions(
    gram: Any, kernel: Any, x: Any, bandwidth: float | None, sizes: tuple[int, ...], key: Any
) -> Int[np.ndarray, "sizes n"]:
    """Labels of each size by scikit-learn's spectral clustering.

    **Raises:** `ImportError` without scikit-learn, naming the command that installs it.
    """
    try:
        from sklearn.cluster import SpectralClustering
    except ImportError as error:
        raise ImportError(
            "clusters in the space of a kernel need scikit-learn, which is not installed; run: "
            'pip install "mepjax[sklearn]" (or give `partitions`)'
        ) from error
    near = affinity(x, bandwidth) if isinstance(kernel, str) else np.asarray(gram, np.float64)
    if np.min(near) < 0:
        raise ValueError(
            "persistence: `kernel` must be >= 0 for spectral clustering; give `partitions` of "
            f"another algorithm. Got {np.min(near):g}."
        )
    seed = int(jax.random.randint(key, (), 0, np.iinfo(np.int32).max))
    labels = np.zeros((len(sizes), len(near)), np.int32)
    for place, size in enumerate(sizes):
        if size > 1:
            model = SpectralClustering(
                size, affinity="precomputed", random_state=seed, assign_labels="cluster_qr"
            )
            labels[place] = model.fit_predict(near)
    return labels
