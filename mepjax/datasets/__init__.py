"""Seeded data with known answers."""

from .channels import channel_game
from .gaussians import four_square
from .nested import nested_groups
from .supply import supply_network

__all__ = ["channel_game", "four_square", "nested_groups", "supply_network"]
