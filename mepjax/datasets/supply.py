"""Nodes that ship to one destination."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core.arrays import default_float

WIDTH, HEIGHT = 11.0, 8.0
DESTINATION = (4.0, 7.0)


def supply_network(
    n: int = 200, *, seed: int = 0, groups: int = 6, spread: float = 0.6
) -> tuple[Float[Array, "n 2"], Float[Array, "2"]]:
    """Nodes around a few random towns in a rectangle of 11 by 8, and the destination (4, 7).

    The same nodes on every machine and, up to rounding, in both precisions. Another seed has
    other towns: the thesis prints neither its nodes nor how far they spread.

    **Arguments:**

    - `n`: number of nodes, dealt to the towns in turn: node i belongs to town i mod `groups`.
    - `seed`: of NumPy's `default_rng`.
    - `groups`: number of towns, uniform in the rectangle.
    - `spread`: standard deviation of each coordinate around the town; nodes may leave the
        rectangle.

    **Returns:** nodes (n, 2), and the destination (2,).

    **Raises:** `ValueError` for n < 1, groups < 1, or a spread that is negative or not finite.

    Source: parameterized sequential decision making, section 2.7.

    **Example:**

    ```python
    >>> from mepjax.datasets import supply_network
    >>> nodes, destination = supply_network(12, spread=0.0)
    >>> print(nodes.shape, destination.tolist(), bool((nodes[0] == nodes[6]).all()))
    (12, 2) [4.0, 7.0] True

    ```
    """
    for name, count in (("n", n), ("groups", groups)):
        if count < 1:
            raise ValueError(f"supply_network: `{name}` must be at least 1; got {count}.")
    if not 0 <= spread < np.inf:
        raise ValueError(f"supply_network: `spread` must be finite and >= 0; got {spread}.")
    rng = np.random.default_rng(seed)
    towns = rng.uniform((0.0, 0.0), (WIDTH, HEIGHT), size=(groups, 2))
    nodes = towns[np.arange(n) % groups] + spread * rng.normal(size=(n, 2))
    with jax.ensure_compile_time_eval():
        return jnp.asarray(nodes, default_float()), jnp.asarray(DESTINATION, default_float())
