"""One problem solved from several starts in every suitable way, and the lowest cost kept.

No single way of solving avoids all local minima. An anneal from the problem's start is always
done, by growth where slots can grow; where the problem has other ways (`Problem.other_ways`, such
as frozen stationarity), each is solved and then polished on the problem itself; where starts can be
scattered, those after the first are also random, solved at the last beta and repaired. With
autonomy, centres found without it tell what ignoring it costs, and are polished if they are best.
Clusters of limited size may start at random places alone, see `select.sized`.
"""

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import numpy as np

from .._core import checks
from .._core.params import dual_of, primal_of
from .._core.programs import own_arithmetic, program
from .._core.types import Tracer
from ..engine.anneal import anneal
from ..engine.branching.growth import Growth, supports_growth
from ..engine.problem import Problem, has_spectrum
from ..engine.record import Record
from ..engine.repair import Repair
from ..engine.schedules import AbstractSchedule
from ..engine.solution import Solution
from ..exec.sources import RowWeights
from ..problems.autonomy.base import NoAutonomy
from ..problems.clustering.problem import Clustering
from ..solvers.adjoints import NoGrad
from . import sized
from .runs import Measured, Run, Starts, Watch, lowest

EXACT = "exact"
RANDOM = "random start"
FROZEN = "frozen"
POLISHED = "frozen, then exact"
IGNORED = "without autonomy"
REPAIRED = "without autonomy, then exact"

GIVEN = "given start"

# Random swaps leave local minima for less time than another start takes; plain clusters, which
# have estimates of what a move gains that are near the truth, need none.
_SWAPS_PER_SLOT = 2
# Where nothing tells which slot to move; fewer where every step solves for prices, too.
_BLIND_SWAPS_PER_SLOT = 20
_PRICED_SWAPS_PER_SLOT = 5
_BLIND_SWAPS = 100

# Each is many small operations, which would be compiled one by one for every new shape.
_evaluate = program(lambda problem, centres: problem.evaluate(centres))
_scattered = program(lambda problem, key: problem.scatter(key))
kicked_start = program(lambda problem, key: problem.kicked(key))
beta_scale = program(lambda problem: problem.beta_scale())
_hard_cost = program(lambda problem, params: problem.harden(params).cost)


def hard_cost(problem: Clustering, params: Any) -> Measured:
    """Cost of the best prescriptions and how many clusters they use.

    With a capacity of the best ones of whole entities that meet it; NaN if params are not finite.
    """
    if problem.capacity is None:
        found = _evaluate(problem, params)
        return Measured(float(found.cost), int(found.n_used))
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
        return Measured(math.nan)
    hard = problem.harden(params, capacities="assign")
    return Measured(float(hard.cost), len(np.unique(np.asarray(hard.assignments))), hard)


def cost_of(problem: Problem, solution: Solution) -> Any:
    """What runs are compared by: the hard cost, with prices the distortion that meets them."""
    # Hard decisions of whole entities that meet capacities are found on the host.
    priced = dual_of(solution.params) is not None
    return solution.distortion if priced else _hard_cost(problem, solution.params)


def percent_more(ignored: float, aware: float) -> float | None:
    """How many per cent more the cost `ignored` is than `aware`; `None` if undefined."""
    if ignored == aware:
        return 0.0  # also where both are zero
    return 100 * (ignored / aware - 1) if aware > 0 else None


def is_aware(problem: Problem) -> bool:
    """Whether there is autonomy that centres can be found without."""
    if not isinstance(problem, Clustering):
        return False
    return problem.k > 1 and not isinstance(problem.autonomy, NoAutonomy)


def default_starts(depends_on_centres: bool) -> int:
    """Restarts to do; autonomy that moves with the centres has more local minima."""
    return 4 if depends_on_centres else 2


def first_transition(problem: Problem) -> float:
    """The first critical beta, of clusterings without autonomy."""
    return float(beta_scale(problem))


def default_betas(
    first: float, beta_min: float | None, beta_max: float | None
) -> tuple[float, float]:
    """What was given, else from half the first transition to 10^4 times it, and on where open."""
    beta_max = 1e4 * first if beta_max is None else beta_max
    return min(0.5 * first, beta_max) if beta_min is None else beta_min, beta_max


@own_arithmetic()
def best_of_starts(
    problem: Problem,
    schedule: AbstractSchedule,
    keys: Any,
    *,
    tie: float = 0.0,
    record: Record | None = None,
    watch: Watch | None = None,
    sample: int | None = 10_000,
    rtol: float | None = None,
    init: Any = (),
    measure: Callable[[Any, Solution], Measured] | None = None,
    ignoring: bool = True,
    course: bool = True,
) -> Starts:
    """Solve from every key in every suitable way.

    **Arguments:**

    - `problem`: any `Problem`; of clusterings one with exact stationarity.
    - `schedule`: of whole anneals; solutions are polished at its last beta.
    - `keys`: JAX random keys, one per start.
    - `tie`: costs this close, in units of the cost, count as equal and the first is kept, so
        that rounding does not choose between relabelled solutions.
    - `record`: what the trace of each run keeps.
    - `watch`: told of each solve and stage.
    - `sample`: data used before the last stage where slots can grow; `None`: all.
    - `rtol`: relative error asked of the last stage; default the solver's own.
    - `init`: params to start from besides.
    - `measure`: a function of problem and solution that gives what it is compared by, a `Measured`;
        default the hard cost, of clusterings with a capacity that of whole entities that meet it,
        of other problems with prices the distortion.
    - `ignoring`: with autonomy, also solve without it.
    - `course`: whether how clusters separate is wanted too. Otherwise clusters of limited size
        start at random places alone, in a fraction of the time, where the schedule is open-ended
        and there is no autonomy; with sizes that differ there is one anneal besides.

    **Returns:** the runs; look at `best`. Nothing raises for what happens during a solve.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> from mepjax.select.starts import best_of_starts
    >>> problem = mj.Clustering(four_square(40)[0], 4)
    >>> keys = jax.random.split(jax.random.key(0), 2)
    >>> starts = best_of_starts(problem, mj.Geometric(1.0, 1e3, 1.5), keys)
    >>> [(run.name, run.restart) for run in starts.runs], starts.best.n_used
    ([('exact', 0), ('random start', 1)], 4)

    ```
    """
    measure = measure or _measured
    solver = _Solver(problem, schedule, keys, tie, record, watch, sample, rtol, measure)
    return solver.solve(tuple(init), ignoring, course)


def _measured(problem: Problem, solution: Solution) -> Measured:
    if isinstance(problem, Clustering):
        return hard_cost(problem, solution.params)
    return Measured(float(cost_of(problem, solution)))


class _Solver:
    def __init__(
        self,
        problem: Problem,
        schedule: AbstractSchedule,
        keys: Any,
        tie: float,
        record: Record | None,
        watch: Watch | None,
        sample: int | None,
        rtol: float | None,
        measure: Callable[[Any, Solution], Measured],
    ) -> None:
        self.problem, self.schedule, self.keys, self.measure = problem, schedule, keys, measure
        self.tie, self.record, self.watch, self.rtol = tie, record, watch, rtol
        self.most = sample
        # Entities without weight do not count: a sample might be larger than what it is drawn from.
        weights = getattr(problem, "weights", None)
        counted = weights is not None and not isinstance(weights, RowWeights)
        if sample is not None and counted and checks.is_concrete(weights):
            sample = None if int(np.count_nonzero(np.asarray(weights))) <= sample else sample
        self.growth = Growth(sample=sample)
        # One stage at the last beta. Its schedule has the kind and length of a whole one, and all
        # runs have one detector, so that the programs compiled for whole anneals serve again.
        self.last_stage = schedule.last_stage()
        self.end: Any = None
        self.swaps = 0
        if not isinstance(problem, Clustering) or is_aware(problem):
            shape = eqx.filter_eval_shape(problem.init, keys[0])
            slots = jax.tree.leaves(primal_of(shape))[0].shape
            grows = has_spectrum(problem)
            blind = _BLIND_SWAPS_PER_SLOT if dual_of(shape) is None else _PRICED_SWAPS_PER_SLOT
            number = slots[0] if slots else 0
            self.swaps = _SWAPS_PER_SLOT * number if grows else min(blind * number, _BLIND_SWAPS)
        self.runs: list[Run] = []

    def solve(self, init: tuple[Any, ...], ignoring: bool, course: bool) -> Starts:
        problem, candidates = self.problem, []
        whole = len(self.keys)
        if not course and sized.suits(problem, self.schedule):
            candidates.extend(self._sized())
            # Which cluster is to have which size is decided by an anneal too.
            whole = 0 if sized.alike(problem) else 1
        for restart in range(whole):
            candidates.append(self._start(EXACT, restart, problem))
            if restart > 0 and problem.scatters and not supports_growth(problem):
                candidates.append(self._random(RANDOM, restart, problem))
            for name, other in problem.other_ways():
                start = self._start(name, restart, other)
                candidates.append(self._polish(f"{name}, then exact", start))
        for params in init:
            candidates.append(self._record(GIVEN, 0, problem, self.last_stage, params, None))
        ignored = self._ignore() if ignoring and is_aware(problem) else None
        if ignored is not None:
            best = Starts((), tuple(candidates), None, self.tie).best
            if best is None or ignored.cost < best.cost - self.tie:
                candidates.append(self._polish(REPAIRED, ignored))
        return Starts(tuple(self.runs), tuple(candidates), ignored, self.tie)

    def _sized(self) -> list[Run]:
        problem = self.problem
        assert isinstance(problem, Clustering)  # `sized.suits` has looked
        if self.watch is not None:
            self.watch.run(RANDOM, 0)
        began = time.perf_counter()
        order, found = sized.solutions(
            problem, self.schedule, self.keys, record=self.record, sample=self.most, rtol=self.rtol
        )
        seconds = math.nan
        if not isinstance(found[0].code, Tracer):
            seconds = (time.perf_counter() - began) / len(found)
        for number, solution in zip(order, found, strict=True):
            self._keep(RANDOM, len(self.runs), solution, seconds, self.keys[number], None)
        return list(self.runs)

    def _ignore(self) -> Run | None:
        """What somebody unaware of autonomy would keep: the lowest cost without it."""
        plain = self.problem
        assert isinstance(plain, Clustering)  # `is_aware` has looked
        # Where clusters grow, the same programs serve again.
        ignoring = plain.autonomy.without_overrides if supports_growth(plain) else None
        plain = plain.replace(autonomy=ignoring)
        runs = [self._start(IGNORED, restart, plain) for restart in range(len(self.keys))]
        believed = [
            replace(run, cost=hard_cost(plain, run.solution.params).cost)
            for run in runs
            if not run.code.is_failing
        ]
        chosen = lowest(believed, self.tie)
        return None if chosen is None else runs[chosen.restart]

    def _start(self, name: str, restart: int, problem: Problem) -> Run:
        # Growth has no chance in it and is done once; other starts then are random and repaired,
        # without an anneal. A continuation in the autonomy belongs to the default start.
        grows = supports_growth(problem)
        if grows and restart > 0:
            return self._random(RANDOM if name == EXACT else name, restart, problem)
        if self.watch is not None:
            self.watch.run(name, restart)
        start = None
        if not (problem.continuation or grows):
            start = kicked_start(problem, self.keys[restart])
        return self._record(name, restart, problem, self.schedule, start, None)

    def _random(self, name: str, restart: int, problem: Problem) -> Run:
        if self.watch is not None:
            self.watch.run(name, restart)
        start = _scattered(problem, self.keys[restart])
        return self._record(name, restart, problem, self.last_stage, start, None)

    def _polish(self, name: str, start: Run) -> Run:
        params = start.solution.params
        return self._record(name, start.restart, self.problem, self.last_stage, params, start)

    def _record(
        self,
        name: str,
        restart: int,
        problem: Problem,
        schedule: AbstractSchedule,
        start: Any,
        source: Run | None,
    ) -> Run:
        whole, solver = schedule is self.schedule, problem.default_solver()
        if not whole and self.end is not None:
            schedule = eqx.tree_at(
                lambda s: (s.beta_min, s.beta_max), schedule, (self.end, self.end)
            )
        if self.rtol is not None:
            # `AbstractSolver` asks every solver for this field, which its type does not show.
            solver = replace(solver, rtol=self.rtol)  # type: ignore
        began, key = time.perf_counter(), self.keys[restart]
        solution = anneal(
            problem,
            schedule,
            key=key,
            init=start,
            solver=solver,
            detector=self.growth,
            repair=Repair(swaps=self.swaps),
            adjoint=NoGrad(),
            record=self.record,
            monitor=None if self.watch is None else self.watch.stage,
        )
        seconds = math.nan
        if not isinstance(solution.code, Tracer):
            solution = jax.block_until_ready(solution)
            seconds = time.perf_counter() - began
        if whole and schedule.open_ended:
            # Where all is decided for one start it is for others.
            ends = [solution.beta] if self.end is None else [self.end, solution.beta]
            xp = np if checks.is_concrete(ends) else jax.numpy  # nothing is compiled for it
            self.end = xp.asarray(xp.max(xp.stack(ends)))
        return self._keep(name, restart, solution, seconds, key, source)

    def _keep(
        self,
        name: str,
        restart: int,
        solution: Solution,
        seconds: float,
        key: Any,
        source: Run | None,
    ) -> Run:
        """Among the runs, with what it is compared by."""
        said = self.measure(self.problem, solution)
        run = Run(
            name, restart, solution, said.cost, said.n_used, seconds, source, key, said.decisions
        )  # fmt: skip
        self.runs.append(run)
        return run
