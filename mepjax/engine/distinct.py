"""How many centres or facilities are at different places."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._core.params import primal_of
from .problem import Problem


def n_distinct(problem: Problem, params: Any, *, rtol: float = 1e-2) -> Int[Array, ""]:
    """Number of distinct slots: centres or facilities apart by more than `rtol`.

    It grows by transitions as beta rises. A slot is counted unless an earlier one is within
    `rtol` times the problem's `params_scale` (the size of the data) in every coordinate.

    **Arguments:** `problem`; `params`, as in `problem.init`; `rtol`, >= 0. Legal inside `jit` and
    `vmap`: map it over `solution.trace.params` (of `Record(params=True)`) for a phase diagram.

    **Returns:** a scalar int.

    **Raises:** `ValueError` for a negative `rtol`.

    Source: parameterized sequential decision making, section 1.3 (persistence of solutions).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 3)
    >>> print(mj.n_distinct(problem, jnp.array([[-1.0], [1.0], [1.001]])))
    2

    ```
    """
    if not rtol >= 0:
        raise ValueError(f"n_distinct: `rtol` must be >= 0; got {rtol}.")
    kinds = coincident(problem, params, rtol).values()
    first = [~jnp.any(jnp.tril(near, -1), axis=1) for near in kinds]
    return jnp.sum(jnp.concatenate(first), dtype=jnp.int32)


def coincident(problem: Problem, params: Any, rtol: Any) -> dict[int, Bool[Array, "slots slots"]]:
    """Which slots are within `rtol` times the params' scale of each other, themselves included.

    By the number of slots of a kind: most problems have one kind, but a decision process may have
    places of states and places of actions.
    """
    slots = primal_of(params)
    # With prices params and their scale have two parts, of which slots are the first.
    scales = primal_of(problem.params_scale(params))
    near: dict[int, Bool[Array, "slots slots"]] = {}
    for leaf, scale in zip(jax.tree.leaves(slots), jax.tree.leaves(scales), strict=True):
        count = leaf.shape[0]
        flat = (leaf / scale).reshape(count, -1)
        same = jnp.max(jnp.abs(flat[:, None] - flat[None]), axis=2, initial=0.0) <= rtol
        near[count] = near[count] & same if count in near else same
    return near
