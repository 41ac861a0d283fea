"""Loops that carry their scalars in one vector of each dtype.

XLA on a CPU compiles a kernel for every scalar that a loop hands on, and for small loops that is
most of the time which compiling takes.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def _packing(tree: Any) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """(pack, unpack) for trees like this one: scalar leaves to one vector of each dtype, and back.

    Other leaves stay as they are.
    """
    leaves, treedef = jax.tree.flatten(tree)
    groups: dict[Any, list[int]] = {}
    for place, leaf in enumerate(leaves):
        if jnp.ndim(leaf) == 0:
            groups.setdefault(jnp.result_type(leaf), []).append(place)
    whole = [place for place, leaf in enumerate(leaves) if jnp.ndim(leaf) > 0]

    def pack(tree: Any) -> Any:
        leaves = treedef.flatten_up_to(tree)
        vectors = [jnp.stack([leaves[p] for p in places]) for places in groups.values()]
        return [leaves[p] for p in whole], vectors

    def unpack(packed: Any) -> Any:
        kept, vectors = packed
        leaves = dict(zip(whole, kept, strict=True))
        for places, vector in zip(groups.values(), vectors, strict=True):
            leaves.update((place, vector[i]) for i, place in enumerate(places))
        return jax.tree.unflatten(treedef, [leaves[place] for place in range(len(leaves))])

    return pack, unpack


def while_loop(proceed: Callable[[Any], Any], body: Callable[[Any], Any], start: Any) -> Any:
    """`jax.lax.while_loop`, packed."""
    pack, unpack = _packing(start)
    end = jax.lax.while_loop(
        lambda state: proceed(unpack(state)), lambda state: pack(body(unpack(state))), pack(start)
    )
    return unpack(end)
