"""What calls that go through a scene share: params, times, and their conditions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import arrays, checks, trees
from .._core.params import primal_of
from ..engine.problem import Problem
from ..engine.solution import Solution


def start_of(owner: str, name: str, problem: Problem, start: Any) -> Any:
    """Params to start from, shaped like those of the problem."""
    params = start.params if isinstance(start, Solution) else start
    params = jax.tree.map(lambda leaf: arrays.as_float_array(name, leaf), params)
    expected = eqx.filter_eval_shape(problem.init, jax.random.key(0))
    got, wanted = jax.tree.structure(params), jax.tree.structure(expected)
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)]
    needed = [leaf.shape for leaf in jax.tree.leaves(expected)]
    if got != wanted or shapes != needed:
        raise ValueError(
            f"{owner}: `{name}` must be params of this {type(problem).__name__}, with leaves of "
            f"shapes {needed}; got {shapes}. Is it of another problem?"
        )
    return jax.tree.map(lambda leaf, like: leaf.astype(like.dtype), params, expected)


def times_of(owner: str, times: Any, dtype: Any) -> Float[Array, " t"]:
    """Times as an array, of which there are two at least."""
    if checks.is_concrete(times):
        times = np.asarray(times, dtype)
    times = arrays.as_float_array("times", times, dtype)
    if times.ndim != 1 or times.shape[0] < 2:
        raise ValueError(
            f"{owner}: `times` must have shape (T,) with at least two times; got {times.shape}."
        )
    return times


def conditions_of(
    owner: str, times: Array, beta: Array, limit: Array | None
) -> tuple[checks.Check, ...]:
    """Conditions on times, beta and a limit on speeds."""
    xp, clock = checks.on_host(times)
    shortest = xp.min(xp.diff(clock))
    found = [
        checks.check_finite(owner, "times", times),
        checks.Check(
            shortest > 0,
            shortest,
            f"{owner}: `times` must increase; got a step of {{got}} between two of them.",
        ),
        checks.check_finite(owner, "beta", beta),
        checks.check_range(owner, "beta", beta, low=0.0, open_low=True),
    ]
    if limit is not None:
        found.append(checks.check_range(owner, "speed_limit", limit, low=0.0, open_low=True))
    return tuple(found)


def sizes_of(problem: Problem, params: Any, fields: dict[str, Array]) -> tuple[Any, Any]:
    """Characteristic sizes of what is integrated, which do not depend on the origin."""
    own = primal_of(problem.params_scale(params))
    shaped = jax.tree.map(lambda s, leaf: jnp.broadcast_to(s, leaf.shape), own, primal_of(params))
    largest = trees.max_abs(shaped)

    def size(field: Array) -> Array:
        if field.ndim == 0:
            return largest
        spread = jnp.max(jnp.abs(field - jnp.mean(field, axis=0)))
        return jnp.where(spread > 0, spread, largest)

    return {name: size(field) for name, field in fields.items()}, shaped
