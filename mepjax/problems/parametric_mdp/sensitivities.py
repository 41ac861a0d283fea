"""What the free energy and the places of a solution depend on most."""

from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from ..._core import trees

if TYPE_CHECKING:
    from .problem import ParametricMDP


class PlanSensitivities(eqx.Module):
    """Derivatives at a solution.

    **Fields:** `states` (states, d) and `actions` (actions, e) or `None`: dF by their parameters,
    zero for unknown ones; `extra_costs` (states, actions): the traffic, dF by the price of an
    action; `start` (states,): the free energy from every state on; `discount`: dF by it.
    """

    states: Float[Array, "s d"]
    actions: Float[Array, "a e"] | None
    extra_costs: Float[Array, "s a"]
    start: Float[Array, " s"]
    discount: Float[Array, ""]

    def ranked(self, of: str) -> np.ndarray:
        """Numbers of the states (or of the pairs of an action, flat) by size, largest first.

        **Arguments:** `of`, the name of a field with a row for each.
        """
        if of not in ("states", "actions", "extra_costs", "start"):
            raise ValueError(
                "PlanSensitivities: `of` must be 'states', 'actions', 'extra_costs' or 'start'; "
                f"got {of!r}."
            )
        values = getattr(self, of)
        if values is None:
            raise ValueError("PlanSensitivities: actions have no parameters here.")
        values = np.asarray(values)
        sizes = np.linalg.norm(values, axis=-1) if of in ("states", "actions") else np.abs(values)
        return np.argsort(-sizes.ravel(), kind="stable")


@eqx.filter_jit
def find_plan_sensitivities(problem: "ParametricMDP", params: Any, beta: Any) -> PlanSensitivities:
    """By the envelope theorem: places do not move to first order in F."""
    params = trees.stop_gradient(params)

    def energy(arrays: Any) -> Float[Array, ""]:
        states, actions, discount = arrays
        unknowns = trees.replaced(problem.unknowns, states=states, actions=actions)
        moved = trees.replaced(problem, unknowns=unknowns, discount=discount)
        return moved.free_energy(params, beta)

    unknowns = problem.unknowns
    of_states, of_actions, of_discount = jax.grad(energy)(
        (unknowns.states, unknowns.actions, problem.discount)
    )
    return PlanSensitivities(
        of_states, of_actions, problem.traffic(params, beta), problem.state_values(params, beta),
        of_discount,
    )  # fmt: skip
