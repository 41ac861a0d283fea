"""City-block (l1) distance: centres are weighted medians."""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .base import AbstractCost
from .entities import Entities, WeightedEntities, live


class Manhattan(AbstractCost):
    """d(x, y) = sum_f |x_f - y_f|, in units of x. Centres are medians, feature by feature.

    Its weighted sums are piecewise linear, so the free energy has no useful second derivative:
    an anneal perturbs every stage at random instead of looking for transitions, ends with the
    code NOT_DEFINED, and solutions are constants for derivatives. Where that matters, `Euclidean`
    or a smooth `CostFunction` is as robust against far entities.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> print(mj.costs.Manhattan().pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[7.]]

    ```
    """

    @property
    def never_negative(self) -> bool:
        """True: costs are zero or more for all pairs."""
        return True

    @property
    def translation_invariant(self) -> bool:
        """True: only differences of places count."""
        return True

    @property
    def convex(self) -> bool:
        """Not strictly, but any median will do."""
        return True

    @property
    def smooth(self) -> bool:
        """False: absolute values have a kink where a coordinate meets an entity's."""
        return False

    @property
    def exact_step(self) -> bool:
        """True: the minimisers have a closed form."""
        return True

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """City-block distances, one feature at a time."""

        @jax.checkpoint
        def add(total: Array, feature: tuple[Array, Array]) -> tuple[Array, None]:
            own, centre = feature
            difference = own[:, None] - centre[None, :]
            # The absolute value, with derivative zero (not one) at zero.
            return total + difference * jax.lax.stop_gradient(jnp.sign(difference)), None

        total = jnp.zeros((x.shape[0], y.shape[0]), x.dtype)
        return jax.lax.scan(add, total, (x.T, y.T))[0]

    def start(self, entities: Entities) -> Float[Array, "k d"]:
        """The weighted medians, coordinate by coordinate: the minimisers."""
        first = entities.first
        return self.step(entities, jnp.broadcast_to(first, (entities.k, *first.shape)))

    def step(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """The weighted medians, in the middle where a whole interval is; no mass, no move."""
        # No sums tell a median.
        assert isinstance(entities, WeightedEntities)
        weights, x = entities.weights, entities.x

        def medians(column: Float[Array, " n"]) -> Float[Array, " k"]:
            order = jnp.argsort(column)
            ascending = column[order]
            below = jnp.cumsum(weights[order], axis=0)
            total = below[-1]
            rounding = 16 * jnp.finfo(x.dtype).eps * total
            low = jnp.argmax(below >= 0.5 * total - rounding, axis=0)
            high = jnp.argmax(below > 0.5 * total + rounding, axis=0)
            return 0.5 * (ascending[low] + ascending[high])

        new = jax.lax.map(medians, x.T).T
        return jnp.where(live(jnp.sum(weights, axis=0))[:, None], new, jax.lax.stop_gradient(y))

    def metric(self, entities: Entities, y: Float[Array, "k d"]) -> lx.AbstractLinearOperator:
        """NaN: there is no Hessian."""
        return lx.DiagonalLinearOperator(jnp.full_like(y, jnp.nan))

    def precondition(
        self, entities: Entities, y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """NaN: there is no Hessian to solve with."""
        return jnp.full_like(vector, jnp.nan)

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """Over the root of the mean deviation, so that the first transition has the right scale.

        For data spread evenly along a line the deviation's reciprocal, halved, is where their
        two halves separate.
        """
        deviations = x - self.start(WeightedEntities(shares[:, None], x))
        mean = shares @ jnp.abs(deviations)
        variance = shares @ deviations**2
        return deviations * jnp.sqrt(mean / jnp.where(variance > 0, variance, 1.0))
