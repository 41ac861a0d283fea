"""Costs from what users pass: a name, a function or an instance."""

from typing import Any

from .base import AbstractCost
from .bregman import ItakuraSaito, KullbackLeibler
from .cosine import Cosine
from .euclidean import Euclidean
from .function import CostFunction
from .great_circle import GreatCircle
from .manhattan import Manhattan
from .quadratic import SquaredEuclidean

# Names of scikit-learn and SciPy where they have one.
NAMES: dict[str, type[AbstractCost]] = {
    "sqeuclidean": SquaredEuclidean,
    "euclidean": Euclidean,
    "manhattan": Manhattan,
    "cityblock": Manhattan,
    "l1": Manhattan,
    "cosine": Cosine,
    "haversine": GreatCircle,
    "great_circle": GreatCircle,
    "kullback_leibler": KullbackLeibler,
    "itakura_saito": ItakuraSaito,
}


def as_cost(cost: Any) -> AbstractCost:
    """A cost from its name, a function of (x_i, y_k) or itself."""
    if isinstance(cost, AbstractCost):
        return cost
    if isinstance(cost, str) and cost in NAMES:
        return NAMES[cost]()
    if cost == "mahalanobis":
        raise ValueError(
            'Clustering: `cost="mahalanobis"` needs a matrix; pass '
            "`cost=mepjax.costs.Mahalanobis(matrix)`."
        )
    if isinstance(cost, type):
        raise TypeError(
            f"Clustering: `cost` must be an instance, such as {cost.__name__}(...); got the class."
        )
    if callable(cost):
        return CostFunction(cost)
    names = ", ".join(f'"{name}"' for name in NAMES)
    raise ValueError(
        f"Clustering: `cost` must be one of {names}, an instance of a class in mepjax.costs or a "
        f"function of (x_i, y_k); got {cost!r}."
    )
