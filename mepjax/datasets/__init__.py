"""Seeded data with known answers."""

from .gaussians import four_square
from .supply import supply_network

__all__ = ["four_square", "supply_network"]
