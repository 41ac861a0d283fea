"""An anneal under way: what it was asked to do and how far it is."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks, trees
from .._core.arrays import default_float
from ..solvers.adjoints import AbstractAdjoint
from ..solvers.base import AbstractSolver
from .branching.base import AbstractBranching
from .carry import Carry
from .monitor import Monitor
from .problem import Problem
from .record import Record
from .repair import Repair
from .run import AnnealingLoop
from .schedules import AbstractSchedule
from .solution import Trace


class Options(eqx.Module):
    """What the stages of an anneal depend on besides its problem and its start."""

    schedule: AbstractSchedule | None
    key: Any
    solver: AbstractSolver
    branching: AbstractBranching
    record: Record
    monitor: Monitor | None = eqx.field(static=True)
    relaxation: int = eqx.field(static=True)

    def run(self, scale: Float[Array, ""], start: Float[Array, " primal"]) -> AnnealingLoop:
        """The loop over the schedule, without derivatives."""
        schedule = self.resolved(scale)
        return AnnealingLoop(
            schedule=trees.stop_gradient(schedule),
            key=self.run_key,
            start=start,
            solver=self.solver,
            branching=self.branching,
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
        schedule = self.schedule or self.branching.default_schedule(scale)
        return jax.tree.map(
            lambda leaf: jnp.asarray(leaf, scale.dtype) if eqx.is_inexact_array(leaf) else leaf,
            schedule,
        )


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
    """Raise `TypeError` for what is no problem, and for one of a precision that is off by now."""
    if not isinstance(problem, Problem):
        raise TypeError(
            f"`problem` must be a mepjax.Problem; got {type(problem).__name__} {problem!r:.60}."
        )
    if default_float() == np.float64:
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(problem):
        if isinstance(leaf, jax.Array) and leaf.dtype == np.float64:
            field = jax.tree_util.keystr(path).lstrip(".")
            raise TypeError(
                f"`problem` was built in float64 (its `{field}` is) while JAX's x64 mode is off "
                'now: turn it on again, `jax.config.update("jax_enable_x64", True)`, or build the '
                "problem again."
            )


def check_kind(name: str, value: Any, kinds: Any, expected: str | None = None) -> None:
    """Raise `TypeError` unless `value` is `None` or one of `kinds`."""
    if value is not None and not isinstance(value, kinds):
        classes = kinds if isinstance(kinds, tuple) else (kinds,)
        names = " or ".join(kind.__name__.removeprefix("Abstract") for kind in classes)
        expected = expected or names
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
