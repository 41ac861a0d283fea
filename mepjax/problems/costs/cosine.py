"""Cosine dissimilarity of directions."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.distances import squared_euclidean
from .base import AbstractCost
from .entities import Entities, WeightedEntities, live, safe_masses, sums_and_masses

_HIGHEST = jax.lax.Precision.HIGHEST


class Cosine(AbstractCost):
    """d(x, y) = 1 - cos(angle between x and y), in [0, 2]; lengths do not matter.

    Centres are unit vectors: the directions of the weighted sums of unit vectors (spherical
    k-means).

    **Raises:** `ValueError` on data with a row of zeros, which has no direction.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.Cosine()
    >>> print(cost.pairwise(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0], [-3.0, 0.0]])))
    [[1. 2.]]

    ```
    """

    @property
    def never_negative(self) -> bool:
        """True: costs are zero or more for all pairs."""
        return True

    @property
    def exact_step(self) -> bool:
        """True: the minimisers have a closed form."""
        return True

    @property
    def convex(self) -> bool:
        """One minimiser, the mean direction, unless unit vectors cancel."""
        return True

    def check_data(self, x: Float[Array, "n d"]) -> tuple[checks.Check, ...]:
        """No row of zeros."""
        xp, x = checks.on_host(x)
        zero = xp.sum(xp.max(xp.abs(x), axis=1) == 0)
        return (
            checks.Check(
                zero == 0,
                zero,
                "Cosine: every row of `x` must have a direction; got {got} rows of zeros.",
            ),
        )

    def spread(self, x: Any, shares: Any) -> Any:
        """That of the unit vectors."""
        return super().spread(jax.jit(unit)(x), shares)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Half the squared distance of unit vectors."""
        return 0.5 * squared_euclidean(unit(x), unit(y))

    def start(self, entities: Entities) -> Float[Array, "k d"]:
        """The directions of the weighted sums."""
        first = entities.first
        return self.step(entities, jnp.broadcast_to(first, (entities.k, *first.shape)))

    def step(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The directions of the weighted sums; where these vanish the centre stays."""
        sums, masses = entities.sum(_sums_of_units)
        # Unit vectors that cancel to rounding have no mean direction.
        threshold = 4 * jnp.finfo(y.dtype).eps * masses
        defined = live(jnp.max(jnp.abs(sums), axis=1) - threshold)[:, None]
        return jnp.where(
            defined, unit(jnp.where(defined, sums, 1.0)), unit(jax.lax.stop_gradient(y))
        )

    def _stiffness(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k 1"]:
        """|sum_i weights_ik unit(x_i)| / |y_k|^2: the Hessian across y_k at the minimiser."""
        sums, masses = entities.sum(_sums_of_units)
        # Where unit vectors cancel the Hessian is zero, and a metric must not be.
        floor = float(jnp.finfo(y.dtype).eps) ** 0.5 * safe_masses(masses)[:, None]
        squares = jnp.sum(sums * sums, axis=1, keepdims=True)
        strong = squares > floor**2
        strength = jnp.where(strong, jnp.sqrt(jnp.where(strong, squares, 1.0)), floor)
        return strength / jnp.sum(y * y, axis=1, keepdims=True)

    def metric(self, entities: Entities, y: Float[Array, "k d"]) -> lx.AbstractLinearOperator:
        """The same number across and along each centre; `gauge_equation` is what is along."""
        return lx.DiagonalLinearOperator(jnp.broadcast_to(self._stiffness(entities, y), y.shape))

    def precondition(
        self, entities: Entities, y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """A solve with `metric`, which is diagonal."""
        return vector / self._stiffness(entities, y)

    def gauge_equation(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The length of a centre stays what it is."""
        along = unit(jax.lax.stop_gradient(y))
        change = jnp.sum(along * (y - jax.lax.stop_gradient(y)), axis=1, keepdims=True)
        return self._stiffness(entities, y) * change * along

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """Unit vectors across the mean direction, over the root of twice the mean length."""
        points, entities = unit(x), WeightedEntities(shares[:, None], x)
        y = self.start(entities)[0]
        across = points - jnp.matmul(points, y, precision=_HIGHEST)[:, None] * y
        return across / jnp.sqrt(2 * self._stiffness(entities, y[None])[0])


def _sums_of_units(
    weights: Float[Array, "n k"], x: Float[Array, "n d"]
) -> tuple[Float[Array, "k d"], Float[Array, " k"]]:
    return sums_and_masses(weights, unit(x))


def unit(points: Float[Array, "m d"]) -> Float[Array, "m d"]:
    """Rows divided by their length; scaled first, so that no square over- or underflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(points), axis=1, keepdims=True))
    scaled = points / largest
    return scaled / jnp.sqrt(jnp.sum(scaled * scaled, axis=1, keepdims=True))
