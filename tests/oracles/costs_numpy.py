"""Costs in plain NumPy, with derivatives by finite differences: slow, independent, obvious.

No function here knows the formulas of mepjax: minimisers are found by SciPy and polished by
Newton's method on differences, the first transition is computed from its definition.
"""

import numpy as np
import scipy.linalg
import scipy.optimize
import scipy.special


def euclidean(x, y, smoothing=0.0):
    return np.sqrt(((x - y) ** 2).sum(-1) + smoothing**2)


def manhattan(x, y):
    return np.abs(x - y).sum(-1)


def cosine(x, y):
    return 1 - (x * y).sum(-1) / (np.linalg.norm(x, axis=-1) * np.linalg.norm(y, axis=-1))


def kullback_leibler(x, y):
    return (x * np.log(x / y) - x + y).sum(-1)


def itakura_saito(x, y):
    return (x / y - np.log(x / y) - 1).sum(-1)


def quartic_bregman(x, y):
    """The Bregman divergence of sum z^2 + z^4 / 12."""
    slopes = 2 * y + y**3 / 3
    return (x**2 + x**4 / 12 - y**2 - y**4 / 12 - slopes * (x - y)).sum(-1)


def on_sphere(points):
    """Unit vectors of (longitude, latitude) in degrees."""
    longitude, latitude = np.radians(points[..., 0]), np.radians(points[..., 1])
    return np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=-1,
    )


def great_circle(x, y, radius, smoothing=0.0):
    """From vectors: the angle between them by its sine and cosine."""
    u, v = np.broadcast_arrays(on_sphere(x), on_sphere(y))
    angle = np.arctan2(np.linalg.norm(np.cross(u, v), axis=-1), (u * v).sum(-1))
    return np.sqrt((radius * angle) ** 2 + smoothing**2)


def pseudo_huber(x, y, size):
    return size**2 * (np.sqrt(1 + ((x - y) ** 2).sum(-1) / size**2) - 1)


def total_deviation(points, rho):
    return np.sqrt((rho[:, None] * (points - rho @ points) ** 2).sum())


def gradient(f, y, step=1e-3):
    """Central differences of fourth order; f may return an array, derivatives come last."""
    columns = []
    for direction in np.eye(len(y)):
        values = [f(y + s * step * direction) for s in (1, -1, 2, -2)]
        columns.append((8 * (values[0] - values[1]) - (values[2] - values[3])) / (12 * step))
    return np.stack(columns, axis=-1)


def hessian(f, y, step=1e-3):
    return gradient(lambda z: gradient(f, z, step), y, step)


def minimiser(d, x, weights, start, chart=lambda t: t):
    """argmin_t sum_i weights_i d(x_i, chart(t))."""

    def total(t):
        return (weights * d(x, chart(t))).sum()

    t = scipy.optimize.minimize(total, start, method="Nelder-Mead", tol=1e-9).x
    for _ in range(4):
        t = t - np.linalg.solve(hessian(total, t), gradient(total, t))
    return t


def first_transition(d, x, rho, start, chart=lambda t: t):
    """1 / lambda_max(H^-1 Cov(grad d)) where sum_i rho_i d(x_i, .) is smallest."""
    t = minimiser(d, x, rho, start, chart)
    block = hessian(lambda s: (rho * d(x, chart(s))).sum(), t)
    slopes = gradient(lambda s: d(x, chart(s)), t)
    slopes = slopes - rho @ slopes
    return 1 / scipy.linalg.eigh((rho[:, None] * slopes).T @ slopes, block)[0][-1]


def weighted_median_sum(column, weights):
    """The smallest sum_i weights_i |column_i - m| over all m, which is at one of the entities."""
    return min((weights * np.abs(column - m)).sum() for m in column)


def free_energy(d, x, y, rho, beta):
    distances = np.stack([d(x, centre) for centre in y], axis=1)
    return -(rho * scipy.special.logsumexp(-beta * distances, axis=1)).sum() / beta
