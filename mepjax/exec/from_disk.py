"""The executor for points that stay on disk."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.blocks import block_rows, block_sum
from .._core.checks import check_count
from .base import AbstractBlocks, AbstractExecutor
from .sources import Rows, RowWeights


class FromDisk(AbstractBlocks):
    """Sums over `Rows`, of which a slab at a time is in memory; the default for points on disk.

    A compiled pass asks the host for one slab after the other and goes through each in the blocks
    of `Streaming`: sums are the same but for rounding. Derivatives in params and beta read again;
    there are none in the points.

    **Arguments:** `rows`: rows of a slab; `block`: rows of a block, default as many as stay in a
    cache.

    **Raises:** `TypeError`, `ValueError` unless both are positive ints.

    **Example:** see `mepjax.exec.Rows`.
    """

    slab: int = eqx.field(static=True)

    def __init__(self, rows: int = 65_536, block: int | None = None) -> None:
        super().__init__(block)
        check_count("FromDisk", "rows", rows)
        self.slab = int(rows)

    def sum(
        self,
        function: Callable[..., Any],
        args: Any,
        shares: Float[Array, " n"] | RowWeights,
        *data: Any,
        columns: int,
    ) -> Any:
        """Slab by slab. Of `data` one is `Rows`, and `shares` are their weights."""
        (points,) = (leaf for leaf in data if isinstance(leaf, Rows))
        assert isinstance(shares, RowWeights)
        n, block = points.shape[0], self.block or block_rows(columns)
        # Whole blocks, but for data of less than one slab.
        size = min(max(1, self.slab // block) * block, n)

        def part(weights: Array, x: Array) -> Any:
            return function(args, weights, *(x if leaf is points else leaf for leaf in data))

        def of_slab(index: Any) -> Any:
            # The last slab overlaps the one before, with shares of zero where it does.
            first = jnp.minimum(index * size, n - size)
            x, weights = points.fetch(first, size)
            new = first + jnp.arange(size) >= index * size
            return block_sum(part, jnp.where(new, weights, 0), x, rows=block)

        if size == n:
            return of_slab(jnp.asarray(0))

        def body(total: Any, index: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, of_slab(index)), None

        shapes = jax.eval_shape(of_slab, 0)
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        slabs = jnp.arange(-(-n // size))
        return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), zero, slabs)[0]

    def map(self, function: Callable[..., Any], args: Any, *data: Any, columns: int) -> Any:
        """Refused: a number for every row would not fit."""
        raise TypeError(
            "FromDisk: numbers for every row are not held in memory; write labels with "
            "`problem.harden_to(path, params)`."
        )


def check_suits(owner: str, data: Any, executor: AbstractExecutor) -> None:
    """Raise `TypeError` unless points on disk, and no others, have `FromDisk`."""
    if isinstance(data, Rows) != isinstance(executor, FromDisk):
        raise TypeError(
            f"{owner}: `executor` must be FromDisk for points on disk, and for no "
            f"others; got {type(executor).__name__}."
        )
