"""Markov decision processes: models, solvers, tabular learners, and populations to steer."""

from .behaviours import Group, Local, NextState, Rows, Scoped, Table, composed
from .bellman import AbstractBellman, AbstractChain, bounds
from .cluster_methods import CVI, ApproximatePolicyIteration, ClusteredPolicyIteration, Hybrid
from .end_components import critical_beta
from .estimate import Estimate, estimate
from .exchange import as_gymnasium, from_gymnasium, from_quantecon, to_quantecon
from .factored import FactoredMDP
from .fitted import FittedIteration, FittedSteering, steer_fitted
from .games import BestResponse, Logit, game
from .kernels import AbstractKernel, Dense, Deterministic, Functional, Sparse
from .learners import Environment, Learned, learn, learning_curve
from .methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from .model import MDP
from .policies import SampledPaths, evaluate, frequencies, sample_paths
from .population import Path, expected_rewards, simulate, stationary
from .population_env import environment
from .rewards import Separable
from .rules import MEP, AbstractRule, DoubleQ, QLearning, SoftQ
from .solve import MDPSolution, solve, thesis_beta
from .splitting import Clusterings, best_clustering, split
from .steer import Steering, steer
from .use import Uses, entries, takes, uses, visits
from .values import AbstractAhead, AbstractValues, LinearValues

__all__ = [
    "CVI",
    "MDP",
    "MEP",
    "AbstractAhead",
    "AbstractBellman",
    "AbstractChain",
    "AbstractKernel",
    "AbstractRule",
    "AbstractValues",
    "ApproximatePolicyIteration",
    "BestResponse",
    "ClusteredPolicyIteration",
    "Clusterings",
    "Dense",
    "Deterministic",
    "DoubleQ",
    "Environment",
    "Estimate",
    "FactoredMDP",
    "FittedIteration",
    "FittedSteering",
    "Functional",
    "Group",
    "Hybrid",
    "Learned",
    "LinearValues",
    "Local",
    "Logit",
    "MDPSolution",
    "ModifiedPolicyIteration",
    "NextState",
    "Path",
    "PolicyIteration",
    "QLearning",
    "Rows",
    "SampledPaths",
    "Scoped",
    "Separable",
    "SoftQ",
    "Sparse",
    "Steering",
    "Table",
    "Uses",
    "ValueIteration",
    "as_gymnasium",
    "best_clustering",
    "bounds",
    "composed",
    "critical_beta",
    "entries",
    "environment",
    "estimate",
    "evaluate",
    "expected_rewards",
    "frequencies",
    "from_gymnasium",
    "from_quantecon",
    "game",
    "learn",
    "learning_curve",
    "sample_paths",
    "simulate",
    "solve",
    "split",
    "stationary",
    "steer",
    "steer_fitted",
    "takes",
    "thesis_beta",
    "to_quantecon",
    "uses",
    "visits",
]
