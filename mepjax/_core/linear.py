"""Linear solves that never raise inside compiled code."""

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
