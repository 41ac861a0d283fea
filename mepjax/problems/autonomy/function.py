"""Autonomy given by any function of the entity and the centres."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import checks
from ..costs import AbstractCost
from .base import AbstractAutonomy


class Function(AbstractAutonomy):
    """p(. | ., i) = fn(x_i, Y), any differentiable function.

    Evaluated in blocks of entities that are recomputed for derivatives, so memory is
    `block` x K x K whatever N is.

    **Arguments:**

    - `fn`: maps an entity (d,) and the centres (K, d), both in the user's units, to a (K, K)
        matrix whose rows sum to one. To differentiate its parameters make it an
        `equinox.Module` with a `__call__`; parameters captured in a closure are constants.
    - `block`: entities per block.

    **Raises:** `TypeError` if `fn` is not callable or captures traced values.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> def nearest_wins(x, y):  # the override goes where the entity is close
    ...     gravity = jax.nn.softmax(-jnp.sum((x - y) ** 2, axis=1))
    ...     return 0.8 * jnp.eye(len(y)) + 0.2 * gravity
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2, autonomy=nearest_wins)
    >>> problem.autonomy.depends_on_centres
    True

    ```
    """

    fn: Callable[[Array, Array], Any]
    block: int = eqx.field(static=True, default=256)

    def __check_init__(self) -> None:
        checks.check_function("Function", "fn", self.fn, "(self, x, y)")
        if self.block < 1:
            raise ValueError(f"Function: `block` must be at least 1; got {self.block}.")

    @property
    def depends_on_centres(self) -> bool:
        """True, since what the function looks at is not known."""
        return True

    @property
    def convex_at_zero(self) -> bool:
        """Unknown, hence not promised."""
        return False

    def kernel(
        self, x: Array, y: Array, origin: Array, distances: Any, cost: AbstractCost
    ) -> tuple[Any, Array, Array]:
        """The function with its arguments in the user's units."""
        return self.fn, x + origin, y + origin

    def average(self, kernel: Any, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """Rows of fn(x_i, Y) applied to D_i, block by block."""
        fn, x, y = kernel
        k = y.shape[0]

        @jax.checkpoint
        def row(entity: tuple[Array, Array]) -> Array:
            point, distance = entity
            p = fn(point, y)
            if jnp.shape(p) != (k, k):
                raise ValueError(
                    f"Function: `fn` must return shape ({k}, {k}) for k={k}; got {jnp.shape(p)}."
                )
            return jnp.matmul(p, distance, precision=jax.lax.Precision.HIGHEST)

        return jax.lax.map(row, (x, distances), batch_size=self.block)


def as_autonomy(autonomy: Any) -> AbstractAutonomy | None:
    """An autonomy model from itself or a function; `None` stays."""
    if autonomy is None or isinstance(autonomy, AbstractAutonomy):
        return autonomy
    if isinstance(autonomy, type):
        raise TypeError(
            f"`autonomy` must be an instance, such as {autonomy.__name__}(...); got the class."
        )
    if callable(autonomy):
        fn: Callable[[Array, Array], Any] = autonomy
        return Function(fn)
    raise TypeError(
        "`autonomy` must be None, a model from mepjax.autonomy or a function of (x_i, Y); "
        f"got {type(autonomy).__name__}."
    )
