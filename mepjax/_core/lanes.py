"""Lanes of a `vmap` that do better on their own."""

from collections.abc import Callable, Sequence
from typing import Any

import jax


def lane_by_lane(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` of arrays, of which a `vmap` takes one lane after the other on a CPU.

    For what loops until it is done: batched, every lane goes on until the slowest is. Elsewhere
    lanes go together, as usual. Not differentiable: stop gradients of its arguments.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp
    >>> from mepjax._core.lanes import lane_by_lane
    >>> halved = lane_by_lane(lambda x: jax.lax.while_loop(lambda y: y > 1, lambda y: y / 2, x))
    >>> print(jax.vmap(halved)(jnp.array([3.0, 16.0])))
    [0.75 1.  ]

    ```
    """
    wrapped: Any = jax.custom_batching.custom_vmap(function)

    @wrapped.def_vmap
    def _(axis_size: int, in_batched: Sequence[bool], *args: Any) -> tuple[Any, Any]:
        del axis_size
        lanes = [value for value, has in zip(args, in_batched, strict=True) if has]

        def of_lane(call: Callable[..., Any], rows: Sequence[Any]) -> Any:
            own = iter(rows)
            return call(*(next(own) if has else a for a, has in zip(args, in_batched, strict=True)))

        def in_turn(*lanes: Any) -> Any:
            return jax.lax.map(lambda rows: of_lane(wrapped, rows), lanes)

        def together(*lanes: Any) -> Any:
            return jax.vmap(lambda *rows: of_lane(function, rows))(*lanes)

        found = jax.lax.platform_dependent(*lanes, cpu=in_turn, default=together)
        return found, jax.tree.map(lambda _: True, found)

    return wrapped
