"""Interactions at centres all over the data, for learners that serve centres anywhere."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._core import checks, sampling
from .._core.keys import check_key
from .._core.programs import program
from ..problems.clustering import Clustering
from .environments import AbstractEnvironment, Observation
from .interactions import Interactions


def collect(
    problem: Clustering,
    environment: AbstractEnvironment,
    *,
    key: Any,
    rounds: int = 10,
    each: int = 500,
) -> Interactions:
    """Ask an environment at several sets of centres, each on entities drawn at random.

    Entities are drawn by their weights, and told any cluster alike.

    **Arguments:**

    - `problem`: whose entities are asked; its autonomy is not looked at.
    - `environment`: what answers.
    - `key`: a JAX random key.
    - `rounds`: sets of centres.
    - `each`: interactions in each round.

    **Returns:** `Interactions` with the centres in force and propensities.

    **Raises:** `RuntimeError` with what the environment said, where it broke down.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> problem = mj.Clustering(mj.datasets.four_square(60)[0], 4)
    >>> truth = mj.learn.Simulated(mj.autonomy.Uniform(0.3))
    >>> log = mj.learn.collect(problem, truth, key=jax.random.key(0), rounds=2, each=100)
    >>> len(log), log.centres.shape
    (200, (2, 4, 2))

    ```
    """
    key = check_key(key)
    checks.check_count("collect", "rounds", rounds)
    checks.check_count("collect", "each", each)
    check_environment("collect", environment)
    entity, prescribed, centres, seen = _collected(problem, environment, key, rounds, each)
    if seen.failed is not None and checks.is_concrete(seen.failed) and bool(jnp.any(seen.failed)):
        raise RuntimeError(f"collect: the environment broke down: {environment.failure}")
    k = problem.k
    known = None if seen.known is None else seen.known.reshape(-1).astype(problem.x.dtype)
    return Interactions(
        entity.reshape(-1),
        prescribed.reshape(-1),
        None if seen.realised is None else seen.realised.reshape(-1),
        cost=None if seen.cost is None else seen.cost.reshape(-1),
        centres=centres,
        round=jnp.repeat(jnp.arange(rounds, dtype=jnp.int32), each),
        propensity=jnp.full((rounds * each,), 1 / k, problem.x.dtype),
        times=known,
    )


@program
def _collected(
    problem: Clustering, environment: AbstractEnvironment, key: Any, rounds: int, each: int
) -> tuple[Array, Array, Array, Observation]:
    place, draw, tell, ask = jax.random.split(key, 4)
    centres = jax.vmap(lambda key: problem.centres(problem.scatter(key)))(
        jax.random.split(place, rounds)
    )
    entity = jax.vmap(lambda key: sampling.systematic(key, problem.weights, each))(
        jax.random.split(draw, rounds)
    ).astype(jnp.int32)
    prescribed = jax.random.randint(tell, entity.shape, 0, problem.k, jnp.int32)
    return (
        entity,
        prescribed,
        centres,
        environment.observe(ask, problem, entity, prescribed, centres),
    )


def check_environment(owner: str, environment: Any) -> None:
    """Raise `TypeError` for what is no environment."""
    if not isinstance(environment, AbstractEnvironment):
        raise TypeError(
            f"{owner}: `environment` must be an environment such as mepjax.learn.Simulated(...); "
            f"got {type(environment).__name__} {environment!r:.60}."
        )
