"""What smoothed targets leave of the response of costs to the centres: 1 - lambda of it."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from mepjax import learn
from mepjax.learn.networks.learnt_costs import units
from mepjax.learn.networks.settings import Recipe

from . import cases

KEY = jax.random.key(0)
STEPS, NOISE, SMOOTHING = 3000, 0.02, 0.5


class Line(nnx.Module):
    """Costs that are linear in the noise on all centres, and alike for all entities."""

    def __init__(self, features: int, *, about: Any, size: float, rngs: Any, dtype: Any) -> None:
        del rngs
        self.features, self.about, self.size = features, about, size
        self.slope = nnx.Param(jnp.zeros((cases.K, cases.K * features), dtype))
        self.level = nnx.Param(jnp.zeros((cases.K,), dtype))

    def __call__(self, x, centres, *, key=None, clipped=True):
        del key, clipped
        flat = ((centres - jnp.asarray(self.about)) / self.size).reshape(*centres.shape[:-2], -1)
        costs = self.level[...] + flat @ self.slope[...].T
        return jnp.broadcast_to(costs[..., None, :], (*x.shape[:-1], cases.K))


def learnt_slope(smoothing, log, base):
    """Of one entity's costs in the centres, by the steps that `Training` takes."""
    # The noise and what it is about, as a network sees them.
    origin, spacing = (np.asarray(a) for a in units(base))
    about = ((np.asarray(base.x[: cases.K]) - origin) / spacing).tolist()
    seen = {"about": tuple(map(tuple, about)), "size": NOISE / float(spacing)}
    learner = learn.Training(
        Line, options=seen, batch=1, entities=cases.K, draws=1, network_steps=STEPS, prefit=STEPS,
        learning_rate=np.float64(0.01), warm_up=0, clip=np.float64(1e9), weight_decay=0.0,
        average=0.99, smoothing=smoothing, recipe=Recipe(constant_rate=True),
    ).in_motion()  # fmt: skip
    state, _ = eqx.filter_jit(learner.update)(learner.init(KEY, base), base, log, KEY)
    (slope,) = (leaf for leaf in jax.tree.leaves(state.average) if leaf.ndim == 2)
    return np.asarray(slope)


def test_the_slope_of_an_autonomy_is_found_and_shrunk_by_smoothing():
    """Finite differences of the true average cost against a fit to it at noisy centres."""
    base = cases.problem()
    truth = base.replace(autonomy=cases.truth())
    spacing = float(units(base)[1])
    centres = np.asarray(base.x[: cases.K])
    rng = np.random.default_rng(0)
    sets = centres + NOISE * rng.normal(size=(STEPS, cases.K, 2))
    who = np.zeros((STEPS, cases.K), int)
    told = np.tile(np.arange(cases.K), (STEPS, 1))
    costs = jax.jit(jax.vmap(lambda y: truth.average_distances(y)[0]))
    log = learn.Interactions(
        who.ravel(), told.ravel(), cost=np.asarray(costs(sets)).ravel(), centres=sets,
        round=np.repeat(np.arange(STEPS), cases.K),
    )  # fmt: skip
    size = 1e-5
    kicks = size * np.eye(2 * cases.K).reshape(-1, cases.K, 2)
    apart = np.asarray(costs(centres + kicks)) - np.asarray(costs(centres - kicks))
    # Of costs in squared spacings to the noise in its deviations.
    slope = apart.T / (2 * size) * NOISE / spacing**2
    for smoothing in (0.0, SMOOTHING):
        found = learnt_slope(smoothing, log, base)
        share = np.sum(found * slope) / np.sum(slope**2)
        np.testing.assert_allclose(share, 1 - smoothing, atol=0.02)
        np.testing.assert_allclose(found, (1 - smoothing) * slope, atol=0.05 * np.abs(slope).max())
