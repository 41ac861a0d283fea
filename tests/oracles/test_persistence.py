"""Persistence against closed forms, NumPy and Lemma 2."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.cluster
import sklearn.datasets

from mepjax.select import persistence
from mepjax.select.model_order import model_order, returns_of
from mepjax.select.persistence import _critical
from mepjax.select.scatters import largest_of_kernel, largest_scatters

KEY = jax.random.key(0)
KMeans: Any = sklearn.cluster.KMeans
SETS: Any = sklearn.datasets


def scatters_numpy(x, labels, weights):
    """lambda_max of each group's scatter, by the definition."""
    found = []
    for j in range(labels.max() + 1):
        own, w = x[labels == j], weights[labels == j]
        offsets = own - np.average(own, axis=0, weights=w)
        found.append(np.linalg.eigvalsh((w[:, None] * offsets).T @ offsets)[-1])
    return np.array(found)


def some(d=3, n=40, k=5, seed=0):
    rng = np.random.default_rng(seed)
    x, labels = rng.normal(size=(n, d)), rng.permutation(np.arange(n) % k)
    weights = rng.uniform(0.5, 2, n)
    return x, labels, weights / weights.sum()


@pytest.mark.parametrize("dense", [True, False])
def test_scatters_by_the_definition(dense):
    x, labels, shares = some()
    expected = scatters_numpy(x, labels, shares)
    found, mass = largest_scatters(
        jnp.asarray(x), jnp.asarray(shares), jnp.asarray(labels), 5, dense=dense
    )
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    np.testing.assert_allclose(mass, np.bincount(labels, shares), rtol=1e-12)


def test_lemma_2_the_centred_gram_block_has_the_scatters_eigenvalues():
    x, labels, shares = some()
    expected = scatters_numpy(x, labels, shares)
    # Exactly: eigenvalues of W^1/2 J K J W^1/2 by NumPy.
    for j in range(5):
        own, w = x[labels == j], shares[labels == j]
        centring = np.eye(len(own)) - np.outer(np.ones(len(own)), w) / w.sum()
        block = np.sqrt(w)[:, None] * (centring @ own @ own.T @ centring.T) * np.sqrt(w)
        np.testing.assert_allclose(np.linalg.eigvalsh(block)[-1], expected[j], rtol=1e-12)
    found, _ = largest_of_kernel(jnp.asarray(x @ x.T), jnp.asarray(shares), jnp.asarray(labels), 5)
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_gradient_of_the_scatter_is_that_of_finite_differences():
    x, labels, shares = some(n=12, k=2)
    change = np.random.default_rng(1).normal(size=x.shape)

    shares, labels = jnp.asarray(shares), jnp.asarray(labels)

    def top(step, dense):
        moved = jnp.asarray(x) + step * change
        return jnp.max(largest_scatters(moved, shares, labels, 2, dense=dense)[0])

    fine = (top(1e-5, True) - top(-1e-5, True)) / 2e-5
    for dense in (True, False):
        np.testing.assert_allclose(jax.grad(top)(0.0, dense), fine, rtol=1e-5)


def disc(m=160):
    """A grid of points in the unit disc, symmetric about both axes."""
    grid = (np.arange(m) + 0.5) / m * 2 - 1
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    return points[np.sum(points**2, axis=1) < 1]


def sectors(points, count, turn=0.0):
    angle = np.mod(np.arctan2(points[:, 1], points[:, 0]) - turn, 2 * np.pi)
    return np.minimum((angle * count / (2 * np.pi)).astype(int), count - 1)


def test_two_discs_in_closed_form():
    """Two discs of radius 1, centres 4 apart: eigenvalues and returns of math-thesis 3.4."""
    one = disc()
    x = np.concatenate([one - [2, 0], one + [2, 0]])
    n, zero = len(one), np.zeros(len(one), int)
    halves, thirds = sectors(one, 2), sectors(one, 3, np.pi / 2)
    pairs = {
        1: (zero, zero),
        2: (zero, zero + 1),
        3: (halves, zero + 2),
        4: (halves, halves + 2),
        5: (thirds, halves + 3),
        6: (thirds, thirds + 3),
    }
    labels = {k: np.concatenate(pair) for k, pair in pairs.items()}
    report = persistence(x, labels, references=0, key=KEY)
    # Shares are of 2 N points, hence the factor; the grid is good to 1e-3.
    critical = np.asarray(report.critical) * 2 * len(x) / len(x)
    np.testing.assert_allclose(critical, [8.5, 0.25, 0.25, 0.125, 0.125, 0.0488752774], rtol=3e-3)
    np.testing.assert_allclose(
        report.returns[1:], [3.5263605246, 0, 0.6931471806, 0, 0.9390420439], atol=5e-3
    )
    assert n > 10_000 and report.best == 2
    other = persistence(x, labels, kind="covariance", references=0, key=KEY)
    np.testing.assert_allclose(other.returns[1:], [2.833, 0, 0, 0, 0.5335769358], atol=5e-3)


@pytest.mark.parametrize(("name", "expected"), [("iris", 2), ("wine", 3), ("breast_cancer", 2)])
def test_public_sets_with_labels_of_k_means(name, expected):
    x = getattr(SETS, f"load_{name}")().data
    x = (x - x.mean(0)) / x.std(0)
    labels = [KMeans(k, n_init=10, random_state=0).fit_predict(x) for k in range(1, 7)]
    report = persistence(x, labels, references=0, key=KEY)
    assert report.best == expected
    by_hand = [scatters_numpy(x, row, np.full(len(x), 1 / len(x))).max() for row in labels]
    np.testing.assert_allclose(report.critical, by_hand, rtol=1e-9)


def test_own_clusterings_with_references():
    x = SETS.load_wine().data
    x = (x - x.mean(0)) / x.std(0)
    report = persistence(x, sizes=range(1, 9), references=3, key=KEY)
    assert report.best == 3 and report.clear and "clearly" in str(report)
    # No clustering is dearer than k-means' own of ten starts, by more than a little.
    for k in (3, 6, 8):
        known = KMeans(k, n_init=10, random_state=0).fit(x)
        labels = _labels(x, 8)[k - 1]
        centres = np.array([x[labels == j].mean(0) for j in range(k)])
        cost = np.sum((x - centres[labels]) ** 2)
        assert cost <= 1.01 * known.inertia_


def _labels(x, k):
    from mepjax.select.persistence import _solved

    return np.asarray(_solved(jnp.asarray(x - x.mean(0)), jnp.ones(len(x)), k, 4, KEY))


def test_data_without_structure_is_not_clear():
    # Of the shape of the last test, whose programs serve again.
    x = np.random.default_rng(3).normal(size=(178, 13))
    assert not persistence(x, sizes=range(1, 9), references=3, key=KEY).clear


def test_rings_by_commute_time():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, 600)
    radius = np.repeat([1.0, 2.0, 3.0], 200) + 0.03 * rng.normal(size=600)
    x = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    report = persistence(
        x, sizes=range(1, 7), kernel="commute_time", bandwidth=0.2, references=0, key=KEY
    )
    assert report.best == 3 and report.kind == "kernel"
    np.testing.assert_allclose(report.returns[2], 3.09, atol=0.01)


def test_float32_agrees_with_float64():
    x, labels, _ = some(n=60, k=6)
    rows = [np.minimum(labels, k) for k in range(6)]
    wide = persistence(x, rows, references=0, key=KEY)
    narrow = persistence(x.astype(np.float32), rows, references=0, key=KEY)
    np.testing.assert_allclose(wide.critical, narrow.critical, rtol=1e-4)


def test_scale_and_order_do_not_matter():
    x, labels, shares = some(n=30, k=4)
    rows = np.stack([np.minimum(labels, k) for k in range(4)])
    first = _critical(jnp.asarray(x), jnp.asarray(shares), jnp.asarray(rows), 4, "scatter")[0]
    order = np.random.default_rng(5).permutation(30)
    moved = _critical(
        jnp.asarray(3 * x[order] + 7), jnp.asarray(shares[order]), jnp.asarray(rows[:, order]), 4,
        "scatter",
    )[0]  # fmt: skip
    np.testing.assert_allclose(moved, 9 * first, rtol=1e-9)
    np.testing.assert_allclose(returns_of(moved), returns_of(first), atol=1e-9)


def test_under_vmap_reports_are_those_of_a_loop():
    critical = jnp.asarray([[4.0, 1.0, 0.9, 0.1], [4.0, 3.9, 1.0, 0.9]])
    both = jax.vmap(lambda row: model_order("scatter", range(1, 5), row))(critical)
    np.testing.assert_array_equal(both.best, [4, 3])
    for lane in range(2):
        one = model_order("scatter", range(1, 5), critical[lane])
        for name in ("best", "runner_up", "margin", "resolved", "clear"):
            np.testing.assert_allclose(getattr(both, name)[lane], getattr(one, name))
