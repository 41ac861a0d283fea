"""Clustering into as many clusters as last longest, as a scikit-learn estimator."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, ClusterMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .._core.padding import pad_rows, pad_weights
from .._core.scaling import Scaling
from ..select.model_order import ModelOrder
from ..select.persistence import clusterings, persistence
from .how_many import key_of, largest
from .parameters import check, check_integer

_SIZES = 20
_FLOATS = (np.float64, np.float32)


class PersistentClustering(ClusterMixin, BaseEstimator):
    """Clusters by squared distance, in the number that lasts longest; see `select.persistence`.

    **Arguments:**

    - `max_size`: sizes 1 to this one are compared; default 20.
    - `kind`: `"scatter"` or `"covariance"`.
    - `scale`: `"zscore"` (default), per feature as in the thesis, or `"none"`.
    - `references`: draws of each of two models without clusters; 0: none, and nothing is clear.
    - `starts`: random starts of each size; default 16 for few points down to 4 for many.
    - `random_state`: an int, a NumPy `RandomState` or `None`.

    **Attributes:** `n_clusters_`; `is_clear_`, whether that stands out of data without clusters;
    `order_`, the `ModelOrder`, `None` for fewer than two different points;
    `n_clusters_other_scale_`, the answer at the other scale; `labels_`; `cluster_centers_`, in
    input units; `n_features_in_`.

    Source: parameterized sequential decision making, chapter 5.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax.estimators import PersistentClustering
    >>> x = np.repeat([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]], 5, axis=0)
    >>> x = x + np.random.default_rng(0).normal(size=x.shape)
    >>> PersistentClustering(max_size=5, references=0, random_state=0).fit(x).n_clusters_
    3

    ```
    """

    labels_: np.ndarray
    cluster_centers_: np.ndarray
    order_: ModelOrder | None
    n_clusters_: int
    is_clear_: bool
    n_clusters_other_scale_: int
    _scaling: Scaling

    def __init__(
        self,
        max_size: int = _SIZES,
        *,
        kind: str = "scatter",
        scale: str = "zscore",
        references: int = 10,
        starts: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.max_size = max_size
        self.kind = kind
        self.scale = scale
        self.references = references
        self.starts = starts
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "PersistentClustering":
        """Find the number of clusters and the clusters."""
        del y
        check_integer("max_size", self.max_size)
        if self.starts is not None:
            check_integer("starts", self.starts)
        if self.references != 0:
            check_integer("references", self.references)
        check(
            "kind", self.kind in ("scatter", "covariance"), self.kind, "'scatter' or 'covariance'"
        )
        check("scale", self.scale in ("zscore", "none"), self.scale, "'zscore' or 'none'")
        x: Any = validate_data(self, X, dtype=_FLOATS, ensure_min_samples=2)
        wide = np.asarray(x, np.float64)
        distinct = len(np.unique(wide, axis=0))
        most = largest(min(self.max_size, distinct), _SIZES, distinct)
        key = key_of(self.random_state)
        self._scaling = Scaling.of(self.scale, wide, None)
        self.order_, labels = self._solve(self.scale, wide, most, self.references, key)
        other = "none" if self.scale == "zscore" else "zscore"
        second, _ = self._solve(other, wide, most, 0, key)
        self.n_clusters_ = 1 if self.order_ is None else int(self.order_.best)
        self.is_clear_ = self.order_ is not None and bool(self.order_.clear)
        self.n_clusters_other_scale_ = 1 if second is None else int(second.best)
        self.labels_ = labels[self.n_clusters_ - 1].astype(np.int32)
        centres = [wide[self.labels_ == j].mean(axis=0) for j in range(self.n_clusters_)]
        self.cluster_centers_ = np.stack(centres).astype(x.dtype)
        return self

    def _solve(
        self, scale: str, x: np.ndarray, most: int, references: int, key: Any
    ) -> tuple[ModelOrder | None, np.ndarray]:
        z = Scaling.of(scale, x, None).apply(x)
        if most == 1:
            return None, np.zeros((1, len(z)), np.int32)
        with jax.enable_x64(True):
            # Rows of weight zero, so that data of many sizes share programs.
            padded, weights = jnp.asarray(pad_rows(z)), jnp.asarray(pad_weights(np.ones(len(z))))
            found = clusterings(padded, most, weights=weights, starts=self.starts, key=key)
            labels = np.asarray(found)[:, : len(z)]
            full = [len(np.unique(row)) == size + 1 for size, row in enumerate(labels)]
            count = most if all(full) else full.index(False)
            if count < 2:
                return None, labels
            order = persistence(z, labels[:count], kind=self.kind, references=references, key=key)
        return order, labels

    def predict(self, X: Any) -> np.ndarray:
        """The nearest centre, in the scale of the fit."""
        check_is_fitted(self)
        x = np.asarray(validate_data(self, X, dtype=_FLOATS, reset=False), np.float64)
        z, centres = (
            self._scaling.apply(x),
            self._scaling.apply(np.asarray(self.cluster_centers_, np.float64)),
        )
        return np.argmin(((z[:, None] - centres) ** 2).sum(axis=2), axis=1).astype(np.int32)
