"""Facility location with path optimisation."""

from .problem import FacilityPath

__all__ = ["FacilityPath"]
