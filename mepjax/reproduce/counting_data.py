"""Points of Table 5.1 and Figures 5.1 to 5.3: drawn, with choices stated, or read."""

import gzip
from collections.abc import Callable
from typing import Any

import numpy as np

from .reproduction import Setting

Points = np.ndarray
Load = Callable[[Setting], Points]


def gaussians(centres: Any, spread: float, count: int) -> Load:
    """`count` points around each centre."""
    centres = np.asarray(centres, np.float64)

    def load(setting: Setting) -> Points:
        rng = np.random.default_rng(setting.seed)
        noise = rng.normal(size=(len(centres), count, centres.shape[1]))
        return (centres[:, None] + spread * noise).reshape(-1, centres.shape[1])

    return load


def groups_of_three(apart: float) -> Load:
    """Figure 5.1: nine Gaussians of deviation 1, by threes of radius 5 on a ring of `apart`."""
    turns = 2 * np.pi * np.arange(3) / 3
    corner = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    return gaussians((apart * corner[:, None] + 5 * corner).reshape(-1, 2), 1.0, 50)


def combo(setting: Setting) -> Points:
    """Figure 5.2(c): eight clusters, uniform in rectangles of unlike sizes, in four pairs."""
    rng = np.random.default_rng(setting.seed)
    parts = []
    for place, corner in enumerate([(0, 0), (30, 0), (0, 30), (30, 30)]):
        for side in (-1, 1):
            size = np.array([2.0, 3.0 + place % 2]) if side < 0 else np.array([3.0, 2.0])
            middle = np.array(corner, float) + side * np.array([5.0, 0.0])
            parts.append(middle + size * rng.uniform(-0.5, 0.5, (60 + 20 * place, 2)))
    return np.concatenate(parts)


def rings(setting: Setting) -> Points:
    """Figure 5.2(e): circles of radius 1, 2, 3, with points in proportion to their length."""
    rng = np.random.default_rng(setting.seed)
    radius = np.repeat([1.0, 2.0, 3.0], [100, 200, 300])
    angle = rng.uniform(0, 2 * np.pi, len(radius))
    radius = radius + 0.03 * rng.normal(size=len(radius))
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def spirals(setting: Setting) -> Points:
    """Figure 5.2(f): three arms, even along their length."""
    rng = np.random.default_rng(setting.seed)
    arm = np.repeat(np.arange(3), 200)
    along = np.sqrt(rng.uniform(0.05, 1.0, len(arm)))
    angle = 2 * np.pi * (along + arm / 3)
    points = 3 * along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + 0.03 * rng.normal(size=points.shape)


def discs(setting: Setting) -> Points:
    """Figure 5.3: two uniform discs of radius 1, centres 4 apart."""
    rng = np.random.default_rng(setting.seed)
    n = 2000
    radius, angle = np.sqrt(rng.uniform(size=2 * n)), rng.uniform(0, 2 * np.pi, 2 * n)
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + np.repeat([[-2.0, 0.0], [2.0, 0.0]], n, axis=0)


def labelled(name: str) -> Load:
    """A CSV file whose last column is the label."""

    def load(setting: Setting) -> Points:
        path = setting.file("uci_clean", f"{name}.csv")
        return np.genfromtxt(path, delimiter=",", skip_header=1, dtype=str)[:, :-1].astype(float)

    return load


def benchmark(name: str) -> Load:
    """A set of the SIPU collection."""

    def load(setting: Setting) -> Points:
        with gzip.open(setting.file("gagolews_v1", "sipu", f"{name}.data.gz")) as file:
            return np.loadtxt(file)

    return load


def leaves(view: str) -> Load:
    """One view of the leaves of a hundred species: `Mar`, `Sha` or `Tex`."""

    def load(setting: Setting) -> Points:
        path = setting.file("leaves100", f"data_{view}_64.txt")
        return np.genfromtxt(path, delimiter=",", dtype=str)[:, 1:].astype(float)

    return load


def standardised(x: Points) -> Points:
    """Mean zero and standard deviation one in each column; constant ones become zero."""
    x = x - x.mean(axis=0)
    spread = x.std(axis=0)
    return (x / np.where(spread > 0, spread, 1.0)).astype(np.float32)
