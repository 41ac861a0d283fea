"""Regression on the few columns that matter, as a scikit-learn estimator."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ..select.model_order import ModelOrder
from ..select.sparse_marginal_return import ebic, sizes_of_return, sparse_marginal_return
from ..select.sparse_path import sparse_path
from .how_many import largest
from .parameters import check_integer

_SIZES = 30


class SparseRegressor(RegressorMixin, BaseEstimator):
    """Least squares on the best few columns; see `mepjax.select.sparse_path`.

    **Arguments:**

    - `select`: how many columns: `"ebic"` (default), the extended Bayesian information criterion,
        which may be none; `"return"`, the thesis's marginal return; or an int, that many.
    - `max_size`: the largest number compared; default 30, at most a third of the samples.
    - `fit_intercept`: columns and target are centred first.

    Columns are compared at unit standard deviation. Constant ones are never used.

    **Attributes:** `coef_` (n,), zero where not used; `intercept_`; `support_`, indices used;
    `union_`, these and every column that is the same as one of them but for its scale, among which
    the choice is arbitrary; `ebic_`, of 0, 1, 2, ... columns; `order_`, the `ModelOrder` for
    `select="return"`, else `None`; `n_features_in_`.

    Source: parameterized sequential decision making, chapter 7.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax.estimators import SparseRegressor
    >>> x = np.random.default_rng(0).normal(size=(40, 10))
    >>> print(SparseRegressor().fit(x, 2 * x[:, 3] - x[:, 7] + 1).support_)
    [3 7]

    ```
    """

    coef_: np.ndarray
    intercept_: float
    support_: np.ndarray
    union_: np.ndarray
    ebic_: np.ndarray
    order_: ModelOrder | None

    def __init__(
        self, select: str | int = "ebic", *, max_size: int | None = None, fit_intercept: bool = True
    ) -> None:
        self.select = select
        self.max_size = max_size
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any) -> "SparseRegressor":
        """Find the columns and their coefficients."""
        if self.select not in ("ebic", "return"):
            check_integer("select", self.select)
        if self.max_size is not None:
            check_integer("max_size", self.max_size)
        checked: Any = validate_data(
            self, X, y, dtype=np.float64, y_numeric=True, ensure_min_samples=2
        )
        x, y = checked[0], np.asarray(checked[1], np.float64)
        r, n = x.shape
        means = x.mean(axis=0) if self.fit_intercept else np.zeros(n)
        mean = float(y.mean()) if self.fit_intercept else 0.0
        design, response = x - means, y - mean
        lengths = np.sqrt(np.mean(design**2, axis=0))
        # Rounding leaves something of a constant column.
        varied = np.flatnonzero(lengths > 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300))
        self.order_, self.ebic_ = None, np.zeros(1)
        support, union, found = np.empty(0, int), np.empty(0, int), np.empty(0)
        if len(varied) and np.any(response):
            support, union, found = self._solve(design[:, varied] / lengths[varied], response)
        self.support_, self.union_ = varied[support], varied[union]
        self.coef_ = np.zeros(n)
        self.coef_[self.support_] = found / lengths[self.support_]
        self.intercept_ = mean - float(self.coef_ @ means)
        return self

    def _solve(
        self, design: np.ndarray, response: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        r, n = design.shape
        most = max(1, min(r - 1, n))
        asked = self.max_size if self.select in ("ebic", "return") else int(self.select)
        top = largest(asked, max(1, min(_SIZES, r // 3)), most)
        with jax.enable_x64(True), warnings.catch_warnings():
            # A number that was asked for.
            warnings.filterwarnings("ignore", ".*more than a third", UserWarning)
            path = sparse_path(jnp.asarray(design), jnp.asarray(response), top)
            self.ebic_ = np.asarray(ebic(path, r, n))
            count = max(1, int(path.n_sizes))
            supports = np.asarray(path.supports)
            if self.select == "ebic":
                size = int(np.argmin(self.ebic_))
            elif self.select == "return":
                compared = min(count, sizes_of_return(r, n))
                size = 1
                if compared > 1:
                    rows = {s: supports[s - 1, :s] for s in range(1, compared + 1)}
                    self.order_ = sparse_marginal_return(design, response, rows)
                    size = int(self.order_.best)
            else:
                size = min(top, count)
            if size == 0:
                return np.empty(0, int), np.empty(0, int), np.empty(0)
            union = np.flatnonzero(path.union(size))
            coefficients = np.asarray(path.coefficients)[size - 1, :size]
            return supports[size - 1, :size], union, coefficients

    def predict(self, X: Any) -> np.ndarray:
        """X coef + intercept."""
        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        return x @ self.coef_ + self.intercept_
