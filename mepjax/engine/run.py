"""The one annealing loop: scan the schedule, solve each stage, record it."""

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.codes import Code, as_code, is_failing
from ..solvers.base import AbstractSolver
from .branching.base import AbstractBranching, Ask, StageEnd
from .branching.growth import SAME_PLACE
from .carry import Carry, Transitions
from .distinct import n_distinct
from .ending import at_one_place, is_undecided, pending_beta
from .monitor import Monitor, report_progress
from .problem import Growable, Problem, has_spectrum
from .record import Record
from .repair import Repair, repaired
from .schedules import AbstractSchedule, Stage
from .solution import Trace
from .swaps import swapped


class AnnealingLoop(eqx.Module):
    """Everything an anneal needs besides its problem and where it starts.

    `start` is the random vector from which eigenvectors are sought, `scale` the problem's
    `beta_scale`, `relaxation` the stages of the continuation `relaxed` at the first beta.
    """

    schedule: AbstractSchedule
    key: Any
    start: Float[Array, " primal"]
    solver: AbstractSolver
    branching: AbstractBranching
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
        if repair is not None and has_spectrum(sample):
            params, steps = repaired(sample, params, carry.beta, self.solver, repair, key)
        elif repair is not None:
            params, steps = swapped(sample, params, carry.beta, self.solver, repair, key)
        before = None
        if sample is not problem:
            before = problem.free_energy(params, carry.beta)
            params, more = self._spares_placed(problem, params, carry.beta, repair, key)
            steps = steps + more
        stage = Stage(carry.beta, jnp.asarray(True), carry.stage.state)
        branching = self.branching.at_end or self.branching
        params, memory = branching.begin(problem, params, jnp.asarray(True))
        start = replace(carry, params=params, memory=memory)
        number = jnp.asarray(self.schedule.max_stages, jnp.int32)
        relaxing = jnp.asarray(False)
        end = branching.solve(problem, start, stage, None, self._ask(number, relaxing))
        end = eqx.tree_at(lambda e: e.steps, end, end.steps + steps)
        together = at_one_place(problem, end.params, carry.beta, self.scale)
        pending = jnp.where(together, carry.pending, jnp.inf)
        # Not counted: the sample's transitions have been.
        new, row = self._record(problem, carry, stage, end, pending, relaxing)
        failed = carry.code == int(Code.NON_FINITE)
        final = eqx.tree_at(
            lambda c: (c.params, c.curvature, c.pending, c.code),
            carry,
            (new.params, new.curvature, pending, jnp.where(failed, carry.code, new.code)),
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
            plain = replace(repair or Repair(), swaps=0)
            return repaired(problem, params, beta, self.solver, plain, key)

        spare = n_distinct(problem, params, rtol=SAME_PLACE) < problem.n_slots
        return jax.lax.cond(spare, mended, lambda: (params, jnp.zeros((), jnp.int32)))

    def first(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Carry, Trace]:
        """What the first stage starts from, and a trace without stages.

        `given`: the params are the user's, with their slots apart where they are. They are not led
        through the easier problem either, which would undo them.
        """
        dtype = trees.dtype_of(params)
        # One place for transitions where there are no slots.
        places = problem.n_slots or 1
        stage = self.schedule.init(self.scale)
        params, memory = self.branching.begin(problem, params, given)
        carry = Carry(
            params=params,
            stage=stage,
            curvature=jnp.zeros((), dtype),
            beta=jnp.asarray(jnp.nan, dtype),
            memory=memory,
            transitions=Transitions(jnp.full((places,), jnp.inf, dtype), jnp.zeros((), jnp.int32)),
            unsettled=jnp.asarray(False),
            crossed=jnp.asarray(False),
            code=as_code(Code.OK),
            entropy=jnp.zeros((), dtype),
            pending=jnp.full((), jnp.inf, dtype),
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

        stage, seen = self.branching.look(
            now, carry, following, horizon=self.schedule.horizon, waiting=waiting
        )
        end = self.branching.solve(now, carry, stage, seen, self._ask(index, relaxing))
        pending = pending_beta(problem, end.params, stage, self.scale, self.start, end.split)
        new, row = self._record(problem, carry, stage, end, pending, relaxing)
        if self.monitor is not None:
            beta_end = self.schedule.expected_end()
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

    def _ask(self, index: Int[Array, ""], relaxing: Bool[Array, ""]) -> Ask:
        key = jax.random.fold_in(self.key, index)
        return Ask(self.solver, key, self.start, self.scale, relaxing)

    def _record(
        self,
        problem: Problem,
        carry: Carry,
        stage: Stage,
        end: StageEnd,
        pending: Float[Array, ""],
        relaxing: Bool[Array, ""],
    ) -> tuple[Carry, Trace]:
        """The carry and the trace's row after a stage."""
        record = self.record
        terms = problem.terms(end.params, stage.beta)
        energy = terms.free_energy
        finite = jnp.isfinite(energy) & trees.all_finite(end.params)
        code = jnp.where(finite, end.code, as_code(Code.NON_FINITE))
        moved = trees.subtract(end.params, carry.params)
        over = stage.last & ~relaxing
        if self.schedule.open_ended:
            before = (carry.beta, jnp.where(carry.n_stages > 0, carry.entropy, terms.entropy))
            now = (stage.beta, terms.entropy)
            over = over & ~is_undecided(problem, self.scale, pending, before, now)
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
            beta=stage.beta,
            memory=end.memory,
            transitions=carry.transitions.add(end.crossed, end.critical),
            unsettled=jnp.any(end.crossed) & is_failing(code),
            crossed=jnp.any(end.crossed) & ~relaxing,
            code=code,
            entropy=terms.entropy,
            pending=pending,
            n_stages=carry.n_stages + jnp.where(relaxing, 0, 1).astype(jnp.int32),
            index=carry.index + 1,
            done=over | (code == int(Code.NON_FINITE)),
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
