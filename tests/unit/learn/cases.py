"""One small problem and one log, whose programs all tests of learning share."""

import jax
import numpy as np

import mepjax as mj

N, K, M, ROUNDS = 40, 3, 600, 4
RNG = np.random.default_rng(5)
X = RNG.uniform(size=(N, 2)) + 3.0
WEIGHTS = RNG.uniform(0.5, 1.5, N)
TRUTH = (0.4, 2.0, 1.0)
FIT = {"bootstrap": 20}


def problem(dtype=np.float64, **options):
    return mj.Clustering(X.astype(dtype), K, weights=WEIGHTS.astype(dtype), **options)


def truth():
    return mj.autonomy.Softmax(*TRUTH)


def log(seed=0, environment=None):
    """M interactions in ROUNDS rounds, as NumPy arrays."""
    asked = environment or mj.learn.Simulated(truth())
    found = mj.learn.collect(
        problem(), asked, key=jax.random.key(seed), rounds=ROUNDS, each=M // ROUNDS
    )
    return jax.tree.map(np.asarray, found)
