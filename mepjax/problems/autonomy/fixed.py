"""Autonomy that does not depend on the centres."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..._core import checks
from ..._core.arrays import as_parameter
from ..costs import AbstractCost
from .base import AbstractAutonomy, at_kappa_zero, check_kappa, kappa_of, row_kappa

_HIGHEST = jax.lax.Precision.HIGHEST


class Uniform(AbstractAutonomy):
    """An entity stays with probability 1 - kappa, else picks any other cluster alike.

    p(k | j, i) = 1 - kappa for k = j and kappa / (K - 1) otherwise.

    **Arguments:** `kappa` in [0, 1], scalar or shape (N,).

    **Raises:** `ValueError` if kappa lies outside [0, 1].

    **Example:** its first transition is 1 / (2 a^2 Lambda), a = 1 - kappa K / (K - 1).

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-2.0, 0], [2, 0], [0, -1], [0, 1]])
    >>> problem = mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(0.25))
    >>> print(f"{mj.critical_beta(problem, jnp.zeros((4, 2)), 0.1):.4f}")
    0.5625

    ```
    """

    kappa: Float[Array, "*n"]

    def __init__(self, kappa: Any) -> None:
        self.kappa = as_parameter("kappa", kappa)
        checks.enforce(check_kappa("Uniform", self.kappa))

    @property
    def exchangeable(self) -> bool:
        """True: overrides treat all clusters alike."""
        return True

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """That kappa is a probability, and one number or one an entity."""
        return check_kappa("Uniform", self.kappa, n)

    @property
    def without_overrides(self) -> "Uniform":
        """With kappa = 0."""
        return at_kappa_zero(self)

    def of_entities(self, places: Int[Array, " m"]) -> "Uniform":
        """The model with the kappa of these entities."""
        return eqx.tree_at(lambda a: a.kappa, self, kappa_of(self.kappa, places))

    def kernel(self, x: Any, y: Any, origin: Any, distances: Any, cost: AbstractCost) -> Array:
        """kappa, which is all that p depends on."""
        return self.kappa

    def average(self, kernel: Array, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """a D + b sum_k D_ik, never a matrix product."""
        k = distances.shape[1]
        if k == 1:
            return distances
        kappa = row_kappa(kernel)
        other = (jnp.sum(distances, axis=1, keepdims=True) - distances) / (k - 1)
        return (1 - kappa) * distances + kappa * other


def as_stochastic(owner: str, p: Any, shape: str) -> Any:
    """A table of probabilities of a shape such as "(N, K, K)", its rows checked as they came.

    Rows of a NumPy table in single precision, and of any in half precision, sum to one in that
    precision only; divided by their sums they do in any to which the data may cast them.
    """
    table = as_parameter("p", p)
    if jnp.issubdtype(getattr(p, "dtype", int), jnp.floating) and p.dtype.itemsize == 2:
        sums = table.sum(axis=-1, keepdims=True) if table.ndim else table
        if checks.is_concrete(table) and np.all(np.abs(sums - 1) <= jnp.finfo(p.dtype).eps):
            table = table / sums
    if table.ndim != shape.count(",") + 1 or table.shape[-2] != table.shape[-1] or table.size == 0:
        raise ValueError(f"{owner}: `p` must have shape {shape}; got {table.shape}.")
    single = getattr(p, "dtype", None) == np.float32 and not isinstance(table, jax.Array)
    checks.enforce(
        checks.check_stochastic(owner, "p", table.astype(np.float32) if single else table)
    )
    return table / np.sum(table, axis=-1, keepdims=True) if single else table


class Matrix(AbstractAutonomy):
    """The same override probabilities for every entity.

    **Arguments:** `p`, shape (K, K): p[j, k] is the probability that an entity prescribed to
    cluster j ends in cluster k. Rows sum to one.

    **Raises:** `ValueError` if p is not square, negative, or a row does not sum to one.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> p = mj.autonomy.Matrix([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.1, 0.6]])
    >>> x = jnp.array([[-2.0, 0], [2, 0], [0, -1], [0, 1]])
    >>> problem = mj.Clustering(x, 3, autonomy=p)
    >>> print(f"{mj.critical_beta(problem, jnp.zeros((3, 2)), 0.1):.4f}")
    0.6037

    ```
    """

    p: Float[Array, "k k"]

    def __init__(self, p: Any) -> None:
        self.p = as_stochastic("Matrix", p, "(K, K)")

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """Shape (k, k), rows probabilities."""
        if self.p.shape != (k, k):
            raise ValueError(
                f"Matrix: `p` must have shape ({k}, {k}) for k={k}; got {self.p.shape}."
            )
        return checks.check_stochastic("Matrix", "p", self.p)

    def kernel(self, x: Any, y: Any, origin: Any, distances: Any, cost: AbstractCost) -> Array:
        """The probabilities themselves."""
        return self.p

    def average(self, kernel: Array, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """D p^T, one matrix product."""
        return jnp.matmul(distances, kernel.T, precision=_HIGHEST)


class Dense(AbstractAutonomy):
    """Override probabilities given entity by entity.

    **Arguments:** `p`, shape (N, K, K): p[i, j, k] = p(k | j, i). Rows over k sum to one.

    **Raises:** `ValueError` if p is not of that shape, negative, or a row does not sum to one.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> p = mj.autonomy.Dense([[[0.9, 0.1], [0.4, 0.6]]])
    >>> problem = mj.Clustering(jnp.array([[0.0]]), 2, autonomy=p)
    >>> print(f"{problem.free_energy(jnp.array([[1.0], [3.0]]), 1.0):.5f}")
    1.78185

    ```
    """

    p: Float[Array, "n k k"]

    def __init__(self, p: Any) -> None:
        self.p = as_stochastic("Dense", p, "(N, K, K)")

    def check(self, n: int, k: int) -> tuple[checks.Check, ...]:
        """Shape (n, k, k), rows probabilities."""
        if self.p.shape != (n, k, k):
            raise ValueError(
                f"Dense: `p` must have shape ({n}, {k}, {k}) for {n} entities and k={k}; "
                f"got {self.p.shape}."
            )
        return checks.check_stochastic("Dense", "p", self.p)

    def of_entities(self, places: Int[Array, " m"]) -> "Dense":
        """The model with the matrices of these entities."""
        return eqx.tree_at(lambda a: a.p, self, self.p[places])

    def kernel(self, x: Any, y: Any, origin: Any, distances: Any, cost: AbstractCost) -> Array:
        """The probabilities themselves."""
        return self.p

    def average(self, kernel: Array, distances: Float[Array, "n k"]) -> Float[Array, "n k"]:
        """One small matrix-vector product per entity; nothing larger than p is formed."""
        return jnp.einsum("ijk,ik->ij", kernel, distances, precision=_HIGHEST)
