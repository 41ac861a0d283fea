"""Rows of clusterings that pay for what their groups compute with."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import mepjax as mj

from ..oracles.test_scalable_clustering import first_transition
from .points import D, K, points, points_row, rho_of
from .row import Symmetry

COMPUTATION = 0.8
SLOTS = np.array([2, 0, 1])


def build(x: Any, weights: Any, *, dtype: Any = np.float64, k: int = K) -> mj.ScalableClustering:
    return mj.ScalableClustering(
        jnp.asarray(x, dtype),
        k,
        weights=jnp.asarray(weights, dtype),
        interaction=jnp.asarray(1.0, dtype),
        computation=jnp.asarray(COMPUTATION, dtype),
    )


def random_values(problem: Any, rng: np.random.Generator) -> mj.ScalableParams:
    del problem
    return mj.ScalableParams(
        jnp.asarray(rng.normal(size=(K, D)) + 0.8), jnp.asarray(rng.normal(size=K))
    )


def centres(change: Any) -> Any:
    """A change of the centres alone."""
    return lambda values: mj.ScalableParams(change(values.centres), values.log_reach)


def symmetries() -> tuple[Symmetry, ...]:
    x, weights = points()
    shift = np.array([50.0, -20.0])
    return (
        Symmetry(
            name="permuting slots",
            problem=lambda problem: problem,
            values=lambda values: jax.tree.map(lambda leaf: leaf[SLOTS], values),
            policy=lambda policy: policy[:, SLOTS],
            anneals=False,
        ),
        Symmetry(
            name="translation",
            problem=lambda problem: build(x + shift, weights),
            values=centres(lambda y: y + shift),
        ),
        Symmetry(
            name="scaling",
            problem=lambda problem: build(3 * x, weights),
            values=centres(lambda y: 3 * y),
            factor=9.0,
        ),
    )


ROW = points_row(
    "scalable",
    build,
    {
        name: (lambda q, name=name: getattr(q, name))
        for name in ("x", "weights", "interaction", "computation")
    },
    first_transition=lambda x, w: first_transition(x, rho_of(w), COMPUTATION),
    permutes_slots=False,
    moves_along=False,
    degree=None,
    monotone=False,
    convex_at_zero=False,
    damping=0.5,
    # The reach of a group of few entities among many is found slowly, and said so.
    codes={"outlier": (mj.Code.OK, mj.Code.NEAR_CRITICAL, mj.Code.MAX_STEPS)},
    default=True,
)
ROWS = [
    dataclasses.replace(
        ROW, random_values=random_values, symmetries=(*ROW.symmetries, *symmetries())
    )
]
