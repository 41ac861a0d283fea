"""The lowest curvature of a free energy, and the beta at which it is zero."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from .._core import trees
from .._core.params import join_params, primal_of, split_params
from ..solvers import spectrum
from ..solvers.spectrum import SpectrumOptions
from .bracket import Bracket, critical_bracket
from .problem import Problem


def near_critical_threshold(dtype: Any) -> float:
    """Curvatures smaller than this in size cannot be told from zero."""
    return 10 * float(jnp.finfo(dtype).eps) ** 0.5


def lowest_curvature(
    problem: Problem, params: Any, beta: Float[Array, ""], start: Array, options: SpectrumOptions
) -> spectrum.Lowest:
    """Lowest eigenvalue and unstable direction at (params, beta), without derivatives."""
    problem, params, beta = trees.stop_gradient((problem, params, beta))
    pencil = spectrum.primal_pencil(problem, params, beta)
    return spectrum.lowest(pencil, start, options)


def differentiable_curvature(
    problem: Problem, params: Any, beta: Float[Array, ""], start: Array, options: SpectrumOptions
) -> Float[Array, ""]:
    """The curvature, differentiable where the eigenvalue is simple."""
    found = lowest_curvature(problem, params, beta, start, options)
    pencil = spectrum.primal_pencil(problem, params, beta)
    value = spectrum.differentiable_value(pencil, found)
    # The eigenvalue itself, with the derivative of the quotient.
    return found.value + value - jax.lax.stop_gradient(value)


def random_start(problem: Problem, params: Any, key: Any) -> Float[Array, " size"]:
    """The random vector from which eigenvectors are sought, of the size of the primal."""
    flat, _ = ravel_pytree(primal_of(params))
    return jax.random.normal(key, flat.shape, flat.dtype)


def find_critical_beta(
    problem: Problem,
    params: Any,
    beta: Float[Array, ""],
    start: Float[Array, " size"],
    options: SpectrumOptions,
) -> Float[Array, ""]:
    """Nearest beta' within a factor 1e6 where the curvature at fixed params is zero, or inf.

    Searched upward where the curvature is positive and downward where it is negative. No
    derivatives.
    """
    problem, params, beta = trees.stop_gradient((problem, params, beta))
    return _search(
        critical_bracket(beta),
        lambda trial: lowest_curvature(problem, params, trial, start, options).value,
    )


def _search(bracket: Bracket, function: Callable[[Array], Array]) -> Float[Array, ""]:
    bracket = jax.lax.while_loop(
        lambda bracket: bracket.searching,
        lambda bracket: bracket.narrowed(function(bracket.trial)),
        bracket,
    )
    return bracket.root


def flat_direction(params: Any, problem: Problem, direction: Float[Array, " size"]) -> Any:
    """A flat primal direction as a change of params (prices unchanged)."""
    primal, dual = split_params(params)
    _, unravel = ravel_pytree(primal)
    still = None if dual is None else jax.tree.map(jnp.zeros_like, dual)
    return join_params(unravel(direction), still)
