"""Dissimilarities between a point and a centre, with their exact mean step and curvature."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from .._core import checks
from .._core.arrays import as_parameter
from .._core.distances import squared_euclidean
from .._core.linear import solve_symmetric


class AbstractCost(eqx.Module):
    """A dissimilarity d(x, y) whose weighted sum over x has a known minimiser in y.

    All points are handed over relative to a common origin near the data, which a translation
    invariant cost may ignore.
    """

    @abc.abstractmethod
    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """d(x_i, y_k) for all pairs."""

    @abc.abstractmethod
    def embed(self, x: Float[Array, "n d"]) -> Float[Array, "n e"]:
        """Coordinates whose covariance gives the first transition."""

    @abc.abstractmethod
    def metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """blockdiag(m_k Hess_y d), the Hessian of F as beta -> 0."""

    @abc.abstractmethod
    def precondition(
        self, masses: Float[Array, " k"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """Solve with `metric`."""

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """Conditions on the cost's own arrays for data of `d` features."""
        return ()


class SquaredEuclidean(AbstractCost):
    """d(x, y) = |x - y|^2, in squared units of x.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> print(mj.costs.SquaredEuclidean().pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[25.]]

    ```
    """

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Squared distances."""
        return squared_euclidean(x, y)

    def embed(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """x itself."""
        return x

    def metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """2 diag(m)."""
        return lx.DiagonalLinearOperator(jnp.broadcast_to(2 * masses[:, None], y.shape))

    def precondition(
        self, masses: Float[Array, " k"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """vector_k / (2 m_k)."""
        return vector / (2 * masses[:, None])


class Mahalanobis(AbstractCost):
    """d(x, y) = (x - y)^T matrix (x - y).

    **Arguments:** `matrix`, shape (d, d), symmetric positive definite, differentiable.

    **Raises:** `ValueError` if it is not square, not symmetric or not positive definite.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> cost = mj.costs.Mahalanobis(jnp.diag(jnp.array([1.0, 4.0])))
    >>> print(cost.pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[73.]]

    ```
    """

    matrix: Float[Array, "d d"]

    def __init__(self, matrix: Any) -> None:
        self.matrix = as_parameter("matrix", matrix)
        shape = self.matrix.shape
        if self.matrix.ndim != 2 or shape[0] != shape[1] or shape[0] == 0:
            raise ValueError(f"Mahalanobis: `matrix` must be square; got shape {shape}.")
        checks.enforce(self.check(shape[0]))

    def check(self, d: int) -> tuple[checks.Check, ...]:
        """Square of size d, finite, symmetric, positive definite."""
        if self.matrix.shape != (d, d):
            raise ValueError(
                f"Mahalanobis: `matrix` must have shape ({d}, {d}) for data of {d} features; "
                f"got {self.matrix.shape}."
            )
        xp, matrix = checks.on_host(self.matrix)
        finite = checks.check_finite("Mahalanobis", "matrix", self.matrix)
        matrix = xp.where(xp.isfinite(matrix), matrix, 0.0)
        size = xp.max(xp.abs(matrix))
        asymmetry = xp.max(xp.abs(matrix - matrix.T))
        smallest = xp.min(xp.linalg.eigvalsh(0.5 * (matrix + matrix.T)))
        eps = float(jnp.finfo(self.matrix.dtype).eps)
        return (
            finite,
            checks.Check(
                asymmetry <= 100 * eps * size,
                asymmetry,
                "Mahalanobis: `matrix` must be symmetric; its entries differ from those of its "
                "transpose by up to {got}.",
            ),
            checks.Check(
                smallest > 0,
                smallest,
                "Mahalanobis: `matrix` must be positive definite; its smallest eigenvalue is "
                "{got}.",
            ),
        )

    def embed(self, x: Float[Array, "n d"]) -> Float[Array, "n d"]:
        """L^T x with matrix = L L^T, in which the cost is squared Euclidean."""
        symmetric = 0.5 * (self.matrix + self.matrix.T)
        return jnp.matmul(x, jnp.linalg.cholesky(symmetric), precision=jax.lax.Precision.HIGHEST)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Squared distances after embedding."""
        return squared_euclidean(self.embed(x), self.embed(y))

    def metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """2 m_k matrix, block by block."""

        def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
            return 2 * masses[:, None] * (v @ self.matrix.T)

        structure = jax.ShapeDtypeStruct(y.shape, y.dtype)
        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def precondition(
        self, masses: Float[Array, " k"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """matrix^-1 vector_k / (2 m_k), one small solve for all clusters."""
        operator = lx.MatrixLinearOperator(self.matrix, lx.positive_semidefinite_tag)
        return jax.vmap(lambda v: solve_symmetric(operator, v))(vector) / (2 * masses[:, None])


def as_cost(cost: Any) -> AbstractCost:
    """A cost from its name or itself."""
    if isinstance(cost, AbstractCost):
        return cost
    if cost == "sqeuclidean":
        return SquaredEuclidean()
    if cost == "mahalanobis":
        raise ValueError(
            'Clustering: `cost="mahalanobis"` needs a matrix; pass '
            "`cost=mepjax.costs.Mahalanobis(matrix)`."
        )
    raise ValueError(
        'Clustering: `cost` must be "sqeuclidean" or an instance of a class in mepjax.costs; '
        f"got {cost!r}."
    )
