"""Methods that improve one cluster's signals at a time, as solvers of the one inner loop."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._core import checks
from ..solvers.base import AbstractSolver, Convergence, StepInfo
from .steered import Policy, Steered


class RoundRobin(eqx.Module):
    """Where a round robin over clusters stands.

    **Fields:** `policy`; `turn`, cluster steps since the round robin began; `quiet`, how many of
    the last ones changed little; `cluster_steps` and `full_sweeps` in all; `residual`, the largest
    change of the last full sweep; `lower` and `upper`, what is to be added to the values for
    MacQueen's bounds after it; `done`; `loose`, whether a full sweep kept the policy but not the
    values.
    """

    policy: Policy
    turn: Int[Array, ""]
    quiet: Int[Array, ""]
    cluster_steps: Int[Array, ""]
    full_sweeps: Int[Array, ""]
    residual: Float[Array, ""]
    lower: Float[Array, ""]
    upper: Float[Array, ""]
    done: Bool[Array, ""]
    loose: Bool[Array, ""]
    last: Float[Array, " states"] | None = None

    @staticmethod
    def start(problem: Steered, last: Any = None) -> "RoundRobin":
        """The state before the first step: the problem's own policy, and no bounds."""
        zero = jnp.zeros((), jnp.int32)
        infinite = jnp.asarray(jnp.inf, problem.tolerance.dtype)
        no = jnp.asarray(False)
        return RoundRobin(
            problem.start, zero, zero, zero, zero, infinite, -infinite, infinite, no, no, last
        )

    def after(self, policy: Policy, quiet: Bool[Array, ""]) -> "RoundRobin":
        """One cluster step later."""
        return eqx.tree_at(
            lambda s: (s.policy, s.turn, s.quiet, s.cluster_steps),
            self,
            (policy, self.turn + 1, jnp.where(quiet, self.quiet + 1, 0), self.cluster_steps + 1),
        )


class AbstractClusterMethod(AbstractSolver[Steered]):
    """A solver whose state is a `RoundRobin` and whose problem is a `Steered`.

    It stops by a tolerance of values in their own units: `atol`, or `rtol` times the size that
    values can have (`None`: 1e-10 in float64, 1e-6 in float32).
    """

    atol: eqx.AbstractVar[float | None]

    def terminate(
        self,
        problem: Steered,
        params: Any,
        beta: Float[Array, ""],
        state: Any,
        info: StepInfo,
        convergence: Convergence,
    ) -> Bool[Array, ""]:
        """Whether the state says so."""
        return state.done

    def init(self, problem: Steered, params: Any, beta: Float[Array, ""]) -> Any:
        """The policy to start from."""
        return RoundRobin.start(problem)


def _cluster_step(
    problem: Steered, values: Array, state: RoundRobin, tolerance: Array
) -> tuple[Array, RoundRobin]:
    new, policy = problem.cluster_backup(values, state.policy, state.turn)
    return new, state.after(policy, jnp.max(jnp.abs(new - values)) <= tolerance)


def _info(new: Array, values: Array) -> StepInfo:
    return StepInfo(new - values, jnp.asarray(False))


class CVI(AbstractClusterMethod):
    """Clustered value iteration: improve one cluster's signal at a time, in turn.

    One step costs as much for ten clusters as for one, where a full backup tries all M^C joint
    signals. Values rise to a point at which no cluster alone can do better: coordinate-wise
    optimal. That is the optimum where clusters do not interact (`model.local_separable`), and may
    fall short of it elsewhere, by up to 5 % in the paper's own channel example; `Hybrid` does
    not. Stops after a whole round in which every step changed values by at most the tolerance.

    Source: clustered control of transition-independent MDPs, Algorithm 1.

    **Arguments:** `atol`, or `rtol` (see `AbstractClusterMethod`); `max_steps`, cluster steps.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.CVI(atol=1e-5).atol
    1e-05

    ```
    """

    atol: float | None = eqx.field(static=True, default=None)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=100_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def step(
        self, problem: Steered, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """One backup of the cluster whose turn it is."""
        new, state = _cluster_step(problem, params, state, problem.tolerance)
        state = eqx.tree_at(lambda s: s.done, state, state.quiet >= problem.clusters)
        return new, state, _info(new, params)


class Hybrid(AbstractClusterMethod):
    """Clustered value iteration to its end, one full backup, and again until nothing improves.

    A few full backups correct what clustered steps cannot see, so the result is optimal. With
    stop="certificate" it ends where ||T V - V|| / (1 - discount), the error that this proves, is
    within the tolerance; stop="successive" compares values after successive full backups, as the
    paper seems to, and takes one more of them.

    A full backup that keeps the policy but not the values shows that `cluster_atol` is too loose;
    the record says so (`.loose`), since it costs full backups and nothing else.

    Source: clustered control of transition-independent MDPs, Algorithm 2.

    **Arguments:** `stop`; `atol`, or `rtol` (see `AbstractClusterMethod`); `cluster_atol`, where
    rounds of cluster steps end (`None`: a tenth of what the certificate needs, or rounding);
    `max_steps`, cluster steps and full backups together.

    **Raises:** `ValueError` for another `stop`.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> mdp.Hybrid(stop="successive").stop
    'successive'

    ```
    """

    stop: str = eqx.field(static=True, default="certificate")
    atol: float | None = eqx.field(static=True, default=None)
    cluster_atol: float | None = eqx.field(static=True, default=None)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=100_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def __check_init__(self) -> None:
        if self.stop not in ("certificate", "successive"):
            raise ValueError(
                f'Hybrid: `stop` must be "certificate" or "successive"; got {self.stop!r}.'
            )

    def init(self, problem: Steered, params: Any, beta: Float[Array, ""]) -> Any:
        """The policy to start from."""
        return RoundRobin.start(problem, params if self.stop == "successive" else None)

    def step(
        self, problem: Steered, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """A full backup after a quiet round, else the backup of one cluster."""
        left = 1 - problem.discount
        # Rounding alone moves values by so much, and no round would ever be quiet.
        tolerance = (
            jnp.maximum(problem.tolerance * left / 10, problem.slack / 2)
            if self.cluster_atol is None
            else jnp.asarray(self.cluster_atol, params.dtype)
        )

        def full(params: Array, state: RoundRobin) -> tuple[Array, RoundRobin]:
            updated, policy = problem.operator.backup(-params, state.policy, problem.slack)
            change = updated + params
            residual = jnp.max(jnp.abs(change))
            if state.last is None:
                done = residual / left <= problem.tolerance
            else:
                done = jnp.max(jnp.abs(updated + state.last)) <= problem.tolerance
            kept = jnp.all(policy == state.policy)
            ahead = problem.discount / left
            return -updated, RoundRobin(
                policy,
                jnp.zeros_like(state.turn),
                jnp.zeros_like(state.quiet),
                state.cluster_steps,
                state.full_sweeps + 1,
                residual,
                ahead * jnp.min(change),
                ahead * jnp.max(change),
                done,
                state.loose | (kept & ~done & (self.stop == "certificate")),
                None if state.last is None else -updated,
            )

        def cluster(params: Array, state: RoundRobin) -> tuple[Array, RoundRobin]:
            return _cluster_step(problem, params, state, tolerance)

        new, state = jax.lax.cond(state.quiet >= problem.clusters, full, cluster, params, state)
        return new, state, _info(new, params)


class ClusteredPolicyIteration(AbstractClusterMethod):
    """Policy iteration that improves one cluster's signal at a time, then solves for the values.

    Its fixed points are those of `CVI`, in few steps that each solve a linear system of |X|
    unknowns. Stops after a whole round that changed no signal.

    Source: clustered control of transition-independent MDPs, section 3.5.

    **Arguments:** `max_steps`, improvements of a cluster; `atol` and `rtol` say which signals tie.
    """

    atol: float | None = eqx.field(static=True, default=None)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=10_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def step(
        self, problem: Steered, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """Improve the cluster whose turn it is and solve for what that is worth."""
        cluster = problem.order[state.turn % problem.clusters]
        # Signals that tie within the tolerance stay: an improvement must improve.
        _, policy = problem.operator.cluster_backup(
            -params, state.policy, cluster, jnp.maximum(problem.slack, problem.tolerance), "stay"
        )
        # The first policy has not been solved for yet.
        same = jnp.all(policy == state.policy)
        new = jax.lax.cond(
            same & (state.turn > 0),
            lambda: params,
            lambda: problem.under(policy, beta).values(params),
        )
        state = state.after(policy, same)
        # One step more than a round: the first improved from values of no policy.
        done = (state.quiet >= problem.clusters) & (state.turn > problem.clusters)
        return new, eqx.tree_at(lambda s: s.done, state, done), _info(new, params)


class ApproximatePolicyIteration(AbstractClusterMethod):
    """Clustered improvement with a few sweeps under the policy in place of solving for values.

    Between `CVI` (no sweeps) and `ClusteredPolicyIteration` (all of them). Stops as `CVI` does.

    Source: clustered control of transition-independent MDPs, section 3.5.

    **Arguments:** `sweeps` under the policy after every improvement; the rest as for `CVI`.

    **Raises:** `ValueError` if `sweeps` is negative.
    """

    sweeps: int = eqx.field(static=True, default=10)
    atol: float | None = eqx.field(static=True, default=None)
    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=100_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def __check_init__(self) -> None:
        checks.check_count("ApproximatePolicyIteration", "sweeps", self.sweeps, least=0)

    def step(
        self, problem: Steered, params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """Improve the cluster whose turn it is and sweep under the policy."""
        improved, state_after = _cluster_step(problem, params, state, problem.tolerance)
        chain = problem.under(state_after.policy, beta)
        new = jax.lax.fori_loop(0, self.sweeps, lambda _, v: chain.sweep(v), improved)
        quiet = jnp.max(jnp.abs(new - params)) <= problem.tolerance
        state = state.after(state_after.policy, quiet)
        done = state.quiet >= problem.clusters
        return new, eqx.tree_at(lambda s: s.done, state, done), _info(new, params)
