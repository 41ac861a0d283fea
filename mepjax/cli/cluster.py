"""The solves behind `mepjax cluster`: arrays and options in, the best of several runs out."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .._core.scaling import Scaling
from ..select.starts import IGNORED, Run, Watch, best_of_starts, default_starts, percent_more
from .annealing import AnnealOptions, option_of, require
from .capacity import Capacity
from .errors import SOLVE, CommandError

__all__ = ["IGNORED", "Options", "Result", "Run", "cluster", "long_runs"]

# Numbers kept of each run: stages x clusters x columns.
_MOST_RECORDED = 2_000_000
_AUTONOMIES = ("none", "uniform", "softmax")


@dataclass(frozen=True, kw_only=True)
class Options(AnnealOptions):
    """The options of the command, under their names there; `None` where none was given."""

    k: int = 4
    autonomy: str | None = None
    kappa: float | None = None
    temperature: float | None = None
    zeta: float | None = None
    gamma: float | None = None
    matrix: np.ndarray | None = None
    capacity: Capacity | None = None
    sample: int = 10_000
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
        return default_starts(self.kind == "softmax")

    @property
    def is_aware(self) -> bool:
        """Whether autonomy can change anything: not for kappa = 0 or one cluster."""
        return self.k > 1 and (self.kind == "matrix" or bool(self.kappa))

    def _given(self, *names: str) -> list[str]:
        return [f"--{name}" for name in names if getattr(self, name) is not None]

    def check(self) -> None:
        """Raise `CommandError` for a value out of range or options that contradict each other."""
        require(self.k >= 1, "-k", self.k, "at least 1")
        self.check_anneal()
        require(self.sample >= 0, "--sample", self.sample, "at least 0")
        if self.kappa is not None:
            require(0 <= self.kappa <= 1, "--kappa", self.kappa, "a number from 0 to 1")
        self.check_positive("temperature")
        for name in ("zeta", "gamma"):
            value = getattr(self, name)
            if value is not None:
                require(math.isfinite(value), option_of(name), value, "a finite number")
        self.check_choice("autonomy", _AUTONOMIES)
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


def _list(names: Any) -> str:
    return ", ".join(names)


@dataclass(frozen=True)
class Result:
    """The outcome of `cluster`.

    **Fields:** `options` and `scaling`; `problem` and `schedule` as solved; all `runs`, the `best`
    of them and, if there is autonomy, the best `ignored` without it; of the best run the `centres`
    (K, d) in input units, the `assignments` (N,), which meet a capacity, the soft `policy` (N, K),
    and `mixture` (N, K), the share of all weight that goes from each point to each cluster after
    overrides.
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
        return percent_more(self.ignored.cost, self.best.cost)


def long_runs(options: Options) -> int:
    """How many whole anneals `cluster` will do."""
    ways = 1 if not options.is_aware else 3 if options.kind == "softmax" else 2
    return ways * options.starts


def cluster(
    x: np.ndarray,
    options: Options,
    weights: np.ndarray | None = None,
    watch: Watch | None = None,
    lonlat: tuple[int, int] | None = None,
) -> Result:
    """Cluster with every restart in every suitable way, and keep the lowest hard cost.

    Softmax autonomy moves with the centres, so that no single way is always best: an exact anneal
    and a frozen one polished by an exact solve at the last beta are both done. Centres found
    without autonomy tell what ignoring it costs; should they be the best, they are polished too.
    Columns `lonlat` of `x` are degrees of longitude and latitude.

    **Raises:** `CommandError` for options that do not fit, or if every run failed.
    """
    options.check()
    require(options.k <= len(x), "-k", options.k, f"at most one cluster a point, {len(x)}")
    scaling = Scaling.of(options.scaling, x, weights, lonlat)
    with jax.enable_x64(options.float64):
        dtype = options.dtype
        z = scaling.apply(x)
        options.check_magnitude(scaling, z)
        if weights is not None:
            weights = (weights / np.sum(weights)).astype(dtype)
        model = options.model(dtype)
        capacity = None if options.capacity is None else options.capacity.of(dtype)
        problem = mj.Clustering(
            z.astype(dtype), options.k, weights=weights, autonomy=model, capacity=capacity
        )
        return _solve(options, scaling, problem, watch)


def _solve(
    options: Options, scaling: Scaling, problem: mj.Clustering, watch: Watch | None
) -> Result:
    schedule = options.schedule(problem)
    keys = jax.random.split(jax.random.key(options.seed), options.starts)
    # The tree of centres and the film are drawn from the params of all stages.
    size = schedule.max_stages * problem.x.shape[1] * problem.k
    record = mj.Record(params=options.animate or size <= _MOST_RECORDED)
    sample = options.sample or None
    starts = best_of_starts(problem, schedule, keys, record=record, watch=watch, sample=sample)
    best = starts.best
    if best is None:
        number, code = len(starts.candidates), starts.candidates[0].code
        raise CommandError(
            f"the solve failed in all {number} runs: [{code.name}] {code.message}", SOLVE
        )
    params, beta = best.solution.params, best.solution.beta
    return Result(
        options, scaling, problem, schedule, starts.runs, best, starts.ignored,
        centres=scaling.invert(problem.values(params)),
        assignments=np.asarray(problem.harden(params, capacities="assign").assignments),
        policy=np.exp(np.asarray(problem.policy(params, beta), np.float64)),
        mixture=np.asarray(problem.association_weights(params, beta), np.float64),
    )  # fmt: skip
