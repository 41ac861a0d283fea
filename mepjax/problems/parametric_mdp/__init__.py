"""Markov decision processes whose states and actions have parameters to be placed."""

from .hard import HardPlan
from .places import Places
from .problem import ParametricMDP
from .sensitivities import PlanSensitivities

__all__ = ["HardPlan", "ParametricMDP", "Places", "PlanSensitivities"]
