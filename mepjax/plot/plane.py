"""Two coordinates, or one, for points of any number of features."""

import numpy as np


def principal_axes(
    points: np.ndarray, weights: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The weighted mean (d,), the first principal axes (count, d) and the variance each explains.

    Axes beyond those the points have are zero.
    """
    d = points.shape[1]
    shares = weights / np.sum(weights)
    mean = shares @ points
    centred = np.sqrt(shares)[:, None] * (points - mean)
    _, singular, found = np.linalg.svd(centred, full_matrices=False)
    axes, explained = np.zeros((count, d)), np.zeros(count)
    found = found[:count]
    axes[: len(found)] = found
    # An axis has no sign of its own: let its largest entry be positive.
    largest = np.take_along_axis(axes, np.argmax(np.abs(axes), axis=1)[:, None], axis=1)
    axes = np.where(largest < 0, -axes, axes)
    total = np.sum(singular**2)
    explained[: len(found)] = singular[: len(found)] ** 2 / (total if total > 0 else 1)
    return mean, axes, explained


class Plane:
    """Where points are drawn: as they are in two features, else a plane chosen for them.

    One feature is spread across its line by a fixed random scatter, since points on one line hide
    each other; more than two are projected to the first two principal components.

    **Arguments:** `points` (N, d) and `weights` (N,).
    """

    def __init__(self, points: np.ndarray, weights: np.ndarray) -> None:
        self.d = points.shape[1]
        self.names = ("x", "" if self.d == 1 else "y")
        if self.d == 1:
            across = np.random.default_rng(0).uniform(-1, 1, len(points))
            self.points = np.stack([points[:, 0], across], axis=1)
        elif self.d == 2:
            self.points = points
        else:
            self._mean, self._axes, explained = principal_axes(points, weights, 2)
            self.names = tuple(
                f"{which} principal component ({100 * share:.0f}% of the variance)"
                for which, share in zip(("first", "second"), explained, strict=True)
            )
            self.points = self.place(points)

    def place(self, centres: np.ndarray) -> np.ndarray:
        """Centres (..., K, d) in the plane, (..., K, 2)."""
        if self.d == 1:
            return np.concatenate([centres, np.zeros_like(centres)], axis=-1)
        if self.d == 2:
            return centres
        return (centres - self._mean) @ self._axes.T
