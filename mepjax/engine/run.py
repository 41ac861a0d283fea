"""The one annealing loop: scan the schedule, solve each stage, record it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.codes import Code, as_code, is_failing
from .._core.params import primal_of
from ..solvers.base import AbstractSolver
from .detector import Detector, NoDetector
from .distinct import n_distinct
from .growth import SAME_PLACE, Groups, Growth, first_groups, solve_with_splits
from .monitor import Monitor, report_progress
from .prediction import Probe, next_stage
from .problem import Growable, Problem
from .record import Record
from .repair import Repair, repaired
from .saddles import solve_with_kicks
from .schedules import AbstractSchedule, Stage
from .solution import Trace


class Transitions(eqx.Module):
    """Critical betas met: one place per slot, later ones counted only."""

    betas: Float[Array, " slots"]
    count: Int[Array, ""]

    def add(self, crossed: Bool[Array, " c"], betas: Float[Array, " c"]) -> "Transitions":
        """With those of `betas` that were crossed."""
        number = jnp.cumsum(crossed, dtype=jnp.int32)
        place = jnp.where(crossed, self.count + number - 1, self.betas.shape[0])
        return Transitions(self.betas.at[place].set(betas, mode="drop"), self.count + number[-1])


class Carry(eqx.Module):
    """What one stage hands to the next."""

    params: Any
    stage: Stage
    # Curvature and a direction of that curvature at the stage before (0 before the first).
    curvature: Float[Array, ""]
    direction: Float[Array, " primal"]
    beta: Float[Array, ""]
    transitions: Transitions
    # The stage before crossed a transition and did not converge.
    unsettled: Bool[Array, ""]
    # The stage before crossed a transition.
    crossed: Bool[Array, ""]
    groups: Groups | None
    code: Int[Array, ""]
    n_stages: Int[Array, ""]
    # The next stage, counted with those of the continuation, which `n_stages` leaves out.
    index: Int[Array, ""]
    done: Bool[Array, ""]


class _StageEnd(eqx.Module):
    """What solving a stage ends with, whichever way it was solved."""

    params: Any
    curvature: Float[Array, ""]
    direction: Float[Array, " primal"]
    groups: Groups | None
    code: Int[Array, ""]
    steps: Int[Array, ""]
    crossed: Bool[Array, " c"]
    critical: Float[Array, " c"]


class Run(eqx.Module):
    """Everything an anneal needs besides its problem and where it starts.

    `start` is the random vector from which eigenvectors are sought, `scale` the problem's
    `beta_scale`, `relaxation` the stages of the continuation `relaxed` at the first beta.
    """

    schedule: AbstractSchedule
    key: Any
    start: Float[Array, " primal"]
    solver: AbstractSolver
    detector: Detector | NoDetector
    growth: Growth | None
    record: Record
    monitor: Monitor | None = eqx.field(static=True)
    scale: Float[Array, ""]
    relaxation: int = eqx.field(static=True)

    def __call__(
        self, problem: Problem, carry: Carry, rows: Trace, stages: Int[Array, ""]
    ) -> tuple[Carry, Trace]:
        """The next `stages` of the schedule, or as many as are left.

        `rows` are those of the trace, the continuation's first. Stages behind `carry` are skipped
        like those after the end, so that an anneal in pieces runs one program.
        """
        stop = carry.index + jnp.minimum(stages, rows.beta.shape[0])

        def skip(carry: Carry, index: Int[Array, ""], row: Trace) -> tuple[Carry, Trace]:
            del index
            return carry, row

        def advance(carry: Carry, index: Int[Array, ""], row: Trace) -> tuple[Carry, Trace]:
            del row
            return self._advance(problem, carry, index)

        def body(carry: Carry, stage: tuple[Int[Array, ""], Trace]) -> tuple[Carry, Trace]:
            index, row = stage
            skipped = carry.done | (index != carry.index) | (index >= stop)
            return jax.lax.cond(skipped, skip, advance, carry, index, row)

        return jax.lax.scan(body, carry, (jnp.arange(rows.beta.shape[0]), rows))

    def finish(
        self, sample: Problem, problem: Problem, carry: Carry, trace: Trace, repair: Repair | None
    ) -> tuple[Carry, Trace, Float[Array, ""]]:
        """Repair on the sample, then the last stage again, on all data and without ties.

        Also returns how much the free energy of all data has fallen from that of the sample's
        params, zero where the sample is all data.
        """
        params, steps = carry.params, jnp.zeros((), jnp.int32)
        # No stage has this number, nor does the sample.
        key = jax.random.fold_in(self.key, np.uint32(2**32 - 2))
        if repair is not None and isinstance(sample, Growable):
            params, steps = repaired(sample, params, carry.beta, self.solver, repair, key)
        before = None
        if sample is not problem:
            before = problem.free_energy(params, carry.beta)
            params, more = self._spares_placed(problem, params, carry.beta, repair, key)
            steps = steps + more
        stage = Stage(carry.beta, jnp.asarray(True), carry.stage.state)
        at_sample = eqx.tree_at(lambda c: c.params, carry, params)
        number = jnp.asarray(self.schedule.max_stages, jnp.int32)
        relaxing = jnp.asarray(False)
        end = self._by_kicks(problem, at_sample, stage, None, number, relaxing)
        end = eqx.tree_at(lambda e: e.steps, end, end.steps + steps)
        # Not counted: the sample's transitions have been.
        new, row = self._record(problem, carry, stage, end, relaxing)
        failed = carry.code == int(Code.NON_FINITE)
        final = eqx.tree_at(
            lambda c: (c.params, c.curvature, c.code),
            carry,
            (new.params, new.curvature, jnp.where(failed, carry.code, new.code)),
        )
        place = carry.n_stages - 1
        trace = jax.tree.map(
            lambda rows, one: rows.at[place].set(jnp.where(failed, rows[place], one)), trace, row
        )
        energy = row.free_energy
        gap = jnp.zeros_like(energy) if before is None else before - energy
        return final, trace, gap

    def _spares_placed(
        self, problem: Problem, params: Any, beta: Float[Array, ""], repair: Repair | None, key: Any
    ) -> tuple[Any, Int[Array, ""]]:
        """Params after repair on all data, where slots coincide that the sample had no use for."""
        if not isinstance(problem, Growable) or problem.n_slots is None:
            return params, jnp.zeros((), jnp.int32)

        def mended() -> tuple[Any, Int[Array, ""]]:
            # Swaps at random have been tried, on the sample.
            plain = dataclasses.replace(repair or Repair(), swaps=0)
            return repaired(problem, params, beta, self.solver, plain, key)

        spare = n_distinct(problem, params, rtol=SAME_PLACE) < problem.n_slots
        return jax.lax.cond(spare, mended, lambda: (params, jnp.zeros((), jnp.int32)))

    def first(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Carry, Trace]:
        """What the first stage starts from, and a trace without stages.

        `given`: the params are the user's, with their slots apart where they are. They are not led
        through the easier problem either, which would undo them.
        """
        dtype = trees.dtype_of(params)
        flat_primal, _ = ravel_pytree(primal_of(params))
        # One place for transitions where there are no slots.
        places = problem.n_slots or 1
        stage = self.schedule.init(self.scale)
        groups = None
        if self.growth is not None:
            params, groups = first_groups(problem, params, given, stage.beta.dtype)
        carry = Carry(
            params=params,
            stage=stage,
            curvature=jnp.zeros((), dtype),
            direction=jnp.zeros_like(flat_primal),
            beta=jnp.asarray(jnp.nan, dtype),
            transitions=Transitions(jnp.full((places,), jnp.inf, dtype), jnp.zeros((), jnp.int32)),
            unsettled=jnp.asarray(False),
            crossed=jnp.asarray(False),
            groups=groups,
            code=as_code(Code.OK),
            n_stages=jnp.zeros((), jnp.int32),
            index=jnp.where(given, self.relaxation, 0).astype(jnp.int32),
            done=jnp.asarray(False),
        )
        count = self.relaxation + self.schedule.max_stages
        empty = self._empty_row(problem, params, stage.beta)
        rows = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), empty)
        # Weak types would be gone after a stage, and a second piece be another program.
        return jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), (carry, rows))

    def _advance(
        self, problem: Problem, carry: Carry, index: Int[Array, ""]
    ) -> tuple[Carry, Trace]:
        relaxing, waiting = index < self.relaxation, index <= self.relaxation
        now = problem
        if self.relaxation:
            s = jnp.minimum((index + 1) / (self.relaxation + 1), 1.0)
            assert problem.continuation is not None
            now = problem.continuation.relaxed(s.astype(trees.dtype_of(carry.params)))

        def following(predicted: Float[Array, ""]) -> Stage:
            return trees.where(waiting, carry.stage, self.schedule.next(carry.stage, predicted))

        if carry.groups is not None:
            stage = following(carry.groups.next_split)
            end = self._by_splits(now, carry, stage)
        elif isinstance(self.detector, NoDetector):
            stage = following(jnp.full_like(carry.stage.beta, jnp.inf))
            end = self._by_kicks(now, carry, stage, None, index, relaxing)
        else:
            stage, probe = next_stage(
                now,
                carry.params,
                carry.stage.beta,
                carry.direction,
                following,
                horizon=self.schedule.horizon,
                sought=~waiting,
                # Past a transition others may be near, as where the curvature is unknown.
                unforeseen=carry.crossed | jnp.isnan(carry.curvature),
            )
            end = self._by_kicks(now, carry, stage, probe, index, relaxing)
        new, row = self._record(problem, carry, stage, end, relaxing)
        if self.monitor is not None:
            beta_end = self.schedule.final_beta()
            report_progress(
                self.monitor,
                self.schedule.max_stages,
                stage=new.n_stages,
                beta=stage.beta,
                beta_max=jnp.nan if beta_end is None else beta_end,
                free_energy=row.free_energy,
                curvature=row.curvature,
                steps=row.steps,
            )
        return new, row

    def _by_kicks(
        self,
        problem: Problem,
        carry: Carry,
        stage: Stage,
        probe: Probe | None,
        index: Int[Array, ""],
        relaxing: Bool[Array, ""],
    ) -> _StageEnd:
        key = jax.random.fold_in(self.key, index)
        result, crossed = solve_with_kicks(
            problem, carry, stage, probe, key, self.start, self.solver, self.detector, relaxing
        )
        return _StageEnd(
            params=result.params,
            curvature=result.curvature,
            direction=result.direction,
            groups=None,
            code=result.code,
            steps=result.steps,
            crossed=crossed[None],
            critical=result.bracket.root[None],
        )

    def _by_splits(self, problem: Problem, carry: Carry, stage: Stage) -> _StageEnd:
        assert isinstance(problem, Growable)
        assert self.growth is not None and carry.groups is not None
        grown = solve_with_splits(
            problem, carry.params, carry.groups, stage.beta, self.solver, self.growth, self.scale
        )
        return _StageEnd(
            params=grown.params,
            curvature=grown.groups.curvature(stage.beta),
            direction=carry.direction,
            groups=grown.groups,
            code=grown.code,
            steps=grown.steps,
            crossed=grown.crossed,
            critical=grown.critical,
        )

    def _record(
        self,
        problem: Problem,
        carry: Carry,
        stage: Stage,
        end: _StageEnd,
        relaxing: Bool[Array, ""],
    ) -> tuple[Carry, Trace]:
        """The carry and the trace's row after a stage."""
        record = self.record
        energy, terms = problem.free_energy_and_terms(end.params, stage.beta)
        finite = jnp.isfinite(energy) & trees.all_finite(end.params)
        code = jnp.where(finite, end.code, as_code(Code.NON_FINITE))
        moved = trees.subtract(end.params, carry.params)
        statistic = None
        if record.statistic is not None:
            statistic = record.statistic(problem, end.params, stage.beta)
        row = Trace(
            beta=stage.beta,
            free_energy=energy,
            distortion=terms.distortion,
            entropy=terms.entropy,
            curvature=end.curvature,
            displacement=jnp.sqrt(trees.dot(moved, moved)),
            steps=end.steps,
            code=code,
            params=end.params if record.params else None,
            statistic=statistic,
        )
        new = Carry(
            params=trees.where(finite, end.params, carry.params),
            stage=stage,
            curvature=jnp.where(relaxing, jnp.zeros_like(end.curvature), end.curvature),
            direction=end.direction,
            beta=stage.beta,
            transitions=carry.transitions.add(end.crossed, end.critical),
            unsettled=jnp.any(end.crossed) & is_failing(code),
            crossed=jnp.any(end.crossed) & ~relaxing,
            groups=end.groups,
            code=code,
            n_stages=carry.n_stages + jnp.where(relaxing, 0, 1).astype(jnp.int32),
            index=carry.index + 1,
            done=(stage.last & ~relaxing) | (code == int(Code.NON_FINITE)),
        )
        return new, row

    def _empty_row(self, problem: Problem, params: Any, beta: Float[Array, ""]) -> Trace:
        """The trace's row for a stage that does not happen."""
        record = self.record
        number = jnp.asarray(jnp.nan, trees.dtype_of(params))
        count = jnp.zeros((), jnp.int32)
        statistic = None
        if record.statistic is not None:
            statistic = eqx.filter_eval_shape(record.statistic, problem, params, beta)

        def missing(like: Any) -> Array:
            fill = jnp.nan if jnp.issubdtype(like.dtype, jnp.inexact) else 0
            return jnp.full(like.shape, fill, like.dtype)

        return Trace(
            beta=number,
            free_energy=number,
            distortion=number,
            entropy=number,
            curvature=number,
            displacement=number,
            steps=count,
            code=count,
            params=jax.tree.map(missing, params) if record.params else None,
            statistic=jax.tree.map(missing, statistic),
        )
