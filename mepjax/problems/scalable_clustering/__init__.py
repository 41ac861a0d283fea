"""Clustering that pays for the computing each group does."""

from .problem import ScalableClustering
from .shares import CostParts, HardAllocation, ScalableParams

__all__ = ["CostParts", "HardAllocation", "ScalableClustering", "ScalableParams"]
