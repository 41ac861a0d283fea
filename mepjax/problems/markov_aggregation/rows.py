"""Rows of probabilities, dense or sparse, seen through products with them."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse
from jaxtyping import Array, Float, Int

from ..._core import arrays
from ..._core.checks import on_host

_HIGHEST = jax.lax.Precision.HIGHEST


class AbstractRows(eqx.Module):
    """N probability vectors over S states."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, int]:
        """(N, S): vectors, and states over which each sums to one."""

    @property
    @abc.abstractmethod
    def dtype(self) -> Any:
        """dtype of the probabilities."""

    @property
    @abc.abstractmethod
    def entries(self) -> Any:
        """The numbers, all or those that are stored."""

    @abc.abstractmethod
    def row_sums(self) -> Any:
        """Sums of the rows, on the host where they are concrete."""

    @abc.abstractmethod
    def sums(self, weights: Float[Array, "n k"]) -> Float[Array, "k s"]:
        """sum_i weights_ij pi_i."""

    @abc.abstractmethod
    def along(self, vectors: Float[Array, "k s"]) -> Float[Array, "n k"]:
        """pi_i . v_j."""

    @abc.abstractmethod
    def grouped_sums(
        self, amounts: Float[Array, " n"], labels: Int[Array, " n"], k: int
    ) -> Float[Array, "k s"]:
        """sum_{i in group j} amounts_i pi_i."""

    @abc.abstractmethod
    def grouped_along(
        self, vectors: Float[Array, "k s"], labels: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """pi_i . v of the group of row i."""

    @abc.abstractmethod
    def entropies(self) -> Float[Array, " n"]:
        """sum_s pi_is log pi_is, with 0 log 0 = 0."""

    @abc.abstractmethod
    def outside(self, covered: Any) -> Float[Array, "n k"]:
        """How much of row i is where `covered` (k, s) is false; exactly 0 if nothing is."""

    @abc.abstractmethod
    def dense(self) -> Float[Array, "n s"]:
        """All N S numbers as an array, zeros included."""


def _negative_entropy(p: Array) -> Array:
    positive = p > 0
    return jnp.where(positive, p * jnp.log(jnp.where(positive, p, 1.0)), 0.0)


class DenseRows(AbstractRows):
    """All N S numbers."""

    values: Float[Array, "n s"]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, S): vectors, and states over which each sums to one."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def dtype(self) -> Any:
        """dtype of the probabilities."""
        return self.values.dtype

    @property
    def entries(self) -> Any:
        """All N S numbers, as they are stored."""
        return self.values

    def row_sums(self) -> Any:
        """Sum of each row, on the host where numbers are concrete."""
        xp, values = on_host(self.values)
        return xp.sum(values, axis=1)

    def sums(self, weights: Float[Array, "n k"]) -> Float[Array, "k s"]:
        """sum_i weights_ij pi_i, by one matrix product."""
        return jnp.matmul(weights.T, self.values, precision=_HIGHEST)

    def along(self, vectors: Float[Array, "k s"]) -> Float[Array, "n k"]:
        """pi_i . v_j, by one matrix product."""
        return jnp.matmul(self.values, vectors.T, precision=_HIGHEST)

    def grouped_sums(
        self, amounts: Float[Array, " n"], labels: Int[Array, " n"], k: int
    ) -> Float[Array, "k s"]:
        """sum_{i in group j} amounts_i pi_i, in one pass over the rows."""
        return jax.ops.segment_sum(amounts[:, None] * self.values, labels, k)

    def grouped_along(
        self, vectors: Float[Array, "k s"], labels: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """pi_i . v of the group of row i, in one pass over the rows."""
        return jnp.sum(self.values * vectors[labels], axis=1)

    def entropies(self) -> Float[Array, " n"]:
        """sum_s pi_is log pi_is of each row, with 0 log 0 = 0."""
        return jnp.sum(_negative_entropy(self.values), axis=1)

    def outside(self, covered: Any) -> Float[Array, "n k"]:
        """Counts, which no rounding hides."""
        positive = (self.values > 0).astype(self.dtype)
        return positive @ (~covered).astype(self.dtype).T

    def dense(self) -> Float[Array, "n s"]:
        """The array that is stored."""
        return self.values


class SparseRows(AbstractRows):
    """The numbers of a `jax.experimental.sparse.BCOO` matrix."""

    values: Float[Array, " nse"]
    row: Any
    column: Any
    size: tuple[int, int] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, S): vectors, and states over which each sums to one."""
        return self.size

    @property
    def dtype(self) -> Any:
        """dtype of the probabilities."""
        return self.values.dtype

    @property
    def entries(self) -> Any:
        """Those that are stored."""
        return self.values

    def _by_row(self, amounts: Array) -> Array:
        # Padding of BCOO has indices out of range, which segment sums drop.
        return jax.ops.segment_sum(amounts, self.row, self.size[0])

    def _padded(self, table: Array, index: Any) -> Array:
        """Rows of a table; zeros for padding."""
        return jnp.take(table, index, axis=0, mode="fill", fill_value=0)

    def row_sums(self) -> Any:
        """Sum of each row, on the host where numbers are concrete."""
        xp, values = on_host(self.values)
        if xp is jnp:
            return self._by_row(self.values)
        row = np.asarray(self.row)
        kept = row < self.size[0]
        return np.bincount(row[kept], values[kept], self.size[0])

    def sums(self, weights: Float[Array, "n k"]) -> Float[Array, "k s"]:
        """sum_i weights_ij pi_i, by one matrix product."""
        parts = self.values[:, None] * self._padded(weights, self.row)
        return jax.ops.segment_sum(parts, self.column, self.size[1]).T

    def along(self, vectors: Float[Array, "k s"]) -> Float[Array, "n k"]:
        """pi_i . v_j, by one matrix product."""
        return self._by_row(self.values[:, None] * self._padded(vectors.T, self.column))

    def grouped_sums(
        self, amounts: Float[Array, " n"], labels: Int[Array, " n"], k: int
    ) -> Float[Array, "k s"]:
        """One pass over what is stored."""
        place = self._padded(labels, self.row) * self.size[1] + self.column
        parts = self.values * self._padded(amounts, self.row)
        # Padding carries no amount.
        return jax.ops.segment_sum(parts, place, k * self.size[1]).reshape(k, self.size[1])

    def grouped_along(
        self, vectors: Float[Array, "k s"], labels: Int[Array, " n"]
    ) -> Float[Array, " n"]:
        """One pass over what is stored."""
        found = vectors.at[self._padded(labels, self.row), self.column].get(
            mode="fill", fill_value=0
        )
        return self._by_row(self.values * found)

    def entropies(self) -> Float[Array, " n"]:
        """sum_s pi_is log pi_is of each row, with 0 log 0 = 0."""
        return self._by_row(_negative_entropy(self.values))

    def outside(self, covered: Any) -> Float[Array, "n k"]:
        """Counts, which no rounding hides."""
        positive = (self.values > 0).astype(self.dtype)
        missing = self._padded((~covered).astype(self.dtype).T, self.column)
        return self._by_row(positive[:, None] * missing)

    def dense(self) -> Float[Array, "n s"]:
        """Spread out; repeated indices add up."""
        zeros = jnp.zeros(self.size, self.dtype)
        return zeros.at[self.row, self.column].add(self.values, mode="drop")


def as_rows(owner: str, name: str, value: Any) -> AbstractRows:
    """Rows of an array or a BCOO matrix.

    **Raises:** `ValueError` for another shape than (N, S).
    """
    if isinstance(value, AbstractRows):
        return value
    if isinstance(value, sparse.BCOO):
        if value.n_batch or value.n_dense or value.ndim != 2:
            raise ValueError(
                f"{owner}: `{name}` must be a plain sparse matrix, (states, states); got shape "
                f"{value.shape} with {value.n_batch} batch and {value.n_dense} dense axes."
            )
        values = arrays.as_float_array(name, value.data)
        row, column = value.indices[:, 0], value.indices[:, 1]
        return SparseRows(values, row, column, (int(value.shape[0]), int(value.shape[1])))
    values = arrays.as_float_array(name, value)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(
            f"{owner}: `{name}` must be 2-D, (states, states), and not empty; "
            f"got shape {values.shape}."
        )
    return DenseRows(values)
