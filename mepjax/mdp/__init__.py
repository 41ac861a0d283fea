"""Markov decision processes: models, solvers, tabular learners, and populations to steer."""

from .behaviours import Group, Local, NextState, Rows, Scoped, Table, composed
from .bellman import AbstractBellman, AbstractChain, bounds
from .cluster_methods import CVI, ApproximatePolicyIteration, ClusteredPolicyIteration, Hybrid
from .factored import FactoredMDP
from .games import BestResponse, Logit, game
from .kernels import AbstractKernel, Dense, Deterministic, Functional, Sparse
from .methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from .model import MDP
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
    "FactoredMDP",
    "Functional",
    "Group",
    "Hybrid",
    "Local",
    "Logit",
    "MDPSolution",
    "ModifiedPolicyIteration",
    "NextState",
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
    "game",
    "solve",
    "split",
    "steer",
    "thesis_beta",
]
