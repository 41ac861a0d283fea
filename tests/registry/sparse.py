"""Sparse regression by annealed placements."""

from typing import Any

import jax.numpy as jnp
import numpy as np

import mepjax as mj
from mepjax import Code

from .row import Bad, Row, Symmetry

R, N, K = 10, 6, 2


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    design = rng.normal(size=(R, N))
    return design, design @ np.array([0, 2.0, 0, 0, -1.2, 0]) + 0.1 * rng.normal(size=R)


def build(dtype: Any, order: Any = slice(None)) -> mj.SparseRegression:
    design, response = data()
    return mj.SparseRegression(
        jnp.asarray(design[:, order], dtype), jnp.asarray(response, dtype), K
    )


def random_rows(problem: Any, rng: np.random.Generator) -> Any:
    del problem
    return jnp.asarray(rng.dirichlet(np.full(N, 2.0), K))


ORDER = np.random.default_rng(4).permutation(N)

ROWS = [
    Row(
        name="sparse regression",
        build=build,
        arrays={"design": lambda q: q.design, "response": lambda q: q.response},
        random_values=random_rows,
        bad=(
            Bad(
                get=lambda q: q.design,
                index=(1, 0),
                value=np.nan,
                code=Code.NON_FINITE_INPUT,
                says="`design` must be finite",
            ),
        ),
        symmetries=(
            Symmetry(
                name="permuting columns",
                problem=lambda problem: build(np.float64, ORDER),
                values=lambda q: q[:, ORDER],
                policy=lambda policy: policy[:, ORDER],
                anneals=False,
            ),
            Symmetry(
                name="permuting amplitudes",
                problem=lambda problem: problem,
                values=lambda q: q[::-1],
                anneals=False,
                # A sweep goes over them in order.
                policy=lambda policy: policy[::-1],
            ),
        ),
        schedule=(0.01, 2.0, 1.25),
        # Uniform placements are stationary only as beta -> 0.
        rests=False,
        unit_beta_min=0.05,
        beta_hard=1e4,
        betas=(0.01, 1.0, 100.0),
        log_betas=(-5.0, 4.0),
    )
]
