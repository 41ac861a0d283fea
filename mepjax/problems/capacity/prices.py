"""How much weight may be told to join each cluster, and the prices that see to it."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..._core import checks, gibbs
from ..._core.blocks import block_rows, block_sum
from ..._core.codes import Code
from ..._core.types import Scalar
from ...solvers.duals import Dual, constraint_code, optimality, solve_dual
from ...solvers.implicit import orthonormal_rows
from ..capacity.limits import Equal, as_capacity, no_room

# F, what is told to join each cluster, and sum_i shares_i policy_ij policy_il.
Totals = tuple[Float[Array, ""], Float[Array, " k"], Float[Array, "k k"]]


class ClusterCapacity(eqx.Module):
    """Shares of the weight that may be told to join each cluster; +inf is no limit."""

    limit: Float[Array, " k"]
    equality: bool = eqx.field(static=True)

    def checks(self, owner: str) -> tuple[checks.Check, ...]:
        """Non-negative shares that have room for all the weight, for equalities exactly."""
        xp, limit = checks.on_host(self.limit)
        total = xp.sum(limit)
        tolerance = 1e-5 if limit.dtype == jnp.float32 else 1e-9
        fits = total >= 1 - tolerance
        wanted = "must have a sum of at least 1, the whole weight"
        if self.equality:
            fits = fits & (total <= 1 + tolerance)
            wanted = "given as Equal must have the sum 1, the whole weight"
        return (
            checks.check_range(owner, "capacity", limit, low=0.0),
            checks.Check(
                fits, total, f"{owner}: `capacity` {wanted}; got {{got}}.", Code.INFEASIBLE
            ),
        )

    @property
    def given(self) -> Any:
        """As `Clustering` takes it."""
        return Equal(self.limit) if self.equality else self.limit

    @property
    def active(self) -> Bool[Array, " k"]:
        """Which limits have a price."""
        return jnp.isfinite(self.limit) & (self.limit > 0)

    @property
    def free(self) -> Bool[Array, " k"]:
        """Which prices may have either sign: all, where every limit is met exactly."""
        return jnp.broadcast_to(self.equality | no_room(self.limit), self.limit.shape)

    def gauge(self) -> Float[Array, "1 k"]:
        """The same change of all prices, which changes nothing; zero where it does not apply."""
        met = jnp.all(self.active | (self.limit == 0)) & self.free
        return (self.active & met).astype(self.limit.dtype)[None]

    def charges(self, prices: Float[Array, " k"]) -> Float[Array, " k"]:
        """What is added to the cost of being told to join each cluster.

        A limit of zero closes a cluster by a cost beyond all others, whose weight underflows.
        """
        # Finite, and so are its square and its product with beta: derivatives stay zero there.
        beyond = float(jnp.finfo(self.limit.dtype).max) ** 0.4
        return jnp.where(self.limit == 0, beyond, jnp.where(self.active, prices, 0.0))

    def worth(self, prices: Float[Array, " k"]) -> Float[Array, ""]:
        """What all capacity costs at these prices."""
        return jnp.sum(jnp.where(self.active, prices * self._finite, 0.0))

    def gap(self, told: Float[Array, " k"]) -> Float[Array, " k"]:
        """What is told to join each cluster less its capacity; zero where there is no limit."""
        return jnp.where(self.active, told - self._finite, 0.0)

    def excess(self, told: Float[Array, " k"]) -> Float[Array, " k"]:
        """By how much a bound is exceeded, or an equality missed."""
        limited = jnp.isfinite(self.limit)
        over = jnp.where(limited, told - jnp.where(limited, self.limit, 0.0), 0.0)
        return over if self.equality else jnp.maximum(over, 0.0)

    @property
    def _finite(self) -> Float[Array, " k"]:
        return jnp.where(self.active, self.limit, 0.0)

    def condition(
        self, prices: Float[Array, " k"], gap: Float[Array, " k"], beta: Scalar
    ) -> Float[Array, " k"]:
        """What the prices solve: zero where use is capacity, or below a bound without price."""
        return optimality(prices, gap, self.active, self.free, beta)

    def constraint_code(
        self, prices: Float[Array, " k"], gap: Float[Array, " k"], beta: Scalar
    ) -> Int[Array, ""]:
        """INFEASIBLE where use misses a limit, WEAKLY_ACTIVE at a tight bound without price."""
        return constraint_code(prices, gap, self.limit, self.active, self.free, beta)

    def solve(
        self, totals: Callable[[Array], Totals], prices: Float[Array, " k"], beta: Scalar
    ) -> Float[Array, " k"]:
        """The prices that maximise the dual from given ones; without derivative.

        `totals` is a function of the charges, at fixed centres.
        """
        beta = jnp.asarray(beta, prices.dtype)
        active = self.active

        def expansion(prices: Array) -> tuple[Array, Array, Array]:
            energy, told, joint = totals(self.charges(prices))
            both = active[:, None] & active[None, :]
            bend = jnp.where(both, beta * (jnp.diag(told) - joint), 0.0)
            return energy - self.worth(prices), self.gap(told), bend

        dual = Dual(
            value_and_gap=lambda prices: expansion(prices)[:2],
            free=self.free,
            active=active,
            shifts=orthonormal_rows(self.gauge()),
            beta=beta,
            expansion=expansion,
        )
        return solve_dual(dual, prices)

    def told_at_zero(self) -> Float[Array, " k"]:
        """What is told to join each cluster as beta -> 0: as even as the limits permit."""
        still = jax.lax.stop_gradient(self)

        def totals(charges: Array) -> Totals:
            return totals_of(charges[:, None], jnp.ones_like(charges[:1]), 1.0)

        prices = still.solve(totals, jnp.zeros_like(self.limit), 1.0)
        return gibbs.policy(still.charges(prices)[:, None], 1.0, axis=0)[:, 0]


def as_cluster_capacity(owner: str, value: Any, k: int, dtype: Any) -> ClusterCapacity | None:
    """A `ClusterCapacity` from an array (bounds) or an `Equal`; `None` for none."""
    capacity = as_capacity(owner, "capacity", value, (k,), dtype)
    return None if capacity is None else ClusterCapacity(capacity.limit, capacity.equality)


def totals_of(costs: Float[Array, "k n"], shares: Float[Array, " n"], beta: Scalar) -> Totals:
    """`Totals` of the Gibbs policy at these costs."""
    policy = gibbs.policy(costs, beta, axis=0)
    told = shares * policy
    joint = jnp.matmul(told, policy.T, precision=jax.lax.Precision.HIGHEST)
    return gibbs.free_energy(costs, shares, beta, axis=0), jnp.sum(told, axis=1), joint


def totals_in_blocks(
    costs: Float[Array, "n k"], shares: Float[Array, " n"], beta: Scalar
) -> Callable[[Array], Totals]:
    """`Totals` as a function of what is added to these costs."""

    def totals(charges: Array) -> Totals:
        def part(shares: Array, costs: Array) -> Totals:
            return totals_of(costs.T + charges[:, None], shares, beta)

        return block_sum(part, shares, costs, rows=block_rows(costs.shape[1]))

    return totals
