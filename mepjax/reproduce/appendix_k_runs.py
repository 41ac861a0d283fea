"""Runs of appendix K: what a network has learnt at each beta, and whether it is flat."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import mepjax as mj

from .. import learn
from .._core import gibbs
from ..learn.networks.learnt_costs import LearntCosts, units
from ..learn.networks.published import PublishedADEN
from ..learn.networks.settings import Recipe
from ..learn.networks.steps import perturbed

# Growth of beta where it is held, as levels of a schedule must differ.
_HELD = 1e-4
# Sets of perturbed centres, and entities, at which what has been learnt is compared with the truth.
_SETS, _ENTITIES = 16, 128
# Noise on centres of the published network: .01 on the unit square, in spacings.
PUBLISHED_NOISE = 0.028
# Steps after which a network that dies has died.
FLAT_STEPS = 80


def first_centres(base: mj.Clustering, start: str, key: Any) -> Array | None:
    """Points of the data for `"sample"`; `None`, the learner's own, for `"mean_noise"`."""
    if start == "mean_noise":
        return None
    return jax.random.choice(key, base.x, (1, base.k), replace=False)


def begun(
    base: mj.Clustering, truth: mj.Clustering, training: Any, betas: Any, start: str, key: Any
) -> learn.LearningState:
    """Learning with one set of centres, before its first level."""
    asked = learn.Simulated(truth.autonomy)
    state = learn.begin(
        base, asked, training, mj.Explicit(np.asarray(betas)), key=key, starts=1, fresh=1
    )
    centres = first_centres(base, start, jax.random.fold_in(key, 1))
    return state if centres is None else eqx.tree_at(lambda s: s.carry.centres, state, centres)


@eqx.filter_jit
def excess(
    costs: LearntCosts,
    truth: mj.Clustering,
    centres: Float[Array, "k d"],
    perturbation: Any,
    beta: Any,
    explored: Any,
    key: Any,
) -> Float[Array, ""]:
    """Mean squared error of learnt costs at centres with noise, over the pairs that are visited.

    It is the loss without the noise of its targets, from averages that are known in simulation,
    in squared units of cost.
    """
    noise, rows = jax.random.split(key)
    sets = perturbed(centres, perturbation, costs.spacing, _SETS, noise)
    size = min(_ENTITIES, truth.x.shape[0])
    few = jax.random.choice(rows, truth.x.shape[0], (size,), replace=False)
    part = truth.replace(x=truth.x[few], weights=truth.weights[few])

    def one(y: Array) -> Array:
        found = costs(part.x, y)
        apart = found - part.average_distances(y)
        visits = explored / truth.k + (1 - explored) * gibbs.policy(found, beta)
        return jnp.sum(visits * apart**2) / size

    return jnp.mean(jax.lax.map(one, sets))


def levels_of(
    base: mj.Clustering,
    truth: mj.Clustering,
    training: Any,
    betas: tuple[float, ...],
    start: str,
    key: Any,
) -> dict[str, Any]:
    """Loss, excess loss and free energy at the end of each of `betas`.

    The first beta, at which all is learnt anew, is held for half of the cycles and for those before
    centres move; the others share the rest.
    `unlearnt` is the excess of the network as it was at the start, at the same places; `level` is
    F + log K / beta, which unlike F falls as beta rises, and is 0 for a network that is flat;
    `wobble` its standard deviation over the second half of a level.
    """
    first = training.cycles // 2
    each = (training.cycles - first) // (len(betas) - 1)
    before = -(-training.prefit // training.network_steps)
    counts = [first + before, *(each for _ in betas[1:])]
    held = [b * (1 + _HELD * np.arange(n)) for b, n in zip(betas, counts, strict=True)]
    state = begun(base, truth, training, np.concatenate(held), start, key)
    asked = learn.Simulated(truth.autonomy)
    fresh = training.learnt_costs(state.carry.states, base)
    told: dict[str, list[float]] = {
        name: [] for name in ("loss", "excess", "unlearnt", "free_energy", "level", "wobble")
    }
    place = jax.random.fold_in(key, 2)
    for beta, count in zip(betas, counts, strict=True):
        state = learn.advance(base, asked, state, count)
        end = int(state.n_stages)
        explored = state.rows.explored[end - 1]
        learnt = training.learnt_costs(state.carry.states, base)
        for name, costs in (("excess", learnt), ("unlearnt", fresh)):
            apart = excess(
                costs, truth, state.centres[0], training.perturbation, beta, explored, place
            )
            told[name].append(float(apart))
        half = state.rows.free_energy[end - max(count // 2, 1) : end, 0]
        told["loss"].append(float(state.rows.loss[end - 1, 0]))
        told["free_energy"].append(float(half[-1]))
        told["level"].append(float(jnp.mean(half)) + float(np.log(base.k)) / beta)
        told["wobble"].append(float(jnp.std(half)))
        if not np.isfinite(told["loss"][-1]):
            break
    cost = float(truth.harden(state.centres[0]).cost)
    return {**told, "cost": cost, "interactions": int(state.carry.n_interactions)}


def flat_seeds(
    base: mj.Clustering,
    truth: mj.Clustering,
    options: dict[str, Any],
    settings: dict[str, Any],
    start: str,
    keys: list[Any],
) -> dict[str, Any]:
    """How many of the published network's runs are flat: all its outputs are zero.

    Where all are zero behind a ReLU so is the gradient, and the free energy is -log K / beta for
    ever.
    """
    unit = round(float(units(base)[1]), 6)
    learner: Any = learn.Training(
        PublishedADEN,
        options={"unit": unit, "centre_blocks": 0} | options,
        # Clipping is of gradients on the unit square.
        clip=np.float64(settings.get("clip", 1e9) / unit**4),
        learning_rate=np.float64(settings["learning_rate"]),
        warm_up=settings.get("warm_up", 0),
        batch=settings["batch"], entities=settings["entities"], draws=settings["draws"],
        perturbation=(PUBLISHED_NOISE, PUBLISHED_NOISE), average=0.0, prefit=FLAT_STEPS,
        network_steps=FLAT_STEPS, cycles=1, centre_steps=1,
        recipe=Recipe(from_mean=True, constant_rate=True),
    )  # fmt: skip
    losses, flat = [], 0
    for key in keys:
        state = begun(base, truth, learner, [10.0], start, key)
        state = learn.advance(base, learn.Simulated(truth.autonomy), state, 1)
        told = learner.learnt_costs(state.carry.states, base)(base.x, state.centres[0])
        flat += not bool(jnp.any(told > 0))
        losses.append(float(state.rows.loss[0, 0]))
    return {"flat": flat, "seeds": len(keys), "loss": losses}
