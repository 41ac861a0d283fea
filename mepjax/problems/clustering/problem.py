"""Autonomy-aware clustering with a known autonomy model."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import arrays, checks, gibbs, sampling, trees
from ..._core.codes import Code, as_code
from ..._core.params import Params, primal_of, split_params
from ..._core.types import Scalar
from ...engine.problem import Constrained, Continuation, Growable, Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...exec.base import AbstractExecutor
from ...exec.in_memory import InMemory
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ..autonomy.base import AbstractAutonomy, NoAutonomy
from ..autonomy.fixed import Uniform
from ..autonomy.function import as_autonomy
from ..capacity.prices import (
    ClusterCapacity,
    Totals,
    as_cluster_capacity,
    totals_in_blocks,
)
from ..costs.base import AbstractCost
from ..costs.entities import Entities, WeightedEntities, live, masses, safe_masses
from ..costs.mean import MeanCost
from ..costs.names import as_cost
from ..costs.quadratic import SquaredEuclidean
from ..mean_spectrum import divergence_of, mean_spectrum
from ..per_entity import placed
from .hard import Evaluation, HardClustering, evaluate
from .prices import eliminated, price_slope
from .soft_means import SoftMeans
from .sums import BlockedEntities, EntitySums
from .transport import assign

_STATIONARITY = ("exact", "frozen")


class Clustering(Growable, Constrained):
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

    x: Float[Array, "n d"]
    weights: Float[Array, " n"]
    autonomy: AbstractAutonomy
    cost: AbstractCost
    capacity: ClusterCapacity | None
    # A constant near the data, subtracted inside every computation; zero where the cost needs
    # to know where the origin is.
    origin: Float[Array, " d"]
    # The size of the data, with which errors and steps are compared; a constant too.
    spread: Float[Array, ""]
    executor: AbstractExecutor
    k: int = eqx.field(static=True)
    stationarity: str = eqx.field(static=True)

    def __init__(
        self,
        x: Any,
        k: int,
        *,
        weights: Any = None,
        cost: Any = "sqeuclidean",
        autonomy: Any = None,
        stationarity: str = "exact",
        capacity: Any = None,
    ) -> None:
        owner = "Clustering"
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise TypeError(f"{owner}: `k` must be an int; got {type(k).__name__} {k!r}.")
        if k < 1:
            raise ValueError(f"{owner}: `k` must be at least 1; got {k}.")
        if stationarity not in _STATIONARITY:
            raise ValueError(
                f"{owner}: `stationarity` must be one of {_STATIONARITY}; got {stationarity!r}."
            )
        self.k = int(k)
        self.stationarity = stationarity
        self.executor = InMemory()
        self.x = arrays.as_float_array("x", x)
        if self.x.ndim != 2:
            raise ValueError(
                f"{owner}: `x` must be 2-D, (entities, features); got shape {self.x.shape}."
            )
        n, d = self.x.shape
        if n == 0 or d == 0:
            raise ValueError(f"{owner}: `x` must not be empty; got shape {self.x.shape}.")
        dtype = self.x.dtype
        if weights is None:
            weights = np.ones(n, dtype)
        elif not isinstance(weights, jax.Array | np.ndarray):
            weights = np.asarray(weights, dtype)  # a list has no precision of its own
        self.weights = arrays.as_float_array("weights", weights, dtype)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{owner}: `weights` must have shape ({n},) for {n} entities; "
                f"got {self.weights.shape}."
            )
        self.cost = arrays.cast_floats(as_cost(cost), dtype)
        self.autonomy = arrays.cast_floats(as_autonomy(autonomy) or NoAutonomy(), dtype)
        self.capacity = as_cluster_capacity(owner, capacity, self.k, dtype)
        if not self.cost.smooth and self._follows_centres:
            raise ValueError(
                f"{owner}: `cost` {type(self.cost).__name__} has no derivatives to follow an "
                'autonomy that depends on the centres; use `stationarity="frozen"` or a smooth '
                "cost such as mepjax.costs.Euclidean()."
            )
        checks.enforce(self.checks())
        self.cost = self.cost.for_data(self.x, self.weights)
        self.origin, self.spread = self._measured(x if checks.is_concrete(x) else self.x)

    def _measured(self, raw: Any) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Origin and spread as constants; on the host where that is possible, the mean in float64.

        There nothing is compiled for them.
        """
        host, dtype = checks.is_concrete(raw, self.weights), self.x.dtype
        xp, wide = (np, np.float64) if host else (jnp, dtype)
        weights = xp.asarray(self.weights, wide)
        shares = weights / xp.sum(weights)
        origin = np.zeros(self.x.shape[1], dtype)
        if self.cost.translation_invariant:
            origin = (shares @ xp.asarray(raw, wide)).astype(dtype)
        spread = self.cost.spread(xp.asarray(self.x) - origin, shares.astype(dtype))
        return jax.lax.stop_gradient((jnp.asarray(origin), jnp.asarray(spread, dtype)))

    def replace(self, **fields: Any) -> "Clustering":
        """The same clustering with other arguments of its construction, by name.

        Origin, spread and the constants that the cost takes from the data are measured again.
        """
        capacity = None if self.capacity is None else self.capacity.given
        now = {
            "x": self.x, "k": self.k, "weights": self.weights, "cost": self.cost.as_given(),
            "autonomy": self.autonomy, "stationarity": self.stationarity, "capacity": capacity,
        }  # fmt: skip
        self._only_fields(fields, set(now))
        return Clustering(**(now | fields)).on(self.executor)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, usable weights, valid cost and autonomy."""
        owner = "Clustering"
        n, d = self.x.shape
        return (
            checks.check_finite(owner, "x", self.x),
            *checks.check_weights(owner, "weights", self.weights),
            *self.cost.check(d),
            *self.cost.check_data(self.x),
            *self.autonomy.check(n, self.k),
            *(() if self.capacity is None else self.capacity.checks(owner)),
        )

    # What the problem is.

    @property
    def variational(self) -> bool:
        """False for frozen stationarity of an autonomy that depends on the centres."""
        return self.stationarity == "exact" or not self.autonomy.depends_on_centres

    @property
    def smooth(self) -> bool:
        """Whether the cost has derivatives wherever centres may stand."""
        return self.cost.smooth

    @property
    def convex_at_zero(self) -> bool:
        """Where the cost is convex in a centre and the autonomy leaves one minimum."""
        return self.cost.convex and self.autonomy.convex_at_zero

    @property
    def exchangeable(self) -> bool:
        """Unless the autonomy or a capacity tells clusters apart."""
        return self.autonomy.exchangeable and self.capacity is None

    @property
    def n_slots(self) -> int:
        """K."""
        return self.k

    @property
    def continuation(self) -> Continuation | None:
        """From a milder autonomy, where there is a start that is unique."""
        stages = self.autonomy.relaxation_stages
        return Continuation(self.relaxed, stages) if stages else None

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the paper on autonomy; with capacities the thesis too."""
        works = (*super().references, "autonomy_aware_clustering")
        return works if self.capacity is None else (*works, "parameterised_decisions")

    def relaxed(self, s: Float[Array, ""]) -> "Clustering":
        """The same problem with a milder autonomy."""
        easier = self.autonomy.relaxed(s, self._centred(), self._shares(), self.k, self.cost)
        return eqx.tree_at(lambda problem: problem.autonomy, self, easier)

    def _centred(self) -> Float[Array, "n d"]:
        return self.x - jax.lax.stop_gradient(self.origin)

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

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

    @property
    def _follows_centres(self) -> bool:
        """Whether derivatives go through an autonomy that moves with the centres."""
        return self.autonomy.depends_on_centres and self.stationarity == "exact"

    # The contract.

    def init(self, key: Any) -> Any:
        """The M-step at the uniform policy: one point for all, unless p differs by entity.

        With a capacity at the policy closest to uniform that meets it; prices are zero.
        """
        point = self.cost.minimise(self._together())
        coincident = jnp.broadcast_to(point, (self.k, self.x.shape[1])) + self.origin
        if self.autonomy.exchangeable:
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

    @property
    def scatters(self) -> bool:
        """Starts are entities."""
        return True

    def other_ways(self) -> tuple[tuple[str, "Clustering"], ...]:
        """The frozen problem, where that is another."""
        if not self._follows_centres:
            return ()
        frozen = object.__new__(Clustering)
        for field in dataclasses.fields(self):
            object.__setattr__(frozen, field.name, getattr(self, field.name))
        object.__setattr__(frozen, "stationarity", "frozen")
        return (("frozen", frozen),)

    def scatter(self, key: Any) -> Any:
        """Centres on K places of entities drawn by weight, all different where there are as many.

        The start where nothing is annealed: `anneal(problem, Explicit([beta]),
        init=problem.scatter(key), repair=Repair(), ...)`.
        """
        line, draws = jax.random.split(key)
        # Rows are lined up along a random direction: what is drawn depends on the weights alone.
        direction = jax.random.normal(line, self.origin.shape, self.x.dtype)
        along = jnp.sum((self.x - self.origin) * direction, axis=1)
        along, shares = self.executor.everywhere((along, self._shares()))
        rows = sampling.different(draws, along, shares, self.k)
        return self.at(self.x[rows])

    def at(self, values: Any) -> Any:
        """Params with centres at given places, shape (K, d), and prices zero."""
        if self.capacity is None:
            return values
        values = arrays.as_float_array("centres", values, self.x.dtype)
        if values.shape != (self.k, self.x.shape[1]):
            raise ValueError(
                f"Clustering: `centres` must have shape ({self.k}, {self.x.shape[1]}); "
                f"got {values.shape}."
            )
        return Params(values, jnp.zeros((self.k,), values.dtype))

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
        if self._is_soft_means:
            return self._soft_means(prices).update(centres, beta)
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

    @property
    def _is_soft_means(self) -> bool:
        """Whether the policy is a softmax of squared distances: no autonomy or uniform one."""
        simple = isinstance(self.autonomy, NoAutonomy | Uniform)
        return simple and isinstance(self.cost, SquaredEuclidean)

    @property
    def has_slot_spectrum(self) -> bool:
        """For Bregman costs, no capacity, and clusters that may be relabelled.

        Exact without autonomy, for squares with uniform one too; else an estimate without
        overrides. Costs other than squares are seen in memory only.
        """
        squares = isinstance(self.cost, SquaredEuclidean)
        means = isinstance(self.cost, MeanCost) and not self.executor.in_blocks
        return (squares or means) and self.autonomy.exchangeable and self.capacity is None

    @property
    def _in_blocks(self) -> bool:
        """Whether sums over the data go block by block."""
        return self._is_soft_means or self.executor.in_blocks

    def _sums(self, prices: Float[Array, " k"] | None) -> SoftMeans | EntitySums:
        """What computes sums over the data block by block."""
        if self._is_soft_means:
            return self._soft_means(prices)
        return EntitySums(self.on(InMemory()), self.executor)

    def _soft_means(self, prices: Float[Array, " k"] | None) -> SoftMeans:
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
            sums = EntitySums(self.on(InMemory()), self.executor)
            entities = BlockedEntities(sums, params, jnp.asarray(beta, self.x.dtype))
        else:
            weights = self.association_weights(params, beta)
            entities = WeightedEntities(weights, self.x - origin)
        return entities, self._relative(params)

    def _together(self) -> Entities:
        """All entities in one cluster, by their shares."""
        if self.executor.in_blocks:
            sums = EntitySums(self.on(InMemory()), self.executor)
            return BlockedEntities(sums, None, jnp.zeros((), self.x.dtype))
        return WeightedEntities(self._shares()[:, None], self._centred())

    def centres(self, params: Any) -> Float[Array, "k d"]:
        """The centres in params, with prices or without."""
        return primal_of(params)

    def _relative(self, params: Any) -> Float[Array, "k d"]:
        return primal_of(params) - jax.lax.stop_gradient(self.origin)

    def _metric_of(self, masses: Float[Array, " k"], params: Any) -> Any:
        """The metric where it depends on the masses alone."""
        assert isinstance(self.cost, MeanCost)
        return self.cost.metric_of(safe_masses(masses), self._relative(params))

    def _masses(self, params: Any, beta: Scalar) -> Float[Array, " k"]:
        """What clusters receive, of soft means."""
        centres, prices = split_params(params)
        return self._soft_means(prices).received(centres, beta)[1]

    def residual(self, params: Any, beta: Scalar) -> Any:
        """grad F, or the fixed-point equation for frozen stationarity and costs with kinks.

        For capacities, what is told less the limit, or -beta price below a bound.
        """
        return self._equation_and_masses(params, beta)[0]

    def residual_and_metric(self, params: Any, beta: Scalar) -> tuple[Any, Any]:
        """In one pass for soft means."""
        if not self._is_soft_means:
            return super().residual_and_metric(params, beta)
        equation, received = self._equation_and_masses(params, beta)
        return equation, self._metric_of(received, params)

    def _equation_and_masses(self, params: Any, beta: Scalar) -> tuple[Any, Float[Array, " k"]]:
        """The residual, and what clusters receive."""
        centres, prices = split_params(params)
        gap = None
        if self._is_soft_means:
            equation, received = self._soft_means(prices).slope_and_masses(centres, beta)
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
        if self._is_soft_means:
            return self._metric_of(self._masses(params, beta), params)
        return self.cost.metric(*self._weighted(params, beta))

    def precondition(
        self, params: Any, beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`, cluster by cluster."""
        if self._is_soft_means:
            received = safe_masses(self._masses(params, beta))
            assert isinstance(self.cost, MeanCost)
            return self.cost.solve_metric(received, self._relative(params), vector)
        return self.cost.precondition(*self._weighted(params, beta), vector)

    def policy(self, params: Any, beta: Scalar) -> Float[Array, "n k"]:
        """log pi(j|i) = log softmax_j(-beta d_avg(i, j)), equation (1), prices included."""
        costs = self._charged(self.average_distances(params), params)
        found = gibbs.log_policy(costs, beta)
        _, prices = split_params(params)
        if self.capacity is None or prices is None:
            return found
        return jnp.where(self.capacity.limit == 0, -jnp.inf, found)

    def terms(self, params: Any, beta: Scalar) -> Terms:
        """Expected cost and entropy of the Gibbs policy."""
        centres, prices = split_params(params)
        if self.capacity is None or prices is None:
            return self.free_energy_and_terms(params, beta)[1]
        if self._in_blocks:
            distortion, entropy, told = self._soft_means(prices).priced_terms(centres, beta)
        else:
            costs, shares = self.average_distances(params), self._shares()
            charged = self._charged(costs, params)
            _, entropy = gibbs.distortion_and_entropy(charged, shares, beta)
            weights = shares[:, None] * gibbs.policy(charged, beta)
            distortion, told = jnp.sum(weights * costs), jnp.sum(weights, axis=0)
        return Terms(distortion, entropy, self.capacity.gap(told))

    def free_energy_and_terms(self, params: Any, beta: Scalar) -> tuple[Float[Array, ""], Terms]:
        """In one pass without a capacity."""
        centres, prices = split_params(params)
        if self.capacity is not None and prices is not None:
            return super().free_energy_and_terms(params, beta)
        if self._in_blocks:
            energy, *terms = self._sums(None).energy_and_terms(centres, beta)
        else:
            costs = self.average_distances(params)
            energy, *terms = gibbs.free_energy_and_terms(costs, self._shares(), beta)
        return energy, Terms(*terms)

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

        **Returns:** a `HardClustering`.

        **Raises:** with `"assign"`: `TypeError` for traced values.
        """
        if capacities not in ("ignore", "assign"):
            raise ValueError(
                f"Clustering: `capacities` must be 'ignore' or 'assign'; got {capacities!r}."
            )
        centres, prices = split_params(params)
        if self.capacity is not None and capacities == "assign":
            costs = self.average_distances(params)
            assignments = assign(costs, self.weights, self.capacity, prices)
            paid = jnp.take_along_axis(costs, assignments[:, None], axis=1)[:, 0]
        elif self._in_blocks:
            assignments, paid = EntitySums(self.on(InMemory()), self.executor).harden(centres)
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
        spread = jax.lax.stop_gradient(self.spread)
        centres, prices = split_params(params)
        if prices is None:
            return spread
        origin = self.origin
        distances = self.cost.pairwise(self._centred(), centres[:1] - origin)[:, 0]
        mean = jax.lax.stop_gradient(self._shares() @ distances)
        return Params(spread, jnp.where(mean > 0, mean, 1.0))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition without autonomy; 1 for constant data.

        1 / lambda_max(H^-1/2 Cov(grad_y d) H^-1/2) at the minimiser y of sum_i weights_i d(x_i, y),
        with H its Hessian; for squared Euclidean 1 / (2 lambda_max(Cov(x))).
        """
        still = trees.stop_gradient(self)
        if self.executor.in_blocks and self.smooth:
            return still.cost.first_transition_in_sums(still._together())
        return still.cost.first_transition(still._centred(), still._shares())

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` where the alternation never raises F (and for frozen), else `Armijo`."""
        if self._follows_centres:
            return Armijo()
        return FixedPoint()

    def on(self, executor: AbstractExecutor) -> "Clustering":
        """This problem with its sums over entities computed by `executor`.

        **Raises:** `TypeError` for `Streaming` and `Sharded` with a cost that has no derivatives,
        and with a capacity unless autonomy is none or uniform and the cost squared Euclidean;
        `ValueError` if the number of entities does not fit the executor.
        """
        if executor == self.executor:
            return self
        if executor.in_blocks and not self.smooth:
            raise TypeError(
                f"Clustering: with `executor` {type(executor).__name__}, `cost` must be one whose "
                f"centres are found by sums over entities; got {type(self.cost).__name__}, which "
                "sorts them and is computed in memory only."
            )
        if executor.in_blocks and self.capacity is not None and not self._is_soft_means:
            raise TypeError(
                f"Clustering: with `executor` {type(executor).__name__} and `capacity`, `autonomy` "
                "must be none or uniform and `cost` SquaredEuclidean; others are computed in "
                "memory only."
            )
        executor.check(self.x.shape[0])
        moved = eqx.tree_at(lambda problem: problem.executor, self, executor)
        if not executor.in_blocks:
            return moved
        return placed(moved, EntitySums(moved, executor).by_entity())

    # Growth.

    def slot_spectrum(self, params: Float[Array, "k d"], beta: Scalar) -> SlotSpectrum:
        """Where `has_slot_spectrum`."""
        if isinstance(self.cost, SquaredEuclidean):
            return self._soft_means(None).slot_spectrum(params, beta)
        cost, x, shares = self.cost, self._centred(), self._shares()
        assert isinstance(cost, MeanCost)
        y = self._relative(params)
        told = shares[:, None] * gibbs.policy(cost.pairwise(x, y), beta)
        found = mean_spectrum(divergence_of(cost, x), y, told, shares, beta)
        places = (found.first + self.origin, found.second + self.origin)
        return eqx.tree_at(lambda spectrum: (spectrum.first, spectrum.second), found, places)

    def subsample(self, key: Any, n: int) -> "Clustering":
        """`n` entities of equal weight, drawn in proportion to theirs; itself if it has no more.

        Systematic sampling: one draw from each of n strips of equal weight, in their order.
        """
        count = self.x.shape[0]
        if count <= n:
            return self
        places = sampling.systematic(key, self.executor.everywhere(self.weights), n)
        return eqx.tree_at(
            lambda p: (p.x, p.weights, p.autonomy),
            self.on(InMemory()),
            (self.x[places], jnp.ones((n,), self.x.dtype), self.autonomy.of_entities(places)),
        )

    # Beyond the contract.

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
