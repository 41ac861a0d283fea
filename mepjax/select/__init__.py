"""Which solution, and how many: best of starts, persistence, marginal returns."""

from .marginal_return import aggregations, marginal_return
from .model_order import ModelOrder
from .persistence import clusterings, persistence, persistence_of_anneal
from .solve import Runs, Solved, solve
from .sparse_marginal_return import ebic, sparse_marginal_return
from .sparse_path import SparsePath, sparse_path
from .starts import best_of_starts

__all__ = [
    "ModelOrder",
    "Runs",
    "Solved",
    "SparsePath",
    "aggregations",
    "best_of_starts",
    "clusterings",
    "ebic",
    "marginal_return",
    "persistence",
    "persistence_of_anneal",
    "solve",
    "sparse_marginal_return",
    "sparse_path",
]
