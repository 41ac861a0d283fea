"""Dissimilarities d(x, y) between an entity and a centre, and how centres move under them.

`SquaredEuclidean`, `Mahalanobis` and `Bregman` divergences have weighted means as centres,
`Euclidean` and `GreatCircle` geometric medians, `Manhattan` medians, `Cosine` mean directions;
`CostFunction` makes a cost of any smooth function of two points.
"""

from .base import AbstractCost
from .bregman import Bregman, ItakuraSaito, KullbackLeibler
from .cosine import Cosine
from .euclidean import Euclidean
from .function import CostFunction
from .great_circle import GreatCircle
from .manhattan import Manhattan
from .names import as_cost
from .quadratic import Mahalanobis, SquaredEuclidean

__all__ = [
    "AbstractCost",
    "Bregman",
    "Cosine",
    "CostFunction",
    "Euclidean",
    "GreatCircle",
    "ItakuraSaito",
    "KullbackLeibler",
    "Mahalanobis",
    "Manhattan",
    "SquaredEuclidean",
    "as_cost",
]
