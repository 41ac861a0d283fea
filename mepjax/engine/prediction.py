"""The next stage of a schedule that asks for transitions, and how the solution stands there."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..solvers import spectrum
from .bracket import Bracket
from .problem import Problem
from .schedules import Stage

# How exactly transitions are predicted.
_RTOL = 1e-3


class Probe(eqx.Module):
    """Slope and curvature of F at a beta, at given params along a direction of unit length."""

    slope: Float[Array, ""]
    curvature: Float[Array, ""]


class _Search(eqx.Module):
    bracket: Bracket
    stage: Stage
    probe: Probe
    done: Bool[Array, ""]


def probed(
    problem: Problem, params: Any, beta: Float[Array, ""], direction: Float[Array, " primal"]
) -> Probe:
    """Two derivatives of F along `direction`."""
    return Probe(*spectrum.along(problem, params, beta, direction))


def next_stage(
    problem: Problem,
    params: Any,
    beta: Float[Array, ""],
    direction: Float[Array, " primal"],
    following: Callable[[Float[Array, ""]], Stage],
    *,
    horizon: float | None,
    sought: Bool[Array, ""],
    unforeseen: Bool[Array, ""],
) -> tuple[Stage, Probe]:
    """The stage after the one at `beta` as `following(predicted)` tells, and the probe there.

    The predicted transition is where the curvature along `direction` at fixed params changes sign:
    no eigenvalue problem, and an upper bound, as the curvature along any direction is at least the
    lowest; exact to second order in how far the eigenvector turns. It is `beta` where `unforeseen`,
    and inf where it is not `sought` or not within a factor of `horizon`.
    """
    nowhere = jnp.full_like(beta, jnp.inf)
    if horizon is None:
        after = following(nowhere)
        return after, probed(problem, params, after.beta, direction)

    def look(search: _Search) -> _Search:
        # Search and probe share this body, since second derivatives take long to compile.
        bracket = search.bracket
        stage = following(jnp.where(unforeseen, beta, bracket.root))
        at = jnp.where(bracket.searching, bracket.trial, stage.beta)
        probe = probed(problem, params, at, direction)
        return _Search(bracket.narrowed(probe.curvature), stage, probe, ~bracket.searching)

    first = jnp.where(sought & ~unforeseen, beta, jnp.nan).astype(beta.dtype)
    bracket = Bracket.around(first, limit=horizon, rtol=_RTOL)
    start = _Search(bracket, following(nowhere), Probe(nowhere, nowhere), jnp.asarray(False))
    end = jax.lax.while_loop(lambda search: ~search.done, look, start)
    return end.stage, end.probe
