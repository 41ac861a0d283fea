"""Transition kernels: dense, deterministic, sparse, or computed where needed."""

from .base import AbstractKernel, Outcomes
from .dense import Dense
from .deterministic import Deterministic
from .functional import Functional
from .sparse import Sparse

__all__ = ["AbstractKernel", "Dense", "Deterministic", "Functional", "Outcomes", "Sparse"]
