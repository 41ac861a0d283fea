"""The solves behind `mepjax cluster`: arrays and options in, the best of several runs out."""

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import numpy as np

import mepjax as mj

from .errors import SOLVE, CommandError

_MOST_STAGES = 10_000
# Numbers kept of each run: stages x clusters x columns.
_MOST_RECORDED = 2_000_000
_CHOICES = {"autonomy": ("none", "uniform", "softmax"), "scale": ("none", "unit", "zscore")}

EXACT = "exact"
FROZEN = "frozen"
POLISHED = "frozen, then exact"
IGNORED = "without autonomy"
REPAIRED = "without autonomy, then exact"


@dataclass(frozen=True)
class Options:
    """The options of the command, under their names there; `None` where none was given."""

    k: int = 4
    autonomy: str | None = None
    kappa: float | None = None
    temperature: float | None = None
    zeta: float | None = None
    gamma: float | None = None
    matrix: np.ndarray | None = None
    scale: str | None = None
    restarts: int | None = None
    seed: int = 0
    beta_min: float | None = None
    beta_max: float | None = None
    factor: float = 1.05
    float64: bool = False
    animate: bool = False

    @property
    def kind(self) -> str:
        """Autonomy asked for: what says so, else softmax if it has an option, else uniform."""
        if self.matrix is not None:
            return "matrix"
        if self.autonomy is not None:
            return self.autonomy
        if self._given("temperature", "zeta", "gamma"):
            return "softmax"
        return "uniform" if self.kappa else "none"

    @property
    def scaling(self) -> str:
        """Scale asked for; temperatures have the units of the cost, so softmax has `unit`."""
        return self.scale or ("unit" if self.kind == "softmax" else "none")

    @property
    def starts(self) -> int:
        """Restarts in effect; softmax autonomy has more local minima than the others."""
        if self.restarts is not None:
            return self.restarts
        return 4 if self.kind == "softmax" else 2

    @property
    def is_aware(self) -> bool:
        """Whether autonomy can change anything: not for kappa = 0 or one cluster."""
        return self.k > 1 and (self.kind == "matrix" or bool(self.kappa))

    def _given(self, *names: str) -> list[str]:
        return [f"--{name}" for name in names if getattr(self, name) is not None]

    def check(self) -> None:
        """Raise `CommandError` for a value out of range or options that contradict each other."""
        _require(self.k >= 1, "-k", self.k, "at least 1")
        _require(self.starts >= 1, "--restarts", self.starts, "at least 1")
        _require(0 <= self.seed < 2**32, "--seed", self.seed, "an integer from 0 to 2^32 - 1")
        _require(1 < self.factor < math.inf, "--factor", self.factor, "more than 1")
        if self.kappa is not None:
            _require(0 <= self.kappa <= 1, "--kappa", self.kappa, "a number from 0 to 1")
        for name in ("temperature", "beta_min", "beta_max"):
            value = getattr(self, name)
            if value is not None:
                _require(0 < value < math.inf, _option(name), value, "a finite number > 0")
        for name in ("zeta", "gamma"):
            value = getattr(self, name)
            if value is not None:
                _require(math.isfinite(value), _option(name), value, "a finite number")
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value is not None:
                _require(value in choices, _option(name), repr(value), "one of " + _list(choices))
        if self.beta_min is not None and self.beta_max is not None:
            expected = f"at least --beta-min {self.beta_min:g}"
            _require(self.beta_max >= self.beta_min, "--beta-max", self.beta_max, expected)
        self._check_combination()

    def _check_combination(self) -> None:
        softmax = self._given("temperature", "zeta", "gamma")
        if self.kind == "matrix":
            others = self._given("autonomy", "kappa") + softmax
            if others:
                raise CommandError(f"--matrix: got {_list(others)} too; expected --matrix alone.")
            return
        if self.kind != "softmax" and softmax:
            raise CommandError(
                f"{softmax[0]}: got a value beside --autonomy {self.kind}; expected it only with "
                "softmax autonomy."
            )
        if self.kind == "none" and self.kappa:
            raise CommandError(
                f"--kappa: got {self.kappa:g} beside --autonomy none; expected 0 or no --kappa."
            )
        if self.kind != "none" and self.kappa is None:
            raise CommandError(f"--kappa: got none; {self.kind} autonomy expects one from 0 to 1.")

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers of the autonomy model, defaults filled in."""
        if self.kind not in ("uniform", "softmax"):
            return {}
        values = {"kappa": self.kappa or 0.0}
        if self.kind == "softmax":
            values["zeta"] = 1.0 if self.zeta is None else self.zeta
            values["gamma"] = 0.0 if self.gamma is None else self.gamma
            values["temperature"] = 1.0 if self.temperature is None else self.temperature
        return values

    def model(self, dtype: Any) -> Any:
        """The autonomy model, or `None`."""
        if not self.is_aware:
            return None
        if self.matrix is not None:
            return mj.autonomy.Matrix(self.matrix.astype(dtype))
        models = {"uniform": mj.autonomy.Uniform, "softmax": mj.autonomy.Softmax}
        return models[self.kind](**self.parameters)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _list(names: Any) -> str:
    return ", ".join(names)


def _require(ok: bool, option: str, got: Any, expected: str) -> None:
    if not ok:
        got = f"{got:g}" if isinstance(got, float) else got
        raise CommandError(f"{option}: got {got}; expected {expected}.")


@dataclass(frozen=True)
class Scaling:
    """x -> (x - shift) / factor, in float64; `factor` has one entry per column."""

    kind: str
    shift: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, kind: str, x: np.ndarray, weights: np.ndarray | None) -> "Scaling":
        """`unit`: bounding box in the unit cube, one factor; `zscore`: unit standard deviations.

        Points of weight zero do not count. Constant columns keep their factor.
        """
        if weights is not None:
            x, weights = x[weights > 0], weights[weights > 0]
        # All three shift, which loses no digits here and saves many in float32.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = np.average(x, axis=0, weights=weights)
            shift, factor = mean, np.ones(x.shape[1])
            if kind == "unit":
                shift = np.min(x, axis=0)
                factor = np.full(x.shape[1], np.max(np.max(x, axis=0) - shift))
            elif kind == "zscore":
                factor = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weights))
        return cls(kind, shift, np.where(factor > 0, factor, 1.0))

    @property
    def cost_factor(self) -> float | None:
        """What turns a scaled cost into one in input units; `None` where there is no such."""
        with np.errstate(over="ignore"):
            factor = float(np.square(self.factor[0]))
        usable = np.all(self.factor == self.factor[0]) and 0 < factor < math.inf
        return factor if usable else None

    def apply(self, x: np.ndarray) -> np.ndarray:
        """Input units to scaled ones."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (x - self.shift) / self.factor

    def invert(self, x: Any) -> np.ndarray:
        """Scaled units to input ones."""
        return np.asarray(x, np.float64) * self.factor + self.shift


@dataclass(frozen=True)
class Run:
    """One solve: `cost` and `n_used` under the true autonomy; `source` is what it started from."""

    name: str
    restart: int
    solution: mj.Solution
    cost: float
    n_used: int
    seconds: float
    source: "Run | None" = None

    @property
    def code(self) -> mj.Code:
        """How it ended."""
        return mj.Code(int(self.solution.code))

    @property
    def path(self) -> "list[Run]":
        """The runs that led here, this one last."""
        return [*(self.source.path if self.source else []), self]


@dataclass(frozen=True)
class Result:
    """The outcome of `cluster`.

    **Fields:** `options` and `scaling`; `problem` and `schedule` as solved; all `runs`, the `best`
    of them and, if there is autonomy, the best `ignored` without it; of the best run the `centres`
    (K, d) in input units, the `assignments` (N,), the soft `policy` (N, K), and `mixture` (N, K),
    the share of all weight that goes from each point to each cluster after overrides.
    """

    options: Options
    scaling: Scaling
    problem: mj.Clustering
    schedule: mj.Geometric
    runs: tuple[Run, ...]
    best: Run
    ignored: Run | None
    centres: np.ndarray
    assignments: np.ndarray
    policy: np.ndarray
    mixture: np.ndarray

    @property
    def cost_of_ignoring(self) -> float | None:
        """How many per cent more the centres found without autonomy cost; `None` if undefined."""
        if self.ignored is None:
            return None
        if self.ignored.cost == self.best.cost:
            return 0.0  # also where both are zero
        return 100 * (self.ignored.cost / self.best.cost - 1) if self.best.cost > 0 else None


class Watch(Protocol):
    """Is told what is being solved."""

    def run(self, name: str, restart: int) -> None:
        """A solve starts."""

    def stage(self, progress: mj.Progress, /) -> None:
        """A stage of it has ended."""


def long_runs(options: Options) -> int:
    """How many whole anneals `cluster` will do."""
    ways = 1 if not options.is_aware else 3 if options.kind == "softmax" else 2
    return ways * options.starts


def cluster(
    x: np.ndarray, options: Options, weights: np.ndarray | None = None, watch: Watch | None = None
) -> Result:
    """Cluster with every restart in every suitable way, and keep the lowest hard cost.

    Softmax autonomy moves with the centres, so that no single way is always best: an exact anneal
    and a frozen one polished by an exact solve at the last beta are both done. Centres found
    without autonomy tell what ignoring it costs; should they be the best, they are polished too.

    **Raises:** `CommandError` for options that do not fit, or if every run failed.
    """
    options.check()
    _require(options.k <= len(x), "-k", options.k, f"at most one cluster a point, {len(x)}")
    scaling = Scaling.of(options.scaling, x, weights)
    with jax.enable_x64(options.float64):
        dtype = np.float64 if options.float64 else np.float32
        z = scaling.apply(x)
        # Costs are squares, which must be neither too large for a number nor too small.
        largest, limits = float(np.max(np.abs(z))), np.finfo(dtype)
        low, high = 1e3 * float(limits.tiny) ** 0.5, 1e-2 * float(limits.max) ** 0.5
        if not (largest == 0 or low < largest < high):
            raise CommandError(
                f"--scale: got {scaling.kind} and coordinates up to {largest:g}; expected "
                f"{'larger' if largest <= low else 'smaller'} ones, or --scale unit."
            )
        if weights is not None:
            weights = (weights / np.sum(weights)).astype(dtype)
        model = options.model(dtype)
        problem = mj.Clustering(z.astype(dtype), options.k, weights=weights, autonomy=model)
        return _Solver(options, scaling, problem, watch).solve()


class _Solver:
    def __init__(
        self, options: Options, scaling: Scaling, problem: mj.Clustering, watch: Watch | None
    ) -> None:
        self.options, self.scaling, self.problem, self.watch = options, scaling, problem, watch
        first = float(problem.beta_scale())
        beta_max = 1e4 * first if options.beta_max is None else options.beta_max
        beta_min = min(0.5 * first, beta_max) if options.beta_min is None else options.beta_min
        expected = f"at least --beta-min {beta_min:g}"
        _require(beta_max >= beta_min, "--beta-max", beta_max, expected)
        stages = math.log(beta_max / beta_min) / math.log(options.factor)
        _require(
            stages < _MOST_STAGES, "--factor", options.factor,
            f"more, as it would take {stages:.0f} stages",
        )  # fmt: skip
        self.schedule = mj.Geometric(beta_min, beta_max, options.factor)
        self.keys = jax.random.split(jax.random.key(options.seed), options.starts)
        # The tree of centres and the film are drawn from them.
        size = self.schedule.max_stages * problem.k * problem.x.shape[1]
        self.record = options.animate or size <= _MOST_RECORDED
        self.runs: list[Run] = []

    def solve(self) -> Result:
        problem, model = self.problem, self.problem.autonomy
        candidates = []
        for restart in range(self.options.starts):
            candidates.append(self._run(EXACT, restart, problem))
            if model.depends_on_centres:
                frozen = mj.Clustering(
                    problem.x, problem.k, weights=problem.weights, autonomy=model,
                    stationarity="frozen",
                )  # fmt: skip
                start = self._run(FROZEN, restart, frozen)
                candidates.append(self._polish(POLISHED, start))
        ignored = self._ignore() if self.options.is_aware else None
        best = _lowest(candidates)
        if ignored is not None and (best is None or ignored.cost < best.cost):
            candidates.append(self._polish(REPAIRED, ignored))
            best = _lowest(candidates)
        if best is None:
            code = candidates[0].code
            raise CommandError(
                f"the solve failed in all {len(candidates)} runs: [{code.name}] {code.message}",
                SOLVE,
            )
        centres, beta = best.solution.params, best.solution.beta
        return Result(
            self.options, self.scaling, problem, self.schedule, tuple(self.runs), best, ignored,
            centres=self.scaling.invert(centres),
            assignments=np.asarray(problem.harden(centres).assignments),
            policy=np.exp(np.asarray(problem.policy(centres, beta), np.float64)),
            mixture=np.asarray(problem.association_weights(centres, beta), np.float64),
        )  # fmt: skip

    def _ignore(self) -> Run | None:
        """What somebody unaware of autonomy would keep: the lowest cost without it."""
        plain = mj.Clustering(self.problem.x, self.problem.k, weights=self.problem.weights)
        runs = [self._run(IGNORED, r, plain) for r in range(self.options.starts)]
        usable = [run for run in runs if not run.code.is_failing]
        return min(
            usable, key=lambda run: float(plain.harden(run.solution.params).cost), default=None
        )

    def _run(self, name: str, restart: int, problem: mj.Clustering) -> Run:
        if self.watch is not None:
            self.watch.run(name, restart)
        # A continuation in the autonomy belongs to the default start; see `_polish` for the other.
        centres = None if problem.relaxation_stages else problem.init(self.keys[restart])
        return self._record(name, restart, problem, self.schedule, centres, None)

    def _polish(self, name: str, start: Run) -> Run:
        # One stage at the last beta. Its schedule has the kind and length of a whole one, and
        # both are told their start, so that the program compiled for whole anneals serves again.
        end, stages = float(self.schedule.beta_max), self.schedule.max_stages
        schedule = mj.Geometric(end, end, self.options.factor, max_stages=stages)
        centres = start.solution.params
        return self._record(name, start.restart, self.problem, schedule, centres, start)

    def _record(
        self,
        name: str,
        restart: int,
        problem: mj.Clustering,
        schedule: mj.Geometric,
        centres: Any,
        source: Run | None,
    ) -> Run:
        began = time.perf_counter()
        solution = mj.anneal(
            problem,
            schedule,
            key=self.keys[restart],
            init=centres,
            adjoint=mj.NoGrad(),
            record=mj.Record(params=self.record),
            monitor=None if self.watch is None else self.watch.stage,
        )
        solution = jax.block_until_ready(solution)
        seconds = time.perf_counter() - began
        measured = self.problem.evaluate(solution.params)
        run = Run(
            name, restart, solution, float(measured.cost), int(measured.n_used), seconds, source
        )
        self.runs.append(run)
        return run


def _lowest(runs: list[Run]) -> Run | None:
    usable = [run for run in runs if not run.code.is_failing and math.isfinite(run.cost)]
    return min(usable, key=lambda run: run.cost, default=None)
