"""Clusters of clusters."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.arrays import default_float


def nested_groups(
    n: int = 3200,
    *,
    seed: int = 0,
    half_distances: tuple[float, float, float] = (10.0, 4.0, 2.5),
    spread: float = 0.15,
) -> tuple[Float[Array, "n 2"], Int[Array, " n"]]:
    """Four groups at the corners of a square, each of two pairs of round Gaussians: 4, 8, 16.

    Annealed, the number of distinct centres stays at 1, 4, 8 and 16 over long ranges of beta.
    The same points on every machine and, up to rounding, in both precisions.

    **Arguments:**

    - `n`: number of points, dealt to the 16 Gaussians in turn.
    - `seed`: of NumPy's `default_rng`.
    - `half_distances`: half the side of the square; half the distance, along the first axis, of
        the two halves of a group; half the distance, along the second, of the two of a half.
    - `spread`: standard deviation of each coordinate around its Gaussian's centre.

    **Returns:** the points, and for each its Gaussian from 0 to 15: the first two of the four bits
    name the group, the third the half.

    **Raises:** `ValueError` for n < 1, or lengths that are negative or not finite.

    Source: autonomy-aware clustering, the layout of appendix E (Figure 4(b)).

    **Example:**

    ```python
    >>> from mepjax.datasets import nested_groups
    >>> x, labels = nested_groups(32, spread=0.0)
    >>> x[:4].tolist(), int(labels.max())
    ([[-14.0, -12.5], [-14.0, -7.5], [-6.0, -12.5], [-6.0, -7.5]], 15)

    ```
    """
    if n < 1:
        raise ValueError(f"nested_groups: `n` must be at least 1; got {n}.")
    if len(half_distances) != 3 or not all(0 <= half < np.inf for half in half_distances):
        raise ValueError(
            "nested_groups: `half_distances` must be three finite numbers >= 0; "
            f"got {half_distances}."
        )
    if not 0 <= spread < np.inf:
        raise ValueError(f"nested_groups: `spread` must be finite and >= 0; got {spread}.")
    labels = np.arange(n) % 16
    side = np.stack([2 * ((labels >> bit) & 1) - 1 for bit in (3, 2, 1, 0)], axis=1)
    group, half, pair = half_distances
    centres = np.stack([group * side[:, 0] + half * side[:, 2], group * side[:, 1]], axis=1)
    centres[:, 1] += pair * side[:, 3]
    x = centres + spread * np.random.default_rng(seed).normal(size=(n, 2))
    with jax.ensure_compile_time_eval():
        return jnp.asarray(x, default_float()), jnp.asarray(labels, jnp.int32)
