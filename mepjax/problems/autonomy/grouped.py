"""Autonomy given by one table for each group of entities."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks
from ..costs import AbstractCost
from .base import AbstractAutonomy
from .fixed import as_stochastic


class Grouped(AbstractAutonomy):
    """The same override probabilities for all entities of a group.

    Tables are looked up in blocks of entities that are recomputed for derivatives, so memory is
    `block` x K x K whatever the number of entities.

    **Arguments:**

    - `p`, shape (G, K, K): p[g, j, k] is the probability that an entity of group g prescribed to
        cluster j ends in cluster k. Rows over k sum to one.
    - `group`, shape (N,): the group of each entity, integers in 0 .. G - 1.
    - `block`: entities per block.

    **Raises:** `ValueError` for tables that are not probabilities of that shape, or a group that is
    not among them; `TypeError` for groups that are no integers.

    **Example:** the second entity is the one that strays.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> p = [[[1.0, 0.0], [0.0, 1.0]], [[0.6, 0.4], [0.4, 0.6]]]
    >>> model = mj.autonomy.Grouped(p, group=[0, 1])
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2, autonomy=model)
    >>> print(problem.average_distances(jnp.array([[-1.0], [1.0]])))
    [[0.  4. ]
     [2.4 1.6]]

    ```
    """

    p: Float[Array, "groups k k"]
    group: Int[Array, " n"]
    block: int = eqx.field(static=True)

    def __init__(self, p: Any, group: Any, *, block: int = 256) -> None:
        self.p = as_stochastic("Grouped", p, "(G, K, K)")
        self.group = as_groups("Grouped", "group", group)
        checks.check_count("Grouped", "block", block)
        self.block = block
        checks.enforce(self._group_checks())

    def _group_checks(self) -> tuple[checks.Check, ...]:
        return check_indices("Grouped", "group", self.group, self.p.shape[0], "a group of `p`")

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """Tables of shape (G, k, k), one group for each entity."""
        if self.p.shape[1:] != (k, k):
            raise ValueError(
                f"Grouped: `p` must have shape (G, {k}, {k}) for k={k}; got {self.p.shape}."
            )
        if self.group.shape != (n,):
            raise ValueError(
                f"Grouped: `group` must have shape ({n},) for {n} entities; got {self.group.shape}."
            )
        return (*checks.check_stochastic("Grouped", "p", self.p), *self._group_checks())

    def of_entities(self, places: Int[Array, " m"]) -> "Grouped":
        """The model with the groups of these entities."""
        return eqx.tree_at(lambda a: a.group, self, jnp.asarray(self.group)[places])

    def kernel(
        self, x: Any, y: Any, origin: Any, distances: Any, cost: AbstractCost
    ) -> tuple[Array, Array]:
        """The tables, and which of them is each entity's."""
        return jnp.asarray(self.p), jnp.asarray(self.group)

    def average(
        self, kernel: tuple[Array, Array], distances: Float[Array, "n k"]
    ) -> Float[Array, "n k"]:
        """The table of its group applied to each row, block by block."""
        tables, group = kernel

        @jax.checkpoint
        def row(entity: tuple[Array, Array]) -> Array:
            place, distance = entity
            return jnp.matmul(tables[place], distance, precision=jax.lax.Precision.HIGHEST)

        return jax.lax.map(row, (group, distances), batch_size=self.block)


def as_groups(owner: str, name: str, group: Any) -> Any:
    """A vector of integers; NumPy where it is not traced or JAX's own."""
    array = group if isinstance(group, jax.Array) else np.asarray(group)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{owner}: `{name}` must be integers; got dtype {array.dtype}.")
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{owner}: `{name}` must be a vector; got shape {array.shape}.")
    if isinstance(array, jax.Array):
        return array.astype(jnp.int32)
    # Clipped, as numbers beyond 32 bits would otherwise come back as others.
    return np.clip(array, -1, np.iinfo(np.int32).max).astype(np.int32)


def check_indices(
    owner: str, name: str, index: Any, count: int, what: str
) -> tuple[checks.Check, ...]:
    """Every entry points at one of `count` things."""
    xp, index = checks.on_host(index)
    low, high = xp.min(index), xp.max(index)
    worst = xp.where(low < 0, low, high)
    return (
        checks.Check(
            (low >= 0) & (high < count),
            worst,
            f"{owner}: `{name}` must be {what}, in 0 .. {count - 1}; got {{got}}.",
        ),
    )
