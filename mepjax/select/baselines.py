"""Answers of the usual ways, against which solutions show what they are worth."""

from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.schedules import AbstractSchedule
from ..problems.clustering.problem import Clustering
from ..problems.facility_path.hard import HardPaths
from ..problems.facility_path.problem import FacilityPath
from ..problems.parametric_mdp import HardPlan, ParametricMDP
from ..solvers.adjoints import NoGrad


class LocateThenRoute(eqx.Module):
    """Facilities placed for the nodes alone, and the routes through them.

    **Fields:** `locations`, shape (n_facilities, d); `hard`, the `HardPaths` at these locations;
    `code`, how the anneal that placed them ended.
    """

    locations: Float[Array, "k d"]
    hard: HardPaths
    code: Int[Array, ""]


def locate_then_route(
    problem: FacilityPath, *, key: Any, schedule: AbstractSchedule | None = None
) -> LocateThenRoute:
    """The baseline that decides one thing after the other.

    Facilities are placed so that nodes are near one, whatever comes after (an anneal of the
    entry legs alone, without masks); then every node takes the cheapest permitted route.
    Against `problem.harden(solution.params).cost` it shows what deciding both at once is worth.

    **Arguments:** `problem`, a `FacilityPath`; `key`, a JAX random key; `schedule`, for the anneal,
    default as in `anneal`.

    **Returns:** a `LocateThenRoute`.

    **Raises:** `ValueError` if entering costs nothing.

    **Example:** half-way stops are worth more than being near the nodes.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> problem = mj.FacilityPath(jnp.array([[0.0], [2.0]]), jnp.array([8.0]), 1)
    >>> baseline = mj.locate_then_route(problem, key=jax.random.key(0))
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(f"{baseline.hard.cost:.1f} {problem.harden(sol.params).cost:.1f}")
    50.0 25.5

    ```
    """
    legs = problem.stage_costs
    entry = legs[0] if isinstance(legs, tuple) else legs
    alone = problem.replace(
        n_stages=1, stage_costs=(entry, None, None), links=None, max_hops=None, direct=False,
        entry_capacity=None, facility_capacity=None, link_capacity=None,
    )  # fmt: skip
    solution = anneal(alone, schedule, key=key, adjoint=NoGrad())
    return LocateThenRoute(solution.params, _harden(problem, solution.params), solution.code)


# Hard routes are many small operations, which would be compiled one by one.
_harden = program(lambda problem, params: problem.harden(params))


class ClusterThenPlan(eqx.Module):
    """States placed where decisions start, and the plan of least cost with them.

    **Fields:** `places`, shape (unknown states, d); `hard`, the `HardPlan` with these; `code`, how
    the anneal that placed them ended.
    """

    places: Float[Array, "u d"]
    hard: HardPlan
    code: Int[Array, ""]


def cluster_then_plan(
    problem: ParametricMDP, *, key: Any, schedule: AbstractSchedule | None = None
) -> ClusterThenPlan:
    """The baseline that places first and decides afterwards.

    Unknown states are placed by clustering the states at which decisions may start, weighted by the
    start distribution, whatever comes after; then the plan of least cost is found. Against
    `problem.harden(solution.params).cost` it shows what doing both at once is worth.

    **Arguments:** `problem`, a `ParametricMDP` whose unknown parameters are those of states; `key`,
    a JAX random key; `schedule`, for the anneal, default as in `anneal`.

    **Returns:** a `ClusterThenPlan`.

    **Raises:** `ValueError` where parameters of actions are unknown, or no known state is a start.

    **Example:** cells half-way to the base are worth more than cells among the users.

    ```python
    >>> import jax, mepjax as mj
    >>> problem = mj.datasets.small_cells(12, 2, seed=4).problem()
    >>> baseline = mj.cluster_then_plan(problem, key=jax.random.key(0))
    >>> sol = mj.anneal(problem, mj.Geometric(1.0, 1e4, 1.2), key=jax.random.key(0))
    >>> bool(problem.harden(sol.params).cost < 0.8 * baseline.hard.cost)
    True

    ```
    """
    unknowns = problem.unknowns
    if unknowns.state_index is None or unknowns.action_index is not None:
        raise ValueError(
            "cluster_then_plan: `problem` must have unknown parameters of states and none of "
            "actions: there is nothing to cluster them by."
        )
    unknown = np.zeros(unknowns.states.shape[0], bool)
    unknown[np.asarray(unknowns.state_index)] = True
    from_here = np.flatnonzero((np.asarray(problem.start) > 0) & ~unknown)
    if from_here.size == 0:
        raise ValueError(
            "cluster_then_plan: `problem` must start at states whose parameters are known."
        )
    points, weights = unknowns.states[from_here], problem.start[from_here]
    alone = Clustering(points, unknowns.state_index.shape[0], weights=weights)
    solution = anneal(alone, schedule, key=key, adjoint=NoGrad())
    return ClusterThenPlan(solution.params, _harden(problem, solution.params), solution.code)
