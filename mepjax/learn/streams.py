"""Clustering of a stream: batches come one after the other and none is kept."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks, gibbs, trees
from .._core.codes import Code, as_code
from .._core.programs import program
from ..engine.branching.growth import Groups, merge_groups, split_groups
from ..engine.critical_jump import CriticalJump
from ..engine.ending import temperature_length
from ..engine.schedules import AbstractSchedule, as_scalar
from ..engine.slot_spectrum import SlotSpectrum, unseen_spectrum
from ..problems.autonomy import AbstractAutonomy, NoAutonomy, Uniform
from ..problems.autonomy.function import as_autonomy
from ..problems.clustering import Clustering
from ..problems.clustering.soft_means import with_ones
from ..problems.costs.entities import means_of
from .stream_state import OnlineSolution, StreamState

_OWNER = "OnlineClustering"
# Groups closer than this times the temperature's length are one, as in `Growth`.
_SEPARATION = 0.05
# Other centres take over where they are better by so many standard errors of a batch.
_SURE = 4.0
# A slot is worth moving only if what it gains is not far below what is lost, as in `Repair`.
_LEAST_RATIO = 0.5


class OnlineClustering(eqx.Module):
    """Annealed clustering of points that come in batches and are not kept.

    Each batch is assigned by the Gibbs policy; what clusters receive enters running means by steps
    (t + 2)^-decay, t batches after beta was last raised; centres are the means of those. After
    every `patience` batches beta is raised as the schedule says, until its last beta, which stays.
    Centres start at one place and part where the spectrum of a batch says so, as in `Growth`.

    So that a stream may change, two rivals are tried on the next batch: centres of the last batch
    alone, and, once all are apart, the centres with the one that is missed least moved to where
    another gains most. One takes over if it is better by four standard errors, and t starts again.

    For squared Euclidean cost, without autonomy or with uniform one. Batches count alike, whatever
    their size; those of one size share a program. Everything is a pytree of arrays of fixed shapes,
    for `jit`, `vmap` and `lax.scan`; it has no derivatives, for which solve again by
    `anneal(problem, Explicit([beta]), init=centres)`.

    **Arguments:**

    - `k`: number of clusters.
    - `schedule`: as in `anneal`; default `CriticalJump()` between half the first transition of the
        first batch and 10^4 times it, with large steps.
    - `decay`: from 0 to 1. Above one half a stationary stream is averaged out; the smaller, the
        faster a drift is followed.
    - `patience`: batches at each beta.
    - `autonomy`: `None` or `mepjax.autonomy.Uniform`.

    **Raises:** `TypeError`, `ValueError` naming the argument, what was got and what was expected.

    Source: stepwise expectation maximisation (Cappé and Moulines 2009) of the free energy of
    autonomy-aware clustering, equations (1) and (2).

    **Example:**

    ```python
    >>> import mepjax as mj, numpy as np
    >>> rng = np.random.default_rng(0)
    >>> model = mj.learn.OnlineClustering(2, mj.Geometric(0.2, 50.0, 2.0), patience=2)
    >>> for number in range(30):
    ...     x = np.where(rng.random((64, 1)) < 0.5, -1, 1) + 0.1 * rng.normal(size=(64, 1))
    ...     x = x.astype(np.float32)
    ...     state = model.init(x) if number == 0 else state
    ...     state = model.update(state, x)
    >>> solution = model.solution(state).raise_if_failed()
    >>> print(np.sort(solution.params[:, 0]).round(1) + 0.0)
    [-1.  1.]

    ```
    """

    k: int = eqx.field(static=True)
    schedule: AbstractSchedule
    decay: Float[Array, ""]
    autonomy: AbstractAutonomy
    patience: int = eqx.field(static=True)

    def __init__(
        self,
        k: int,
        schedule: AbstractSchedule | None = None,
        *,
        decay: Any = 0.6,
        patience: int = 4,
        autonomy: Any = None,
    ) -> None:
        checks.check_count(_OWNER, "k", k)
        checks.check_count(_OWNER, "patience", patience)
        if schedule is None:
            # Critical betas of groups do not depend on how near they are: steps are large.
            schedule = CriticalJump(
                overshoot=1.1, min_factor=1.1, easing=float("inf"), open_ended=False
            )
        if not isinstance(schedule, AbstractSchedule):
            raise TypeError(
                f"{_OWNER}: `schedule` must be a mepjax schedule, such as Geometric; "
                f"got {type(schedule).__name__} {schedule!r:.60}."
            )
        self.k, self.patience, self.schedule = int(k), int(patience), schedule
        self.decay = as_scalar(_OWNER, "decay", decay)
        self.autonomy = as_autonomy(autonomy) or NoAutonomy()
        if not isinstance(self.autonomy, NoAutonomy | Uniform):
            raise TypeError(
                f"{_OWNER}: `autonomy` must be none or uniform; got {type(self.autonomy).__name__}."
            )
        if not self.autonomy.exchangeable:
            raise ValueError(
                f"{_OWNER}: `autonomy` must be the same for all entities, since others come; got a "
                "kappa for each."
            )
        checks.enforce(self._checks())

    def _checks(self) -> tuple[checks.Check, ...]:
        return (
            checks.check_range(_OWNER, "decay", self.decay, low=0.0, high=1.0),
            *self.schedule.checks(),
        )

    def _problem(self, x: Any, weights: Any) -> Clustering:
        return Clustering(x, self.k, weights=weights, autonomy=self.autonomy)

    def init(self, x: Any, weights: Any = None, *, centres: Any = None) -> StreamState:
        """A state before the first batch.

        **Arguments:** `x`, `weights`: the first batch, shapes (n, d) and (n,), from which place,
        size and the first transition are taken and nothing is learnt: give it to `update` too.
        `centres`, shape (K, d): where to start; default all at its mean.

        **Raises:** `ValueError` naming the argument.
        """
        problem = self._problem(x, weights)
        if centres is not None:
            centres = arrays.as_data_like("centres", centres, problem.x.dtype)
            if centres.shape != (self.k, problem.x.shape[1]):
                raise ValueError(
                    f"{_OWNER}: `centres` must have shape {(self.k, problem.x.shape[1])}; "
                    f"got {centres.shape}."
                )
        return _begun(self, problem, centres)

    def update(self, state: StreamState, x: Any, weights: Any = None) -> StreamState:
        """The state after one more batch.

        **Arguments:** `state`, of `init` or `update`; `x`, shape (n, d), in any number; `weights`,
        shape (n,), default equal.

        **Returns:** a `StreamState`. A traced batch that is not finite is left out and reported by
        the code.

        **Raises:** `ValueError` naming the argument; `state` stands.
        """
        problem = self._problem(x, weights)
        d = state.centres.shape[1]
        if problem.x.shape[1] != d:
            raise ValueError(
                f"{_OWNER}: `x` must have {d} features, as the first batch; "
                f"got shape {problem.x.shape}."
            )
        if problem.x.dtype != state.centres.dtype:
            problem = self._problem(problem.x.astype(state.centres.dtype), weights)
        # What was measured of the first batch stays, so that all sums are relative to one origin.
        problem = trees.replaced(problem, origin=state.origin, spread=state.spread)
        return _updated(self, state, problem)

    def solution(self, state: StreamState) -> OnlineSolution:
        """What the stream has come to; look at its `code`."""
        unfinished = jnp.where(state.stage.last, as_code(Code.OK), as_code(Code.MAX_STEPS))
        return OnlineSolution(
            params=state.centres,
            beta=state.stage.beta,
            free_energy=state.free_energy,
            n_clusters=jnp.sum(state.groups.first),
            n_batches=state.n_batches,
            n_recoveries=state.n_recoveries,
            code=jnp.maximum(unfinished, state.input_report.code),
            input_report=state.input_report,
        )


def _report(model: OnlineClustering, problem: Clustering) -> checks.InputReport:
    found = checks.report((*problem.checks(), *model._checks()))
    # Arrays of one kind, for `lax.scan`.
    index, got = jnp.asarray(found.index, jnp.int32), jnp.asarray(found.got, problem.x.dtype)
    return checks.InputReport(index, got, found.sentences, found.codes)


@program
def _begun(model: OnlineClustering, problem: Clustering, centres: Any) -> StreamState:
    model, problem, centres = trees.stop_gradient((model, problem, centres))
    dtype, k = problem.x.dtype, model.k
    leader = jnp.arange(k, dtype=jnp.int32)
    if centres is None:
        centres = jnp.broadcast_to(problem.origin, (k, problem.x.shape[1]))
        leader = 0 * leader
    scale = problem.beta_scale().astype(dtype)
    none = jnp.zeros((), jnp.int32)
    report = _report(model, problem)
    all_well = jnp.full_like(report.index, len(report.sentences))
    return StreamState(
        centres=centres,
        sums=with_ones(centres - problem.origin) / k,
        groups=Groups(leader, unseen_spectrum(centres, dtype), none, jnp.asarray(True)),
        stage=arrays.cast_floats(model.schedule, dtype).init(scale),
        age=none,
        rivals=jnp.stack([centres, centres]),
        free_energy=jnp.zeros((), dtype),
        n_batches=none,
        n_recoveries=none,
        origin=problem.origin,
        spread=problem.spread,
        scale=scale,
        # The batch is looked at again where it is learnt from.
        input_report=checks.InputReport(all_well, report.got, report.sentences, report.codes),
    )


@program
def _updated(model: OnlineClustering, state: StreamState, problem: Clustering) -> StreamState:
    model, state, problem = trees.stop_gradient((model, state, problem))
    report = _report(model, problem)
    new = _learnt(model, state, problem)
    well = report.code == int(Code.OK)
    # Else nothing of the batch is kept.
    after = trees.where(well, new, state)
    first = trees.where(state.input_report.code == int(Code.OK), report, state.input_report)
    return eqx.tree_at(lambda s: s.input_report, after, first)


def _learnt(model: OnlineClustering, state: StreamState, problem: Clustering) -> StreamState:
    beta, dtype = state.stage.beta, problem.x.dtype
    begins = state.age % model.patience == 0
    centres, groups, won, energy = _tried(state, problem, begins)
    age = jnp.where(won, 0, state.age)

    # Groups part where the last batch of the cycle before said so.
    parted, leader, split = split_groups(problem, centres, groups, beta)
    parting = begins & jnp.any(split)
    centres = jnp.where(parting, parted, centres)
    leader = jnp.where(parting, leader, groups.leader)

    sums, masses = problem.soft_means(None).received(centres, beta)
    batch = jnp.concatenate([sums, masses[:, None]], axis=1)
    # Centres that have moved otherwise keep their places with the mass of this batch.
    placed = masses[:, None] * with_ones(centres - state.origin)
    before = jnp.where(won | parting, placed, state.sums)
    rate = ((age + 2).astype(dtype) ** -model.decay).astype(dtype)
    sums = (1 - rate) * before + rate * batch
    centres = _means(sums, centres, state.origin)

    ends = (age + 1) % model.patience == 0
    length = temperature_length(state.scale, beta)
    _, merged = merge_groups(problem, centres, leader, _SEPARATION * length)
    leader = jnp.where(ends, merged, leader)
    sums = _tied(sums, leader)
    centres = _means(sums, centres[leader], state.origin)

    def look() -> tuple[SlotSpectrum, Array]:
        spectrum = problem.slot_spectrum(centres, beta)
        alone = jnp.all(leader == jnp.arange(leader.shape[0]))
        fresh = _means(_tied(batch, leader), centres, state.origin)
        return spectrum, jnp.stack([fresh, jnp.where(alone, _moved(centres, spectrum), centres)])

    unseen = unseen_spectrum(centres, dtype), jnp.stack([centres, centres])
    spectrum, rivals = jax.lax.cond(ends, look, lambda: unseen)
    number = jnp.sum(leader == jnp.arange(leader.shape[0])).astype(jnp.int32)
    groups = Groups(leader, spectrum, jnp.maximum(groups.most, number), groups.seen)

    following = arrays.cast_floats(model.schedule, dtype).next(state.stage, groups.next_split)
    raised = ends & ~state.stage.last
    mean_rate = jnp.where(state.n_batches == 0, 1.0, rate).astype(dtype)
    return StreamState(
        centres=centres,
        sums=sums,
        groups=groups,
        stage=trees.where(raised, following, state.stage),
        age=jnp.where(raised, 0, age + 1).astype(jnp.int32),
        rivals=rivals,
        free_energy=state.free_energy + mean_rate * (energy - state.free_energy),
        n_batches=state.n_batches + 1,
        n_recoveries=state.n_recoveries + won,
        origin=state.origin,
        spread=state.spread,
        scale=state.scale,
        input_report=state.input_report,
    )


def _tried(
    state: StreamState, problem: Clustering, begins: Bool[Array, ""]
) -> tuple[Array, Groups, Bool[Array, ""], Float[Array, ""]]:
    """Centres, those of a rival where it is better for sure; their groups; whether; F before."""
    shares = problem.weights / jnp.sum(problem.weights)

    def energies(centres: Array) -> Array:
        costs = problem.average_distances(centres)
        return gibbs.free_energies_and_partition(costs, state.stage.beta)[0]

    own = energies(state.centres)
    change = jax.vmap(energies)(state.rivals) - own
    mean = change @ shares
    variance = ((change - mean[:, None]) ** 2) @ shares * jnp.sum(shares**2)
    rounding = 8 * jnp.finfo(own.dtype).eps * jnp.sum(shares * jnp.abs(own))
    better = begins & (mean < -_SURE * jnp.sqrt(variance) - rounding)
    best = jnp.argmin(jnp.where(better, mean, jnp.inf))
    won = jnp.any(better)
    centres = jnp.where(won, state.rivals[best], state.centres)
    # What was seen was seen from the other centres.
    unseen = unseen_spectrum(centres, own.dtype)
    groups = eqx.tree_at(
        lambda g: g.spectrum, state.groups, trees.where(won, unseen, state.groups.spectrum)
    )
    return centres, groups, won, jnp.sum(shares * own)


def _moved(centres: Float[Array, "k d"], spectrum: SlotSpectrum) -> Float[Array, "k d"]:
    """The centre that is missed least beside the one that gains most, where that may be worth it.

    It is what `Repair` tries, which judges by the same data.
    """
    split = jnp.argmax(spectrum.gain)
    removal = jnp.where(jnp.arange(len(centres)) == split, jnp.inf, spectrum.removal)
    taken = jnp.argmin(removal)
    gain = spectrum.gain[split]
    worth = (gain > 0) & (gain >= _LEAST_RATIO * removal[taken])
    apart = centres.at[split].set(spectrum.first[split]).at[taken].set(spectrum.second[split])
    return jnp.where(worth, apart, centres)


def _means(
    sums: Float[Array, "k d+1"], previous: Float[Array, "k d"], origin: Float[Array, " d"]
) -> Float[Array, "k d"]:
    return means_of(sums[:, :-1], sums[:, -1], previous - origin) + origin


def _tied(sums: Float[Array, "k d+1"], leader: Int[Array, " k"]) -> Float[Array, "k d+1"]:
    """Slots of one group share what it receives alike."""
    total = jnp.zeros_like(sums).at[leader].add(sums)
    size = jnp.zeros(leader.shape, sums.dtype).at[leader].add(1.0)
    return (total / jnp.where(size > 0, size, 1.0)[:, None])[leader]
