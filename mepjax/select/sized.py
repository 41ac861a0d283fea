"""Clusters of limited size from random starts, all of them in one program.

An anneal from coincident centres spends nearly all its steps between the first transition and ten
times it, where every price moves with every centre. A start at entities needs no beta at which
centres still coincide: it begins where clusters as large as those it makes hold together, a few
rough stages follow, and the last one is solved. Of many entities the starts see a sample, and the
best of them are solved on all.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.branching.noise import NoDetector
from ..engine.critical_jump import CriticalJump
from ..engine.problem import Problem
from ..engine.record import Record
from ..engine.schedules import AbstractSchedule, Geometric
from ..engine.solution import Solution
from ..exec.sources import Rows
from ..problems.autonomy.base import NoAutonomy
from ..problems.clustering.problem import Clustering
from ..solvers.adjoints import NoGrad
from ..solvers.fixed_point import FixedPoint

# Starts where nobody asked for a number.
STARTS = 10
# A cluster of isotropic variance D / d splits at half of d / D; random ones are too large.
_FIRST = 2.0
_FACTOR = 2.5
# Enough for data whose scales span 1e12; what has separated ends before.
_MAX_STAGES = 40
_STEPS = 8
# Of more than twice as many entities starts see so many, in all and for each cluster.
_FEWEST, _PER_CLUSTER = 2000, 250
# Starts that are solved on all entities, from so many stages before the last.
_KEPT, _STAGES_AGAIN = 2, 4
# Numbers in one table of costs from which on well compiled code pays.
_LONG = 16_000


def suits(problem: Problem, schedule: AbstractSchedule) -> bool:
    """Whether these starts are for it: sizes are limited, and the schedule is left to the library.

    Overrides move the beta at which clusters hold together, so that there are none here.
    """
    if not isinstance(problem, Clustering) or problem.capacity is None:
        return False
    ours = isinstance(schedule, Geometric | CriticalJump) and schedule.open_ended
    on_disk = isinstance(problem.x, Rows)
    return isinstance(problem.autonomy, NoAutonomy) and ours and not on_disk


def alike(problem: Problem) -> bool:
    """Whether it is known that all clusters have one limit, so that no anneal tells them apart."""
    assert isinstance(problem, Clustering) and problem.capacity is not None
    limit = problem.capacity.limit
    if not checks.is_concrete(limit):
        return False
    limit = np.asarray(limit)
    return bool(np.all(limit == limit[0]))


def solutions(
    problem: Clustering,
    schedule: Any,
    keys: Any,
    *,
    record: Record | None,
    sample: int | None,
    rtol: float | None,
) -> tuple[list[Any], list[Solution]]:
    """One for each key, or the best few where a sample was looked at, and the numbers of the keys.

    **Arguments:** `schedule`, of whole anneals, of which the last beta is taken; `sample`, the most
    entities that starts are to see, `None`: all.
    """
    size = max(_FEWEST, _PER_CLUSTER * problem.k)
    sampled = sample is not None and problem.x.shape[0] > 2 * size
    size = min(size, sample) if sampled and sample is not None else None
    order, found = _solved(problem, schedule.beta_max, keys, record, size, rtol)
    if checks.is_concrete(order):
        # On the host, as nothing is then compiled for each of its arrays.
        order, found = jax.device_get((order, found))
    numbers = range(len(order))
    each = [jax.tree.map(lambda leaf, i=i: jnp.asarray(leaf[i]), found) for i in numbers]
    return [order[i] for i in numbers], each


def _is_long(problem: Clustering, *others: Any) -> bool:
    return problem.x.shape[0] * problem.k >= _LONG


@partial(program, is_long=_is_long)
def _solved(
    problem: Clustering,
    end: Any,
    keys: Any,
    record: Record | None,
    size: int | None,
    rtol: float | None,
) -> tuple[Int[Array, " kept"], Solution]:
    """The numbers of the keys, and solutions, stacked."""
    solver = FixedPoint(stage_max_steps=_STEPS, rtol=rtol)

    def solved(on: Clustering, schedule: Geometric, key: Any, start: Any) -> Solution:
        return anneal(
            on,
            schedule,
            key=key,
            init=start,
            solver=solver,
            detector=NoDetector(noise=0.0),
            adjoint=NoGrad(),
            record=record,
        )

    def first(key: Any, on: Clustering) -> Solution:
        start = on.scatter(key)
        schedule = _window(on, start, jnp.asarray(end, on.x.dtype))
        return solved(on, schedule, key, start)

    if size is None:
        return jnp.arange(len(keys)), jax.lax.map(lambda key: first(key, problem), keys)
    # Another draw than what is done with the first key.
    drawn = problem.subsample(jax.random.fold_in(keys[0], 1), size)
    rough = jax.lax.map(lambda key: first(key, drawn), keys)
    cost = jnp.where(jnp.isfinite(rough.distortion), rough.distortion, jnp.inf)
    order = jnp.argsort(cost)[:_KEPT]
    params, beta = jax.tree.map(lambda leaf: leaf[order], (rough.params, rough.beta))

    def polished(start: Any) -> Solution:
        key, params, beta = start
        again = beta / _FACTOR**_STAGES_AGAIN
        schedule = Geometric(again, beta, _FACTOR, max_stages=_MAX_STAGES, open_ended=True)
        return solved(problem, schedule, key, params)

    return order, jax.lax.map(polished, (keys[order], params, beta))


def _window(problem: Clustering, start: Any, end: Float[Array, ""]) -> Geometric:
    """From where the clusters of these centres hold together."""
    cost = problem.evaluate(start).cost
    some = cost > 0
    first = _FIRST * problem.x.shape[1] / jnp.where(some, cost, 1.0)
    first = jnp.where(some & (first < end), first, end)
    return Geometric(first, end, _FACTOR, max_stages=_MAX_STAGES, open_ended=True)
