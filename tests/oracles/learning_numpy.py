"""Likelihoods of interactions in plain float64 NumPy, one interaction at a time."""

import numpy as np


def softmax_rows(x, entity, told, centres, rounds, kappa, zeta, gamma):
    """p(. | j, i) of the softmax family at temperature 1, squared Euclidean cost."""
    rows = []
    for i, j, r in zip(entity, told, rounds, strict=True):
        y = centres[r]
        pull = ((y[j] - y) ** 2).sum(axis=1)
        reach = ((x[i] - y) ** 2).sum(axis=1)
        weights = np.exp(-(zeta * pull + gamma * reach))
        weights[j] = 0
        row = kappa * weights / weights.sum()
        row[j] = 1 - kappa
        rows.append(row)
    return np.array(rows)


def log_likelihood(parameters, x, entity, told, went, centres, rounds):
    """Of (kappa, zeta, gamma)."""
    rows = softmax_rows(x, entity, told, centres, rounds, *parameters)
    return np.log(rows[np.arange(len(went)), went]).sum()


def hessian(function, at, step=1e-4):
    """Second derivatives by central differences."""
    size = len(at)
    found = np.zeros((size, size))
    for a in range(size):
        for b in range(size):
            values = []
            for s, t in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
                point = np.array(at, float)
                point[a] += s * step
                point[b] += t * step
                values.append(function(point))
            found[a, b] = (values[0] - values[1] - values[2] + values[3]) / (4 * step**2)
    return found
