"""Costs whose weighted sums are smallest at the weighted mean."""

import abc

import lineax as lx
from jaxtyping import Array, Float

from .base import AbstractCost
from .entities import Entities, masses, safe_masses, weighted_means


class MeanCost(AbstractCost):
    """A Bregman divergence with the centre in its second place: the M-step is the mean.

    At the mean, where alone it matters, the Hessian of a weighted sum depends on the weights
    through their total only, so the metric needs no pass over the data.
    """

    @property
    def never_negative(self) -> bool:
        """True: costs are zero or more for all pairs."""
        return True

    @property
    def convex(self) -> bool:
        """The mean is the only minimiser."""
        return True

    @property
    def exact_step(self) -> bool:
        """True: the minimisers have a closed form."""
        return True

    def step(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The weighted means; a centre without mass stays."""
        return weighted_means(entities, y)

    @abc.abstractmethod
    def metric_of(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """blockdiag(m_k Hess_y d(x, y)) at x = y_k."""

    @abc.abstractmethod
    def solve_metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric_of`."""

    def metric(self, entities: Entities, y: Float[Array, "k d"]) -> lx.AbstractLinearOperator:
        """`metric_of` the masses that entities give."""
        return self.metric_of(safe_masses(entities.sum(masses)), y)

    def precondition(
        self, entities: Entities, y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """`solve_metric` with the masses."""
        return self.solve_metric(safe_masses(entities.sum(masses)), y, vector)
