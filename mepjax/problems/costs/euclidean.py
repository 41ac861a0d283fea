"""Euclidean distance, not squared: centres are geometric medians."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks, trees
from ..._core.arrays import as_float_array, as_parameter
from ..._core.distances import squared_euclidean
from . import weighted_sum
from .base import AbstractCost
from .entities import Entities, WeightedEntities, live

# Default smoothing, relative to the spread of the data.
_SMOOTHING = 1e-3
# Up to this many features a step also tries Newton's method, whose cost grows with them.
_NEWTON_LIMIT = 8
_HIGHEST = jax.lax.Precision.HIGHEST


class SmoothedDistance(AbstractCost):
    """A distance r, made smooth where centre and entity coincide: sqrt(r^2 + smoothing^2).

    At a kink a centre would stay on its entity at any beta and nothing would be differentiable.
    """

    smoothing: Float[Array, ""] | None
    # Whether the smoothing is the default one, of some data.
    measured: bool = eqx.field(static=True)

    @property
    def never_negative(self) -> bool:
        """True: costs are zero or more for all pairs."""
        return True

    @property
    def convex(self) -> bool:
        """True: sums of distances are convex, strictly so unless entities are on one line."""
        return True

    def as_given(self) -> Any:
        """Without a smoothing that is the default of some data."""
        return trees.replaced(self, smoothing=None, measured=False) if self.measured else self

    def _check_smoothing(self) -> tuple[checks.Check, ...]:
        if self.smoothing is None:
            return ()
        owner = type(self).__name__
        return (
            checks.check_finite(owner, "smoothing", self.smoothing),
            checks.check_range(owner, "smoothing", self.smoothing, low=0.0),
        )

    def first_transition(
        self, x: Float[Array, "n d"], shares: Float[Array, " n"]
    ) -> Float[Array, ""]:
        """Not before the costs, which a flat median leaves undecided for long, matter at all."""
        entities = WeightedEntities(shares[:, None], x)
        return self._not_before(super().first_transition(x, shares), entities)

    def first_transition_in_sums(self, entities: Entities) -> Float[Array, ""]:
        """`first_transition` without a copy of the entities."""
        return self._not_before(super().first_transition_in_sums(entities), entities)

    def _not_before(self, beta: Float[Array, ""], entities: Entities) -> Float[Array, ""]:
        """Where the median is not unique the smoothing alone holds centres together.

        They part at a beta of its size squared, and decide nothing before one over the distances.
        """
        typical = entities.sum(weighted_sum.totals, self, self.start(entities))[0]
        smoothing = 0.0 if self.smoothing is None else self.smoothing
        apart = typical > 2 * smoothing
        return jnp.where(apart, jnp.maximum(beta, 0.5 / jnp.where(apart, typical, 1.0)), beta)

    def _length(self, squares: Array) -> Array:
        """sqrt(squares + smoothing^2), with derivative zero at the kink of no smoothing."""
        if self.smoothing is not None:
            squares = squares + self.smoothing**2
        positive = ~(squares <= 0)  # NaN counts, to be seen
        return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1.0)), 0.0)

    def _sharpened(
        self,
        entities: Entities,
        y: Float[Array, "k d"],
        safe: Float[Array, "k d"],
        reach: float = float("inf"),
    ) -> Float[Array, "k d"]:
        """Newton's centres where they are within `reach` of y and no worse than the `safe` ones.

        Weiszfeld steps never raise a weighted sum but crawl where it is nearly flat, as between
        two entities of equal weight, and near an entity that is the median.
        """
        if y.shape[1] > _NEWTON_LIMIT:
            return safe

        def sums(centres: Float[Array, "k d"]) -> Float[Array, " k"]:
            return entities.sum(weighted_sum.totals, self, centres)

        slopes = jax.grad(lambda centres: jnp.sum(sums(centres)))(y)
        blocks = jax.lax.stop_gradient(weighted_sum.hessians(self, entities, y))
        newton = y - weighted_sum.solve_blocks(blocks, slopes)
        limit = sums(safe)
        limit = limit + 8 * jnp.finfo(y.dtype).eps * jnp.abs(limit)
        near = jnp.max(jnp.abs(newton - y), axis=1) < reach
        return jnp.where((near & (sums(newton) <= limit))[:, None], newton, safe)

    def _default_smoothing(self, spread: Any, dtype: Any) -> Array:
        if checks.is_concrete(spread):
            return as_float_array("smoothing", np.asarray(_SMOOTHING * spread, dtype), dtype)
        return jax.lax.stop_gradient(_SMOOTHING * spread).astype(dtype)


def as_smoothing(owner: str, smoothing: Any) -> Any:
    """A scalar, or `None` for the default."""
    if smoothing is None:
        return None
    smoothing = as_parameter("smoothing", smoothing)
    if smoothing.shape != ():
        raise ValueError(f"{owner}: `smoothing` must be a scalar; got shape {smoothing.shape}.")
    return smoothing


def total_deviation(points: Any, weights: Any) -> Any:
    """Total standard deviation, on the host where the points are concrete; 1 for constant ones."""
    xp: Any = np if checks.is_concrete(points, weights) else jnp
    if xp is np:
        points, weights = np.asarray(points, np.float64), np.asarray(weights, np.float64)
    shares = weights / xp.sum(weights)
    variance = xp.sum(shares[:, None] * (points - shares @ points) ** 2)
    return xp.where(variance > 0, xp.sqrt(variance), 1.0)


def damped_pull(
    pull: Float[Array, "k d"], stiffness: Float[Array, " k"], coincident: Float[Array, " k"]
) -> Float[Array, "k d"]:
    """Weiszfeld move pull / stiffness, shortened where entities of weight `coincident` hold on.

    Source: Vardi and Zhang, "The multivariate L1-median and associated data depth" (2000).
    """
    strength = jnp.sqrt(jnp.maximum(jnp.sum(pull * pull, axis=1), 0.0))
    free = jnp.maximum(1 - coincident / jnp.where(strength > 0, strength, 1.0), 0.0)
    moving = live(stiffness)
    factor = jnp.where(moving, free / jnp.where(moving, stiffness, 1.0), 0.0)
    return factor[:, None] * pull


class Euclidean(SmoothedDistance):
    """d(x, y) = |x - y|, in units of x, smoothed near zero to sqrt(|x - y|^2 + smoothing^2).

    Centres are weighted geometric medians, which far entities pull no harder than near ones. An
    update is one Weiszfeld step, or up to 8 features one of Newton's method where that is lower.

    **Arguments:** `smoothing` >= 0, scalar, in units of x: the cost is too large by at most that,
    and by smoothing^2 / (2 |x - y|) away from the centre. Default: a thousandth of the data's
    total standard deviation. Centres that sit on an entity split off it at a beta inversely
    proportional to it, so with few entities a larger one finds better clusters; at 0 they may
    stay there at any beta, where no gradient of the solution is defined.

    **Raises:** `ValueError` for a negative `smoothing`.

    Source: Weiszfeld (1937); at coincident points without smoothing, Vardi and Zhang (2000).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.Euclidean(smoothing=0.0)
    >>> print(cost.pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[5.]]

    ```
    """

    def __init__(self, smoothing: Any = None) -> None:
        self.smoothing = as_smoothing("Euclidean", smoothing)
        self.measured = False
        checks.enforce(self._check_smoothing())

    @property
    def translation_invariant(self) -> bool:
        """True: only differences of places count."""
        return True

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """That the smoothing is not negative."""
        return self._check_smoothing()

    def for_data(self, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> "Euclidean":
        """With the default smoothing filled in."""
        return self.for_spread(total_deviation(x, weights), x.dtype)

    def for_spread(self, spread: Any, dtype: Any) -> "Euclidean":
        """`for_data` of data of which the total standard deviation is known."""
        if self.smoothing is not None:
            return self
        smoothing = self._default_smoothing(spread, dtype)
        return trees.replaced(self, smoothing=smoothing, measured=True)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """sqrt(|x_i - y_k|^2 + smoothing^2) for all pairs."""
        return self._length(squared_euclidean(x, y))

    def step(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """One Weiszfeld step, to the means weighted by weights / distance, or Newton's."""
        pulled, stiffness, coincident = entities.sum(_pulls, self, y)
        pull = pulled - stiffness[:, None] * y
        return self._sharpened(entities, y, y + damped_pull(pull, stiffness, coincident))


def _pulls(
    weights: Float[Array, "n k"], x: Float[Array, "n d"], cost: Euclidean, y: Float[Array, "k d"]
) -> tuple[Float[Array, "k d"], Float[Array, " k"], Float[Array, " k"]]:
    """Sums of x and of 1 by weights / distance, and the weight of those at distance zero."""
    lengths = cost.pairwise(x, y)
    apart = lengths > 0
    pulls = jnp.where(apart, weights / jnp.where(apart, lengths, 1.0), 0.0)
    coincident = jnp.sum(jnp.where(apart, 0.0, weights), axis=0)
    return jnp.matmul(pulls.T, x, precision=_HIGHEST), jnp.sum(pulls, axis=0), coincident
