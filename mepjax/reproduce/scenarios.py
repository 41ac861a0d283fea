"""Autonomy as in equation (72), and the data it was published on."""

import gzip
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from ..datasets import four_square
from .reproduction import Setting

SQUARE_POINTS, SQUARE_CLUSTERS = 1800, 4
LONDON_CLUSTERS, MOVIELENS_CLUSTERS = 25, 10


@dataclass(frozen=True)
class Scenario:
    """Who overrides: with probability kappa, and then by softmax(-(zeta d + gamma d') / T)."""

    kappa: float
    gamma: float
    zeta: float
    temperature: float

    @property
    def key(self) -> str:
        """In words, as the key of a row."""
        return (
            f"kappa {self.kappa:g}, gamma {self.gamma:g}, zeta {self.zeta:g}, "
            f"T {self.temperature:g}"
        )

    @property
    def autonomy(self) -> mj.autonomy.Softmax:
        """The model, of one structure whatever the numbers, so that one program serves all."""
        model = mj.autonomy.Softmax(self.kappa, self.zeta, 1.0, self.temperature)
        return eqx.tree_at(lambda m: m.gamma, model, jnp.full_like(model.gamma, self.gamma))


# Table 1 and the two combinations of its factors that it leaves out.
SQUARE = [
    Scenario(kappa, gamma, 1, temperature)
    for kappa in (0.1, 0.2, 0.3, 0.4, 0.5)
    for gamma in (0, 0.5)
    for temperature in (0.01, 100)
]
LONDON = [Scenario(kappa, 0, 1, temperature) for kappa in (0.1, 0.5) for temperature in (0.1, 0.01)]


def square() -> mj.Clustering:
    """Four Gaussians at the corners of the unit square, without autonomy."""
    return mj.Clustering(four_square(SQUARE_POINTS)[0], SQUARE_CLUSTERS)


def london(setting: Setting, k: int = LONDON_CLUSTERS) -> mj.Clustering:
    """5,719 traffic sensors, each column scaled to [0, 1]."""
    path = setting.file("utd19_london", "sensors_xy.csv")
    x = np.loadtxt(path, delimiter=",", skiprows=1)
    x = (x - x.min(axis=0)) / np.ptp(x, axis=0)
    return mj.Clustering(x.astype(np.float32), k)


def movielens(setting: Setting) -> mj.Clustering:
    """Ten components of the genres that 6,040 users like."""
    path = setting.file("movielens1m_users10", "users_pca10.csv.gz")
    with gzip.open(path, "rt") as file:
        x = np.loadtxt(file, delimiter=",", skiprows=1)[:, 1:]
    return mj.Clustering(x.astype(np.float32), MOVIELENS_CLUSTERS)


def aware(base: mj.Clustering, scenario: Scenario, **options: Any) -> mj.Clustering:
    """The same clustering under a scenario's autonomy."""
    return base.replace(autonomy=scenario.autonomy, **options)
