"""One clustering solved from several starts in every suitable way, and the lowest hard cost kept.

Softmax autonomy, or any that moves with the centres, has local minima that no single way of
solving always avoids: an exact anneal and a frozen one polished by an exact solve at the last
beta are both done. Where clusters can grow, starts after the first are random and repaired, without
an anneal. Centres found without autonomy tell what ignoring it costs; should they be the
best start of all, they are polished too.
"""

import math
import time
from dataclasses import dataclass, replace
from typing import Any, Protocol

import equinox as eqx
import jax
import numpy as np

from .._core.codes import Code
from .._core.params import primal_of
from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.growth import Growth, supports_growth
from ..engine.monitor import Progress
from ..engine.problem import Problem
from ..engine.record import Record
from ..engine.repair import Repair
from ..engine.schedules import Geometric
from ..engine.solution import Solution
from ..problems.autonomy.base import NoAutonomy
from ..problems.clustering.problem import Clustering
from ..solvers.adjoints import NoGrad

EXACT = "exact"
RANDOM = "random start"
FROZEN = "frozen"
POLISHED = "frozen, then exact"
IGNORED = "without autonomy"
REPAIRED = "without autonomy, then exact"

# Size of the noise around the first centres, relative to the data's.
_SPREAD = 1e-4

# Autonomy has many local minima, which random swaps leave for less time than another start takes.
_SWAPS_PER_CLUSTER = 2

# Each is many small operations, which would be compiled one by one for every new shape.
_evaluate = program(lambda problem, centres: problem.evaluate(centres))
_scattered = program(lambda problem, key: problem.scatter(key))
_beta_scale = program(lambda problem: problem.beta_scale())


def hard_cost(problem: Clustering, params: Any) -> tuple[float, int]:
    """Cost of the best prescriptions and how many clusters they use.

    With a capacity of the best ones of whole entities that meet it; NaN if params are not finite.
    """
    if problem.capacity is None:
        found = _evaluate(problem, params)
        return float(found.cost), int(found.n_used)
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(params)):
        return math.nan, 0
    hard = problem.harden(params, capacities="assign")
    return float(hard.cost), len(np.unique(np.asarray(hard.assignments)))


@program
def kicked_start(problem: Problem, key: Any) -> Any:
    """The problem's start, its values kicked in all directions.

    A kick at a transition has one direction. Where others are unstable too, rounding would decide
    along them, and data that differ in the order of their rows would end relabelled or apart.
    """
    start = problem.init(key)
    values = primal_of(start)
    noise = jax.random.normal(key, values.shape, values.dtype)
    size = primal_of(problem.params_scale(start))
    return problem.at(values + _SPREAD * size * noise)


@dataclass(frozen=True)
class Run:
    """One solve: `hard_cost` under the true autonomy, and the run it started from, `source`."""

    name: str
    restart: int
    solution: Solution
    cost: float
    n_used: int
    seconds: float
    source: "Run | None" = None

    @property
    def code(self) -> Code:
        """How it ended."""
        return Code(int(self.solution.code))

    @property
    def path(self) -> "list[Run]":
        """The runs that led here, this one last."""
        return [*(self.source.path if self.source else []), self]


@dataclass(frozen=True)
class Starts:
    """The outcome of `best_of_starts`.

    **Fields:** all `runs`; those of them that may be chosen, `candidates`; if there is autonomy,
    the best run `ignored` without it, `None` where none converged; `tie`, see `lowest`.
    """

    runs: tuple[Run, ...]
    candidates: tuple[Run, ...]
    ignored: Run | None
    tie: float = 0.0

    @property
    def best(self) -> Run | None:
        """The converged candidate of lowest hard cost; `None` if all failed."""
        return lowest([run for run in self.candidates if not run.code.is_failing], self.tie)

    @property
    def least_bad(self) -> Run | None:
        """`best`, else the candidate of lowest hard cost although it failed."""
        return self.best or lowest(self.candidates, self.tie)


def lowest(runs: Any, tie: float = 0.0) -> Run | None:
    """The first run whose finite hard cost is within `tie` of the lowest; `None` if none is."""
    finite = [run for run in runs if math.isfinite(run.cost)]
    limit = min((run.cost for run in finite), default=math.inf) + tie
    return next((run for run in finite if run.cost <= limit), None)


def percent_more(ignored: float, aware: float) -> float | None:
    """How many per cent more the cost `ignored` is than `aware`; `None` if undefined."""
    if ignored == aware:
        return 0.0  # also where both are zero
    return 100 * (ignored / aware - 1) if aware > 0 else None


class Watch(Protocol):
    """Is told what is being solved."""

    def run(self, name: str, restart: int) -> None:
        """A solve starts."""

    def stage(self, progress: Progress, /) -> None:
        """A stage of it has ended."""


def is_aware(problem: Clustering) -> bool:
    """Whether there is autonomy that centres can be found without."""
    return problem.k > 1 and not isinstance(problem.autonomy, NoAutonomy)


def default_starts(depends_on_centres: bool) -> int:
    """Restarts to do; autonomy that moves with the centres has more local minima."""
    return 4 if depends_on_centres else 2


def first_transition(problem: Problem) -> float:
    """The first critical beta, of clusterings without autonomy."""
    return float(_beta_scale(problem))


def default_betas(
    first: float, beta_min: float | None, beta_max: float | None
) -> tuple[float, float]:
    """What was given, else from half the first transition to 10^4 times it."""
    beta_max = 1e4 * first if beta_max is None else beta_max
    return min(0.5 * first, beta_max) if beta_min is None else beta_min, beta_max


def best_of_starts(
    problem: Clustering,
    schedule: Geometric,
    keys: Any,
    *,
    tie: float = 0.0,
    record: Record | None = None,
    watch: Watch | None = None,
    sample: int | None = 10_000,
    rtol: float | None = None,
) -> Starts:
    """Solve from every key in every suitable way.

    **Arguments:**

    - `problem`: exact stationarity.
    - `schedule`: of whole anneals; solutions are polished at its last beta.
    - `keys`: JAX random keys, one per start.
    - `tie`: hard costs this close, in units of the cost, count as equal and the first is kept, so
        that rounding does not choose between relabelled solutions.
    - `record`: what the trace of each run keeps.
    - `watch`: told of each solve and stage.
    - `sample`: data used before the last stage where clusters can grow; `None`: all.
    - `rtol`: relative error asked of the last stage; default the solver's own.

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
    return _Solver(problem, schedule, keys, tie, record, watch, sample, rtol).solve()


class _Solver:
    def __init__(
        self,
        problem: Clustering,
        schedule: Geometric,
        keys: Any,
        tie: float,
        record: Record | None,
        watch: Watch | None,
        sample: int | None,
        rtol: float | None,
    ) -> None:
        self.problem, self.schedule, self.keys = problem, schedule, keys
        self.tie, self.record, self.watch, self.rtol = tie, record, watch, rtol
        # Entities without weight do not count: a sample might be larger than what it is drawn from.
        weighty = int(np.count_nonzero(np.asarray(problem.weights)))
        self.growth = Growth(sample=None if sample is None or weighty <= sample else sample)
        self.runs: list[Run] = []

    def solve(self) -> Starts:
        problem, candidates = self.problem, []
        for restart in range(len(self.keys)):
            candidates.append(self._run(EXACT, restart, problem))
            if problem.autonomy.depends_on_centres:
                start = self._run(FROZEN, restart, self._variant(stationarity="frozen"))
                candidates.append(self._polish(POLISHED, start))
        ignored = self._ignore() if is_aware(problem) else None
        best = Starts((), tuple(candidates), None, self.tie).best
        if ignored is not None and (best is None or ignored.cost < best.cost - self.tie):
            candidates.append(self._polish(REPAIRED, ignored))
        return Starts(tuple(self.runs), tuple(candidates), ignored, self.tie)

    def _variant(self, **changes: Any) -> Clustering:
        problem = self.problem
        options: dict[str, Any] = {
            "autonomy": problem.autonomy,
            "cost": problem.cost,
            "weights": problem.weights,
            "capacity": None if problem.capacity is None else problem.capacity.given,
        }
        return Clustering(problem.x, problem.k, **(options | changes))

    def _ignore(self) -> Run | None:
        """What somebody unaware of autonomy would keep: the lowest cost without it."""
        plain = self.problem
        ignoring = plain.autonomy.without_overrides
        if ignoring is not None and supports_growth(plain):
            # The same programs serve again.
            plain = eqx.tree_at(lambda problem: problem.autonomy, plain, ignoring)
        else:
            plain = self._variant(autonomy=None)
        runs = [self._run(IGNORED, restart, plain) for restart in range(len(self.keys))]
        believed = [
            replace(run, cost=hard_cost(plain, run.solution.params)[0])
            for run in runs
            if not run.code.is_failing
        ]
        chosen = lowest(believed, self.tie)
        return None if chosen is None else runs[chosen.restart]

    def _run(self, name: str, restart: int, problem: Clustering) -> Run:
        if self.watch is not None:
            self.watch.run(name, restart)
        key, schedule, centres = self.keys[restart], self.schedule, None
        # Growth has no chance in it and is done once; other starts then are random and repaired,
        # without an anneal. A continuation in the autonomy belongs to the default start.
        if supports_growth(problem) and restart > 0:
            schedule, centres = self._last_stage, _scattered(problem, key)
            name = RANDOM if name == EXACT else name
        elif not (problem.relaxation_stages or supports_growth(problem)):
            centres = kicked_start(problem, key)
        return self._record(name, restart, problem, schedule, centres, None)

    @property
    def _last_stage(self) -> Geometric:
        """One stage at the last beta.

        Its schedule has the kind and length of a whole one, and both are told their start, so that
        the program compiled for whole anneals serves again.
        """
        end, stages = float(self.schedule.beta_max), self.schedule.max_stages
        return Geometric(end, end, self.schedule.factor, max_stages=stages)

    def _polish(self, name: str, start: Run) -> Run:
        centres = start.solution.params
        return self._record(name, start.restart, self.problem, self._last_stage, centres, start)

    def _record(
        self,
        name: str,
        restart: int,
        problem: Clustering,
        schedule: Geometric,
        centres: Any,
        source: Run | None,
    ) -> Run:
        solver = problem.default_solver()
        if self.rtol is not None:
            # `AbstractSolver` asks every solver for this field, which its type does not show.
            solver = replace(solver, rtol=self.rtol)  # type: ignore
        began = time.perf_counter()
        solution = anneal(
            problem,
            schedule,
            key=self.keys[restart],
            init=centres,
            solver=solver,
            detector=self.growth,
            repair=Repair(swaps=_SWAPS_PER_CLUSTER * problem.k if is_aware(problem) else 0),
            adjoint=NoGrad(),
            record=self.record,
            monitor=None if self.watch is None else self.watch.stage,
        )
        solution = jax.block_until_ready(solution)
        seconds = time.perf_counter() - began
        cost, n_used = hard_cost(self.problem, solution.params)
        run = Run(name, restart, solution, cost, n_used, seconds, source)
        self.runs.append(run)
        return run
