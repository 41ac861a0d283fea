"""Which solution, and how many: best of starts, persistence, marginal returns."""

from .model_order import ModelOrder
from .persistence import persistence, persistence_of_anneal

__all__ = ["ModelOrder", "persistence", "persistence_of_anneal"]
