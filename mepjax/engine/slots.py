"""Slots: the interchangeable places of a problem, the leading axis of its primal variables."""

from typing import Any

import jax
from jaxtyping import Array, Int

from .._core.params import join_params, primal_of, split_params


def n_slots_of(params: Any) -> int:
    """Number of slots of a problem that has some."""
    return jax.tree.leaves(primal_of(params))[0].shape[0]


def take(params: Any, parent: Int[Array, " slots"]) -> Any:
    """Params whose slot s is where slot parent[s] is, with the same prices."""
    primal, dual = split_params(params)
    return join_params(jax.tree.map(lambda leaf: leaf[parent], primal), dual)
