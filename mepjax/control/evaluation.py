"""One evaluation of a control law, with a limit on speeds."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._core import arrays, checks, trees
from .._core.params import primal_of
from .._core.programs import program
from ..engine.drift import as_tangents
from ..engine.problem import Problem
from .laws import AbstractLaw, Follow, moment


class Control(eqx.Module):
    """What a law asks for at one moment.

    **Fields:** `velocity` of the primal, shaped like it; `saturated`, whether the law gave up a
    bound on dF/dt to keep the velocity finite; `free_energy_rate`, dF/dt under this velocity.
    """

    velocity: Any
    saturated: Bool[Array, ""]
    free_energy_rate: Float[Array, ""]


# Exponent of the smooth saturation: below half the limit speeds change by less than 0.05 %.
_SHARPNESS = 8


def limited(velocity: Any, limit: Float[Array, ""] | None) -> tuple[Any, Bool[Array, ""]]:
    """Velocities no faster than `limit`, slot by slot, with their direction kept.

    A slot is an entry along the first axis of a leaf. Returns also whether one wanted to be faster.
    """
    if limit is None:
        return velocity, jnp.asarray(False)

    def slow(leaf: Array) -> Array:
        ratio = speeds(leaf) / limit
        fast = ratio > 1
        below = (1 + jnp.where(fast, 0.0, ratio) ** _SHARPNESS) ** (-1 / _SHARPNESS)
        safe = jnp.where(fast, ratio, 1.0)
        above = (1 + safe**-_SHARPNESS) ** (-1 / _SHARPNESS) / safe
        factor = jnp.where(fast, above, below)
        return leaf * factor.reshape(factor.shape + (1,) * (leaf.ndim - factor.ndim))

    over = [jnp.any(speeds(leaf) > limit) for leaf in jax.tree.leaves(velocity)]
    return jax.tree.map(slow, velocity), jnp.any(jnp.stack(over))


def speeds(leaf: Array) -> Array:
    """Length of every slot's part of a leaf; differentiable also at rest."""
    square = jnp.sum(leaf**2, axis=tuple(range(1, leaf.ndim)))
    moving = square > 0
    return jnp.where(moving, jnp.sqrt(jnp.where(moving, square, 1.0)), 0.0)


def evaluate(
    problem: Problem,
    params: Any,
    beta: Float[Array, ""],
    tangents: Any,
    law: AbstractLaw,
    limit: Float[Array, ""] | None = None,
) -> Control:
    """One control evaluation at prices that are right already."""
    now = moment(problem, params, beta, tangents)
    velocity, saturated = law.control(now)
    velocity, slowed = limited(velocity, limit)
    rate = now.energy_rate() + trees.dot(now.slope, velocity)
    return Control(velocity, saturated | slowed, rate)


@program
def _step(problem: Problem, params: Any, beta: Any, tangents: Any, law: Any, limit: Any) -> Control:
    return evaluate(problem, problem.eliminate(params, beta), beta, tangents, law, limit)


def step(
    problem: Problem,
    values: Any,
    beta: Any,
    tangents: Any,
    law: AbstractLaw | None = None,
    *,
    speed_limit: Any = None,
) -> Control:
    """One evaluation of a control law, for a loop of your own or a robot's.

    **Arguments:**

    - `problem`: as it is now, any smooth `Problem`.
    - `values`: params as in `problem.init`, as they are now; prices are found anew.
    - `beta`: inverse temperature, > 0.
    - `tangents`: a mapping from names of fields of the problem to their velocities, such as
        `{"nodes": v}`; a field that is absent rests.
    - `law`: default `Follow()`.
    - `speed_limit`: largest speed of a slot; default none.

    **Returns:** a `Control`: its `velocity` is shaped like the primal of `values`.

    **Raises:** `TypeError` or `ValueError` naming the argument.

    **Example:** all points move to the right; so does their centre.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 1)
    >>> control = mj.control.step(problem, jnp.zeros((1, 1)), 1.0, {"x": jnp.ones((2, 1))})
    >>> print(control.velocity)
    [[1.]]

    ```
    """
    law = Follow() if law is None else law
    law.check_problem(problem)
    params = jax.tree.map(jnp.asarray, values)
    dtype = trees.dtype_of(primal_of(params))
    beta = jnp.asarray(beta, dtype)
    checks.enforce((checks.check_range("step", "beta", beta, low=0.0, open_low=True),))
    limit = None if speed_limit is None else jnp.asarray(speed_limit, dtype)
    law = arrays.cast_floats(law, dtype)
    return _step(problem, params, beta, as_tangents(problem, tangents), law, limit)
