"""Any smooth function of an entity and a centre as a cost."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import checks
from .base import AbstractCost


class CostFunction(AbstractCost):
    """d(x, y) = function(x, y), any twice differentiable function of two points.

    Centres move by one Newton step on the weighted sums, made a descent direction where these
    are not convex and shortened until they have fallen. Evaluated in blocks of entities that are
    recomputed for derivatives, so memory is `block` x K times what one evaluation needs.

    **Arguments:**

    - `function`: maps an entity (d,) and a centre (d,), both in the user's units, to a scalar. It
        should be smooth where the two coincide: of a norm take the root of its square plus a
        constant. To differentiate its parameters make it an `equinox.Module` with a `__call__`;
        parameters captured in a closure are constants.
    - `convex`: whether weighted sums of it are known to have one minimiser.
    - `translation_invariant`: whether it depends on x - y only; it then sees both relative to the
        mean of the data, which keeps digits in float32.
    - `block`: entities per block.

    **Raises:** `TypeError` if `function` is not callable or captures traced values; `ValueError`
    if it does not return a scalar.

    **Example:** a distance that hardly grows for far entities.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> def saturating(x, y):
    ...     return 1 - jnp.exp(-jnp.sum((x - y) ** 2))
    >>> problem = mj.Clustering(jnp.array([[-0.1], [0.1], [9.0]]), 1, cost=saturating)
    >>> sol = mj.anneal(problem, mj.Explicit([1.0]), init=jnp.zeros((1, 1)), key=jax.random.key(0))
    >>> print(f"{sol.params[0, 0]:.3f}")
    0.000

    ```
    """

    function: Callable[[Array, Array], Any]
    convex: bool = eqx.field(static=True, default=False)  # pyright: ignore
    translation_invariant: bool = eqx.field(static=True, default=False)  # pyright: ignore
    block: int = eqx.field(static=True, default=4096)

    def __check_init__(self) -> None:
        checks.check_function("CostFunction", "function", self.function, "(self, x, y)")
        if self.block < 1:
            raise ValueError(f"CostFunction: `block` must be at least 1; got {self.block}.")

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """The function returns one number."""
        checks.check_scalar_function(
            "CostFunction", "function", self.function, "one entity and one centre", d, d
        )
        return ()

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """function(x_i, y_k), block by block."""

        @jax.checkpoint
        def row(point: Float[Array, " d"]) -> Float[Array, " k"]:
            return jax.vmap(lambda centre: jnp.asarray(self.function(point, centre)))(y)

        if x.shape[0] <= self.block:
            return jax.vmap(row)(x)
        return jax.lax.map(row, x, batch_size=self.block)
