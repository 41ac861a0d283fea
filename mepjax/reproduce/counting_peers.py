"""How many clusters other criteria say that there are."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np


def peers(x: np.ndarray, sizes: Sequence[int], seed: int) -> dict[str, int]:
    """The size that each criterion prefers, on k-means of ten starts.

    `gap`, the statistic of Tibshirani et al. (2001) with ten draws in the box of the principal
    components; `jump`, Sugar and James (2003) with the power d / 2; `silhouette` and `calinski`,
    undefined for one cluster; `bic`, of Gaussian mixtures with full covariances.

    **Raises:** `ImportError` without scikit-learn.
    """
    from sklearn import cluster
    from sklearn.metrics import calinski_harabasz_score, silhouette_score
    from sklearn.mixture import GaussianMixture

    k_means: Any = cluster.KMeans
    rng = np.random.default_rng(seed)
    d = x.shape[1]
    x = x.astype(np.float64)
    sizes = np.asarray(sizes).tolist()
    fits = [k_means(k, n_init=10, random_state=seed).fit(x) for k in sizes]
    costs = np.array([fit.inertia_ for fit in fits])
    _, _, axes = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    scores = (x - x.mean(axis=0)) @ axes.T
    null = np.empty((10, len(sizes)))
    for row in null:
        draw = rng.uniform(scores.min(axis=0), scores.max(axis=0), scores.shape)
        row[:] = [k_means(k, n_init=2, random_state=seed).fit(draw).inertia_ for k in sizes]
    logs = np.log(null)
    gap, error = logs.mean(axis=0) - np.log(costs), logs.std(axis=0) * np.sqrt(1.1)
    enough = np.flatnonzero(gap[:-1] >= gap[1:] - error[1:])
    powers = np.concatenate([[0.0], (costs / (len(x) * d)) ** (-d / 2)])
    several = [np.asarray(fit.labels_) for fit in fits[1:]]
    bic = [GaussianMixture(k, random_state=seed, reg_covar=1e-6).fit(x).bic(x) for k in sizes]
    few = min(len(x), 2000)
    silhouettes = [silhouette_score(x, s, sample_size=few, random_state=seed) for s in several]
    ratios = [calinski_harabasz_score(x, s) for s in several]
    return {
        "gap": sizes[int(enough[0]) if len(enough) else -1],
        "jump": sizes[int(np.argmax(np.diff(powers)))],
        "silhouette": sizes[1 + int(np.argmax(silhouettes))],
        "calinski": sizes[1 + int(np.argmax(ratios))],
        "bic": sizes[int(np.argmin(bic))],
    }


def splitting_peers(x: np.ndarray, largest: int, seed: int) -> dict[str, int]:
    """The number at which methods end that split clusters until a test says no.

    `x_means`, Pelleg and Moore (2000); `g_means`, Hamerly and Elkan (2003); `pg_means`, Feng and
    Hamerly (2006); `dip_means`, Kalogeratos and Likas (2012): ClustPy's, with its own defaults, up
    to 2 `largest` clusters.

    **Raises:** `ImportError` without clustpy, of which mepjax is independent.
    """
    from clustpy import centroid  # type: ignore

    methods = {
        "x_means": centroid.XMeans,
        "g_means": centroid.GMeans,
        "pg_means": centroid.PGMeans,
        "dip_means": centroid.DipMeans,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            name: int(
                method(max_n_clusters=2 * largest, random_state=seed)
                .fit(x.astype(np.float64))
                .n_clusters_
            )
            for name, method in methods.items()
        }
