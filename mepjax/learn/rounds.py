"""One round of learning: tell entities clusters, see what they do, learn, move the centres."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks, sampling
from .._core.types import Scalar
from ..problems.clustering import Clustering
from .environments import AbstractEnvironment, Observation
from .interactions import Interactions
from .learner import AbstractLearner


class Explore(eqx.Module):
    """How many interactions are prescribed at random, for the sake of learning.

    A share floor + (share - floor) b / (b + beta) of them, with b the problem's `beta_scale`: from
    `share` while little is known to `floor` in the end. All others follow the Gibbs policy of
    what has been learnt.

    **Arguments:** `share` and `floor`, in [0, 1].

    **Raises:** `ValueError` for other values.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> print(f"{mj.learn.Explore(0.3, floor=0.1).at(beta=1.0, scale=1.0):.1f}")
    0.2

    ```
    """

    share: Any
    floor: Any

    def __init__(self, share: Any = 0.3, floor: Any = 0.1) -> None:
        self.share, self.floor = share, floor
        for name, value in (("share", share), ("floor", floor)):
            if checks.is_concrete(value):
                value = np.asarray(value)
                checks.enforce([checks.check_range("Explore", name, value, low=0.0, high=1.0)])

    def at(self, beta: Scalar, scale: Scalar) -> Float[Array, ""]:
        """The share at a beta."""
        return jnp.asarray(self.floor + (self.share - self.floor) * scale / (scale + beta))


class ExploreByLog(Explore):
    """A share of 1 / log(1 + beta), at most 1 and at least `floor`: that of the published learner.

    In units of the beta itself, and so for data of about unit size.

    **Arguments:** `floor`, in [0, 1].
    """

    def __init__(self, floor: Any = 0.1) -> None:
        super().__init__(1.0, floor)

    def at(self, beta: Scalar, scale: Scalar) -> Float[Array, ""]:
        """The share at a beta."""
        del scale
        return jnp.maximum(self.floor, jnp.minimum(self.share, 1 / jnp.log1p(beta)))


class Round(eqx.Module):
    """What a round ends with: states, centres (S, K, d), and what to tell of it."""

    states: Any
    centres: Float[Array, "starts k d"]
    loss: Float[Array, " starts"]
    answered: Int[Array, ""]
    impossible: Bool[Array, ""]
    failed: Bool[Array, ""]


def over_starts(learner: AbstractLearner, function: Any, states: Any, *arguments: Any) -> Any:
    """function(state, ...) for every start, of states that are stacked unless they are shared."""
    axes = (None if learner.shares_starts else 0, *(0 for _ in arguments))
    return jax.vmap(function, in_axes=axes)(states, *arguments)


def draw_entities(key: Any, problem: Clustering, starts: int, m: int) -> Int[Array, "starts m"]:
    """m entities for each start, by their weights."""
    keys = jax.random.split(key, starts)
    drawn = jax.vmap(lambda key: sampling.systematic(key, problem.weights, m))(keys)
    return drawn.astype(jnp.int32)


def played(
    problem: Clustering,
    environment: AbstractEnvironment,
    learner: AbstractLearner,
    states: Any,
    centres: Float[Array, "starts k d"],
    beta: Float[Array, ""],
    explored_share: Float[Array, ""],
    each: int,
    key: Any,
) -> Round:
    """One round."""
    starts, k = centres.shape[:2]
    dtype = centres.dtype
    place, draw, tell, ask, learn, move = jax.random.split(key, 6)
    asked = over_starts(
        learner,
        lambda state, y, key: learner.asked_at(state, problem, y, key),
        states,
        centres,
        jax.random.split(place, starts),
    )
    batch = asked.shape[1]
    m = max(each // (batch * learner.draws), 1)
    entity = draw_entities(draw, problem, starts * batch, m).reshape(starts, batch, m)
    costs = over_starts(
        learner,
        lambda state, rows, ys: jax.vmap(lambda i, y: learner.costs(state, problem, i, y))(
            rows, ys
        ),
        states,
        entity,
        asked,
    )
    policy = learner.prescribed(costs.reshape(-1, k), beta).reshape(costs.shape)
    chance = jax.random.uniform(tell, (3, *entity.shape), dtype)
    explored = chance[0] < explored_share
    anything = jnp.minimum((chance[1] * k).astype(jnp.int32), k - 1)
    told = jnp.where(explored, anything, sampling.by_inverse(chance[2], policy))
    probability = jnp.take_along_axis(policy, told[..., None], axis=-1)[..., 0]
    propensity = explored_share / k + (1 - explored_share) * probability
    if learner.draws > 1:
        entity, told, explored, propensity = (
            jnp.repeat(a, learner.draws, axis=-1) for a in (entity, told, explored, propensity)
        )
    seen = environment.observe(ask, problem, entity, told, asked)
    cost, impossible, known = checked(problem, seen, entity, asked)
    log = as_log(entity, told, seen, cost, asked, propensity, known)
    if learner.shares_starts:
        rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), log)
        states, info = learner.update(states, problem, _numbered(rows, starts, batch), learn)
        loss = jnp.broadcast_to(info["loss"], (starts,))
    else:
        update = lambda state, log, key: learner.update(state, problem, log, key)  # noqa: E731
        states, info = jax.vmap(update)(states, log, jax.random.split(learn, starts))
        loss = info["loss"]
    moved = over_starts(
        learner,
        lambda state, y, log, explored, key: learner.move(
            state, problem, y, beta, log, explored, key
        ),
        states,
        centres,
        log,
        explored.reshape(starts, -1),
        jax.random.split(move, starts),
    )
    failed = jnp.asarray(False) if seen.failed is None else jnp.any(seen.failed)
    answered = jnp.sum(known, dtype=jnp.int32)
    return Round(states, moved, loss.astype(dtype), answered, impossible, failed)


def checked(
    problem: Clustering, seen: Observation, entity: Array, centres: Array
) -> tuple[Array | None, Bool[Array, ""], Bool[Array, "..."]]:
    """Costs, whether an answer cannot be, and which are answers.

    What is not known goes to cluster 0 for nothing.
    """
    known = jnp.ones(entity.shape, bool) if seen.known is None else seen.known
    impossible = jnp.asarray(False)
    if seen.realised is not None:
        inside = (seen.realised >= 0) & (seen.realised < problem.k)
        impossible = impossible | jnp.any(known & ~inside)
    cost = seen.cost
    if cost is None and seen.realised is not None:
        origin = jax.lax.stop_gradient(problem.origin)
        # One axis of entities for each set of centres.
        batch = centres.shape[:-2]
        flat = centres.reshape(-1, *centres.shape[-2:]) - origin
        who = entity.reshape(flat.shape[0], -1)
        went = seen.realised.reshape(who.shape)

        def one(i: Array, k: Array, y: Array) -> Array:
            return problem.cost.pairwise((problem.x[i] - origin)[None], y[k][None])[0, 0]

        cost = jax.vmap(lambda i, k, y: jax.vmap(lambda a, b: one(a, b, y))(i, k))(who, went, flat)
        cost = cost.reshape(*batch, *entity.shape[len(batch) :])
    elif cost is not None:
        possible = jnp.isfinite(cost)
        if problem.cost.never_negative:
            possible = possible & (cost >= 0)
        impossible = impossible | jnp.any(known & ~possible)
    return cost, impossible, known


def as_log(
    entity: Int[Array, "starts batch m"],
    told: Int[Array, "starts batch m"],
    seen: Observation,
    cost: Array | None,
    asked: Float[Array, "starts batch k d"],
    propensity: Float[Array, "starts batch m"],
    known: Bool[Array, "starts batch m"],
) -> Interactions:
    """Interactions of every start, one leading axis in each leaf."""
    starts, batch, m = entity.shape
    flat = lambda a: None if a is None else a.reshape(starts, batch * m)  # noqa: E731
    number = jnp.repeat(jnp.arange(batch, dtype=jnp.int32), m)

    def one(entity: Any, told: Any, realised: Any, cost: Any, asked: Any, p: Any, t: Any) -> Any:
        return Interactions(
            entity, told, realised, cost=cost, centres=asked, round=number, propensity=p, times=t
        )

    realised = None if seen.realised is None else jnp.where(known, seen.realised, 0)
    paid = None if cost is None else jnp.where(known, cost, 0)
    return jax.vmap(one)(
        flat(entity),
        flat(told),
        flat(realised),
        flat(paid),
        asked,
        flat(propensity),
        flat(known.astype(asked.dtype)),
    )


def _numbered(log: Interactions, starts: int, batch: int) -> Interactions:
    """Rounds of several starts, one after the other."""
    rows = log.round
    assert rows is not None
    first = jnp.repeat(jnp.arange(starts, dtype=jnp.int32) * batch, rows.shape[0] // starts)
    return eqx.tree_at(lambda log: log.round, log, rows + first)
