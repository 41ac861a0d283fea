"""Figures: each function takes (problem, solution) and returns matplotlib axes."""

from .clusters import clusters

__all__ = ["clusters"]
