"""Linear algebra that neither raises nor hangs inside compiled code."""

from collections.abc import Callable
from typing import Any

import jax
import lineax as lx


def solve_symmetric(operator: lx.AbstractLinearOperator, vector: Any) -> Any:
    """Solve with a symmetric operator; NaN in gives NaN out, in every derivative too.

    lineax's own transpose raises on NaN even where the solve was told not to, which would take
    down all lanes of a `vmap` for one that failed.
    """
    return jax.lax.custom_linear_solve(
        operator.mv,
        vector,
        lambda _, b: lx.linear_solve(operator, b, throw=False).value,
        symmetric=True,
    )


def for_each(function: Callable[..., Any], *batches: Any) -> Any:
    """`function` of every matrix of a batch, and of every row of further batches.

    On a CPU one after the other: jaxlib 0.10 hands the matrices of a batch to the very threads
    that wait for them, and with few cores, or several devices on them, it may wait for ever.
    """

    def in_turn(*batches: Any) -> Any:
        return jax.lax.map(lambda rows: function(*rows), batches)

    return jax.lax.platform_dependent(*batches, cpu=in_turn, default=jax.vmap(function))
