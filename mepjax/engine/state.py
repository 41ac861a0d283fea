"""An anneal under way: what it was asked to do and how far it is."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import checks, trees
from ..solvers.adjoints import AbstractAdjoint
from ..solvers.base import AbstractSolver
from .critical_jump import CriticalJump
from .detector import Detector, NoDetector
from .growth import Growth
from .monitor import Monitor
from .problem import Problem
from .record import Record
from .repair import Repair
from .run import Carry, Run
from .schedules import AbstractSchedule, Geometric
from .solution import Trace

# Past a transition by this factor a pair separates in few steps.
_GROWTH_FACTOR = 1.1


class Options(eqx.Module):
    """What the stages of an anneal depend on besides its problem and its start."""

    schedule: AbstractSchedule | None
    key: Any
    solver: AbstractSolver
    detector: Detector | NoDetector
    growth: Growth | None
    record: Record
    monitor: Monitor | None = eqx.field(static=True)
    relaxation: int = eqx.field(static=True)

    def run(self, scale: Float[Array, ""], start: Float[Array, " primal"]) -> Run:
        """The loop over the schedule, without derivatives."""
        schedule = self.resolved(scale)
        return Run(
            schedule=trees.stop_gradient(schedule),
            key=self.run_key,
            start=start,
            solver=self.solver,
            detector=self.detector,
            growth=self.growth,
            record=self.record,
            monitor=self.monitor,
            scale=scale,
            relaxation=self.relaxation,
        )

    @property
    def run_key(self) -> Any:
        """For kicks and samples; the other half of `key` is for `Problem.init`."""
        return jax.random.split(self.key)[1]

    def resolved(self, scale: Float[Array, ""]) -> AbstractSchedule:
        """The schedule in the dtype of params, the default one where none was given."""
        schedule = self.schedule or default_schedule(
            scale, grows=self.growth is not None, foretold=isinstance(self.detector, Detector)
        )
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, scale.dtype) if eqx.is_inexact_array(leaf) else leaf,
            schedule,
        )


def default_schedule(scale: Float[Array, ""], *, grows: bool, foretold: bool) -> AbstractSchedule:
    """From half the first transition to 10^4 times it, as what is done about transitions asks."""
    first, last = 0.5 * scale, 1e4 * scale
    if grows:
        # Critical betas of groups do not depend on how near they are.
        factor = _GROWTH_FACTOR
        return CriticalJump(first, last, overshoot=factor, min_factor=factor, easing=math.inf)
    if foretold:
        return CriticalJump(first, last)
    # The default spans a fixed ratio, so its stage count is known before b is.
    return Geometric(first, last, 1.02, max_stages=Geometric(0.5, 1e4, 1.02).max_stages)


class AnnealState(eqx.Module):
    """An anneal that is under way: plain data, without the problem.

    Made by `begin`, taken further by `advance`, turned into a `Solution` by `finish`, kept on disk
    by `save` and `load`. A pytree of arrays, so it passes through `jit` and `vmap`.

    **Fields:**

    - `options`: the arguments of `begin` on which the stages depend.
    - `repair`, `adjoint`: those that `finish` will use.
    - `scale`: the problem's `beta_scale`; `start`: the vector from which eigenvectors are sought.
    - `carry`: what the last stage hands to the next.
    - `rows`: the trace so far, stages of the continuation at the first beta before all others.
    - `input_report`: which check a traced input failed.
    """

    options: Options
    repair: Repair | None
    adjoint: AbstractAdjoint
    scale: Float[Array, ""]
    start: Float[Array, " primal"]
    carry: Carry
    rows: Trace
    input_report: checks.InputReport

    @property
    def params(self) -> Any:
        """The problem's params after the last stage."""
        return self.carry.params

    @property
    def beta(self) -> Float[Array, ""]:
        """beta of the last stage, NaN before the first."""
        return self.carry.beta

    @property
    def n_stages(self) -> Int[Array, ""]:
        """Stages of the schedule behind it."""
        return self.carry.n_stages

    @property
    def n_advanced(self) -> Int[Array, ""]:
        """Stages behind it, with those of the continuation at the first beta."""
        return self.carry.index

    @property
    def done(self) -> Bool[Array, ""]:
        """Whether no stage is left: the schedule or its `max_stages` ended, or a number failed."""
        return self.carry.done | (self.carry.index >= self.rows.beta.shape[-1])

    @property
    def trace(self) -> Trace:
        """The trace so far, like that of a `Solution`."""
        # The last axis of beta is the stages', also where states are stacked.
        axis, first = self.rows.beta.ndim - 1, self.options.relaxation
        place = (slice(None),) * axis + (slice(first, None),)
        return jax.tree.map(lambda leaf: leaf[place], self.rows)


def check_problem(problem: Any) -> None:
    """Raise `TypeError` for what is no problem."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a mepjax.Problem; got {type(problem).__name__} {problem!r:.60}."
        )


def check_kind(name: str, value: Any, kinds: Any) -> None:
    """Raise `TypeError` unless `value` is `None` or one of `kinds`."""
    if value is not None and not isinstance(value, kinds):
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        expected = " or ".join(kind.__name__.removeprefix("Abstract") for kind in classes)
        raise TypeError(
            f"`{name}` must be a {expected} instance; got {type(value).__name__} {value!r:.60}."
        )


def check_state(problem: Problem, state: Any) -> None:
    """Raise unless `state` is one of an anneal of params of this shape."""
    if not isinstance(state, AnnealState):
        raise TypeError(
            "`state` must be an AnnealState, such as `mepjax.begin` returns; "
            f"got {type(state).__name__} {state!r:.60}."
        )
    expected = eqx.filter_eval_shape(problem.init, state.options.key)
    same = same_shapes(state.params, expected)
    if not same or trees.dtype_of(state.params) != trees.dtype_of(expected):
        got, want = (f"{trees.dtype_of(p)} {shapes_of(p)}" for p in (state.params, expected))
        raise ValueError(
            f"`state` belongs to another problem: its params are {got}, those of `problem` {want}."
        )


def shapes_of(tree: Any) -> Any:
    """The shapes of a tree's arrays."""
    return jax.tree.map(jnp.shape, tree)


def same_shapes(tree: Any, expected: Any) -> bool:
    """Whether two trees are alike, and their arrays of the same shapes."""
    if jax.tree.structure(tree) != jax.tree.structure(expected):
        return False
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: jnp.shape(a) == b.shape, tree, expected)))
