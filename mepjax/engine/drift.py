"""How the equation of a solution moves when the data of its problem do."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._core import trees
from .._core.params import split_params
from .._core.programs import program
from ..solvers.equation import FreeEnergy
from .problem import Problem


def as_tangents(problem: Problem, tangents: Any) -> Any:
    """Velocities of a problem's arrays as a pytree shaped like it, with `None` for what rests.

    **Arguments:** `tangents`, a mapping from names of fields to velocities shaped like them, or
    such a pytree already.

    **Raises:** `TypeError` for what is no field with floating numbers, `ValueError` for a velocity
    of another shape.
    """
    if not isinstance(tangents, Mapping):
        return tangents
    owner = type(problem).__name__
    known = [field.name for field in dataclasses.fields(problem)]
    movable = [name for name in known if eqx.is_inexact_array(getattr(problem, name))]
    still = jax.tree.map(lambda _: None, problem)
    moving = {}
    for name, velocity in tangents.items():
        if name not in movable:
            raise TypeError(
                f"{owner}: `{name}` cannot move; expected the name of a field with floating "
                f"numbers, one of {', '.join(movable)}."
            )
        now = getattr(problem, name)
        shape = jnp.shape(velocity)
        if shape != now.shape:
            raise ValueError(
                f"{owner}: the velocity of `{name}` must have its shape {now.shape}; got {shape}."
            )
        moving[name] = jnp.asarray(velocity, now.dtype)
    return trees.replaced(still, **moving)


def moving_parts(problem: Problem, tangents: Any) -> tuple[list[Any], list[Any], Any]:
    """(moving leaves, their velocities, function that puts such leaves back into the problem)."""
    leaves, treedef = jax.tree.flatten(problem)
    velocities = treedef.flatten_up_to(tangents)
    places = [i for i, velocity in enumerate(velocities) if velocity is not None]

    def at(moved: list[Any]) -> Any:
        now = list(leaves)
        for place, leaf in zip(places, moved, strict=True):
            now[place] = leaf
        return jax.tree.unflatten(treedef, now)

    return [leaves[i] for i in places], [velocities[i] for i in places], at


@program
def _drift(problem: Problem, params: Any, beta: Any, tangents: Any) -> Any:
    moving, velocities, at = moving_parts(problem, tangents)
    if not moving:
        return jax.tree.map(jnp.zeros_like, params)
    slope = lambda moved: at(moved).residual(params, beta)  # noqa: E731
    return jax.jvp(slope, (moving,), (velocities,))[1]


def drift(problem: Problem, params: Any, beta: Any, tangents: Any) -> Any:
    """d residual / d t at held params while the data of the problem move.

    **Arguments:**

    - `problem`, a `Problem`; `params` as in its `init`; `beta`, scalar.
    - `tangents`: a mapping from names of its fields to their velocities, such as
        `{"nodes": v}`; a field that is absent rests. Or a pytree shaped like the problem, with
        `None` for what rests.

    **Returns:** a pytree shaped like `params`, in units of the residual per unit of time.

    **Raises:** `TypeError` or `ValueError` naming the field.

    **Example:** one centre between two points, one of which moves away by 1 per unit of time.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 1)
    >>> print(mj.drift(problem, jnp.zeros((1, 1)), 1.0, {"x": jnp.array([[0.0], [1.0]])}))
    [[-1.]]

    ```
    """
    params = jax.tree.map(jnp.asarray, params)
    beta = jnp.asarray(beta, trees.dtype_of(params))
    return _drift(problem, params, beta, as_tangents(problem, tangents))


def primal_drift(problem: FreeEnergy, params: Any, beta: Any, whole: Any) -> Any:
    """The primal part of a drift where what is eliminated follows: that of the reduced equation."""
    direct, pushed = split_params(whole)
    if pushed is None:
        return direct
    primal, dual = split_params(params)
    flat, unravel = ravel_pytree(dual)

    def of_dual(flat: Float[Array, " size"]) -> tuple[Any, Float[Array, " size"]]:
        first, second = split_params(problem.residual(type(params)(primal, unravel(flat)), beta))
        return first, ravel_pytree(second)[0]

    _, linear = jax.linearize(of_dual, flat)
    own = problem.eliminated_solve(params, beta)
    if own is None:
        unit = jnp.eye(flat.size, dtype=flat.dtype)
        # Few, such as one price per constraint; singular along their gauge.
        inverse = jnp.linalg.pinv(jax.vmap(lambda v: linear(v)[1])(unit).T)
        moved = inverse @ ravel_pytree(pushed)[0]
    else:
        moved = ravel_pytree(own(pushed))[0]
    return trees.subtract(direct, linear(moved)[0])
