"""Aggregation of chains as a scikit-learn estimator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from scipy.sparse import csr_array, diags_array, issparse
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..problems.markov_aggregation import MarkovAggregation
from ..select.marginal_return import aggregations, marginal_return
from ..select.model_order import ModelOrder
from .how_many import key_of, largest
from .parameters import check, check_integer

_FLOATS = (np.float64, np.float32)


class MarkovAggregator(ClusterMixin, BaseEstimator):
    """Superstates of a chain, as many as asked for or as last longest.

    `fit(X)` takes the transitions: rows that sum to one, or with `counts` any numbers >= 0, in an
    array or a SciPy sparse matrix, which is never spread out but for stationary weights.
    See `mepjax.MarkovAggregation` and `mepjax.select.marginal_return`.

    **Arguments:**

    - `n_clusters`: number of superstates, or `"auto"` (default): the largest marginal return.
    - `weights`: `"stationary"` (default), for square X, or `"equal"`.
    - `counts`: rows are normalised; one of zeros counts as uniform.
    - `max_size`: for `"auto"`, sizes compared; default half of the number of rows.
    - `starts`: random starts of each size.
    - `random_state`: an int, a NumPy `RandomState` or `None`.

    **Attributes:** `labels_`; `n_clusters_`; `order_`, the `ModelOrder`, `None` where a number was
    given; `transitions_` (K, K), NaN unless X is square; `cluster_distributions_` (K, S);
    `cluster_weights_` (K,); `information_loss_`, in nats; `n_features_in_`.

    Source: parameterized sequential decision making, chapter 6.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax.estimators import MarkovAggregator
    >>> chain = np.kron([[0.8, 0.2], [0.3, 0.7]], np.full((2, 2), 0.5))
    >>> print(MarkovAggregator(2, random_state=0).fit(chain).transitions_.round(3).max())
    0.8

    ```
    """

    labels_: np.ndarray
    n_clusters_: int
    order_: ModelOrder | None
    transitions_: np.ndarray
    cluster_distributions_: np.ndarray
    cluster_weights_: np.ndarray
    information_loss_: float

    def __init__(
        self,
        n_clusters: int | str = "auto",
        *,
        weights: str = "stationary",
        counts: bool = False,
        max_size: int | None = None,
        starts: int = 4,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.weights = weights
        self.counts = counts
        self.max_size = max_size
        self.starts = starts
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        """Only numbers >= 0; sparse ones too."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        return tags

    def _rows(self, X: Any, reset: bool) -> Any:
        """Rows, dense or CSR, in float64."""
        x: Any = validate_data(
            self, X, dtype=_FLOATS, reset=reset, ensure_min_samples=2 if reset else 1,
            accept_sparse="csr",
        )  # fmt: skip
        rows = x.astype(np.float64)
        least = rows.min()
        if least < 0:
            raise ValueError(
                "Negative values in data passed to MarkovAggregator: X must be >= 0; got "
                f"{least:g}."
            )
        if not self.counts:
            return rows
        sums = np.asarray(rows.sum(axis=1)).ravel()
        # Nothing is known of what comes next.
        none = np.flatnonzero(sums == 0)
        if issparse(rows):
            width = rows.shape[1]
            filled = (np.repeat(none, width), np.tile(np.arange(width), len(none)))
            rows = csr_array(rows) + csr_array((np.ones(len(filled[0])), filled), rows.shape)
            return csr_array(diags_array(1 / rows.sum(axis=1)) @ rows)
        rows[none] = 1.0
        return rows / rows.sum(axis=1, keepdims=True)

    def fit(self, X: Any, y: Any = None) -> "MarkovAggregator":
        """Find the superstates of a chain."""
        del y
        if self.n_clusters != "auto":
            check_integer("n_clusters", self.n_clusters)
        if self.max_size is not None:
            check_integer("max_size", self.max_size)
        check_integer("starts", self.starts)
        known = ("stationary", "equal")
        check("weights", self.weights in known, self.weights, "'stationary' or 'equal'")
        rows = self._rows(X, reset=True)
        n, key = rows.shape[0], key_of(self.random_state)
        if self.n_clusters != "auto" and int(self.n_clusters) > n:
            raise ValueError(f"`n_clusters` must be at most {n} rows; got {self.n_clusters}.")
        with jax.enable_x64(True):
            given: Any = "stationary" if self.weights == "stationary" else jnp.ones(n)
            held = BCOO.from_scipy_sparse(rows) if issparse(rows) else jnp.asarray(rows)
            whole = MarkovAggregation(held, 1, weights=given)
            self.order_ = None
            if self.n_clusters == "auto":
                distinct = _distinct(rows)
                most = largest(self.max_size, max(2, n // 2), distinct)
                labels = np.asarray(aggregations(
                    whole.rows, most, weights=whole.weights, starts=self.starts, key=key
                ))  # fmt: skip
                full = [len(np.unique(row)) == size + 1 for size, row in enumerate(labels)]
                count = most if all(full) else full.index(False)
                if count > 1:
                    self.order_ = marginal_return(whole.rows, labels[:count], weights=whole.weights)
                size = 1 if self.order_ is None else int(self.order_.best)
            else:
                size = int(self.n_clusters)
                labels = np.asarray(aggregations(
                    whole.rows, size, weights=whole.weights, starts=self.starts, key=key
                ))  # fmt: skip
            problem = MarkovAggregation(whole.rows, size, weights=whole.weights)
            hard = problem.of_partition(labels[size - 1])
            told = np.asarray(problem.weights)[:, None] * (
                labels[size - 1][:, None] == np.arange(size)
            )
        self.n_clusters_ = size
        self.labels_ = np.asarray(hard.assignments, np.int32)
        self.transitions_ = np.asarray(hard.transitions)
        self.cluster_weights_ = np.asarray(hard.weights)
        mass = told.sum(axis=0)
        self.cluster_distributions_ = (
            np.asarray((rows.T @ told).T) / np.where(mass > 0, mass, 1.0)[:, None]
        )
        self.information_loss_ = max(float(hard.information_loss), 0.0)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The superstate of least divergence from each row, among those that reach what it does."""
        check_is_fitted(self)
        rows = self._rows(X, reset=False)
        z = self.cluster_distributions_
        logs = np.log(np.maximum(z, np.finfo(np.float64).tiny))
        return np.argmin(-(rows @ logs.T), axis=1).astype(np.int32)


def _distinct(rows: Any) -> int:
    """How many rows differ, to twelve places."""
    if not issparse(rows):
        return len(np.unique(rows.round(12), axis=0))
    rounded = csr_array(rows, copy=True)
    rounded.data = rounded.data.round(12)
    rounded.sum_duplicates()
    rounded.eliminate_zeros()
    ends = rounded.indptr
    return len(
        {
            (rounded.indices[a:b].tobytes(), rounded.data[a:b].tobytes())
            for a, b in zip(ends[:-1], ends[1:], strict=True)
        }
    )
