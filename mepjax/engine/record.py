"""What an anneal records at every stage, as a value."""

from collections.abc import Callable
from typing import Any

import equinox as eqx


class Record(eqx.Module):
    """What each stage adds to `solution.trace` beyond its scalars.

    **Arguments:**

    - `params`: keep the params of every stage (`trace.params`), for bifurcation pictures.
    - `statistic`: a function `(problem, params, beta) -> pytree of arrays`, kept as
        `trace.statistic`.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> schedule = mj.Explicit([0.1, 1.0])
    >>> sol = mj.anneal(problem, schedule, key=jax.random.key(0), record=mj.Record(params=True))
    >>> sol.trace.params.shape
    (2, 2, 1)

    ```
    """

    params: bool = eqx.field(static=True, default=False)
    statistic: Callable[[Any, Any, Any], Any] | None = eqx.field(static=True, default=None)
