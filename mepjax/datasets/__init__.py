"""Seeded data with known answers."""

from .gaussians import four_square

__all__ = ["four_square"]
