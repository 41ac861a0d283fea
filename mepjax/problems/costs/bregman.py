"""Bregman divergences d(x, y) = phi(x) - phi(y) - <grad phi(y), x - y>."""

import abc
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..._core import checks
from . import weighted_sum
from .base import block_operator
from .mean import MeanCost

_HIGHEST = jax.lax.Precision.HIGHEST
# Up to this many features pairs are compared feature by feature, which loses no digits.
_DIRECT_LIMIT = 4


def _from_reference(
    to_reference: Float[Array, " n"],
    from_reference: Float[Array, " k"],
    x: Float[Array, "n d"],
    slopes: Float[Array, "k d"],
) -> Float[Array, "n k"]:
    """d(x, y) = d(x, o) + d(o, y) - <x - o, grad phi(y) - grad phi(o)>: one matrix product.

    With o amid the data all terms are of the size of the data's spread, not of phi itself.
    """
    cross = jnp.matmul(x, slopes.T, precision=_HIGHEST)
    values = to_reference[:, None] + from_reference[None, :] - cross
    # Clipped in value only: a select would drop the Hessian of coincident pairs.
    return values + jax.lax.stop_gradient(jnp.maximum(values, 0.0) - values)


class Bregman(MeanCost):
    """The Bregman divergence of a convex function, with the centre in the second place.

    d(x, y) = phi(x) - phi(y) - <grad phi(y), x - y> for any differentiable, strictly convex
    `potential` phi; the minimiser of its weighted sums is the weighted mean. For relative entropy
    and Itakura-Saito distances the ready-made classes are more accurate.

    **Arguments:** `potential`: maps a point (d,) to a scalar. To differentiate its parameters make
    it an `equinox.Module` with a `__call__`; parameters captured in a closure are constants.

    **Raises:** `TypeError` if `potential` is not callable or captures traced values; `ValueError`
    if it does not return a scalar or is not finite at the data.

    **Example:** half the squared norm gives half the squared distance.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.Bregman(lambda z: 0.5 * jnp.sum(z**2))
    >>> print(cost.pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[12.5]]

    ```
    """

    potential: Callable[[Array], Any]

    def __check_init__(self) -> None:
        checks.check_function("Bregman", "potential", self.potential, "(self, z)")

    def _values(self, points: Float[Array, "m d"]) -> Float[Array, " m"]:
        return jax.vmap(self.potential)(points)

    def _slopes(self, points: Float[Array, "m d"]) -> Float[Array, "m d"]:
        return jax.vmap(jax.grad(self.potential))(points)

    def _hessians(self, points: Float[Array, "m d"]) -> Float[Array, "m d d"]:
        return weighted_sum.positive_definite(jax.vmap(jax.hessian(self.potential))(points))

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """The potential returns one number."""
        checks.check_scalar_function("Bregman", "potential", self.potential, "a point", d)
        return ()

    def check_data(self, x: Float[Array, "n d"]) -> tuple[checks.Check, ...]:
        """The potential is finite at the data."""
        return (checks.check_finite("Bregman", "potential(x)", self._values(x)),)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Relative to a point amid the data."""
        reference = jax.lax.stop_gradient(jnp.mean(x, axis=0))[None]
        value, slope = self._values(reference), self._slopes(reference)
        to_reference = self._values(x) - value - jnp.sum((x - reference) * slope, axis=1)
        slopes = self._slopes(y)
        from_reference = value - self._values(y) + jnp.sum((y - reference) * slopes, axis=1)
        return _from_reference(to_reference, from_reference, x - reference, slopes - slope)

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """L^T x / sqrt(2) with Hess phi = L L^T at the mean."""
        lower = jnp.linalg.cholesky(self._hessians((shares @ x)[None])[0])
        return jnp.matmul(x, lower, precision=_HIGHEST) * 0.5**0.5

    def metric_of(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """blockdiag(m_k Hess phi(y_k))."""
        return block_operator(masses[:, None, None] * self._hessians(y))

    def solve_metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Hess phi(y_k)^-1 vector_k / m_k."""
        return weighted_sum.solve_blocks(self._hessians(y), vector) / masses[:, None]


class _Separable(MeanCost):
    """A Bregman divergence that is a sum over features, of positive data.

    A centre outside the domain, where a trial step may land, counts as the nearest one inside.
    """

    @abc.abstractmethod
    def _term(self, x: Array, y: Array) -> Array:
        """The divergence of two positive numbers, elementwise."""

    @abc.abstractmethod
    def _slope(self, y: Array, reference: Array) -> Array:
        """phi'(y) - phi'(reference), elementwise."""

    @abc.abstractmethod
    def _bend(self, y: Array) -> Array:
        """phi''(y), elementwise."""

    def check_data(self, x: Float[Array, "n d"]) -> tuple[checks.Check, ...]:
        """That the data are positive."""
        return (checks.check_range(type(self).__name__, "x", x, low=0.0, open_low=True),)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Feature by feature for few features, else relative to a point amid the data."""
        y = _inside(y)
        features = x.shape[1]
        if features <= _DIRECT_LIMIT:
            return sum(
                (self._term(x[:, f, None], y[None, :, f]) for f in range(1, features)),
                self._term(x[:, 0, None], y[None, :, 0]),
            )
        reference = jax.lax.stop_gradient(jnp.mean(x, axis=0))[None]
        return _from_reference(
            jnp.sum(self._term(x, reference), axis=1),
            jnp.sum(self._term(reference, y), axis=1),
            x - reference,
            self._slope(y, reference),
        )

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """x scaled by the square root of half the curvature at the mean."""
        return x * jnp.sqrt(0.5 * self._bend(shares @ x))

    def metric_of(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """diag(m_k phi''(y_k))."""
        return lx.DiagonalLinearOperator(masses[:, None] * self._bend(_inside(y)))

    def solve_metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """vector_k / (m_k phi''(y_k))."""
        return vector / (masses[:, None] * self._bend(_inside(y)))


def _inside(y: Array) -> Array:
    # The reciprocal of its square must be finite too.
    return jnp.maximum(y, float(jnp.finfo(y.dtype).tiny) ** 0.5)


def _log_gap(ratio: Array, excess: Array) -> Array:
    """excess - log(ratio) >= 0 with excess = ratio - 1, without cancellation near ratio = 1."""
    near = jnp.abs(excess) < 0.25
    # log(1 + e) = 2 artanh(z) with z = e / (2 + e), and e = 2 z / (1 - z).
    z = jnp.where(near, excess, 0.0) / (2 + jnp.where(near, excess, 0.0))
    square = z * z
    tail = jnp.zeros_like(z)
    for power in range(19, 1, -2):
        tail = tail * square + 1 / power
    series = 2 * square / (1 - z) - 2 * z * square * tail
    return jnp.where(near, series, excess - jnp.log(jnp.where(near, 1.0, ratio)))


class KullbackLeibler(_Separable):
    """d(x, y) = sum_f x_f log(x_f / y_f) - x_f + y_f, for positive data such as counts.

    The Bregman divergence of sum_f x_f log x_f; for rows that sum to one it is the relative
    entropy in nats.

    **Raises:** `ValueError` on data that are not positive.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.KullbackLeibler()
    >>> divergence = cost.pairwise(jnp.array([[0.5, 0.5]]), jnp.array([[0.25, 0.75]]))
    >>> print(f"{divergence[0, 0]:.4f}")
    0.1438

    ```
    """

    def _term(self, x: Array, y: Array) -> Array:
        return x * _log_gap(y / x, (y - x) / x)

    def _slope(self, y: Array, reference: Array) -> Array:
        return jnp.log(y / reference)

    def _bend(self, y: Array) -> Array:
        return 1 / y


class ItakuraSaito(_Separable):
    """d(x, y) = sum_f x_f / y_f - log(x_f / y_f) - 1, for positive data such as power spectra.

    The Bregman divergence of -sum_f log x_f; it does not change when x and y are scaled alike.

    **Raises:** `ValueError` on data that are not positive.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.ItakuraSaito()
    >>> print(f"{cost.pairwise(jnp.array([[2.0]]), jnp.array([[1.0]]))[0, 0]:.4f}")
    0.3069

    ```
    """

    def _term(self, x: Array, y: Array) -> Array:
        return _log_gap(x / y, (x - y) / y)

    def _slope(self, y: Array, reference: Array) -> Array:
        return 1 / reference - 1 / y

    def _bend(self, y: Array) -> Array:
        return 1 / y**2
