"""Growth by tied slots: the number of distinct slots rises at transitions, all shapes stay."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._core import loops, trees
from ..._core.checks import check_count
from ..._core.codes import Code, as_code
from ..._core.distances import squared_euclidean
from ..._core.params import dual_of, join_params, primal_of
from ...solvers.loop import solve_stage
from ..carry import Carry
from ..critical_jump import CriticalJump
from ..problem import Growable, Problem, has_spectrum
from ..schedules import AbstractSchedule, Stage
from ..slot_spectrum import SlotSpectrum, unseen_spectrum
from ..slots import n_slots_of, take
from .base import AbstractBranching, Ask, StageEnd
from .noise import NoDetector
from .watch import Detector

# Past a transition by this factor a pair separates in few steps.
_FACTOR = 1.1
# How often the next split is looked at where it is predicted.
_LOOKS = 4
# Slots this close, in units of the data's size, are at one place.
SAME_PLACE = 1e-6


class Groups(eqx.Module):
    """Which slots are tied: `leader[s]` is the first slot of the group of s.

    `spectrum` is theirs, if it was looked at (`seen`), and `most` the largest number of groups so
    far.
    """

    leader: Int[Array, " slots"]
    spectrum: SlotSpectrum
    most: Int[Array, ""]
    seen: Bool[Array, ""]

    @property
    def first(self) -> Bool[Array, " slots"]:
        """Whether a slot is the first of its group."""
        return self.leader == jnp.arange(self.leader.shape[0])

    @property
    def room(self) -> Int[Array, ""]:
        """How many more groups there could be."""
        return self.leader.shape[0] - jnp.sum(self.first)

    def total(self, amounts: Float[Array, " slots"]) -> Float[Array, " slots"]:
        """Sum over each group, at its first slot."""
        return jnp.zeros_like(amounts).at[self.leader].add(amounts)

    @property
    def next_split(self) -> Float[Array, ""]:
        """The lowest critical beta of a group; inf where no slot is left for one to split."""
        lowest = jnp.min(jnp.where(self.first, self.spectrum.critical_beta, jnp.inf))
        return jnp.where(self.room > 0, lowest, jnp.inf)

    def curvature(self, beta: Float[Array, ""]) -> Float[Array, ""]:
        """Lowest curvature along the separation of a group in two; NaN where no slot is left."""
        return jnp.where(self.room > 0, 1 - beta / self.next_split, jnp.nan).astype(beta.dtype)


def supports_growth(problem: Problem) -> bool:
    """Whether slots can start as one group and be moved between groups."""
    return has_spectrum(problem) and problem.exchangeable and problem.tied_at_zero


def moved(problem: Problem, params: Any, slots: Any) -> Any:
    """Params with other slots and the same prices."""
    return join_params(slots, dual_of(params))


def _per_slot(mask: Array, like: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))


def split_groups(
    problem: Problem, params: Any, groups: Groups, beta: Float[Array, ""]
) -> tuple[Any, Int[Array, " slots"], Bool[Array, " slots"]]:
    """Separate the groups that are unstable at `beta`, and deal the slots left over.

    Returns params, leaders, and which groups were split.
    """
    count = groups.leader.shape[0]
    numbers, spectrum = jnp.arange(count), groups.spectrum
    wanting = groups.first & (spectrum.critical_beta <= beta)
    gain = groups.total(spectrum.gain)
    rank = _ranks(jnp.where(wanting, gain, -1.0))
    split = wanting & (rank < groups.room)

    def both(own: Array, first: Array, second: Array) -> Array:
        return jnp.concatenate([jnp.where(_per_slot(split, own), first, own), second])

    pool = jax.tree.map(both, primal_of(params), spectrum.first, spectrum.second)
    mass = groups.total(spectrum.mass)
    masses = jnp.concatenate(
        [jnp.where(split, spectrum.share, 1) * mass, (1 - spectrum.share) * mass]
    )
    exists = jnp.concatenate([groups.first, split])
    # Existing groups first, in their order.
    chosen = jnp.argsort(~exists, stable=True)[:count]
    number = jnp.sum(exists)
    sizes = _deal(jnp.where(numbers < number, masses[chosen], 0.0), numbers < number)
    ends = jnp.cumsum(sizes)
    source = jnp.searchsorted(ends, numbers, side="right")
    slots = jax.tree.map(lambda leaf: leaf[chosen][source], pool)
    leader = (ends - sizes)[source].astype(jnp.int32)
    return moved(problem, params, slots), leader, split


def _ranks(values: Float[Array, " n"]) -> Int[Array, " n"]:
    """0 for the largest."""
    order = jnp.argsort(-values, stable=True)
    return jnp.argsort(order).astype(jnp.int32)


def _deal(masses: Float[Array, " n"], exists: Bool[Array, " n"]) -> Int[Array, " n"]:
    """n slots to the groups that exist: one each, the rest in proportion to the masses."""
    spare = masses.shape[0] - jnp.sum(exists)
    quota = spare * masses / jnp.sum(masses)
    whole = jnp.floor(quota)
    left = spare - jnp.sum(whole)
    more = _ranks(jnp.where(exists, quota - whole, -1.0)) < left
    return jnp.where(exists, 1 + whole + more, 0).astype(jnp.int32)


def merge_groups(
    problem: Problem, params: Any, leader: Int[Array, " slots"], distance: Float[Array, ""]
) -> tuple[Any, Int[Array, " slots"]]:
    """Tie groups that are closer than `distance`, in units of the params' scale."""
    count = leader.shape[0]
    numbers = jnp.arange(count)
    slots = jax.tree.map(lambda leaf: leaf[leader], primal_of(params))
    scale = primal_of(problem.params_scale(params))
    leaves = jax.tree.leaves(jax.tree.map(jnp.divide, slots, scale))
    flat = jnp.concatenate([leaf.reshape(count, -1) for leaf in leaves], axis=1)
    flat = flat - jnp.mean(flat, axis=0)
    first = leader == numbers
    near = (squared_euclidean(flat, flat) < distance**2) & first[:, None] & first[None, :]
    # The first group near each, itself included; followed to the end of a chain.
    near = near | (numbers[:, None] == numbers[None, :])
    target = jnp.argmax(near, axis=1).astype(jnp.int32)
    for _ in range(max(count - 1, 1).bit_length()):
        target = target[target]
    leader = target[leader]
    return take(params, leader), leader


class _Trial(eqx.Module):
    """A stage under way, its next split and, once `done`, how often that was looked at."""

    end: StageEnd
    done: Bool[Array, ""]
    split: Float[Array, ""]
    looks: Int[Array, ""]


class Growth(AbstractBranching):
    """Split groups of tied slots where they become unstable, the most profitable first.

    Slots at one place are tied into groups, all into one at the start. As beta passes the critical
    beta of a group it is separated into the two that serve its share best, as long as there are
    slots; groups that come together again are merged. Slots that are not needed yet double the
    groups in proportion to the weight these carry. Early stages are solved roughly and on a
    sample of the data; the last one is solved on all data, without ties, like any other stage. So
    growth only chooses where that solve starts. Slots that a sample had no use for are placed by
    `Repair` on all data before it. A start that is given to `anneal` has the groups of its slots.

    For problems whose slots are exchangeable and that have `slot_spectrum`: clustering by squared
    distance, without autonomy, with uniform or with softmax one of gamma = 0; facilities on paths
    without masks and capacities, whose links are squared distances, free or unused, and whose
    other legs have convex costs; places of a decision process that differ in nothing but where
    they are. Elsewhere `detector` does all. Under softmax autonomy the critical
    betas are those without overrides, so that splits come early and `transitions` are estimates. On
    paths all but the first are estimates too, and may lie below it.

    **Arguments:**

    - `sample`: data used before the last stage; `None`: all.
    - `separation`: groups closer than this times the temperature's length sqrt(b / beta), in
        units of the data's size, with b the first transition, are merged.
    - `rtol`: error allowed in early stages, in the same unit.
    - `max_steps`: steps of the solver in an early stage.
    - `detector`: watches the last stage; `NoDetector(noise=0.0)` saves its eigenvalue problem.

    **Raises:** `TypeError` for what is no int where one is expected, `ValueError` for numbers out
    of range.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> problem = mj.Clustering(four_square(40)[0], 4)
    >>> sol = mj.anneal(problem, key=jax.random.key(0), detector=mj.Growth())
    >>> print(f"{problem.harden(sol.params).cost:.4f}", sol.n_stages < 60)
    0.0042 True

    ```
    """

    sample: int | None = eqx.field(static=True, default=10_000)
    separation: float = eqx.field(static=True, default=0.05)
    rtol: float = eqx.field(static=True, default=1e-2)
    max_steps: int = eqx.field(static=True, default=5)
    detector: AbstractBranching = Detector()

    def __check_init__(self) -> None:
        for name in ("sample", "max_steps"):
            check_count("Growth", name, getattr(self, name), optional=name == "sample")
        for name in ("separation", "rtol"):
            if not getattr(self, name) > 0:
                raise ValueError(f"Growth: `{name}` must be > 0; got {getattr(self, name)}.")
        if not isinstance(self.detector, Detector | NoDetector):
            raise TypeError(
                "Growth: `detector` must be a Detector or NoDetector instance; "
                f"got {type(self.detector).__name__}."
            )

    @property
    def sample_size(self) -> int | None:
        """`sample`, for all stages but the last."""
        return self.sample

    @property
    def at_end(self) -> AbstractBranching:
        """`detector`, which solves the last stage without ties."""
        return self.detector

    def suited(self, problem: Problem) -> AbstractBranching:
        """`detector` where slots cannot grow."""
        detector = self.detector.suited(problem)
        return replace(self, detector=detector) if supports_growth(problem) else detector

    def default_schedule(self, scale: Float[Array, ""]) -> AbstractSchedule:
        """Critical betas of groups do not depend on how near they are: steps are large."""
        span = 0.5 * scale, 1e4 * scale
        return CriticalJump(
            *span, overshoot=_FACTOR, min_factor=_FACTOR, easing=math.inf, open_ended=True
        )

    def begin(self, problem: Problem, params: Any, given: Bool[Array, ""]) -> tuple[Any, Groups]:
        """Every slot alone where the params are `given`, else all as one.

        The first stage looks at the spectrum, and ties slots that are at one place.
        """
        del problem
        numbers = jnp.arange(n_slots_of(params), dtype=jnp.int32)
        leader = jnp.where(given, numbers, 0)
        params = take(params, leader)
        spectrum = unseen_spectrum(primal_of(params), trees.dtype_of(params))
        return params, Groups(leader, spectrum, jnp.zeros((), jnp.int32), jnp.asarray(False))

    def look(
        self,
        problem: Problem,
        carry: Carry,
        following: Callable[[Float[Array, ""]], Stage],
        *,
        horizon: float | None,
        waiting: Bool[Array, ""],
    ) -> tuple[Stage, None]:
        """The next stage; the lowest critical beta of a group is the next transition."""
        del problem, horizon, waiting
        return following(carry.memory.next_split), None

    def solve(self, problem: Problem, carry: Carry, stage: Stage, seen: None, ask: Ask) -> StageEnd:
        """Split what is unstable at the stage's beta, solve, and merge what has not separated.

        The first stage of all is done twice: at first nothing splits or moves, and the spectrum is
        looked at. After what may be the last, the next split is looked at where it is predicted,
        slots being moved once: a soft policy keeps places off their data and lets others' in, so
        that what seems to be separable may be data at one place.
        """
        assert isinstance(problem, Growable)
        del seen
        beta = stage.beta
        # Lengths are measured from the first transition.
        length = jnp.sqrt(ask.unit / beta).astype(beta.dtype)

        def proceed(trial: _Trial) -> Bool[Array, ""]:
            ahead = stage.last & (trial.looks < _LOOKS) & jnp.isfinite(trial.split)
            return ~trial.done | ahead

        def solved(trial: _Trial) -> _Trial:
            before, looking = trial.end.memory, trial.done
            critical, seen = before.spectrum.critical_beta, before.seen
            at = jnp.where(looking, jnp.maximum(trial.split, beta), beta)
            parted = split_groups(problem, trial.end.params, before, beta)
            whole = (trial.end.params, before.leader, jnp.zeros_like(before.first))
            params, leader, split = trees.where(looking, whole, parted)
            steps = jnp.where(looking, 1, jnp.where(seen, self.max_steps, 0))
            result = solve_stage(
                problem,
                params,
                at,
                ask.solver,
                rtol=self.rtol * length,
                max_steps=steps,
                key=ask.draw(seen.astype(jnp.int32)),
            )
            apart = jnp.where(seen & ~looking, self.separation * length, SAME_PLACE)
            near = apart.astype(beta.dtype)
            params, leader = merge_groups(problem, result.params, leader, near)
            # With no slot left the spectrum is not looked at any more.
            left = jnp.any(leader != jnp.arange(leader.shape[0]))
            spectrum = jax.lax.cond(
                left, lambda: problem.slot_spectrum(params, at), lambda: before.spectrum
            )
            # Pairs that do not stay apart are split again: only a new number of groups counts.
            number = jnp.sum(leader == jnp.arange(leader.shape[0])).astype(jnp.int32)
            earliest = _ranks(jnp.where(split, -critical, -jnp.inf))
            crossed = split & (earliest < number - before.most)
            after = Groups(leader, spectrum, jnp.maximum(before.most, number), jnp.asarray(True))
            end = StageEnd(
                params=params,
                curvature=after.curvature(beta),
                memory=after,
                code=result.code,
                steps=result.steps,
                crossed=crossed,
                critical=critical,
            )
            end = trees.where(looking, trial.end, end)
            ahead = after.next_split.astype(beta.dtype)
            return _Trial(end, seen, ahead, trial.looks + looking)

        groups = carry.memory
        start = StageEnd(
            params=carry.params,
            curvature=groups.curvature(beta),
            memory=groups,
            code=as_code(Code.OK),
            steps=jnp.zeros((), jnp.int32),
            crossed=jnp.zeros_like(groups.first),
            critical=groups.spectrum.critical_beta,
        )
        first = _Trial(
            start, jnp.asarray(False), jnp.full_like(beta, jnp.inf), jnp.zeros((), jnp.int32)
        )
        trial = loops.while_loop(proceed, solved, first)
        return replace(trial.end, split=trial.split)
