"""Sums over data in blocks, whose memory does not grow with the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Blocks of about this many numbers of rows times columns stay in the cache of one core.
_BLOCK_ENTRIES = 100_000


def block_rows(columns: int) -> int:
    """Rows of a block for `columns` intermediate numbers a row."""
    return max(256, min(4096, _BLOCK_ENTRIES // max(columns, 1)))


def block_sum(
    function: Callable[..., Any], shares: Float[Array, " n"], *arrays: Any, rows: int
) -> Any:
    """Sum of `function(shares, *arrays)` over blocks of at most `rows` rows, a pytree of arrays.

    `function` must be linear in the shares; scalars among `arrays` are handed on as they are. The
    last block overlaps the one before, with shares of zero where it does, so that nothing is padded
    or copied. Derivatives compute blocks again.
    """
    n = shares.shape[0]
    if n <= rows:
        return function(shares, *arrays)
    count = -(-n // rows)

    def one(index: Any) -> Any:
        start = jnp.minimum(index * rows, n - rows)
        block = [
            jax.lax.dynamic_slice_in_dim(a, start, rows) if jnp.ndim(a) else a
            for a in (shares, *arrays)
        ]
        new = start + jnp.arange(rows) >= index * rows
        return function(jnp.where(new, block[0], 0), *block[1:])

    def body(total: Any, index: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, one(index)), None

    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(one, 0))
    total, _ = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), zero, jnp.arange(count))
    return total
