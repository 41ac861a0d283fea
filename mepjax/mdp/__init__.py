"""Markov decision processes: models, solvers and tabular learners."""

from .bellman import AbstractBellman, AbstractChain, bounds
from .kernels import AbstractKernel, Dense, Deterministic, Functional, Sparse
from .methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from .model import MDP
from .solve import MDPSolution, solve, thesis_beta

__all__ = [
    "MDP",
    "AbstractBellman",
    "AbstractChain",
    "AbstractKernel",
    "Dense",
    "Deterministic",
    "Functional",
    "MDPSolution",
    "ModifiedPolicyIteration",
    "PolicyIteration",
    "Sparse",
    "ValueIteration",
    "bounds",
    "solve",
    "thesis_beta",
]
