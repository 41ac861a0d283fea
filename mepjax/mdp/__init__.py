"""Markov decision processes: models, solvers, tabular learners, and populations to steer."""

from .behaviours import Group, Local, NextState, Rows, Scoped, Table, composed
from .bellman import AbstractBellman, AbstractChain, bounds
from .cluster_methods import CVI, ApproximatePolicyIteration, ClusteredPolicyIteration, Hybrid
from .estimate import Estimate, estimate
from .factored import FactoredMDP
from .games import BestResponse, Logit, game
from .kernels import AbstractKernel, Dense, Deterministic, Functional, Sparse
from .methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from .model import MDP
from .population import Path, expected_rewards, simulate, stationary
from .rewards import Separable
from .solve import MDPSolution, solve, thesis_beta
from .splitting import Clusterings, best_clustering, split
from .steer import Steering, steer

__all__ = [
    "CVI",
    "MDP",
    "AbstractBellman",
    "AbstractChain",
    "AbstractKernel",
    "ApproximatePolicyIteration",
    "BestResponse",
    "ClusteredPolicyIteration",
    "Clusterings",
    "Dense",
    "Deterministic",
    "Estimate",
    "FactoredMDP",
    "Functional",
    "Group",
    "Hybrid",
    "Local",
    "Logit",
    "MDPSolution",
    "ModifiedPolicyIteration",
    "NextState",
    "Path",
    "PolicyIteration",
    "Rows",
    "Scoped",
    "Separable",
    "Sparse",
    "Steering",
    "Table",
    "ValueIteration",
    "best_clustering",
    "bounds",
    "composed",
    "estimate",
    "expected_rewards",
    "game",
    "simulate",
    "solve",
    "split",
    "stationary",
    "steer",
    "thesis_beta",
]
