"""Squared distances, whose M-step is the weighted mean."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ..._core import checks
from ..._core.arrays import as_parameter
from ..._core.distances import squared_euclidean
from ..._core.linear import solve_symmetric
from .mean import MeanCost


class SquaredEuclidean(MeanCost):
    """d(x, y) = |x - y|^2, in squared units of x.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> print(mj.costs.SquaredEuclidean().pairwise(jnp.zeros((1, 2)), jnp.array([[3.0, 4.0]])))
    [[25.]]

    ```
    """

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """|x_i - y_k|^2 for all pairs."""
        return squared_euclidean(x, y)

    @property
    def translation_invariant(self) -> bool:
        """True: only differences of places count."""
        return True

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """x itself, in which the cost is quadratic already."""
        return x

    def metric_of(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """2 diag(m)."""
        return lx.DiagonalLinearOperator(jnp.broadcast_to(2 * masses[:, None], y.shape))

    def solve_metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """vector_k / (2 m_k)."""
        return vector / (2 * masses[:, None])


class Mahalanobis(MeanCost):
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

    @property
    def translation_invariant(self) -> bool:
        """True: only differences of places count."""
        return True

    def _rotated(self, points: Float[Array, "m d"]) -> Float[Array, "m d"]:
        """L^T points with matrix = L L^T, in which the cost is squared Euclidean."""
        lower = jnp.linalg.cholesky(0.5 * (self.matrix + self.matrix.T))
        return jnp.matmul(points, lower, precision=jax.lax.Precision.HIGHEST)

    def embed(self, x: Float[Array, "n d"], shares: Float[Array, " n"]) -> Float[Array, "n d"]:
        """L^T x with matrix = L L^T."""
        return self._rotated(x)

    def pairwise(self, x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
        """Squared distances of the rotated points."""
        if x.shape[1] == 1:
            # Else the product that rotates is contracted into the difference, see `_core.gibbs`.
            return self.matrix[0, 0] * squared_euclidean(x, y)
        return squared_euclidean(self._rotated(x), self._rotated(y))

    def metric_of(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"]
    ) -> lx.AbstractLinearOperator:
        """2 m_k matrix, block by block."""

        def apply(v: Float[Array, "k d"]) -> Float[Array, "k d"]:
            return 2 * masses[:, None] * (v @ self.matrix.T)

        structure = jax.ShapeDtypeStruct(y.shape, y.dtype)
        return lx.FunctionLinearOperator(apply, structure, lx.positive_semidefinite_tag)

    def solve_metric(
        self, masses: Float[Array, " k"], y: Float[Array, "k d"], vector: Float[Array, "k d"]
    ) -> Float[Array, "k d"]:
        """matrix^-1 vector_k / (2 m_k), one small solve for all clusters."""
        operator = lx.MatrixLinearOperator(self.matrix, lx.positive_semidefinite_tag)
        return jax.vmap(lambda v: solve_symmetric(operator, v))(vector) / (2 * masses[:, None])
