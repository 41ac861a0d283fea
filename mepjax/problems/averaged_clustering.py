"""Clustering by any smooth function for the average costs, such as one that was learnt."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .._core import arrays, checks, gibbs, sampling
from .._core.types import Scalar
from ..engine.problem import Problem, Terms
from .costs.entities import safe_masses
from .hard_clustering import HardClustering

_OWNER = "AveragedClustering"


class AveragedClustering(Problem):
    """K centres for N weighted entities, whose average cost of being told a cluster is a function.

    F = -(1/beta) sum_i weights_i log sum_j exp(-beta costs(x, y)_ij), with no other part for an
    autonomy than in `costs`: with the true average sum_k p(k|j,i) d(x_i, y_k) it is `Clustering`,
    with a trained network it is what that has learnt. Its F and D are those of `costs`: what
    learnt costs promise is not what centres truly cost. params is the array of centres, (K, d).

    **Arguments:**

    - `x`: entities, shape (N, d).
    - `k`: number of clusters K.
    - `costs`: a twice differentiable function of all entities (N, d) and all centres (K, d), in
        the units of `x`, that returns (N, K): what entity i pays on average when it is told j. To
        differentiate its parameters make it an `equinox.Module` with a `__call__`.
    - `weights`: relative importance, shape (N,), >= 0; normalised to sum one. Default equal.
    - `metric`: a function of the centres (K, d) and of the shares of weight (K,) told to join
        each, that returns the diagonal (K, d) > 0 of the metric in which centres move; default
        twice the shares, as for squared distances.
    - `translation_invariant`: whether `costs` depends on x - y only; it then sees both relative to
        the mean of the data, which keeps digits in float32.
    - `convex`: whether F is known to have one minimiser as beta -> 0.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was
    expected. Values that are traced become a result code instead.

    Source: autonomy-aware clustering, problem P-hat(beta), with d_theta in the place of d_avg.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> def costs(x, y):  # whoever is told j goes to any other cluster one time in ten
    ...     d = jnp.sum((x[:, None] - y) ** 2, axis=-1)
    ...     return 0.8 * d + 0.1 * jnp.sum(d, axis=1, keepdims=True)
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> problem = mj.AveragedClustering(x, 2, costs, translation_invariant=True)
    >>> sol = mj.anneal(problem, mj.Geometric(0.1, 1e3, 1.3), key=jax.random.key(0))
    >>> print(f"{problem.harden(sol.params).cost:.3f}")
    0.370

    ```
    """

    x: Float[Array, "n d"]
    weights: Float[Array, " n"]
    costs: Callable[[Array, Array], Any]
    diagonal: Callable[[Array, Array], Any] | None
    k: int = eqx.field(static=True)
    translation_invariant: bool = eqx.field(static=True)
    convex: bool = eqx.field(static=True)

    def __init__(
        self,
        x: Any,
        k: int,
        costs: Callable[[Array, Array], Any],
        weights: Any = None,
        *,
        metric: Callable[[Array, Array], Any] | None = None,
        translation_invariant: bool = False,
        convex: bool = False,
    ) -> None:
        checks.check_count(_OWNER, "k", k)
        self.k = int(k)
        self.x, self.weights = arrays.weighted_points(_OWNER, x, weights)
        checks.check_function(_OWNER, "costs", costs, "(self, x, centres)")
        if metric is not None:
            checks.check_function(_OWNER, "metric", metric, "(self, centres, shares)")
        self.costs = arrays.cast_floats(costs, self.x.dtype)
        self.diagonal = arrays.cast_floats(metric, self.x.dtype)
        self.translation_invariant, self.convex = translation_invariant, convex
        self._check_shape()
        checks.enforce(self.checks())

    def _check_shape(self) -> None:
        n, d = self.x.shape
        dtype = self.x.dtype
        shapes = jax.ShapeDtypeStruct((n, d), dtype), jax.ShapeDtypeStruct((self.k, d), dtype)
        got = eqx.filter_eval_shape(self.costs, *shapes)
        if not isinstance(got, jax.ShapeDtypeStruct) or got.shape != (n, self.k):
            what = f"shape {got.shape}" if isinstance(got, jax.ShapeDtypeStruct) else f"{got!r:.60}"
            raise ValueError(
                f"{_OWNER}: `costs` must return shape ({n}, {self.k}) for {n} entities and "
                f"{self.k} centres of {d} features; got {what}."
            )
        if not jnp.issubdtype(got.dtype, jnp.floating):
            raise ValueError(
                f"{_OWNER}: `costs` must return real floating numbers; got dtype {got.dtype}."
            )

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data and usable weights."""
        return checks.check_weighted_points(_OWNER, self.x, self.weights)

    @property
    def convex_at_zero(self) -> bool:
        """What was said of the averages when it was built."""
        return self.convex

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the paper on autonomy."""
        return (*super().references, "autonomy_aware_clustering")

    @property
    def n_slots(self) -> int:
        """K, the number of clusters."""
        return self.k

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

    def _mean(self) -> Float[Array, " d"]:
        return self._shares() @ self.x

    def average_distances(self, params: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """What `costs` says of each entity told to join each cluster."""
        if not self.translation_invariant:
            return self.costs(self.x, params)
        origin = jax.lax.stop_gradient(self._mean())
        return self.costs(self.x - origin, params - origin)

    def init(self, key: Any) -> Float[Array, "k d"]:
        """All centres at the mean of the data."""
        del key
        return jnp.broadcast_to(self._mean(), (self.k, self.x.shape[1]))

    def free_energy(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum_j exp(-beta costs_ij)."""
        return gibbs.free_energy(self.average_distances(params), self._shares(), beta)

    def policy(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, "n k"]:
        """log pi(j|i) = log softmax_j(-beta costs_ij)."""
        return gibbs.log_policy(self.average_distances(params), beta)

    def terms(self, params: Float[Array, "k d"], beta: Scalar) -> Terms:
        """F, and expected cost and entropy of the Gibbs policy."""
        costs = self.average_distances(params)
        return Terms(*gibbs.free_energy_and_terms(costs, self._shares(), beta))

    def _metric(self, params: Float[Array, "k d"], beta: Scalar) -> Float[Array, "k d"]:
        told = safe_masses(self._shares() @ gibbs.policy(self.average_distances(params), beta))
        diagonal = 2 * told[:, None] if self.diagonal is None else self.diagonal(params, told)
        return jnp.broadcast_to(diagonal, params.shape)

    def metric(self, params: Float[Array, "k d"], beta: Scalar) -> lx.AbstractLinearOperator:
        """Twice the shares of weight told to join each cluster, or as given."""
        return lx.DiagonalLinearOperator(self._metric(params, beta))

    def precondition(
        self, params: Float[Array, "k d"], beta: Scalar, vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Divided by the diagonal of `metric`."""
        return vector / self._metric(params, beta)

    def harden(self, params: Float[Array, "k d"]) -> HardClustering:
        """The prescription that `costs` says is best for each entity, and what it says of it."""
        costs = self.average_distances(params)
        paid = jnp.min(costs, axis=1)
        told = jnp.argmin(costs, axis=1).astype(jnp.int32)
        return HardClustering(told, jnp.sum(self._shares() * paid))

    def params_scale(self, params: Float[Array, "k d"]) -> Float[Array, ""]:
        """Total standard deviation of the data; 1 for constant data."""
        del params
        variance = jax.lax.stop_gradient(jnp.trace(self._covariance()))
        return jnp.where(variance > 0, jnp.sqrt(jnp.where(variance > 0, variance, 1.0)), 1.0)

    def _covariance(self) -> Float[Array, "d d"]:
        centred = self.x - self._mean()
        weighted = self._shares()[:, None] * centred
        return jnp.matmul(weighted.T, centred, precision=jax.lax.Precision.HIGHEST)

    def beta_scale(self) -> Float[Array, ""]:
        """1 / (2 lambda_max(Cov(x))): the first transition of squared distances; 1 if constant."""
        largest = jnp.linalg.eigvalsh(jax.lax.stop_gradient(self._covariance()))[-1]
        return jnp.where(largest > 0, 1 / (2 * jnp.where(largest > 0, largest, 1.0)), 1.0)

    @property
    def scatters(self) -> bool:
        """True: starts are entities drawn by weight."""
        return True

    def scatter(self, key: Any) -> Float[Array, "k d"]:
        """Centres on K places of entities drawn by weight, all different where there are any."""
        line, draws = jax.random.split(key)
        direction = jax.random.normal(line, (self.x.shape[1],), self.x.dtype)
        along = jnp.sum((self.x - self._mean()) * direction, axis=1)
        return self.x[sampling.different(draws, along, self._shares(), self.k)]
