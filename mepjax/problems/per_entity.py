"""A problem cut into what it has one row of for each entity, and the rest."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ..exec.sources import Rows


def split_rows(
    problem: Any, by_row: Any
) -> tuple[list[Array], Callable[[Any, list[Array]], Any], Any]:
    """Arrays with a row for each entity, a way back to a problem, and all other arrays.

    `by_row` is shaped like the problem and true where a leaf has a row for each entity. The way
    back takes the other arrays and some rows, and gives the problem of these entities alone.
    """
    rows, rest = eqx.partition(problem, by_row)
    shared, static = eqx.partition(rest, eqx.is_array)
    leaves, structure = jax.tree.flatten(rows)

    def restore(shared: Any, leaves: list[Array]) -> Any:
        return eqx.combine(jax.tree.unflatten(structure, leaves), shared, static)

    return leaves, restore, shared


def split_table(
    problem: Any, rows: Rows, in_memory: Callable[[Any, Array, Array], Any]
) -> tuple[list[Any], Callable[[Any, list[Array]], Any], Any]:
    """`split_rows` of a problem whose rows are on disk.

    `in_memory(problem, points, weights)` is the problem of these points, of weight one.
    """
    shared, static = eqx.partition(problem, eqx.is_array)

    def restore(shared: Any, leaves: list[Array]) -> Any:
        (x,) = leaves
        return in_memory(eqx.combine(shared, static), x, jnp.ones(x.shape[:1], x.dtype))

    return [rows], restore, shared


def placed(problem: Any, by_row: Any) -> Any:
    """The problem with its arrays where its executor wants them."""
    rows, rest = eqx.partition(problem, by_row)
    shared, static = eqx.partition(rest, eqx.is_array)
    return eqx.combine(*problem.executor.place(rows, shared), static)
