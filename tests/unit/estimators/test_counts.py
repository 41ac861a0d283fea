"""Estimators that choose a number: sparse chains, and columns that are the same."""

import numpy as np
import pytest
from scipy import sparse

from mepjax.estimators import MarkovAggregator, SparseRegressor


def blocks(n=9):
    rng = np.random.default_rng(0)
    part = np.arange(n) // 3
    return np.where(part[:, None] == part, rng.uniform(5, 10, (n, n)), np.eye(n, k=4)).round()


@pytest.mark.parametrize("kind", [sparse.csr_array, sparse.coo_matrix])
def test_a_sparse_chain_is_aggregated_as_the_dense_one(kind):
    counts = blocks()
    dense = MarkovAggregator(3, counts=True, weights="equal", random_state=0).fit(counts)
    thin = MarkovAggregator(3, counts=True, weights="equal", random_state=0).fit(kind(counts))
    np.testing.assert_array_equal(dense.labels_, np.repeat(dense.labels_[::3], 3))
    np.testing.assert_array_equal(thin.labels_, dense.labels_)
    for name in ("transitions_", "cluster_distributions_", "cluster_weights_", "information_loss_"):
        np.testing.assert_allclose(getattr(thin, name), getattr(dense, name), rtol=1e-9)
    np.testing.assert_array_equal(thin.predict(kind(counts)), dense.labels_)


def test_a_sparse_row_without_counts_is_uniform_and_rows_alike_are_counted_once():
    counts = blocks()
    counts[4] = 0
    for kind in (np.asarray, sparse.csr_array):
        fitted = MarkovAggregator(counts=True)
        rows = fitted._rows(kind(counts), reset=True)
        rows = rows.toarray() if sparse.issparse(rows) else rows
        np.testing.assert_allclose(rows[4], np.full(9, 1 / 9))
        np.testing.assert_allclose(rows.sum(axis=1), 1)
    from mepjax.estimators.markov_aggregator import _distinct

    alike = np.array([[0.5, 0.5, 0.0], [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    assert _distinct(alike) == _distinct(sparse.csr_array(alike)) == 2


def test_the_union_has_every_column_that_is_the_same_but_for_its_scale():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 8))
    x[:, 0] = 1.0
    x[:, 6] = 5 - 3 * x[:, 2]
    fitted = SparseRegressor().fit(x, 2 * x[:, 2] + x[:, 4])
    assert len(fitted.support_) == 2 and set(fitted.support_) < {2, 4, 6}
    np.testing.assert_array_equal(fitted.union_, [2, 4, 6])
    assert len(SparseRegressor().fit(x, np.zeros(40)).union_) == 0
