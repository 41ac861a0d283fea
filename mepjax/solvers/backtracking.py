"""The one search for a size of step that is accepted."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Search(eqx.Module):
    """Where a search ended: the last size tried, what was found there, and whether it is accepted.

    `size` and `accepted` have one shape: several searches may go on side by side.
    """

    size: Float[Array, "..."]
    found: Any
    accepted: Bool[Array, "..."]
    tries: Int[Array, ""]


def backtrack(
    attempt: Callable[[Array], tuple[Array, Any]],
    size: Float[Array, "..."],
    found: Any,
    *,
    retry: Callable[[Array], Array],
    most: int,
) -> Search:
    """Try a size; where `attempt(size) -> (accepted, found)` refuses, `retry(size)` is the next.

    **Arguments:** `size`, the first; `found`, shaped like what an attempt finds; `most`, the
    number of tries after which the search gives up. Sizes that are accepted stay.
    """

    def body(search: Search) -> Search:
        kept = search.accepted | (search.tries == 0)
        size = jnp.where(kept, search.size, retry(search.size))
        accepted, found = attempt(size)
        return Search(size, found, search.accepted | accepted, search.tries + 1)

    def searching(search: Search) -> Any:
        return ~jnp.all(search.accepted) & (search.tries < most)

    start = Search(size, found, jnp.zeros(size.shape, bool), jnp.zeros((), jnp.int32))
    return jax.lax.while_loop(searching, body, start)
