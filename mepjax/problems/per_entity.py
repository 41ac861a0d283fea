"""A problem cut into what it has one row of for each entity, and the rest."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
from jaxtyping import Array


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


def placed(problem: Any, by_row: Any) -> Any:
    """The problem with its arrays where its executor wants them."""
    rows, rest = eqx.partition(problem, by_row)
    shared, static = eqx.partition(rest, eqx.is_array)
    return eqx.combine(*problem.executor.place(rows, shared), static)
