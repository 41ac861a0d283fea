"""What entities are told to join, and what clusters receive of them."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import gibbs
from ..._core.params import primal_of, split_params
from ..._core.types import Scalar
from ...exec.in_memory import InMemory
from ...exec.sources import Rows
from ..autonomy.fixed import Uniform
from ..costs.entities import Entities, WeightedEntities, safe_masses
from ..costs.mean import MeanCost
from .data import ClusteringData
from .soft_means import SoftMeans
from .sums import BlockedEntities, EntitySums


class Associations(ClusteringData):
    """Costs of being told to join each cluster, the policy, and sums over the data."""

    __init__ = ClusteringData.__init__

    def _parts(self, params: Any) -> tuple[Any, Float[Array, "n k"]]:
        """The autonomy's kernel and the distances; frozen stationarity holds the kernel fixed."""
        origin = jax.lax.stop_gradient(self.origin)
        x, y = self.x - origin, primal_of(params) - origin
        distances = self.cost.pairwise(x, y)
        return self.autonomy.kernel(x, y, origin, distances, self.cost), distances

    def distances(self, params: Any) -> Float[Array, "n k"]:
        """d(x_i, y_k)."""
        return self._parts(params)[1]

    def average_distances(self, params: Any) -> Float[Array, "n k"]:
        """d_avg(i, j) = sum_k p(k|j,i) d(x_i, y_k)."""
        return self.autonomy.average(*self._parts(params))

    def probabilities(self, params: Any) -> Float[Array, "n k k"]:
        """p(k|j,i) as an array [i, j, k], for inspection of small problems."""
        kernel, distances = self._parts(params)
        return self.autonomy.probabilities(kernel, *distances.shape, dtype=distances.dtype)

    def override_probabilities(
        self, params: Any, prescribed: Int[Array, " n"]
    ) -> Float[Array, "n k"]:
        """p(k|j_i, i) for one prescription of each entity.

        **Arguments:**

        - `params`: as in `init`, or centres alone.
        - `prescribed`: the cluster that each entity is told to join, shape (N,), in 0 .. K - 1.

        **Returns:** where each of them then goes, shape (N, K), in memory of that size whatever
        the autonomy.

        **Example:**

        ```python
        >>> import jax.numpy as jnp, mepjax as mj
        >>> strays = mj.autonomy.Uniform(0.2)
        >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 3, autonomy=strays)
        >>> print(problem.override_probabilities(jnp.zeros((3, 1)), jnp.array([0, 2])))
        [[0.8 0.1 0.1]
         [0.1 0.1 0.8]]

        ```
        """
        return self.autonomy.rows(*self._parts(params), prescribed)

    def _weights_for(
        self, kernel: Any, policy: Float[Array, "n k"], shares: Float[Array, " n"]
    ) -> Float[Array, "n k"]:
        """w_ik = shares_i sum_j policy_ij p(k|j,i): the transpose of the average."""
        _, transpose = jax.vjp(lambda d: self.autonomy.average(kernel, d), policy)
        return transpose(shares[:, None] * policy)[0]

    def association_weights(self, params: Any, beta: Scalar) -> Float[Array, "n k"]:
        """Share of entity i's weight that ends in cluster k, after overrides; sums to one."""
        return self.received_weights(params, beta, self._shares())

    def received_weights(
        self, params: Any, beta: Scalar, shares: Float[Array, " n"]
    ) -> Float[Array, "n k"]:
        """What of the share of entity i ends in cluster k, after overrides."""
        kernel, distances = self._parts(params)
        costs = self._charged(self.autonomy.average(kernel, distances), params)
        return self._weights_for(kernel, gibbs.policy(costs, beta), shares)

    def _charged(self, costs: Float[Array, "n k"], params: Any) -> Float[Array, "n k"]:
        """Costs of being told to join each cluster, prices included."""
        _, prices = split_params(params)
        if self.capacity is None or prices is None:
            return costs
        return costs + self.capacity.charges(prices)

    def _sums(self, prices: Float[Array, " k"] | None) -> SoftMeans | EntitySums:
        """What computes sums over the data block by block."""
        if self.is_soft_means:
            return self.soft_means(prices)
        return self.entity_sums()

    def entity_sums(self) -> EntitySums:
        """Sums over the entities with any autonomy and cost."""
        # Blocks of points on disk are in memory when they are seen.
        here = self if isinstance(self.x, Rows) else self.on(InMemory())
        return EntitySums(here, self.executor)

    def soft_means(self, prices: Float[Array, " k"] | None) -> SoftMeans:
        """This problem where its policy is a softmax of squared distances."""
        if self.capacity is None or prices is None:
            return self._charged_means(None)
        return self._charged_means(self.capacity.charges(prices))

    def _charged_means(self, charges: Float[Array, " k"] | None) -> SoftMeans:
        firmness, floor = jnp.ones((), self.x.dtype), None
        if isinstance(self.autonomy, Uniform) and self.k > 1:
            floor = self.autonomy.kappa / (self.k - 1)
            firmness = 1 - self.k * floor
        origin = jax.lax.stop_gradient(self.origin)
        return SoftMeans(self.x, self.weights, firmness, floor, origin, self.executor, charges)

    def _weighted(self, params: Any, beta: Scalar) -> tuple[Entities, Float[Array, "k d"]]:
        """Entities with their association weights, and centres, both relative to the origin."""
        origin = jax.lax.stop_gradient(self.origin)
        if self.executor.in_blocks:
            entities = BlockedEntities(self.entity_sums(), params, jnp.asarray(beta, self.x.dtype))
        else:
            weights = self.association_weights(params, beta)
            entities = WeightedEntities(weights, self.x - origin)
        return entities, self._relative(params)

    def _together(self) -> Entities:
        """All entities in one cluster, by their shares."""
        if self.executor.in_blocks:
            return BlockedEntities(self.entity_sums(), None, jnp.zeros((), self.x.dtype))
        return WeightedEntities(self._shares()[:, None], self._centred())

    def _metric_of(self, masses: Float[Array, " k"], params: Any) -> Any:
        """The metric where it depends on the masses alone."""
        assert isinstance(self.cost, MeanCost)
        return self.cost.metric_of(safe_masses(masses), self._relative(params))

    def masses(self, params: Any, beta: Scalar) -> Float[Array, " k"]:
        """What clusters receive, of soft means."""
        centres, prices = split_params(params)
        return self.soft_means(prices).received(centres, beta)[1]

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "n k"]:
        """log pi(j|i) = log softmax_j(-beta d_avg(i, j)), equation (1), prices included."""
        costs = self._charged(self.average_distances(params), params)
        found = gibbs.log_policy(costs, beta)
        _, prices = split_params(params)
        if self.capacity is None or prices is None:
            return found
        return jnp.where(self.capacity.limit == 0, -jnp.inf, found)
