"""Aggregation of Markov chains into superstates."""

from .hard import Aggregation
from .problem import MarkovAggregation

__all__ = ["Aggregation", "MarkovAggregation"]
