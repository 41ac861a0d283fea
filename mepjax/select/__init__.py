"""Which solution, and how many: best of starts, persistence, marginal returns."""

from .marginal_return import marginal_return
from .model_order import ModelOrder
from .persistence import persistence, persistence_of_anneal
from .solve import Runs, Solved, solve
from .starts import best_of_starts

__all__ = [
    "ModelOrder",
    "Runs",
    "Solved",
    "best_of_starts",
    "marginal_return",
    "persistence",
    "persistence_of_anneal",
    "solve",
]
