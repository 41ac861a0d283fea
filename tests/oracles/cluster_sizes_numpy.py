"""Clusters of limited size in NumPy: prices from every set of tight limits, whole entities by hand.

Nothing here knows of duality: prices solve "use is capacity" on a guessed set of tight limits, and
the guess is right where no other limit is exceeded and no price has the wrong sign.
"""

import itertools
from collections.abc import Iterator

import numpy as np
from scipy.optimize import root


def average_costs(x: np.ndarray, y: np.ndarray, p: np.ndarray | None) -> np.ndarray:
    """sum_k p(k|j,i) |x_i - y_k|^2 with p[i, j, k], or the distances themselves."""
    squares = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    return squares if p is None else np.einsum("ijk,ik->ij", p, squares)


def gibbs(costs: np.ndarray, beta: float) -> np.ndarray:
    weights = np.exp(-beta * (costs - costs.min(axis=1, keepdims=True)))
    return weights / weights.sum(axis=1, keepdims=True)


def free_energy(costs: np.ndarray, rho: np.ndarray, beta: float) -> float:
    least = costs.min(axis=1)
    return float(rho @ (least - np.log(np.exp(-beta * (costs - least[:, None])).sum(1)) / beta))


def told(costs: np.ndarray, rho: np.ndarray, beta: float) -> np.ndarray:
    return rho @ gibbs(costs, beta)


def _tight(
    costs: np.ndarray, rho: np.ndarray, beta: float, limit: np.ndarray, tight: np.ndarray
) -> np.ndarray | None:
    """Prices at which the limits at `tight` are met, zero elsewhere."""
    k = costs.shape[1]
    moving = np.flatnonzero(tight)
    if tight.all():
        moving = moving[1:]  # a constant changes nothing

    def spread(part: np.ndarray) -> np.ndarray:
        prices = np.zeros(k)
        prices[moving] = part / beta
        return prices

    if not moving.size:
        return np.zeros(k)
    found = root(
        lambda part: told(costs + spread(part), rho, beta)[moving] - limit[moving],
        np.zeros(moving.size), tol=1e-13, method="hybr",
    )  # fmt: skip
    return spread(found.x) if np.abs(found.fun).max() < 1e-9 else None


def prices(
    costs: np.ndarray, rho: np.ndarray, beta: float, limit: np.ndarray, *, equality: bool
) -> np.ndarray:
    """The prices; without limit or closed (+inf costs) a cluster has none."""
    priced = np.isfinite(limit) & (limit > 0)
    closed = np.where(limit == 0, np.inf, 0.0)
    open_ = limit > 0
    inside = costs[:, open_]
    if equality:
        found = _tight(inside, rho, beta, limit[open_], np.ones(open_.sum(), bool))
        assert found is not None
        full = np.zeros(len(limit))
        full[open_] = found
        return full
    for count in range(priced.sum() + 1):
        for tight in itertools.combinations(np.flatnonzero(priced), count):
            mask = np.zeros(len(limit), bool)
            mask[list(tight)] = True
            found = _tight(inside, rho, beta, limit[open_], mask[open_])
            if found is None:
                continue
            full = np.zeros(len(limit))
            full[open_] = found
            used = told(costs + closed + full, rho, beta)
            if (full >= -1e-10).all() and (used <= limit + 1e-9).all():
                return full
    raise AssertionError("no set of tight limits fits")


def sizes(n: int, k: int) -> Iterator[tuple[int, ...]]:
    """All ways to put n entities into k clusters, entity by entity."""
    yield from itertools.product(range(k), repeat=n)


def cheapest(
    costs: np.ndarray, weights: np.ndarray, low: np.ndarray, high: np.ndarray
) -> tuple[float, np.ndarray]:
    """The cheapest prescription of whole entities with `low` <= sizes <= `high`."""
    n, k = costs.shape
    best, found = np.inf, np.zeros(n, int)
    for way in sizes(n, k):
        where = np.array(way)
        size = np.bincount(where, weights=weights, minlength=k)
        if (size < low - 1e-9).any() or (size > high + 1e-9).any():
            continue
        cost = float(weights @ costs[np.arange(n), where])
        if cost < best:
            best, found = cost, where
    return best, found
