"""Seeded data with known answers."""

from .channels import channel_game
from .gaussians import four_square
from .gridworld import frozen_lake, gridworld
from .movielens import MovieLensUsers, movielens_users
from .moving import MovingNetwork, moving_network
from .nested import nested_groups
from .prosumers import ProsumerGrid, prosumer_grid
from .small_cells import SmallCells, small_cells
from .supply import supply_network
from .taxi import taxi

__all__ = [
    "MovieLensUsers",
    "MovingNetwork",
    "ProsumerGrid",
    "SmallCells",
    "channel_game",
    "four_square",
    "frozen_lake",
    "gridworld",
    "movielens_users",
    "moving_network",
    "nested_groups",
    "prosumer_grid",
    "small_cells",
    "supply_network",
    "taxi",
]
