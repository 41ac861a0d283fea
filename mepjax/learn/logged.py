"""Interactions that a learner keeps, and which of them were overrides."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import checks


def with_room(rows: Any, count: Int[Array, ""], m: int) -> Any:
    """Arrays of which the first `count` rows are filled in, with room for `m` more.

    Where their number is traced, with `m` rows more than there are.
    """
    if checks.is_concrete(count):
        room = jax.tree.leaves(rows)[0].shape[0]
        missing = int(count) + m - room
        if missing <= 0:
            return rows
        # Doubled, so that a stream of small updates compiles few programs.
        m = max(missing, room)

    def padded(leaf: Array) -> Array:
        return jnp.concatenate([leaf, jnp.zeros((m, *leaf.shape[1:]), leaf.dtype)])

    return jax.tree.map(padded, rows)


def appended(
    rows: Any, count: Int[Array, ""], new: Any
) -> tuple[Any, Int[Array, ""], Int[Array, ""]]:
    """The rows with new ones, how many there are now, and how many found no room."""
    m, room = jax.tree.leaves(new)[0].shape[0], jax.tree.leaves(rows)[0].shape[0]
    places = count + jnp.arange(m)
    rows = jax.tree.map(lambda a, b: a.at[places].set(b, mode="drop"), rows, new)
    lost = jnp.maximum(count + m - room, 0).astype(jnp.int32)
    return rows, jnp.minimum(count + m, room).astype(jnp.int32), lost


def override_shares(
    group: Int[Array, " m"],
    n_groups: int,
    times: Float[Array, " m"],
    strayed: Bool[Array, " m"],
) -> tuple[Float[Array, " groups"], Float[Array, " groups"], Float[Array, " groups"]]:
    """Share of overrides by group, their number, and that of interactions.

    Of a group that nothing is known of, the share is that of all.
    """
    empty = jnp.zeros((n_groups,), times.dtype)
    overrides, told = empty.at[group].add(times * strayed), empty.at[group].add(times)
    return share_of(overrides, told), overrides, told


def share_of(
    overrides: Float[Array, " groups"], told: Float[Array, " groups"]
) -> Float[Array, " groups"]:
    """`overrides` of `told`; that of all where a group was told nothing."""
    overall = jnp.sum(overrides) / jnp.maximum(jnp.sum(told), 1e-30)
    return jnp.where(told > 0, overrides / jnp.where(told > 0, told, 1.0), overall)
