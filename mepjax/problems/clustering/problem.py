"""Autonomy-aware clustering with a known autonomy model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..._core import gibbs, trees
from ..._core.codes import Code, as_code
from ..._core.distances import DIFFERENCE_FORM_LIMIT
from ..._core.params import Params, split_params
from ..._core.types import Scalar
from ...engine.problem import Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...exec.sources import Rows
from ..capacity.prices import Totals, totals_in_blocks
from ..costs.entities import WeightedEntities, live, masses, safe_masses
from ..costs.mean import MeanCost
from ..costs.quadratic import SquaredEuclidean
from ..mean_spectrum import divergence_of, mean_spectrum
from . import on_disk
from .associations import Associations
from .growth import slot_spectrum
from .hard import Evaluation, HardClustering, evaluate
from .prices import eliminated, price_slope
from .transport import assign


class Clustering(Associations):
    """K centres for N weighted entities that may override their prescribed cluster.

    Minimises sum_i weights_i sum_j mu(j|i) sum_k p(k|j,i) d(x_i, y_k) over assignments mu and
    centres y, through the free energy -(1/beta) sum_i weights_i log sum_j exp(-beta d_avg(i,j))
    with d_avg(i, j) = sum_k p(k|j,i) d(x_i, y_k). params is the array of centres, shape (K, d);
    with a capacity it is a `Params`, whose primal are the centres and whose dual the prices, and
    `.centres(params)` reads the centres of either.

    **Arguments:**

    - `x`: entities, shape (N, d), in any units; those are the units of the centres.
    - `k`: number of clusters K; it may exceed N.
    - `weights`: relative importance, shape (N,), >= 0; normalised to sum one. Default equal.
    - `cost`: an instance from `mepjax.costs`, one of their names such as `"sqeuclidean"` (default),
        `"euclidean"`, `"manhattan"`, `"cosine"` or `"haversine"`, or a smooth function of one
        entity and one centre.
    - `autonomy`: a model from `mepjax.autonomy`, a function of (x_i, Y) or `None`.
    - `stationarity`: `"exact"` differentiates through an autonomy that depends on the centres;
        `"frozen"` holds it fixed in each update, as printed in the paper (not a minimiser of F).
        The same where the autonomy does not depend on the centres.
    - `capacity`: share of the weight that may be told to join each cluster, shape (K,). A bare
        array is an upper bound with a sum of at least 1; `Equal(array)`, whose sum is 1, has to
        be met exactly; +inf is no limit and 0 closes a cluster. It limits what is prescribed,
        sum_i weights_i mu(j|i), also where overrides then lead elsewhere.

    A capacity holds for the soft policy at every beta: being told to join cluster j costs
    d_avg(i, j) + price_j, F is -(1/beta) sum_i weights_i log sum_j exp(-beta (d_avg(i, j) +
    price_j)) - sum_j capacity_j price_j, and the prices maximise it at fixed centres. What is told
    may miss a capacity by 10 sqrt(eps) of the smallest one (0.35 % in float32, 1.5e-7 in float64);
    else the code is INFEASIBLE. There is then no growth and no repair.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected. Values that are traced become a result code instead.

    Source: autonomy-aware clustering, problem (P2), equations (1) to (4), Algorithms 1 and 3;
    capacities as in parameterized sequential decision making, chapter 2, as bounds or equalities.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> problem = mj.Clustering(x, k=2, autonomy=mj.autonomy.Uniform(0.1))
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(f"{problem.harden(sol.params).cost:.3f}")
    0.370

    ```

    Half of the entities each, although three of them are near each other:

    ```python
    >>> x = jnp.array([[0.0], [0.2], [0.4], [3.0]])
    >>> problem = mj.Clustering(x, k=2, capacity=mj.Equal(jnp.array([0.5, 0.5])))
    >>> sol = mj.anneal(problem, mj.Geometric(0.1, 100.0, 1.2), key=jax.random.key(0))
    >>> print(jnp.sort(sol.params.primal[:, 0]).round(3))
    [0.1 1.7]
    >>> print(jnp.bincount(problem.harden(sol.params, capacities="assign").assignments))
    [2 2]

    ```
    """

    __init__ = Associations.__init__

    def init(self, key: Any) -> Any:
        """The M-step at the uniform policy: one point for all, unless p differs by entity.

        With a capacity at the policy closest to uniform that meets it; prices are zero.
        """
        exchangeable = self.autonomy.exchangeable
        if isinstance(self.x, Rows) and isinstance(self.cost, MeanCost) and exchangeable:
            # The mean, which was measured.
            return self.at(jnp.broadcast_to(self.origin, (self.k, self.x.shape[1])))
        point = self.cost.minimise(self._together())
        coincident = jnp.broadcast_to(point, (self.k, self.x.shape[1])) + self.origin
        if exchangeable:
            return self.at(coincident)
        if self.executor.in_blocks:
            # The Gibbs policy at beta = 0 is the uniform one.
            entities, _ = self._weighted(coincident, 0.0)
            return self.at(self.cost.minimise(entities) + self.origin)
        x, shares = self._centred(), self._shares()
        kernel, _ = self._parts(coincident)
        policy = jnp.full((self.x.shape[0], self.k), 1 / self.k, self.x.dtype)
        if self.capacity is not None:
            policy = jnp.broadcast_to(self.capacity.told_at_zero(), policy.shape)
        weights = self._weights_for(kernel, policy, shares)
        return self.at(self.cost.minimise(WeightedEntities(weights, x)) + self.origin)

    def other_ways(self) -> tuple[tuple[str, "Clustering"], ...]:
        """The frozen problem, where that is another."""
        if not self._follows_centres:
            return ()
        frozen = object.__new__(Clustering)
        for field in dataclasses.fields(self):
            object.__setattr__(frozen, field.name, getattr(self, field.name))
        object.__setattr__(frozen, "stationarity", "frozen")
        return (("frozen", frozen),)

    def gauge(self, params: Any) -> Any:
        """A constant added to all prices, where every capacity is met exactly."""
        if self.capacity is None:
            return None
        rows = self.capacity.gauge()
        return Params(jnp.zeros((1, self.k, self.x.shape[1]), self.x.dtype), rows)

    def free_energy(self, params: Any, beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum_j exp(-beta d_avg(i, j)).

        With a capacity costs include prices, and what all capacity costs is taken off.
        """
        centres, prices = split_params(params)
        if self._in_blocks:
            energy = self._sums(prices).free_energy(centres, beta)
        else:
            costs = self._charged(self.average_distances(params), params)
            energy = gibbs.free_energy(costs, self._shares(), beta)
        if self.capacity is None or prices is None:
            return energy
        return energy - self.capacity.worth(prices)

    def update(self, params: Any, beta: Scalar) -> Any:
        """Equations (1) and (2); a preconditioned gradient step where p moves with the centres.

        With a capacity followed by the prices that suit the new centres.
        """
        centres, prices = split_params(params)
        if prices is not None:
            return self.eliminate(Params(self._moved(params, beta), prices), beta)
        return self._moved(params, beta)

    def _moved(self, params: Any, beta: Scalar) -> Float[Array, "k d"]:
        """New centres, at the same prices."""
        centres, prices = split_params(params)
        if self._follows_centres:
            slope, _ = split_params(jax.grad(self.free_energy)(params, beta))
            return trees.subtract(centres, self.precondition(params, beta, slope))
        if self.is_soft_means:
            return self.soft_means(prices).update(centres, beta)
        # Frozen: weights are transposed at fixed p, though p itself follows the centres.
        entities, y = self._weighted(params, beta)
        return self.cost.step(entities, y) + jax.lax.stop_gradient(self.origin)

    def eliminate(self, params: Any, beta: Scalar) -> Any:
        """The prices at which what is told to join each cluster is its capacity, there."""
        centres, prices = split_params(params)
        if self.capacity is None or prices is None:
            return params
        totals = trees.stop_gradient(self)._totals(jax.lax.stop_gradient(centres), beta)
        return eliminated(self, totals, params, beta)

    def _totals(self, centres: Float[Array, "k d"], beta: Scalar) -> Callable[[Array], Totals]:
        """Sums over the data at these centres, as a function of what is added to the costs."""
        if self._in_blocks:
            return lambda charges: self._charged_means(charges).totals(centres, beta)
        return totals_in_blocks(self.average_distances(centres), self._shares(), beta)

    def constraint_code(self, params: Any, beta: Scalar) -> Int[Array, ""]:
        """INFEASIBLE where prices miss a capacity, WEAKLY_ACTIVE at a tight one without price."""
        _, prices = split_params(params)
        if self.capacity is None or prices is None:
            return as_code(Code.OK)
        return self.capacity.constraint_code(prices, price_slope(self, params, beta), beta)

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F, or the fixed-point equation for frozen stationarity and costs with kinks.

        For capacities, what is told less the limit, or -beta price below a bound.
        """
        return self._equation_and_masses(params, beta)[0]

    def residual_and_metric(self, params: Any, beta: Scalar) -> tuple[Any, Any]:
        """In one pass for soft means."""
        if not self.is_soft_means:
            return super().residual_and_metric(params, beta)
        equation, received = self._equation_and_masses(params, beta)
        return equation, self._metric_of(received, params)

    def _equation_and_masses(self, params: Any, beta: Scalar) -> tuple[Any, Float[Array, " k"]]:
        """The residual, and what clusters receive."""
        centres, prices = split_params(params)
        gap = None
        if self.is_soft_means:
            equation, received = self.soft_means(prices).slope_and_masses(centres, beta)
        else:
            entities, y = self._weighted(params, beta)
            received = entities.sum(masses)
            if not self.smooth:
                equation = centres - self._moved(params, beta)
            elif self.variational:
                equation, gap = split_params(super().residual(params, beta))
            else:
                equation = self.metric(params, beta).mv(centres - self._moved(params, beta))
            gauge = self.cost.gauge_equation(entities, y)
            if gauge is not None:
                equation = equation + gauge
        # A cluster without mass is undetermined: it stays, and carries no derivative.
        stays = centres - jax.lax.stop_gradient(centres)
        equation = jnp.where(live(received)[:, None], equation, stays)
        if self.capacity is None or prices is None:
            return equation, received
        gap = price_slope(self, params, beta) if gap is None else gap
        return Params(equation, self.capacity.condition(prices, gap, beta)), received

    def metric(self, params: Any, beta: Scalar) -> Any:
        """As the cost says: positive definite, the Hessian as beta -> 0."""
        if self.is_soft_means:
            return self._metric_of(self.masses(params, beta), params)
        return self.cost.metric(*self._weighted(params, beta))

    def precondition(
        self, params: Any, beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`, cluster by cluster."""
        if self.is_soft_means:
            received = safe_masses(self.masses(params, beta))
            assert isinstance(self.cost, MeanCost)
            return self.cost.solve_metric(received, self._relative(params), vector)
        return self.cost.precondition(*self._weighted(params, beta), vector)

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """F, and expected cost and entropy of the Gibbs policy; one pass without a capacity."""
        centres, prices = split_params(params)
        if self.capacity is None or prices is None:
            if self._in_blocks:
                return Terms(*self._sums(None).energy_and_terms(centres, beta))
            costs = self.average_distances(params)
            return Terms(*gibbs.free_energy_and_terms(costs, self._shares(), beta))
        energy = self.free_energy(params, beta)
        if self._in_blocks:
            distortion, entropy, told = self.soft_means(prices).priced_terms(centres, beta)
        else:
            costs, shares = self.average_distances(params), self._shares()
            charged = self._charged(costs, params)
            _, entropy = gibbs.distortion_and_entropy(charged, shares, beta)
            weights = shares[:, None] * gibbs.policy(charged, beta)
            distortion, told = jnp.sum(weights * costs), jnp.sum(weights, axis=0)
        return Terms(energy, distortion, entropy, self.capacity.gap(told))

    def harden(self, params: Any, *, capacities: str = "ignore") -> HardClustering:
        """The best prescription of each entity and what it costs.

        **Arguments:**

        - `params`: as in `init`, or centres alone.
        - `capacities`: `"ignore"` prescribes argmin_j d_avg(i, j), of the clusters that are not
            closed, and tells by how much that misses the capacities. `"assign"` finds the
            cheapest prescription of whole entities that meets them, by an exact transport on the
            host (not inside `jit`).

        With `"assign"` and N entities of equal weight (others of weight zero do not count) a
        bound w admits floor(N w) of them and an equality asks for as many; the largest
        remainders are rounded up until the sizes have room for all. With other weights the
        cheapest transport may split entities, as a rule at most K - 1 of them; each then goes
        whole where its largest part went, so that sizes differ from the capacities by no more
        than the weight of these, and `excess` tells by how much.

        **Returns:** a `HardClustering`; of points on disk without assignments, see `harden_to`.

        **Raises:** with `"assign"`: `TypeError` for traced values.
        """
        if capacities not in ("ignore", "assign"):
            raise ValueError(
                f"Clustering: `capacities` must be 'ignore' or 'assign'; got {capacities!r}."
            )
        if isinstance(self.x, Rows):
            return on_disk.hardened(self, params, capacities)
        centres, prices = split_params(params)
        if self.capacity is not None and capacities == "assign":
            costs = self.average_distances(params)
            assignments = assign(costs, self.weights, self.capacity, prices)
            paid = jnp.take_along_axis(costs, assignments[:, None], axis=1)[:, 0]
        elif self._in_blocks:
            assignments, paid = self.entity_sums().harden(centres)
        else:
            assignments, paid = self.least_costs(centres)
        shares = self._shares()
        excess = None
        if self.capacity is not None:
            told = jnp.zeros((self.k,), shares.dtype).at[assignments].add(shares)
            excess = self.capacity.excess(told)
        return HardClustering(assignments, jnp.sum(shares * paid), excess)

    def least_costs(
        self, centres: Float[Array, "k d"]
    ) -> tuple[Int[Array, " n"], Float[Array, " n"]]:
        """Of the clusters that are not closed, argmin_j d_avg(i, j) and its value."""
        costs = self.average_distances(centres)
        if self.capacity is not None:
            costs = jnp.where(self.capacity.limit == 0, jnp.inf, costs)
        return jnp.argmin(costs, axis=1).astype(jnp.int32), jnp.min(costs, axis=1)

    def params_scale(self, params: Any) -> Any:
        """Total standard deviation of the data, as the cost sees them; 1 for constant data.

        For prices the mean cost of one cluster.
        """
        spread, (centres, prices) = jax.lax.stop_gradient(self.spread), split_params(params)
        if prices is None:
            return spread
        if isinstance(self.x, Rows):
            mean = on_disk.mean_cost(self.x, jax.lax.stop_gradient(centres[0]))
        else:
            distances = self.cost.pairwise(self._centred(), centres[:1] - self.origin)[:, 0]
            mean = jax.lax.stop_gradient(self._shares() @ distances)
        return Params(spread, jnp.where(mean > 0, mean, 1.0))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition without autonomy; 1 for constant data.

        1 / lambda_max(H^-1/2 Cov(grad_y d) H^-1/2) at the minimiser y of sum_i weights_i d(x_i, y),
        with H its Hessian; for squared Euclidean 1 / (2 lambda_max(Cov(x))).
        """
        still = trees.stop_gradient(self)
        if isinstance(self.x, Rows) and isinstance(self.cost, SquaredEuclidean):
            return on_disk.first_transition(self.x)
        if self.executor.in_blocks and self.smooth:
            return still.cost.first_transition_in_sums(still._together())
        return still.cost.first_transition(still._centred(), still._shares())

    def rounding_betas(self, scale: Float[Array, ""]) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Squares of differences, of few features, are exact to their own size."""
        costs, places = super().rounding_betas(scale)
        if not isinstance(self.x, Rows):  # one place? By extremes: x == x[0] would be kept
            places = jnp.where(jnp.all(jnp.max(self.x, 0) == jnp.min(self.x, 0)), 0.0, places)
        if self.x.shape[1] > DIFFERENCE_FORM_LIMIT:
            return costs / 32, jnp.minimum(costs / 32, places)
        return places if isinstance(self.cost, SquaredEuclidean) else costs, places

    def slot_spectrum(self, params: Float[Array, "k d"], beta: Scalar) -> SlotSpectrum:
        """When each cluster splits, and what each is worth; needs `has_slot_spectrum`."""
        if isinstance(self.cost, SquaredEuclidean):
            return slot_spectrum(self.soft_means(None), params, beta)
        cost, x, shares = self.cost, self._centred(), self._shares()
        assert isinstance(cost, MeanCost)
        y = self._relative(params)
        told = shares[:, None] * gibbs.policy(cost.pairwise(x, y), beta)
        found = mean_spectrum(divergence_of(cost, x), y, told, shares, beta)
        places = (found.first + self.origin, found.second + self.origin)
        return eqx.tree_at(lambda spectrum: (spectrum.first, spectrum.second), found, places)

    def evaluate(self, params: Any, *, beta: Any = None, autonomy: Any = None) -> Evaluation:
        """What given centres cost, under this problem's autonomy or another.

        `aware.evaluate(ignorant_solution.params).cost` against `aware.harden(solution.params)`
        is what ignoring autonomy costs.

        **Arguments:**

        - `params`: centres, shape (K, d), or params of a solution; prices are left out.
        - `beta`: also give the soft distortion and entropy at this beta.
        - `autonomy`: evaluate under this model instead; `mepjax.autonomy.NoAutonomy()` for none.

        **Example:**

        ```python
        >>> import jax.numpy as jnp, mepjax as mj
        >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
        >>> centres = jnp.array([[-1.0], [1.0]])
        >>> result = problem.evaluate(centres, autonomy=mj.autonomy.Uniform(0.1))
        >>> print(f"{result.cost:.2f}", result.n_used)
        0.40 2

        ```
        """
        return evaluate(self, params, beta, autonomy)
