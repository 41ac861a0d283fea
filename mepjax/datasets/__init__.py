"""Seeded data with known answers."""

from .gaussians import four_square
from .nested import nested_groups
from .supply import supply_network

__all__ = ["four_square", "nested_groups", "supply_network"]
