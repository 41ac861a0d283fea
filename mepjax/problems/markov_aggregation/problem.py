"""Aggregation of the states of a Markov chain into superstates that say alike what comes next."""

from typing import Any, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from ..._core import arrays, checks, gibbs, trees
from ..._core.types import Scalar
from ...engine.problem import Growable, Terms, check_fields
from ...engine.slot_spectrum import SlotSpectrum
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ..costs.entities import live, means_of
from ..mean_spectrum import Divergence, mean_spectrum
from .hard import Aggregation, aggregate, row_information
from .rows import AbstractRows, as_rows
from .stationary import stationary_distribution

_OWNER = "MarkovAggregation"
# Up to this many states the first transition is found by an eigenvalue problem.
_DENSE_LIMIT = 256
_POWER_STEPS = 500


class MarkovAggregation(Growable):
    """K superstates for the N states of a chain, by what they say of the next state.

    Minimises sum_i weights_i KL(pi_i || z_j(i)) over superstates j(i) and their distributions z_j,
    through the free energy -(1/beta) sum_i weights_i log sum_j exp(-beta d_ij) with
    d_ij = sum_s pi_is log(pi_is / z_js) - pi_is + z_js. With the last two terms the mean of rows is
    the unconstrained minimiser, so rows of z stay on the simplex by themselves. params is z, shape
    (K, S). Everything happens at temperatures 1 / beta in [0, 1], whatever the chain: end schedules
    at 1e2 to 1e3 `beta_scale()`.

    **Arguments:**

    - `transitions`: rows pi_i that sum to one, shape (N, N), an array or a
        `jax.experimental.sparse.BCOO` matrix. With weights given, rows over S states, (N, S).
    - `k`: number of superstates K, at most N.
    - `weights`: `"stationary"` (default), the chain's own distribution, for which what is lost is
        I(X; X') - I(superstate; X'), or an array (N,), >= 0, normalised to sum one.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected:
    rows that do not sum to one, negative or NaN probabilities, K > N, a chain of several closed
    classes with stationary weights. Values that are traced become a result code instead.

    Source: parameterized sequential decision making, chapter 6 and A.5, as corrected.

    **Example:** two pairs of states that are entered alike.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> near, far = jnp.array([0.4, 0.4, 0.1, 0.1]), jnp.array([0.1, 0.1, 0.4, 0.4])
    >>> problem = mj.MarkovAggregation(jnp.stack([near, near, far, far]), k=2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> hard = problem.harden(sol.params)
    >>> print(f"{hard.transitions.max():.2f}", abs(hard.cost) < 1e-5)
    0.80 True

    ```
    """

    rows: AbstractRows
    weights: Float[Array, " n"]
    k: int = eqx.field(static=True)
    is_stationary: bool = eqx.field(static=True)

    def __init__(self, transitions: Any, k: int, *, weights: Any = "stationary") -> None:
        checks.check_count(_OWNER, "k", k)
        self.k = int(k)
        self.rows = as_rows(_OWNER, "transitions", transitions)
        n, _ = self.rows.shape
        if k > n:
            raise ValueError(f"{_OWNER}: `k` must be at most the number of rows, {n}; got {k}.")
        checks.enforce(self._row_checks())
        self.is_stationary = isinstance(weights, str)
        if isinstance(weights, str):
            if weights != "stationary":
                raise ValueError(
                    f"{_OWNER}: `weights` must be 'stationary' or an array; got {weights!r}."
                )
            self.weights = stationary_distribution(_OWNER, self.rows)
        else:
            self.weights = arrays.as_data_like("weights", weights, self.rows.dtype)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{_OWNER}: `weights` must have shape ({n},) for {n} rows; "
                f"got {self.weights.shape}."
            )
        checks.enforce(self.checks())

    def replace(self, **fields: Any) -> Self:
        """The same problem with other arguments of its construction, by name.

        Stationary weights are those of the chain that replaces this one.
        """
        weights = "stationary" if self.is_stationary else self.weights
        now = {"transitions": self.rows, "k": self.k, "weights": weights}
        check_fields(type(self).__name__, fields, now)
        return type(self)(**(now | fields))

    def _row_checks(self) -> tuple[checks.Check, ...]:
        xp, sums = checks.on_host(self.rows.row_sums())
        worst = xp.argmax(xp.abs(sums - 1))
        tolerance = 1e-5 if self.rows.dtype == jnp.float32 else 1e-8
        ok = xp.abs(sums[worst] - 1) <= tolerance
        # Sentences are static in compiled programs: only one that is said may depend on the data.
        place = f"row {int(worst)}" if xp is np and not ok else "a row"
        entries = self.rows.entries
        return (
            checks.check_finite(_OWNER, "transitions", entries),
            checks.check_range(_OWNER, "transitions", entries, low=0.0),
            checks.Check(
                ok,
                sums[worst] - 1,
                f"{_OWNER}: rows of `transitions` must sum to one; {place} is off by {{got}}.",
            ),
        )

    def checks(self) -> tuple[checks.Check, ...]:
        """Rows that are probability vectors, usable weights."""
        xp, weights = checks.on_host(self.weights)
        total = xp.sum(weights)
        several = checks.Check(
            ~xp.any(xp.isnan(weights)) if self.is_stationary else True,
            0.0,
            f"{_OWNER}: `transitions` must have one closed class of states for stationary weights.",
        )
        return (
            *self._row_checks(),
            several,
            checks.check_finite(_OWNER, "weights", self.weights),
            checks.check_range(_OWNER, "weights", self.weights, low=0.0),
            checks.Check(
                total > 0, total, f"{_OWNER}: `weights` must not all be zero; their sum is {{got}}."
            ),
        )

    # What the problem is.

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the thesis."""
        return (*super().references, "parameterised_decisions")

    @property
    def transitions(self) -> Float[Array, "n s"]:
        """The rows as an array of shape (N, S)."""
        return self.rows.dense()

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

    def _floor(self) -> float:
        """Below it a probability is none; its reciprocal is finite."""
        return float(jnp.finfo(self.rows.dtype).tiny) ** 0.5

    def _floored(self, z: Float[Array, "k s"]) -> Float[Array, "k s"]:
        return jnp.maximum(z, self._floor())

    def divergences(self, params: Float[Array, "k s"]) -> Float[Array, "n k"]:
        """d_ij, in nats; large but finite where z_j has no place for what row i does."""
        return self.rows.entropies()[:, None] + self._relative(params)

    def _relative(self, z: Float[Array, "k s"]) -> Float[Array, "n k"]:
        """d_ij less what is the same for all j; rows sum to one."""
        return jnp.sum(z, axis=1) - 1 - self.rows.along(jnp.log(self._floored(z)))

    def _told(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, "n k"]:
        """weights_i p(j|i)."""
        return self._shares()[:, None] * gibbs.policy(self._relative(params), beta)

    # The contract.

    def init(self, key: Any) -> Float[Array, "k s"]:
        """The mean row for every superstate."""
        del key
        shares = jnp.broadcast_to(self._shares()[:, None] / self.k, (self.weights.size, self.k))
        return self.k * self.rows.sums(shares)

    def scatter(self, key: Any) -> Float[Array, "k s"]:
        """K rows drawn by weight, each with a tenth of the mean row, which reaches every state."""
        n = self.weights.size
        chosen = jax.random.choice(key, n, (self.k,), replace=False, p=self._shares())
        picked = self.rows.sums(jax.nn.one_hot(chosen, n, dtype=self.rows.dtype).T)
        return 0.9 * picked + 0.1 * self.init(key)

    def free_energy(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, ""]:
        """-(1/beta) sum_i weights_i log sum_j exp(-beta d_ij)."""
        return gibbs.free_energy(self.divergences(params), self._shares(), beta)

    def terms(self, params: Float[Array, "k s"], beta: Scalar) -> Terms:
        """F, and expected divergence and entropy of the Gibbs policy."""
        found = gibbs.free_energy_and_terms(self.divergences(params), self._shares(), beta)
        return Terms(*found)

    def policy(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, "n k"]:
        """log softmax_j(-beta d_ij)."""
        return gibbs.log_policy(self._relative(params), beta)

    def update(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, "k s"]:
        """The mean of the rows that each superstate is told to serve; without mass it stays."""
        told = self._told(params, beta)
        return means_of(self.rows.sums(told), jnp.sum(told, axis=0), params)

    def residual(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, "k s"]:
        """grad F, q_j - sums_js / z_js; what is undetermined stays."""
        return self.residual_and_metric(params, beta)[0]

    def residual_and_metric(
        self, params: Float[Array, "k s"], beta: Scalar
    ) -> tuple[Float[Array, "k s"], lx.AbstractLinearOperator]:
        """`residual` and `metric` from one pass over the policy."""
        still = jax.lax.stop_gradient(params)
        # What stays moves nothing else, so that the Jacobian is symmetric.
        held = jnp.where(params <= self._floor(), still, params)
        told = self._told(held, beta)
        mass = jnp.sum(told, axis=0)
        free = self._free(params, mass)
        safe = jnp.where(free, params, 1.0)
        slope = mass[:, None] - self.rows.sums(told) / safe
        # No row of the group reaches the state, or there is no group: it carries no derivative.
        equation = jnp.where(free, slope, params - still)
        return equation, lx.DiagonalLinearOperator(jnp.where(free, mass[:, None] / safe, 1.0))

    def _free(self, params: Float[Array, "k s"], mass: Float[Array, " k"]) -> Array:
        return live(mass)[:, None] & ~(params <= self._floor())

    def metric(self, params: Float[Array, "k s"], beta: Scalar) -> lx.AbstractLinearOperator:
        """diag(q_j / z_js), the Hessian as beta -> 0; 1 where z is undetermined."""
        return self.residual_and_metric(params, beta)[1]

    def harden(self, params: Float[Array, "k s"]) -> Aggregation:
        """The nearest superstate of each state that reaches what the state does, and the chain.

        Supports are compared exactly: a superstate without a place for what a state does is
        infinitely far, unless they all are.
        """
        costs = self.divergences(params)
        missed = self.rows.outside(params > self._floor())
        costs = jnp.where((missed > 0) & ~jnp.all(missed > 0, axis=1)[:, None], jnp.inf, costs)
        return aggregate(self.rows, self._shares(), costs)

    def params_scale(self, params: Float[Array, "k s"]) -> Any:
        """The largest probability of the mean row."""
        del params
        shares = jax.lax.stop_gradient(self._shares())
        return jnp.max(trees.stop_gradient(self.rows).sums(shares[:, None]))

    def beta_scale(self) -> Float[Array, ""]:
        """The first transition, 1 / sigma_max([sqrt(weights_i) (pi_i - z) / sqrt(z)])^2 >= 1.

        1 where all rows are alike.
        """
        still = trees.stop_gradient(self)
        shares, (n, s) = still._shares(), still.rows.shape
        z = still.rows.sums(shares[:, None])[0]
        # Columns that no row reaches are no part of it.
        root = jnp.where(z > 0, 1 / jnp.sqrt(jnp.where(z > 0, z, 1.0)), 0.0)
        if min(n, s) <= _DENSE_LIMIT:
            scaled = jnp.sqrt(shares)[:, None] * (still.rows.dense() - z) * root
            gram = scaled @ scaled.T if n <= s else scaled.T @ scaled
            largest = jnp.linalg.eigvalsh(gram)[-1]
        else:
            largest = self._largest_inertia(still, z, root, shares)
        # Rounding leaves something of rows that are all alike.
        split = largest > 100 * jnp.finfo(z.dtype).eps
        return jnp.where(split, 1 / jnp.where(split, largest, 1.0), 1.0)

    @staticmethod
    def _largest_inertia(still: Any, z: Array, root: Array, shares: Array) -> Float[Array, ""]:
        """By power iteration on products with the rows."""

        def apply(v: Array) -> Array:
            along = still.rows.along((root * v)[None])[:, 0] - z @ (root * v)
            amounts = shares * along
            return root * (still.rows.sums(amounts[:, None])[0] - jnp.sum(amounts) * z)

        def step(_: Any, v: Array) -> Array:
            image = apply(v)
            length = jnp.linalg.norm(image)
            return image / jnp.where(length > 0, length, 1.0)

        start = step(0, root * jax.random.normal(jax.random.key(0), z.shape, z.dtype))
        v = jax.lax.fori_loop(0, _POWER_STEPS, step, start)
        return v @ apply(v)

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint`: the alternation never raises F."""
        return FixedPoint()

    # Growth.

    @property
    def n_slots(self) -> int:
        """K, the number of clusters."""
        return self.k

    def slot_spectrum(self, params: Float[Array, "k s"], beta: Scalar) -> SlotSpectrum:
        """Critical betas are 1 / T_cr of Theorem 13, the first principal inertia of the rows."""
        return mean_spectrum(
            Divergence(
                pairwise=self._relative,
                between=_between,
                sums=self.rows.sums,
                along=self.rows.along,
                # A state that nothing reaches has no curvature, though 1 / z is large.
                curvature=lambda z, v: jnp.where(z > self._floor(), v / self._floored(z), 0.0),
            ),
            params,
            self._told(params, beta),
            self._shares(),
            beta,
        )

    # Beyond the contract.

    def aggregated(self, params: Float[Array, "k s"], beta: Scalar) -> Float[Array, "k k"]:
        """The chain of superstates psi_jl = sum_s z_js p(l|s); rows sum to one.

        With stationary weights its stationary distribution is what the superstates weigh.

        **Raises:** `ValueError` unless the rows are those of a chain.
        """
        n, s = self.rows.shape
        if n != s:
            raise ValueError(
                f"{_OWNER}: `aggregated` needs a chain, as many rows as states; got ({n}, {s})."
            )
        return params @ jnp.exp(self.policy(params, beta))

    def of_partition(self, assignments: Any) -> Aggregation:
        """The superstates of a partition from anything, labels 0 .. K-1, at their means."""
        labels = jnp.asarray(assignments, jnp.int32)
        if labels.shape != self.weights.shape:
            raise ValueError(
                f"{_OWNER}: `assignments` must have shape {self.weights.shape}; got {labels.shape}."
            )
        told = self._shares()[:, None] * jax.nn.one_hot(labels, self.k, dtype=self.rows.dtype)
        start = jnp.full((self.k, self.rows.shape[1]), 1 / self.rows.shape[1], self.rows.dtype)
        means = means_of(self.rows.sums(told), jnp.sum(told, axis=0), start)
        own = jnp.arange(self.k) == labels[:, None]
        return aggregate(
            self.rows, self._shares(), jnp.where(own, self.divergences(means), jnp.inf)
        )

    def information(self) -> Float[Array, ""]:
        """I(X; X') = sum_i weights_i KL(pi_i || mean row), in nats: what there is to lose."""
        return row_information(self.rows, self._shares())


def _between(a: Float[Array, "k s"], b: Float[Array, "k s"]) -> Float[Array, " k"]:
    """KL(a_k || b_k) with its linear terms."""
    positive = (a > 0) & (b > 0)
    ratio = jnp.where(positive, a, 1.0) / jnp.where(positive, b, 1.0)
    return jnp.sum(jnp.where(positive, a, 0.0) * jnp.log(ratio) - a + b, axis=1)
