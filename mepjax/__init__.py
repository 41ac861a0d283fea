"""mepjax: maximum-entropy-principle optimisation in JAX.

A hard problem of choices and locations is relaxed to its free energy F = D - H / beta, whose
choices are a Gibbs distribution, and followed from small beta to large. Every solver compiles
whole, is differentiable by the implicit function theorem, and vmaps.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import exec, mdp
from ._core.arrays import PrecisionWarning
from ._core.checkpoints import CheckpointWarning
from ._core.codes import Code, SolveError
from ._core.params import Params
from ._core.programs import compile_options
from .citation import citation
from .engine.anneal import anneal
from .engine.branching.base import AbstractBranching, StageEnd
from .engine.branching.growth import Growth
from .engine.branching.noise import NoDetector
from .engine.branching.watch import Detector
from .engine.checkpoint import load, save
from .engine.critical_jump import CriticalJump
from .engine.distinct import n_distinct
from .engine.drift import drift
from .engine.monitor import Progress, print_progress
from .engine.pieces import advance, begin, finish
from .engine.problem import Constrained, Continuation, Growable, Problem, Terms
from .engine.record import Record
from .engine.repair import Repair
from .engine.schedules import (
    AbstractSchedule,
    Explicit,
    Geometric,
    Linear,
    Stage,
)
from .engine.slot_spectrum import SlotSpectrum
from .engine.solution import Solution, Trace
from .engine.state import AnnealState
from .engine.sweep import LaneDone, Sweep, sweep
from .engine.transitions import critical_beta, curvature, gradients, sensitivity
from .exec.in_memory import InMemory
from .exec.sharded import Sharded
from .exec.streaming import Streaming
from .problems import autonomy, costs, paths
from .problems.averaged_clustering import AveragedClustering
from .problems.capacity.limits import Equal
from .problems.clustering.hard import Evaluation, HardClustering
from .problems.clustering.problem import Clustering
from .problems.facility_path.hard import HardPaths
from .problems.facility_path.prices import Prices
from .problems.facility_path.problem import FacilityPath
from .problems.facility_path.sensitivities import Sensitivities
from .problems.markov_aggregation import Aggregation, MarkovAggregation
from .problems.parametric_mdp import HardPlan, ParametricMDP, Places, PlanSensitivities
from .problems.scalable_clustering import (
    CostParts,
    HardAllocation,
    ScalableClustering,
    ScalableParams,
)
from .problems.sparse_regression import HardRegression, SparseRegression
from .select.baselines import (
    ClusterThenPlan,
    LocateThenRoute,
    cluster_then_plan,
    locate_then_route,
)
from .select.solve import Runs, Solved, solve
from .solvers.adjoints import AbstractAdjoint, Envelope, Implicit, NoGrad, Unroll
from .solvers.anderson import Anderson
from .solvers.armijo import Armijo
from .solvers.base import AbstractSolver, StepInfo
from .solvers.fixed_point import FixedPoint
from .solvers.implicit import LinearSolve
from .solvers.newton_krylov import NewtonKrylov

if TYPE_CHECKING:
    from . import control, datasets, estimators, learn, plot, select

__version__ = "0.1.0"

# Rooms that a name opens: they cost import time, and some need an extra.
_ROOMS = ("control", "datasets", "estimators", "learn", "plot", "select")


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


__all__ = [
    "AbstractAdjoint",
    "AbstractBranching",
    "AbstractSchedule",
    "AbstractSolver",
    "Anderson",
    "Aggregation",
    "AnnealState",
    "Armijo",
    "AveragedClustering",
    "CheckpointWarning",
    "ClusterThenPlan",
    "Clustering",
    "Code",
    "Constrained",
    "Continuation",
    "CostParts",
    "CriticalJump",
    "Detector",
    "Envelope",
    "Equal",
    "Evaluation",
    "Explicit",
    "FacilityPath",
    "FixedPoint",
    "Geometric",
    "Growable",
    "Growth",
    "HardAllocation",
    "HardClustering",
    "HardPaths",
    "HardPlan",
    "HardRegression",
    "Implicit",
    "InMemory",
    "LaneDone",
    "Linear",
    "LinearSolve",
    "LocateThenRoute",
    "MarkovAggregation",
    "NewtonKrylov",
    "NoDetector",
    "NoGrad",
    "Params",
    "ParametricMDP",
    "Places",
    "PlanSensitivities",
    "PrecisionWarning",
    "Prices",
    "Problem",
    "Progress",
    "Record",
    "Repair",
    "ScalableClustering",
    "ScalableParams",
    "Runs",
    "Sensitivities",
    "Sharded",
    "SlotSpectrum",
    "Solution",
    "SolveError",
    "Solved",
    "SparseRegression",
    "Stage",
    "StageEnd",
    "StepInfo",
    "Streaming",
    "Sweep",
    "Terms",
    "Trace",
    "Unroll",
    "advance",
    "anneal",
    "autonomy",
    "begin",
    "citation",
    "cluster_then_plan",
    "compile_options",
    "control",
    "costs",
    "critical_beta",
    "curvature",
    "datasets",
    "drift",
    "estimators",
    "exec",
    "finish",
    "gradients",
    "learn",
    "load",
    "locate_then_route",
    "mdp",
    "n_distinct",
    "paths",
    "plot",
    "print_progress",
    "save",
    "select",
    "sensitivity",
    "solve",
    "sweep",
]
