"""Answers of the usual ways, against which solutions show what they are worth."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int

from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.schedules import AbstractSchedule
from ..problems.facility_path.hard import HardPaths
from ..problems.facility_path.problem import FacilityPath
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
    alone = FacilityPath(
        problem.nodes, problem.destinations, problem.n_facilities, weights=problem.weights,
        fixed=problem.fixed, n_stages=1, stage_costs=(entry, None, None),
    )  # fmt: skip
    alone = eqx.tree_at(
        lambda p: p.node_spread, alone, problem.node_spread, is_leaf=lambda leaf: leaf is None
    )
    solution = anneal(alone, schedule, key=key, adjoint=NoGrad())
    return LocateThenRoute(solution.params, _harden(problem, solution.params), solution.code)


# Hard routes are many small operations, which would be compiled one by one.
_harden = program(lambda problem, params: problem.harden(params))
