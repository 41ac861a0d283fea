"""Clustering that pays for what its groups compute with: the problem."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..._core import arrays, checks, gibbs, sampling, trees
from ..._core.types import Scalar
from ...engine.problem import Growable, Terms
from ...engine.slot_spectrum import SlotSpectrum
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.equation import FreeEnergy
from ...solvers.fixed_point import FixedPoint
from ...solvers.loop import solve_stage
from ..costs.base import AbstractCost
from ..costs.entities import WeightedEntities
from ..costs.names import as_cost
from .shares import (
    KEPT,
    CostParts,
    Exchange,
    HardAllocation,
    ScalableParams,
    best_common_reach,
    exchange,
    inside,
    printed_radius,
)
from .slopes import Slopes, slopes
from .splitting import first_transition, slot_spectrum

_OWNER = "ScalableClustering"


class ScalableClustering(Growable):
    """K centres for N weighted entities where groups pay for what they compute with.

    A group j has a reach s_j, a squared radius in units of the total variance V of the data, and
    computes with the share n_j = sum_i weights_i exp(-d_ij / (s_j V)) of the weight. The cost of
    entity i in group j is

        d~_ij = d_ij + interaction d_ij (1 - exp(-d_ij / (s_j V))) + computation V n_j^2

    and the free energy -(1/beta) sum_i weights_i log sum_j exp(-beta d~_ij) is minimised over
    centres and log s. So beta is the paper's beta_1, beta_2 = interaction beta and beta_3 =
    computation V beta with shares in place of counts: nothing depends on N. params is a
    `ScalableParams`; a reach stays in [1e-5, 1e3], and where it runs to an end it is held there.

    The outcome depends on the multipliers without a simple rule, and mere coverage is served
    better by `Clustering` with growth: this problem is for the trade-off itself.

    **Arguments:**

    - `x`: entities, shape (N, d), in any units; those are the units of the centres.
    - `k`: number of groups K.
    - `weights`: relative importance, shape (N,), >= 0; normalised to sum one. Default equal.
    - `interaction`: >= 0; price of the distance that lies beyond a group's reach.
    - `computation`: >= 0; price, in units of V, of a group that computes with everything.
    - `cost`: a smooth cost from `mepjax.costs`, its name, or a function of one entity and one
        centre. V is the mean of the cost to the mean of the entities.
    - `radius`: `"minimum"` finds the reaches that minimise F; `"printed"` sets them by equation
        (42), which is not stationary, for comparison with the paper.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected. Values that are traced become a result code instead.

    Source: scalable resource allocation, equations (20) to (28) with p_ij the joint distribution.
    The printed radius (32), (42) does not solve (28); here (28) is solved.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> problem = mj.ScalableClustering(x, 2, computation=0.5)
    >>> sol = mj.anneal(problem, mj.Geometric(0.1, 100.0, 1.3), key=jax.random.key(0))
    >>> print(f"{problem.harden(sol.params).coverage:.3f}")
    0.010

    ```
    """

    x: Float[Array, "n d"]
    weights: Float[Array, " n"]
    interaction: Float[Array, ""]
    computation: Float[Array, ""]
    cost: AbstractCost
    k: int = eqx.field(static=True)
    radius: str = eqx.field(static=True)

    def __init__(
        self,
        x: Any,
        k: int,
        *,
        weights: Any = None,
        interaction: Any = 1.0,
        computation: Any = 0.05,
        cost: Any = "sqeuclidean",
        radius: str = "minimum",
    ) -> None:
        checks.check_count(_OWNER, "k", k)
        self.k = int(k)
        if radius not in ("minimum", "printed"):
            raise ValueError(f"{_OWNER}: `radius` must be 'minimum' or 'printed'; got {radius!r}.")
        self.radius = radius
        self.x, self.weights = arrays.weighted_points(_OWNER, x, weights)
        dtype = self.x.dtype
        self.interaction = arrays.as_scalar(_OWNER, "interaction", interaction, dtype)
        self.computation = arrays.as_scalar(_OWNER, "computation", computation, dtype)
        self.cost = arrays.cast_floats(as_cost(cost), dtype)
        if not self.cost.smooth:
            raise ValueError(
                f"{_OWNER}: `cost` must be smooth; {type(self.cost).__name__} has no second "
                "derivatives."
            )
        checks.enforce(self.checks())
        self.cost = self.cost.for_data(self.x, self.weights)

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, usable weights, multipliers that are no reward."""
        return (
            *checks.check_weighted_points(_OWNER, self.x, self.weights),
            checks.check_range(_OWNER, "interaction", self.interaction, low=0.0),
            checks.check_range(_OWNER, "computation", self.computation, low=0.0),
            *self.cost.check(self.x.shape[1]),
            *self.cost.check_data(self.x),
        )

    @property
    def variational(self) -> bool:
        """Whether reaches minimise F; the printed radius does not."""
        return self.radius == "minimum"

    @property
    def convex_at_zero(self) -> bool:
        """False: the common cost may have several minima in the reach."""
        return False

    @property
    def tied_at_zero(self) -> bool:
        """All groups start at one place with one reach."""
        return self.cost.convex

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing and the paper on scalable allocation."""
        return (*super().references, "scalable_resource_allocation")

    # Parts.

    def shares(self) -> Float[Array, " n"]:
        """Weights that sum to one."""
        return self.weights / jnp.sum(self.weights)

    def origin(self) -> Float[Array, " d"]:
        """A constant near the data, which keeps digits in float32."""
        origin = jax.lax.stop_gradient(self.shares() @ self.x)
        return origin if self.cost.translation_invariant else jnp.zeros_like(origin)

    def variance(self) -> Float[Array, ""]:
        """V, the mean cost from the entities to their mean; 1 for constant data."""
        x, shares = self.x - self.origin(), self.shares()
        value = shares @ self.cost.pairwise(x, (shares @ x)[None])[:, 0]
        return jnp.where(value > 0, value, 1.0)

    def exchange(self, params: ScalableParams) -> Exchange:
        """Distances, shares and costs of all pairs."""
        origin = self.origin()
        distances = self.cost.pairwise(self.x - origin, params.centres - origin)
        return self.exchange_of(distances, params.log_reach)

    def exchange_of(
        self, distances: Float[Array, "n k"], log_reach: Float[Array, " k"]
    ) -> Exchange:
        """The same from distances."""
        log_reach = inside(log_reach)
        return exchange(
            distances, log_reach, self.shares(), self.variance(),
            self.interaction, self.computation,
        )  # fmt: skip

    # The contract.

    def init(self, key: Any) -> ScalableParams:
        """All groups at the place and with the reach that cost least for one that serves all.

        The reach is the best of a grid first, since its cost may have several minima.
        """
        origin, shares = self.origin(), self.shares()
        one = trees.stop_gradient(self)
        centre = one.cost.minimise(WeightedEntities(shares[:, None], self.x - origin))
        reach = best_common_reach(
            one.cost.pairwise(self.x - origin, centre), shares, one.variance(),
            one.interaction, one.computation,
        )  # fmt: skip
        start = ScalableParams(centre + origin, reach[None])
        # One group has no choice to make: its F is its cost at every beta.
        dtype = self.x.dtype
        rtol = jnp.asarray(1e3 * jnp.finfo(dtype).eps, dtype)
        found = solve_stage(
            _OneGroup(one), start, jnp.ones((), dtype), Armijo(), rtol=rtol,
            max_steps=jnp.asarray(500),
        ).params  # fmt: skip
        return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (self.k, *leaf.shape[1:])), found)

    def scatter(self, key: Any) -> ScalableParams:
        """Centres on K entities drawn by weight, with the common reach."""
        n = self.x.shape[0]
        rows = jax.random.choice(key, n, (self.k,), replace=n < self.k, p=self.shares())
        return ScalableParams(self.x[rows], self.init(key).log_reach)

    def free_energy(self, params: ScalableParams, beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum_j exp(-beta d~_ij)."""
        return gibbs.free_energy(self.exchange(params).total, self.shares(), beta)

    def policy(self, params: ScalableParams, beta: Scalar) -> Float[Array, "n k"]:
        """log softmax_j(-beta d~_ij), equation (23)."""
        return gibbs.log_policy(self.exchange(params).total, beta)

    def terms(self, params: ScalableParams, beta: Scalar) -> Terms:
        """F, and expected cost d~ and entropy of the Gibbs policy."""
        costs = self.exchange(params).total
        return Terms(*gibbs.free_energy_and_terms(costs, self.shares(), beta))

    def residual(self, params: ScalableParams, beta: Scalar) -> ScalableParams:
        """grad F; a reach at an end and a centre without mass stay where they are.

        With the printed radius by how much the log reach differs from it.
        """
        return self._residual(params, beta, slopes(self, params, beta))

    def _residual(self, params: ScalableParams, beta: Scalar, found: Slopes) -> ScalableParams:
        kept = jax.lax.stop_gradient(params)
        centres = jnp.where(found.alive[:, None], found.centres, params.centres - kept.centres)
        stays = found.held | ~found.alive
        reach = jnp.where(stays, params.log_reach - kept.log_reach, found.reach)
        if self.radius == "printed":
            reach = params.log_reach - self._printed(params, found)
        return ScalableParams(centres, reach)

    def update(self, params: ScalableParams, beta: Scalar) -> ScalableParams:
        """A preconditioned gradient step that keeps reaches in their range."""
        found = slopes(self, params, beta)
        slope = ScalableParams(found.centres, found.reach)
        moved = trees.subtract(params, self._solve_metric(params, found, slope))
        if self.radius == "printed":
            return ScalableParams(moved.centres, self._printed(params, found))
        return ScalableParams(moved.centres, inside(moved.log_reach))

    def _printed(self, params: ScalableParams, found: Slopes) -> Float[Array, " k"]:
        """log reach by equation (42)."""
        variance = self.variance()
        sigma = printed_radius(
            self.exchange(params).distances, found.weights, self.shares(),
            self.interaction, self.computation * variance,
        )  # fmt: skip
        return inside(jnp.log(sigma / variance))

    def metric(self, params: ScalableParams, beta: Scalar) -> lx.AbstractLinearOperator:
        """Of centres (1 + interaction) times that of the cost; of reaches a positive curvature."""
        return self._metric(params, slopes(self, params, beta))

    def _metric(self, params: ScalableParams, found: Slopes) -> lx.AbstractLinearOperator:
        centres = self.cost.metric(*self._weighted(params, found))

        def apply(v: ScalableParams) -> ScalableParams:
            moved = (1 + self.interaction) * centres.mv(v.centres)
            return ScalableParams(moved, found.curvature * v.log_reach)

        structure = jax.eval_shape(lambda: params)
        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def residual_and_metric(
        self, params: ScalableParams, beta: Scalar
    ) -> tuple[ScalableParams, lx.AbstractLinearOperator]:
        """`residual` and `metric` from one pass over the policy."""
        found = slopes(self, params, beta)
        return self._residual(params, beta, found), self._metric(params, found)

    def precondition(
        self, params: ScalableParams, beta: Scalar, vector: ScalableParams
    ) -> ScalableParams:
        """Solve with `metric`, group by group."""
        return self._solve_metric(params, slopes(self, params, beta), vector)

    def _solve_metric(
        self, params: ScalableParams, found: Slopes, vector: ScalableParams
    ) -> ScalableParams:
        moved = self.cost.precondition(*self._weighted(params, found), vector.centres)
        return ScalableParams(moved / (1 + self.interaction), vector.log_reach / found.curvature)

    def _weighted(self, params: ScalableParams, found: Slopes) -> tuple[Any, Float[Array, "k d"]]:
        origin = self.origin()
        return WeightedEntities(found.weights, self.x - origin), params.centres - origin

    def harden(self, params: ScalableParams) -> HardAllocation:
        """The group of least cost d~ of each entity."""
        pairs, shares = self.exchange(params), self.shares()
        assignments = jnp.argmin(pairs.total, axis=1).astype(jnp.int32)
        distances = jnp.take_along_axis(pairs.distances, assignments[:, None], axis=1)[:, 0]
        cost = shares @ jnp.min(pairs.total, axis=1)
        return HardAllocation(assignments, cost, shares @ distances, _kept(pairs, self.weights))

    def params_scale(self, params: ScalableParams) -> ScalableParams:
        """Total standard deviation of the entities for centres, 1 for log_reach."""
        spread = self.cost.spread(self.x - self.origin(), self.shares())
        spread = jax.lax.stop_gradient(jnp.asarray(spread, self.x.dtype))
        return ScalableParams(spread, jnp.ones((), self.x.dtype))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition, 1 / lambda_max(H^-1/2 C H^-1/2) at coincident groups.

        H = sum_i weights_i Hess d~_i and C the covariance of grad d~_i, both in (y, log s), the
        share n_j differentiated too; a reach at an end of its range is left out.
        """
        still = trees.stop_gradient(self)
        return first_transition(still, still.init(None))

    def default_solver(self) -> AbstractSolver:
        """`Armijo`: equation (26) as a fixed point has negative weights and may move away."""
        return Armijo() if self.variational else FixedPoint()

    # Growth.

    @property
    def n_slots(self) -> int:
        """K, the number of clusters."""
        return self.k

    @property
    def has_slot_spectrum(self) -> bool:
        """With reaches that minimise F."""
        return self.variational

    def slot_spectrum(self, params: ScalableParams, beta: Scalar) -> SlotSpectrum:
        """Critical betas by the eigenproblem of `beta_scale` per group, the policy held."""
        return slot_spectrum(self, params, beta)

    def subsample(self, key: Any, n: int) -> "ScalableClustering":
        """`n` entities of equal weight, drawn in proportion to theirs; itself if it has no more."""
        if self.x.shape[0] <= n:
            return self
        rows = sampling.systematic(key, self.weights, n)
        ones = jnp.ones((n,), self.x.dtype)
        return trees.replaced(self, x=self.x[rows], weights=ones)

    # Beyond the contract.

    def costs_by_part(self, params: ScalableParams, beta: Scalar) -> CostParts:
        """Coverage F_1, interaction F_2 and computation F_3 at the Gibbs policy.

        `terms(params, beta).distortion` is F_1 + interaction F_2 + computation V F_3.
        """
        pairs = self.exchange(params)
        weights = self.shares()[:, None] * gibbs.policy(pairs.total, beta)
        beyond = -pairs.distances * jnp.expm1(-pairs.ratio)
        return CostParts(
            jnp.sum(weights * pairs.distances),
            jnp.sum(weights * beyond),
            jnp.sum(weights * pairs.share**2),
            _kept(pairs, self.weights),
        )


class _OneGroup(FreeEnergy):
    """What one group that serves all costs."""

    problem: ScalableClustering

    def free_energy(self, params: ScalableParams, beta: Scalar) -> Float[Array, ""]:
        return self.problem.free_energy(params, beta)

    def metric(self, params: ScalableParams, beta: Scalar) -> lx.AbstractLinearOperator:
        return self.problem.metric(params, beta)

    def precondition(
        self, params: ScalableParams, beta: Scalar, vector: ScalableParams
    ) -> ScalableParams:
        return self.problem.precondition(params, beta, vector)

    def params_scale(self, params: ScalableParams) -> ScalableParams:
        return self.problem.params_scale(params)


def _kept(pairs: Exchange, weights: Float[Array, " n"]) -> Float[Array, ""]:
    """Share of the pairs that a group computes with, of entities that count."""
    counted = (weights > 0).astype(weights.dtype)
    kept = (pairs.nearness > KEPT).astype(weights.dtype)
    return counted @ jnp.mean(kept, axis=1) / jnp.sum(counted)
