"""Which solution, and how many: best of starts, persistence, marginal returns."""

from .divide import Division, Split, Stop, divide_and_conquer
from .marginal_return import aggregations, marginal_return
from .model_order import ModelOrder
from .multipliers import Budget, MultiplierReport, multiplier_report, with_budget
from .persistence import clusterings, persistence, persistence_of_anneal
from .solve import Runs, Solved, solve
from .sparse_marginal_return import ebic, sparse_marginal_return
from .sparse_path import SparsePath, sparse_path
from .starts import best_of_starts
from .trade_off import TradeOff, trade_off

__all__ = [
    "Budget",
    "Division",
    "ModelOrder",
    "MultiplierReport",
    "Runs",
    "Solved",
    "SparsePath",
    "Split",
    "Stop",
    "TradeOff",
    "aggregations",
    "best_of_starts",
    "clusterings",
    "divide_and_conquer",
    "ebic",
    "marginal_return",
    "multiplier_report",
    "persistence",
    "persistence_of_anneal",
    "solve",
    "sparse_marginal_return",
    "sparse_path",
    "trade_off",
    "with_budget",
]
