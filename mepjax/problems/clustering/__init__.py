"""Clustering: K centres for entities that may override their prescribed cluster."""

from .problem import Clustering

__all__ = ["Clustering"]
