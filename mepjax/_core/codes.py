"""Result codes of a solve: small integers that travel through `jit` and `vmap`."""

import enum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


class Code(enum.IntEnum):
    """How a solve ended. Larger is worse, so codes combine by their maximum.

    Codes from `MAX_STEPS` on are failures; those between `OK` and it are warnings: the value
    stands, and its gradient is given and flagged.

    **Example:**

    ```python
    >>> from mepjax import Code
    >>> Code.NEAR_CRITICAL.is_failing, Code.MAX_STEPS.is_failing
    (False, True)

    ```
    """

    OK = 0
    UNSEPARATED = 1
    NEAR_CRITICAL = 2
    WEAKLY_ACTIVE = 3
    NOT_DEFINED = 4
    MAX_STEPS = 5
    STALLED = 6
    LINEAR_SINGULAR = 7
    INFEASIBLE = 8
    NON_FINITE = 9
    UNBOUNDED = 10
    NON_FINITE_INPUT = 11
    INVALID_INPUT = 12

    @property
    def is_failing(self) -> bool:
        """Whether `Solution.raise_if_failed` raises at this code."""
        return self >= Code.MAX_STEPS

    @property
    def message(self) -> str:
        """One or two full sentences: what happened, likely causes, what to do."""
        return _MESSAGES[self]


_MESSAGES = {
    Code.OK: "The solve converged.",
    Code.UNSEPARATED: (
        "The schedule ended while slots stand at one place whose data do not, so that a larger "
        "beta would still part them. The value stands. Raise beta_max, or leave it to the default "
        "schedule; where that ended for rounding, use float64 or scale the data."
    ),
    Code.NEAR_CRITICAL: (
        "The solution sits at a phase transition (|curvature| < 10 sqrt(eps)), where the free "
        "energy is flat in some direction. The value stands; its gradient is large and "
        "inaccurate. End the schedule at another beta, or use float64."
    ),
    Code.WEAKLY_ACTIVE: (
        "A capacity is met exactly and its price is zero, so the solution has a kink there. The "
        "value stands; its gradient is one-sided. Move the capacity slightly."
    ),
    Code.NOT_DEFINED: (
        "The free energy of this problem has no second derivative at the solution, so curvature "
        "and implicit gradients are not defined. The value stands."
    ),
    Code.MAX_STEPS: (
        "The step or stage limit was reached before convergence. Most likely beta_max lies close "
        "to a phase transition, where steps shrink slowly; or the schedule has more stages than "
        "its `max_stages`. Raise the solver's `max_steps` or the schedule's `max_stages`, move "
        "beta_max, or use `Anderson()`."
    ),
    Code.STALLED: (
        "No further progress was possible although the residual is not small: the line search "
        "underflowed, or the iterates stayed at a saddle after every kick. Use float64, centre "
        "and scale the data, or give another key."
    ),
    Code.LINEAR_SINGULAR: (
        "The linear system of the implicit derivative is singular or was not solved within its "
        "budget. Most likely the solution sits at a phase transition or has a direction that "
        "changes nothing (declare it in `gauge`)."
    ),
    Code.INFEASIBLE: (
        "No decision satisfies all constraints, as far as the prices that were found can tell. "
        "Loosen the capacities, masks or limits."
    ),
    Code.NON_FINITE: (
        "NaN or Inf appeared during the solve although the input was finite. Most likely the data "
        "are badly scaled for this precision: centre and scale them, or use float64."
    ),
    Code.UNBOUNDED: (
        "The free energy is not finite at this beta: along paths that never end entropy outweighs "
        "cost, or costs are negative. Discount, make moves cost more, or raise beta above the "
        "critical one (`beta_floor()` of a problem, `mdp.critical_beta`)."
    ),
    Code.NON_FINITE_INPUT: "The input has NaN or Inf entries.",
    Code.INVALID_INPUT: "The input is invalid.",
}


def told_critical(beta: float) -> str:
    """What UNBOUNDED adds where the beta above which F is finite is known."""
    if beta == float("inf"):
        return "Here no beta is large enough: some cycle costs nothing."
    return f"Here it is finite above beta = {beta:.7g}."


def is_failing(code: Int[Array, "..."]) -> Bool[Array, "..."]:
    """Whether each code is a failure, as an array (per lane under `vmap`)."""
    return code >= int(Code.MAX_STEPS)


def as_code(code: Code) -> Int[Array, ""]:
    """The code as an int32 scalar array."""
    return jnp.asarray(int(code), jnp.int32)


class SolveError(RuntimeError):
    """Raised by `Solution.raise_if_failed` when a solve failed; its text is the code's message."""
