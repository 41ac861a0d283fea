"""The solves behind `mepjax route`: places and options in, the best of several runs out."""

import re
import time
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np

import mepjax as mj

from .._core.scaling import Scaling
from ..select.starts import Run, Watch, kicked_start, lowest, percent_more
from .annealing import AnnealOptions, option_of, require
from .errors import SOLVE, CommandError
from .network import Network
from .points import Points
from .table import show

SIMULTANEOUS = "both at once"

# Numbers held at once by the tables of the recursion.
_MOST_HELD = 300_000_000
# Choices of entries that an integer program can decide in good time.
_MOST_ASSIGNED = 100_000
# Visits per unit weight below which a facility is not used.
_UNUSED = 1e-3
_ARGUMENTS = {"nodes": "NODES", "destinations": "--destination", "n_stages": "--stages"}


@dataclass(frozen=True, kw_only=True)
class Options(AnnealOptions):
    """The options of the command, under their names there; `None` where none was given."""

    facilities: int = 5
    stages: int | None = None
    max_hops: int | None = None
    direct: bool = False

    def check(self) -> None:
        """Raise `CommandError` for a value out of range or options that contradict each other."""
        require(self.facilities >= 1, "--facilities", self.facilities, "at least 1")
        if self.stages is not None:
            require(self.stages >= 1, "--stages", self.stages, "at least 1")
        if self.max_hops is not None:
            least = 0 if self.direct else 1
            expected = "at least 0" if self.direct else "at least 1, or 0 with --direct"
            require(self.max_hops >= least, "--max-hops", self.max_hops, expected)
        self.check_anneal()

    def check_size(self, n: int, standing: int) -> None:
        """Raise `CommandError` for more facilities or stages than memory would hold."""
        m = self.facilities + standing
        stages = m if self.stages is None else self.stages
        most = max(self.max_hops or 0, 1)
        if self.max_hops is not None:
            expected = f"at most {stages}, the number of stages"
            require(most <= stages, "--max-hops", self.max_hops, expected)
        held = m * (n + stages * m)
        option, got = ("--facilities", self.facilities)
        if self.stages is not None and stages > m:
            option, got = "--stages", self.stages
        require(held <= _MOST_HELD, option, got, f"less, as tables would hold {held:.0e} numbers")


@dataclass(frozen=True)
class Result:
    """The outcome of `route`, for N nodes, M facilities (those to place first) and L destinations.

    **Fields:** `options`, `network` and `scaling`; `problem` and `schedule` as solved; all `runs`
    and the `best` of them, whose costs are hard, but soft with capacities; the `baseline` that
    locates first and routes afterwards, and its hard `baseline_cost`, `None` where its routes do
    not keep the capacities; `facilities` (M, d) in input units. Of the best run: the `hard`
    routes, whose costs are in scaled units, and why they are `unlimited`, `None` if they keep all
    capacities; the soft choice `policy` (N, M), or (N, M + L) with direct legs; the `traffic` of
    every leg and the `usage` (M,), visits of every facility, per unit weight; with capacities
    `revisits` (M,), the share of weight that visits a facility more than once.
    """

    options: Options
    network: Network
    scaling: Scaling
    problem: mj.FacilityPath
    schedule: mj.Geometric
    runs: tuple[Run, ...]
    best: Run
    baseline: mj.LocateThenRoute
    baseline_cost: float | None
    facilities: np.ndarray
    hard: mj.HardPaths
    unlimited: str | None
    policy: np.ndarray
    traffic: mj.paths.StageCosts
    usage: np.ndarray
    revisits: np.ndarray | None

    @property
    def entry_shares(self) -> np.ndarray:
        """The share of all weight that enters at each facility (M,), at the last beta."""
        return np.sum(self.traffic.first, axis=0)

    @property
    def entries(self) -> np.ndarray:
        """The most probable first facility of each node (N,), -1 for straight to a destination."""
        choice = np.argmax(self.policy, axis=1)
        return np.where(choice < self.problem.total, choice, -1)

    @property
    def cost(self) -> float:
        """The hard cost, or the soft one where hard routes do not keep the capacities."""
        return self.best.cost if self.unlimited else float(self.hard.cost)

    @property
    def cost_name(self) -> str:
        """Which of the two it is."""
        return "soft cost" if self.unlimited else "hard cost"

    @property
    def baseline_code(self) -> mj.Code:
        """How the anneal of the baseline ended."""
        return mj.Code(int(self.baseline.code))

    @property
    def percent_dearer(self) -> float | None:
        """How many per cent more locating first costs; `None` if undefined."""
        return None if self.baseline_cost is None else percent_more(self.baseline_cost, self.cost)


def long_runs(options: Options) -> int:
    """How many whole anneals `route` will do under watch."""
    return options.starts


def route(points: Points, network: Network, options: Options, watch: Watch | None = None) -> Result:
    """Place facilities and choose routes with every restart, and keep the lowest hard cost.

    **Raises:** `CommandError` for options that do not fit, or if every run failed.
    """
    options.check()
    options.check_size(len(points.x), network.standing)
    scaling = Scaling.of(options.scaling, points.x, points.weights, points.lonlat)
    with jax.enable_x64(options.float64):
        problem = _problem(points, network, options, scaling)
        schedule = options.schedule(problem)
        keys = jax.random.split(jax.random.key(options.seed), options.starts)
        runs = tuple(_run(problem, schedule, key, i, watch) for i, key in enumerate(keys))
        best = lowest([run for run in runs if not run.code.is_failing])
        if best is None:
            code = runs[0].code
            raise CommandError(
                f"the solve failed in all {len(runs)} runs: [{code.name}] {code.message}", SOLVE
            )
        params, beta = best.solution.params, best.solution.beta
        policy, traffic, usage = jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64), _measure(problem, params, beta)
        )
        hard, unlimited = _routes(problem, params)
        baseline = problem.locate_then_route(key=keys[0])
        sequential, failed = _routes(problem, problem.at(baseline.locations))
        return Result(
            options, network, scaling, problem, schedule, runs, best,
            baseline=baseline,
            baseline_cost=None if failed or unlimited else float(sequential.cost),
            facilities=scaling.invert(problem.facilities(params)),
            hard=jax.tree.map(np.asarray, hard), unlimited=unlimited,
            policy=policy, traffic=traffic, usage=usage,
            revisits=np.asarray(problem.revisits(params, beta), np.float64)
            if network.is_limited
            else None,
        )  # fmt: skip


def _problem(
    points: Points, network: Network, options: Options, scaling: Scaling
) -> mj.FacilityPath:
    places = [points.x, network.destinations]
    places += [] if network.fixed is None else [network.fixed]
    scaled = [scaling.apply(place) for place in places]
    options.check_magnitude(scaling, *scaled)
    dtype = options.dtype
    weights = points.weights
    if weights is not None:
        weights = (weights / np.sum(weights)).astype(dtype)
    capacities = {
        name: capacity.of(dtype)
        for name in ("entry_capacity", "facility_capacity", "link_capacity")
        if (capacity := getattr(network, name)) is not None
    }
    x, destinations, *fixed = (place.astype(dtype) for place in scaled)
    try:
        return mj.FacilityPath(
            x, destinations, options.facilities, weights=weights,
            fixed=fixed[0] if fixed else None, n_stages=options.stages,
            links=mj.paths.Links(between=network.between, exit=network.exit),
            max_hops=options.max_hops, direct=options.direct, **capacities,
        )  # fmt: skip
    except ValueError as error:
        raise CommandError(_in_words_of_the_command(str(error), points)) from None


def _in_words_of_the_command(text: str, points: Points) -> str:
    """What the problem complains of, with the options' names and the node's own."""

    def name(match: re.Match[str]) -> str:
        field = match[1].partition(".")[0]
        return _ARGUMENTS.get(field, option_of(field))

    def row(match: re.Match[str]) -> str:
        number = int(float(match[1]))
        known = "" if points.ids is None else f", id {show(points.ids[number])},"
        return f"the node of row {number}{known}"

    text = text.removeprefix("FacilityPath: ").replace("given as Equal", "after =")
    text = re.sub(r"`([\w.]+)`", name, text)
    return re.sub(r"\bnode (\d+(?:\.0)?)\b", row, text)


_measure = eqx.filter_jit(
    lambda problem, params, beta: (
        jax.numpy.exp(problem.policy(params, beta)),
        problem.traffic(params, beta),
        problem.usage(params, beta),
    )
)


def _routes(problem: mj.FacilityPath, params: Any) -> tuple[mj.HardPaths, str | None]:
    """Hard routes, and why they do not keep the capacities, if they do not."""
    if not problem.capacities.given:
        return problem.harden(params), None
    reason = "there are too many nodes for an integer program"
    if problem.nodes.shape[0] * problem.total <= _MOST_ASSIGNED:
        try:
            return problem.harden(params, capacities="assign"), None
        except ValueError:
            reason = "nodes of unequal weight cannot be split"
        except mj.SolveError:
            reason = "whole nodes cannot meet them"
    return problem.harden(params), reason


def _run(
    problem: mj.FacilityPath, schedule: mj.Geometric, key: Any, restart: int, watch: Watch | None
) -> Run:
    if watch is not None:
        watch.run(SIMULTANEOUS, restart)
    began = time.perf_counter()
    solution = mj.anneal(
        problem, schedule, key=key, init=kicked_start(problem, key), adjoint=mj.NoGrad(),
        monitor=None if watch is None else watch.stage,
    )  # fmt: skip
    solution = jax.block_until_ready(solution)
    seconds = time.perf_counter() - began
    limited = problem.capacities.given
    cost = float(solution.distortion if limited else problem.harden(solution.params).cost)
    used = int(np.sum(np.asarray(problem.usage(solution.params, solution.beta)) > _UNUSED))
    return Run(SIMULTANEOUS, restart, solution, cost, used, seconds)
