"""What a facility network's cost and locations depend on most."""

from dataclasses import fields
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from ..._core.linear import for_each
from ..._core.params import primal_of
from ..._core.programs import program
from ..._core.types import Scalar
from ...solvers.implicit import LinearSolve, attach

if TYPE_CHECKING:
    from .problem import FacilityPath


class Sensitivities(eqx.Module):
    """Derivatives of the free energy and of the locations in everything that was given.

    **Fields:** dictionaries by name: `"nodes"`, `"destinations"`, `"fixed"`, `"weights"`,
    `"entry_capacity"`, `"facility_capacity"`, `"link_capacity"`, as far as there are such.

    - `free_energy`: dF / d(entry), shaped like the data: for nodes (N, d).
    - `locations`: how far all locations move together (root of the sum of squares) per unit by
        which an entry moves in the direction that matters most, one number per node (N,),
        destination or limit; in units of length per unit of the entry.
    """

    free_energy: dict[str, Float[Array, "..."]]
    locations: dict[str, Float[Array, "..."]]

    def ranked(self, name: str, *, by: str = "free_energy") -> Int[Array, " entries"]:
        """Numbers of the nodes, destinations or limits, the most influential first.

        **Arguments:** `name`, as in the fields; `by`, `"free_energy"` or `"locations"`.

        **Returns:** indices; for links these are into the flattened (M, M) matrix.

        **Raises:** `KeyError` for a name that is not there, `ValueError` for another `by`.
        """
        if by not in ("free_energy", "locations"):
            raise ValueError(f"`by` must be 'free_energy' or 'locations'; got {by!r}.")
        table = getattr(self, by)
        if name not in table:
            raise KeyError(f"`name` must be one of {sorted(table)}; got {name!r}.")
        size = jnp.abs(table[name])
        if by == "free_energy" and name in _PLACES:
            size = jnp.linalg.norm(size, axis=-1)
        return jnp.argsort(-size.ravel())


_PLACES = ("nodes", "destinations", "fixed")


def given_arrays(problem: "FacilityPath") -> dict[str, Array]:
    """Everything a facility network was given that derivatives may be taken in."""
    # Nodes on disk and their weights are no arrays.
    named = [name for name in (*_PLACES, "weights") if eqx.is_array(getattr(problem, name))]
    names = named
    capacities = problem.capacities
    limited = [f.name for f in fields(capacities) if getattr(capacities, f.name) is not None]
    names += [f"{name}_capacity" for name in limited]
    return {name: _named(problem, name) for name in names}


def _named(problem: "FacilityPath", name: str) -> Array:
    kind, _, capacity = name.partition("_")
    return getattr(problem.capacities, kind).limit if capacity else getattr(problem, name)


@program
def find_sensitivities(problem: "FacilityPath", params: Any, beta: Scalar) -> Sensitivities:
    """`Sensitivities` at a solution; one linear solve per coordinate of the locations."""
    data = given_arrays(problem)

    def at(data: dict[str, Array]) -> Any:
        return eqx.tree_at(
            lambda p: [_named(p, name) for name in data], problem, list(data.values())
        )

    energy = jax.grad(lambda data: at(data).free_energy(params, beta))(data)

    def locations(data: dict[str, Array]) -> Array:
        moved = attach(
            params,
            at(data),
            jnp.asarray(beta, problem.nodes.dtype),
            jnp.asarray(False),
            options=LinearSolve(),
            on_failure="pass",
        )
        return ravel_pytree(primal_of(moved))[0]

    jacobian = jax.jacrev(locations)(data)
    moves = {name: _largest_move(name, rows) for name, rows in jacobian.items()}
    return Sensitivities(energy, moves)


def _largest_move(name: str, rows: Float[Array, "size ..."]) -> Float[Array, "..."]:
    if name not in _PLACES:
        return jnp.linalg.norm(rows, axis=0)
    # (size, entries, d): the largest singular value per entry.
    gram = jnp.einsum("sed,sef->edf", rows, rows, precision=jax.lax.Precision.HIGHEST)
    return jnp.sqrt(jnp.maximum(for_each(jnp.linalg.eigvalsh, gram)[:, -1], 0.0))
