"""Mixtures of Gaussians."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.arrays import default_float


def four_square(
    n: int = 400, *, seed: int = 0, spread: float = 0.05
) -> tuple[Float[Array, "n 2"], Int[Array, " n"]]:
    """Four round Gaussians at the corners of the unit square.

    The same points on every machine and, up to rounding, in both precisions.

    **Arguments:**

    - `n`: number of points, dealt to the corners in turn.
    - `seed`: of NumPy's `default_rng`.
    - `spread`: standard deviation of each coordinate, in sides of the square.

    **Returns:** the points, and for each the corner it belongs to: 0 to 3 for (0, 0), (1, 0),
    (0, 1), (1, 1).

    **Raises:** `ValueError` for n < 1 or a spread that is negative or not finite.

    Source: autonomy-aware clustering, the synthetic data of Table 1.

    **Example:**

    ```python
    >>> from mepjax.datasets import four_square
    >>> x, labels = four_square(8, spread=0.0)
    >>> print(x[:4].tolist(), labels.tolist())
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]] [0, 1, 2, 3, 0, 1, 2, 3]

    ```
    """
    if n < 1:
        raise ValueError(f"four_square: `n` must be at least 1; got {n}.")
    if not 0 <= spread < np.inf:
        raise ValueError(f"four_square: `spread` must be finite and >= 0; got {spread}.")
    labels = np.arange(n) % 4
    corners = np.stack([labels % 2, labels // 2], axis=1)
    x = corners + spread * np.random.default_rng(seed).normal(size=(n, 2))
    with jax.ensure_compile_time_eval():
        return jnp.asarray(x, default_float()), jnp.asarray(labels, jnp.int32)
