"""What a dissimilarity supplies to clustering."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from ..._core import checks, trees
from . import weighted_sum
from .entities import Entities, WeightedEntities, means_of, sums_and_masses

_HIGHEST = jax.lax.Precision.HIGHEST


class AbstractCost(eqx.Module):
    """A dissimilarity d(x, y) of an entity x and a centre y, both of d features.

    Only `pairwise` must be written. The rest has defaults made from its derivatives: centres move
    by one safeguarded Newton step on the weighted sums sum_i weights_ik d(x_i, y_k), whose
    Hessians are the metric. A cost overrides what it knows better.
    """

    @abc.abstractmethod
    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """d(x_i, y_k) for all pairs."""

    # What kind of cost it is.

    @property
    def translation_invariant(self) -> bool:
        """Whether d(x + c, y + c) = d(x, y); data are then handed over relative to their mean."""
        return False

    @property
    def convex(self) -> bool:
        """Whether weighted sums are known to have one minimiser."""
        return False

    @property
    def smooth(self) -> bool:
        """Whether weighted sums have second derivatives."""
        return True

    @property
    def never_negative(self) -> bool:
        """Whether d(x, y) >= 0 is known for all pairs."""
        return False

    @property
    def exact_step(self) -> bool:
        """Whether `step` and `start` give the minimisers of the weighted sums at once."""
        return False

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """Conditions on the cost's own arrays for data of `d` features."""
        return ()

    def check_data(self, x: Float[Array, "n d"]) -> tuple[checks.Check, ...]:
        """Conditions on the data."""
        return ()

    def for_data(self, x: Float[Array, "n d"], weights: Float[Array, " n"]) -> "AbstractCost":
        """This cost with what it leaves to the data filled in, as constants."""
        return self

    def as_given(self) -> "AbstractCost":
        """This cost without what `for_data` filled in."""
        return self

    def spread(self, x: Any, shares: Any) -> Any:
        """Total standard deviation of the data, in the units of a centre; 1 for constant data."""
        # NumPy where nothing is traced, so that nothing is compiled.
        xp = np if checks.is_concrete(x, shares) else jnp
        x, shares = xp.asarray(x), xp.asarray(shares)
        deviations = x - shares @ x
        variance = shares @ xp.sum(deviations * deviations, axis=1)
        return xp.where(variance > 0, xp.sqrt(variance), 1.0)

    # The weighted sums and their minimisers.

    def start(self, entities: Entities) -> Float[Array, "k d"]:
        """Where the search for minimisers of the weighted sums starts: the weighted means."""
        sums, masses = entities.sum(sums_and_masses)
        overall = means_of(jnp.sum(sums, axis=0)[None], jnp.sum(masses)[None], entities.first[None])
        return means_of(sums, masses, jnp.broadcast_to(overall, sums.shape))

    def step(self, entities: Entities, y: Float[Array, "k d"]) -> Float[Array, "k d"]:
        """New centres whose weighted sums are no larger; without mass a centre stays."""
        return weighted_sum.newton_step(self, entities, y)

    def minimise(self, entities: Entities) -> Float[Array, "k d"]:
        """Minimisers of the weighted sums."""
        if self.exact_step:
            return self.start(entities)
        cost, entities = trees.stop_gradient((self, entities))
        return weighted_sum.minimise(cost, entities, cost.start(entities), entities.scale(cost))

    def metric(self, entities: Entities, y: Float[Array, "k d"]) -> lx.AbstractLinearOperator:
        """blockdiag(sum_i weights_ik Hess_y d), positive definite: Hess F as beta -> 0."""
        return block_operator(weighted_sum.hessians(self, entities, y))

    def precondition(
        self, entities: Entities, y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`."""
        return weighted_sum.solve_blocks(weighted_sum.hessians(self, entities, y), vector)

    def gauge_equation(
        self, entities: Entities, y: Float[Array, "k d"]
    ) -> Float[Array, "k d"] | None:
        """What keeps centres in place along directions that d does not see; `None`: no such.

        Zero in value; its derivative with respect to y is `metric` on those directions.
        """
        return None

    # The first transition.

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n e"]:
        """Coordinates in which the cost is squared Euclidean, to first order at its minimiser y.

        H^-1/2 grad_y d(x_i, y) / sqrt(2), with H = sum_i shares_i Hess_y d(x_i, y). Coincident
        centres split at beta = 1 / (2 lambda_max(Cov)) of these, without autonomy.
        """
        entities = WeightedEntities(shares[:, None], x)
        y = self.minimise(entities)
        block = weighted_sum.hessians(self, entities, y)[0]
        gradients = weighted_sum.gradients(self.pairwise, x, y[0])
        lower = jnp.linalg.cholesky(block)
        return jax.scipy.linalg.solve_triangular(lower, gradients.T, lower=True).T * 0.5**0.5

    def first_transition(
        self, x: Float[Array, "n d"], shares: Float[Array, " n"]
    ) -> Float[Array, ""]:
        """beta at which coincident centres split without autonomy; 1 for constant data."""
        z = self.embed(x, shares)
        z = z - shares @ z
        return _first_of(jnp.matmul((shares[:, None] * z).T, z, precision=_HIGHEST))

    def first_transition_in_sums(self, entities: Entities) -> Float[Array, ""]:
        """`first_transition` of entities in one cluster by their shares, without a copy of them."""
        y = self.minimise(entities)
        lower = jnp.linalg.cholesky(weighted_sum.hessians(self, entities, y)[0])
        # The gradients' mean is zero at the minimiser.
        moments = entities.sum(weighted_sum.squared_slopes, self, y[0])
        half = jax.scipy.linalg.solve_triangular(lower, moments, lower=True)
        return _first_of(0.5 * jax.scipy.linalg.solve_triangular(lower, half.T, lower=True))


def _first_of(covariance: Float[Array, "e e"]) -> Float[Array, ""]:
    """Where coincident centres split, of entities embedded with this covariance."""
    largest = jnp.linalg.eigvalsh(covariance)[-1]
    return jnp.where(largest > 0, 0.5 / jnp.where(largest > 0, largest, 1.0), 1.0)


def block_operator(blocks: Float[Array, "k d d"]) -> lx.AbstractLinearOperator:
    """blockdiag(blocks) on centres."""
    structure = jax.ShapeDtypeStruct(blocks.shape[:2], blocks.dtype)
    return lx.FunctionLinearOperator(
        lambda v: jnp.einsum("kab,kb->ka", blocks, v, precision=_HIGHEST),
        structure,
        lx.positive_semidefinite_tag,
    )
