"""Sums over data in blocks, whose memory does not grow with the data."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Blocks of about this many numbers of rows times columns stay in the cache of one core.
_BLOCK_ENTRIES = 32_768


def block_rows(columns: int) -> int:
    """Rows of a block for `columns` intermediate numbers a row."""
    return max(256, min(4096, _BLOCK_ENTRIES // max(columns, 1)))


def block_sum(
    function: Callable[..., Any],
    shares: Float[Array, " n"],
    *arrays: Any,
    rows: int,
    varying: tuple[str, ...] = (),
) -> Any:
    """Sum of `function(shares, *arrays)` over blocks of at most `rows` rows, a pytree of arrays.

    `function` must be linear in the shares; scalars among `arrays` are handed on as they are. The
    last block overlaps the one before, with shares of zero where it does, so that nothing is padded
    or copied. Derivatives compute blocks again. Inside `shard_map`, `varying` names the axes of the
    mesh along which the data are divided.
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
    if varying:
        zero = jax.lax.pcast(zero, varying, to="varying")
    total, _ = jax.lax.scan(jax.checkpoint(body, prevent_cse=False), zero, jnp.arange(count))
    return total


def block_map(
    function: Callable[..., Any], *arrays: Any, rows: int, varying: tuple[str, ...] = ()
) -> Any:
    """`function(*arrays)`, which gives numbers for every row, over blocks of at most `rows` rows.

    Scalars among `arrays` are handed on as they are; `varying` as in `block_sum`.
    """
    n = next(a.shape[0] for a in arrays if jnp.ndim(a))
    if n <= rows:
        return function(*arrays)
    count = -(-n // rows)

    def one(index: Any) -> Any:
        # Again the last block overlaps the one before, whose results it writes once more.
        start = jnp.minimum(index * rows, n - rows)
        return start, function(
            *(jax.lax.dynamic_slice_in_dim(a, start, rows) if jnp.ndim(a) else a for a in arrays)
        )

    def body(total: Any, index: Any) -> tuple[Any, None]:
        start, block = one(index)

        def write(whole: Array, part: Array) -> Array:
            return jax.lax.dynamic_update_slice_in_dim(whole, part, start, 0)

        return jax.tree.map(write, total, block), None

    shapes = jax.eval_shape(one, 0)[1]
    empty = jax.tree.map(lambda a: jnp.zeros((n, *a.shape[1:]), a.dtype), shapes)
    if varying:
        empty = jax.lax.pcast(empty, varying, to="varying")
    return jax.lax.scan(body, empty, jnp.arange(count))[0]
