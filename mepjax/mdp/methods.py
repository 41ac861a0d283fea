"""Methods for Bellman equations, as solvers of the one inner loop.

`params` of the loop are the values, shape (states,), and its problem is an `AbstractBellman`. What
a step of value or modified policy iteration returns is a backup moved to the middle of MacQueen's
bounds, so that its error is known: discount / (1 - discount) times half the span of the change.
Where something ends it is the backup itself, whose error is that times the largest change.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._core import checks
from ..solvers.base import AbstractSolver, Convergence, StepInfo
from .bellman import AbstractBellman, certify, rounding


def _middle(
    model: AbstractBellman, values: Float[Array, " states"], updated: Float[Array, " states"]
) -> tuple[Array, StepInfo]:
    """A backup in the middle of its bounds, and its error.

    Where something ends it stays where it is: the next backup would take from states that lead
    there all that a shift has added, and never come to rest.
    """
    low, high, error = certify(model, values, updated)
    passes = model.passes_constants
    new = model.shifted(updated, jnp.where(passes, 0.5 * (low + high), 0.0))
    farthest = jnp.maximum(jnp.abs(low), jnp.abs(high))
    error = jnp.where(passes, error, jnp.maximum(error, farthest))
    return new, StepInfo(error, jnp.asarray(False))


class _Certified(AbstractSolver[AbstractBellman]):
    """Ends where the error that is certified is small enough, and not by what moves look like."""

    def terminate(
        self, problem: AbstractBellman, params: Any, beta: Float[Array, ""], state: Any,
        info: StepInfo, convergence: Convergence,
    ) -> Bool[Array, ""]:  # fmt: skip
        """With a discount the move is a bound of the error; without, that is estimated."""
        estimated = (convergence.error <= convergence.rtol) | convergence.rounding
        # What rounding does to bounds: no sweep comes nearer.
        known = jnp.max(info.move) <= rounding(params, problem.discount)
        certified = (convergence.move <= convergence.rtol) | convergence.rounding | known
        return jnp.where(problem.discount < 1, certified, estimated)


class ValueIteration(_Certified):
    """Repeat V <- T V, stopped by the span of the change.

    The span shrinks as the chain mixes, often long before values settle; the shift to the middle
    of the bounds then gives values too, and not only the policy. Where there are terminal states it
    stops by the largest change times discount / (1 - discount), and without discount by the largest
    change.

    Source: MacQueen (1966); Puterman, Markov Decision Processes, section 6.6.

    **Arguments:** the stopping numbers of `AbstractSolver`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.ValueIteration(rtol=1e-6).max_steps
    100000

    ```
    """

    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=100_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def init(self, problem: AbstractBellman, params: Any, beta: Float[Array, ""]) -> Any:
        """`None`: nothing is carried from step to step."""
        return None

    def step(
        self, problem: AbstractBellman, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """One backup of all values."""
        updated, _ = problem.backup(params, beta)
        new, info = _middle(problem, params, updated)
        return new, state, info


class ModifiedPolicyIteration(_Certified):
    """Sweep a few times under the present policy, then back up and take the greedy policy.

    A sweep under a policy reads as many transitions as one action has, a backup those of all, so
    most of the work of value iteration is saved. Stopped as `ValueIteration` is.

    Source: Puterman and Shin (1978).

    **Arguments:** `sweeps` under a policy between two backups, and the stopping numbers of
    `AbstractSolver`.

    **Raises:** `ValueError` if `sweeps` is negative.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.ModifiedPolicyIteration(sweeps=5).sweeps
    5

    ```
    """

    sweeps: int = eqx.field(static=True, default=20)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=10_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=200)

    def __check_init__(self) -> None:
        checks.check_count("ModifiedPolicyIteration", "sweeps", self.sweeps, least=0)

    def init(self, problem: AbstractBellman, params: Any, beta: Float[Array, ""]) -> Any:
        """The greedy policy at the start."""
        return problem.backup(params, beta)[1]

    def step(
        self, problem: AbstractBellman, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """Sweeps under the policy in `state`, and one backup."""
        chain = problem.under(state, beta)
        swept = jax.lax.fori_loop(0, self.sweeps, lambda _, v: chain.sweep(v), params)
        updated, policy = problem.backup(swept, beta)
        new, info = _middle(problem, swept, updated)
        return new, policy, info


class PolicyIteration(AbstractSolver[AbstractBellman]):
    """Take the greedy policy and solve for its values: Newton's method on V = T V.

    A handful of steps from any start with a discount. Without one start at the values of a
    proper policy (one that ends with probability one): all later policies are proper then, and
    values only fall.

    Source: Howard (1960); Puterman and Brumelle (1979).

    **Arguments:** the stopping numbers of `AbstractSolver`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.PolicyIteration(max_steps=50).max_steps
    50

    ```
    """

    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=1_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=100)

    def init(self, problem: AbstractBellman, params: Any, beta: Float[Array, ""]) -> Any:
        """What the operator remembers."""
        return problem.memory(params, beta)

    def step(
        self, problem: AbstractBellman, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """The values of the greedy policy."""
        updated, policy, memory = problem.improve(params, beta, state)
        new = problem.under(policy, beta).improved(params, updated)
        return new, memory, StepInfo(new - params, jnp.asarray(False))

    def terminate(
        self, problem: AbstractBellman, params: Any, beta: Float[Array, ""], state: Any,
        info: StepInfo, convergence: Convergence,
    ) -> Bool[Array, ""]:  # fmt: skip
        """Where a step is small beside the values, which may be far from those at the start.

        Steps converge quadratically, so that the error after one is smaller than the step.
        """
        del beta, state
        size = problem.params_scale(params)
        rounding = 64 * float(jnp.finfo(params.dtype).eps)
        return jnp.max(jnp.abs(info.move)) <= jnp.maximum(convergence.rtol, rounding) * size
