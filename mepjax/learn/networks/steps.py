"""Steps of a network towards costs that were paid, and of centres down its free energy."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from ..._core import gibbs, sampling
from ..._core.types import Scalar
from ...problems.clustering import Clustering
from ..interactions import Interactions

# What is left of the learning rate in the end.
_LAST_RATE = 0.01


class Batch(eqx.Module):
    """Sets of entities at their own centres: who was told what, and what that cost on average.

    `count` is how many costs are in the mean: none where nothing was answered.
    """

    entity: Int[Array, "*steps sets s"]
    prescribed: Int[Array, "*steps sets s"]
    target: Float[Array, "*steps sets s"]
    count: Float[Array, "*steps sets s"]
    centres: Float[Array, "*steps sets k d"]


def batches_of_sets(
    log: Interactions, paid: Float[Array, " m"], steps: int, batch: int, draws: int
) -> Batch:
    """Of rounds of the loop: of each start sets of entities at their centres, one after the other.

    Each entity is there `draws` times in a row.
    """
    sets = log.centres
    assert sets is not None
    every = sets.shape[0] // (steps * batch)
    asked = paid.shape[0] // (sets.shape[0] * draws)

    def in_steps(a: Array, *tail: int) -> Array:
        found = jnp.moveaxis(a.reshape(every, steps, batch, *tail), 1, 0)
        return found.reshape(steps, every * batch, *tail)

    times = jnp.asarray(log.counted, paid.dtype)
    who, told, paid, times = (
        in_steps(a, asked, draws) for a in (log.entity, log.prescribed, paid, times)
    )
    count = jnp.sum(times, axis=-1)
    mean = jnp.sum(times * paid, axis=-1) / jnp.maximum(count, 1e-30)
    return Batch(who[..., 0], told[..., 0], mean, count, in_steps(sets, *sets.shape[1:]))


def batches_of_rows(
    log: Interactions, paid: Float[Array, " m"], steps: int, size: int, key: Any
) -> Batch:
    """Of interactions in any order: rows drawn for each step, every row a set of its own."""
    assert log.centres is not None and log.round is not None
    rows = jax.random.randint(key, (steps, size), 0, paid.shape[0])
    times = jnp.asarray(log.counted, paid.dtype)
    who, told, paid, times = (a[rows][..., None] for a in (log.entity, log.prescribed, paid, times))
    return Batch(who, told, paid, times, log.centres[log.round[rows]])


def perturbed(
    centres: Float[Array, "k d"], sizes: Any, spacing: Float[Array, ""], sets: int, key: Any
) -> Float[Array, "sets k d"]:
    """Centres with noise, its deviation log-uniform between two `sizes` in spacings."""
    size, noise = jax.random.split(key)
    low, high = (jnp.log(jnp.asarray(p, centres.dtype)) for p in sizes)
    share = jax.random.uniform(size, (sets, 1, 1), centres.dtype)
    sigma = spacing * jnp.exp(low + (high - low) * share)
    return centres + sigma * jax.random.normal(noise, (sets, *centres.shape), centres.dtype)


def rate_of(training: Any, step: Int[Array, ""]) -> Float[Array, ""]:
    """Learning rate of a step of a `Training`: it rises, then falls as a cosine."""
    before = math.ceil(training.prefit / training.network_steps)
    total = (before + training.cycles) * training.network_steps
    rise = jnp.minimum((step + 1) / max(training.warm_up, 1), 1.0)
    if training.recipe.constant_rate:
        return training.learning_rate * rise
    fall = 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / total, 1.0)))
    return training.learning_rate * rise * (_LAST_RATE + (1 - _LAST_RATE) * fall)


def regressed(
    params: Any,
    network: Any,
    batch: Batch,
    x: Float[Array, "n d"],
    origin: Float[Array, " d"],
    spacing: Float[Array, ""],
    key: Any,
) -> Float[Array, ""]:
    """Mean squared error on the pairs that were visited, in units of spacing^4."""
    at = lambda a: (a - origin) / spacing  # noqa: E731
    costs = network(params, at(x[batch.entity]), at(batch.centres), key, False)
    told = jnp.take_along_axis(costs, batch.prescribed[..., None], axis=-1)[..., 0]
    apart = batch.target / spacing**2 - told
    return jnp.sum(batch.count * apart**2) / jnp.maximum(jnp.sum(batch.count), 1e-30)


def descended(
    costs: Any,
    problem: Clustering,
    centres: Float[Array, "k d"],
    beta: Scalar,
    rate: Any,
    steps: int,
    entities: int,
    key: Any,
    plain: bool = False,
    tolerance: float | None = None,
) -> Float[Array, "k d"]:
    """Centres after steps of Adam on -(1/beta) mean log sum exp(-beta costs).

    Through all arguments of `costs`. `rate` is in spacings; each step looks at that many entities,
    drawn by their weights, or at all where there are no more. `plain` steps are `rate` times the
    gradient, and look at all. With a `tolerance` there are none any more once the free energy has
    changed by less than that much of it.
    """
    n = problem.x.shape[0]
    shares = problem.weights / jnp.sum(problem.weights)
    size = rate if plain else rate * costs.spacing

    def energy(y: Array, key: Any) -> Array:
        if plain or n <= entities:
            return gibbs.free_energy(costs(problem.x, y), shares, beta)
        rows = sampling.systematic(key, shares, entities)
        alike = jnp.full((entities,), 1 / entities, y.dtype)
        return gibbs.free_energy(costs(problem.x[rows], y), alike, beta)

    return lowered(energy, centres, size, jax.random.split(key, steps), plain, tolerance)


def lowered(
    energy: Any, start: Array, size: Any, keys: Any, plain: bool = False,
    tolerance: float | None = None,
) -> Array:  # fmt: skip
    """Where steps of Adam of the given size, or `plain` ones, lead down `energy(y, key)`."""
    descent = optax.identity() if plain else optax.scale_by_adam()

    def step(held: Any, key: Any) -> Any:
        y, moments = held
        value, slope = jax.value_and_grad(energy)(y, key)
        change, moments = descent.update(slope, moments)
        return (y - (size * change).astype(y.dtype), moments), value

    held = start, descent.init(start)
    if tolerance is None:
        return jax.lax.scan(step, held, keys)[0][0]
    near = lambda new, old: jnp.abs(new - old) < tolerance * jnp.abs(new)  # noqa: E731
    return until_settled(step, held, keys, near)[0][0]


def until_settled(
    step: Callable[[Any, Any], tuple[Any, Array]], start: Any, inputs: Any, near: Any
) -> tuple[Any, Array, Array]:
    """A scan whose steps stop once `near(value, the one before)`.

    `step` takes what is held and an input, and returns what is held then and a value.

    **Returns:** what is held in the end, the values, and which of them are of steps that were
    taken.
    """
    first = jax.tree.map(lambda a: a[0], inputs)
    none = jnp.full_like(jax.eval_shape(step, start, first)[1], jnp.nan)

    def once(held: Any, given: Any) -> Any:
        def taken(held: Any) -> Any:
            inner, before, _ = held
            inner, value = step(inner, given)
            return (inner, value, near(value, before)), (value, jnp.asarray(True))

        def skipped(held: Any) -> Any:
            return held, (none, jnp.asarray(False))

        return jax.lax.cond(held[2], skipped, taken, held)

    held, (values, was_taken) = jax.lax.scan(once, (start, none, jnp.asarray(False)), inputs)
    return held[0], values, was_taken


def optimiser(clip: Any, weight_decay: Any) -> optax.GradientTransformation:
    """AdamW with clipped gradients, of rate one: see `rate_of`."""
    return optax.chain(
        optax.clip_by_global_norm(clip),
        optax.scale_by_adam(),
        optax.add_decayed_weights(weight_decay),
    )


def stepped(params: Any, change: Any, rate: Any, mean: Any, average: Any) -> tuple[Any, Any]:
    """Parameters after a change of the optimiser at a rate, and their running average."""
    params = jax.tree.map(lambda p, c: p - (rate * c).astype(p.dtype), params, change)
    mixed = jax.tree.map(
        lambda a, p: (average * a + (1 - average) * p).astype(p.dtype), mean, params
    )
    return params, mixed
