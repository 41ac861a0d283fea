"""Markov decision processes: models, solvers and tabular learners."""

from .bellman import AbstractBellman, AbstractChain, bounds
from .methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration

__all__ = [
    "AbstractBellman",
    "AbstractChain",
    "ModifiedPolicyIteration",
    "PolicyIteration",
    "ValueIteration",
    "bounds",
]
