"""The executor for points that stay on disk."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core.blocks import block_rows
from .._core.checks import check_count
from .base import AbstractExecutor, check_block
from .sources import Rows, RowWeights


class FromDisk(AbstractExecutor):
    """Sums over `Rows`, of which a slab at a time is in memory; the default for points on disk.

    A compiled pass asks the host for one slab after the other and goes through each in blocks, in
    the order in which `Streaming` would: sums are the same but for the rounding of programs that
    are compiled apart. Derivatives in params and beta read again; there are none in the points.

    **Arguments:** `rows`: rows of a slab; `block`: rows of a block, default as many as stay in a
    cache.

    **Raises:** `TypeError`, `ValueError` unless both are positive ints.

    **Example:** see `mepjax.exec.Rows`.
    """

    slab: int = eqx.field(static=True)
    block: int | None = eqx.field(static=True)

    def __init__(self, rows: int = 65_536, block: int | None = None) -> None:
        check_count("FromDisk", "rows", rows)
        check_block("FromDisk", block)
        self.slab = int(rows)
        self.block = None if block is None else int(block)

    @property
    def in_blocks(self) -> bool:
        """Always."""
        return True

    @property
    def rows(self) -> int | None:
        """`block`."""
        return self.block

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

        def part(weights: Array, x: Array) -> Any:
            return function(args, weights, *(x if leaf is points else leaf for leaf in data))

        if n <= block:
            x, weights = points.fetch(0, n)
            return part(weights, x)
        blocks = -(-n // block)
        each = min(max(1, self.slab // block), blocks)
        size = min(each * block, n)

        # Blocks are those of `block_sum`: the last overlaps the one before, and where the last slab
        # has fewer, those after it have shares of zero.
        def of_slab(total: Any, index: Any) -> tuple[Any, None]:
            first = jnp.minimum(index * each * block, n - size)
            x, weights = points.fetch(first, size)

            def body(total: Any, inner: Any) -> tuple[Any, None]:
                number = index * each + inner
                start = jnp.minimum(number * block, n - block)
                new = start + jnp.arange(block) >= number * block
                here = [jax.lax.dynamic_slice_in_dim(a, start - first, block) for a in (weights, x)]
                value = part(jnp.where(new, here[0], 0), here[1])
                return jax.tree.map(jnp.add, total, value), None

            return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), total, jnp.arange(each))

        d, dtype = points.shape[1], points.dtype
        shapes = jax.ShapeDtypeStruct((block,), dtype), jax.ShapeDtypeStruct((block, d), dtype)
        zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(part, *shapes))
        slabs = jnp.arange(-(-blocks // each))
        return jax.lax.scan(jax.checkpoint(of_slab, prevent_cse=False), zero, slabs)[0]

    def map(self, function: Callable[..., Any], args: Any, *data: Any, columns: int) -> Any:
        """Refused: a number for every row would not fit."""
        raise TypeError(
            "FromDisk: numbers for every row are not held in memory; write labels with "
            "`problem.harden_to(path, params)`."
        )
