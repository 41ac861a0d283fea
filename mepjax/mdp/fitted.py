"""Signals for populations whose joint states are too many to list: fitted clustered iteration."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.arrays import as_data_like
from .._core.checks import (
    InputReport,
    check_count,
    check_weights,
    enforce,
    is_concrete,
    report,
)  # fmt: skip
from .._core.codes import Code, is_failing
from .._core.failures import raise_failed
from .._core.keys import check_key
from .._core.programs import program
from .._core.types import Scalar
from ..solvers.base import AbstractSolver, Convergence, StepInfo
from ..solvers.equation import Equation
from ..solvers.implicit import LinearSolve, attach
from ..solvers.loop import solve_stage
from .arrangement import arrange, check_labels
from .behaviours import Place
from .clustered import ClusteredMDP, first_best
from .factored import FactoredMDP
from .values import AbstractValues, LinearValues

_OWNER = "steer_fitted"
# Rounds over the clusters that choose signals in states which the fit has not seen.
_ROUNDS = 3

_MESSAGES = {
    Code.MAX_STEPS: (
        "Fitted values had not settled after `max_steps` rounds, and need not: fitting can blow up "
        "what a backup shrinks. Use other features, more `samples`, a smaller discount, or a "
        "larger tolerance."
    ),
    Code.NON_FINITE: (
        "Fitted values grew without limit: fitting blew up what a backup shrinks. Use fewer "
        "features, more `samples`, or a smaller discount."
    ),
}


class FittedIteration(AbstractSolver["Fitted"]):
    """Improve the signals of all clusters in turn at fixed values, and fit values to what follows.

    Ends where values in the sampled states change by at most `rtol` times their size times
    (1 - discount). Values need not settle; the code then says so.

    **Arguments:** `rtol` (`None`: 1e-9 in float64, 1e-5 in float32, 1e-2 for networks);
    `max_steps`, rounds.
    """

    rtol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=5_000)
    stage_rtol: float | None = eqx.field(static=True, default=None)
    stage_max_steps: int = eqx.field(static=True, default=1_000)

    def init(self, problem: "Fitted", params: Any, beta: Float[Array, ""]) -> Any:
        """The policy that sends signal 0 in every state, as where improvement starts."""
        states = problem.place.index.shape[0]
        policy = jnp.zeros((states, problem.operator.arrangement.clusters), jnp.int32)
        return policy, jnp.asarray(False)

    def step(
        self, problem: "Fitted", params: Any, beta: Float[Array, ""], state: Any
    ) -> tuple[Any, Any, StepInfo]:
        """One round of improvements, and one fit."""
        policy, targets = problem.improve(params, state[0])
        new = problem.values.fit(params, problem.prepared, targets)
        before, after = (problem.at(at) for at in (params, new))
        change = jnp.max(jnp.abs(after - before))
        size = jnp.maximum(jnp.max(jnp.abs(after)), jnp.finfo(after.dtype).tiny)
        # Errors add up over 1 / (1 - discount); rounding moves values for ever.
        assert problem.rtol is not None
        asked = problem.rtol * (1 - problem.operator.model.discount)
        done = change <= size * jnp.maximum(asked, 4 * jnp.finfo(after.dtype).eps)
        info = StepInfo(trees.subtract(new, params), jnp.asarray(False))
        return new, (policy, done), info

    def terminate(
        self,
        problem: "Fitted",
        params: Any,
        beta: Float[Array, ""],
        state: Any,
        info: StepInfo,
        convergence: Convergence,
    ) -> Bool[Array, ""]:
        """Whether values have settled."""
        return state[1]


class Fitted(Equation):
    """What fitted iteration solves: params = fit(T values at the sampled states).

    **Fields:** `operator`; `values`, the family; `place`, sampled states; `key` and `prepared` as
    `AbstractValues` says; `policy` under which `residual` is meant; `order` in which clusters take
    turns (`None`: 0, 1, ...); `rtol`, where iteration ends.
    """

    operator: ClusteredMDP
    values: AbstractValues
    place: Place
    key: Any
    prepared: Any
    policy: Int[Array, "states clusters"] | None = None
    order: Int[Array, " clusters"] | None = None
    rtol: Float[Array, ""] | None = None

    def at(self, params: Any) -> Float[Array, " states"]:
        """Values in the sampled states."""
        return self.values.at(params, self.operator, self.place)

    def targets(self, params: Any, policy: Int[Array, "states clusters"]) -> Array:
        """Reward and discounted values after it, under a policy in the sampled states."""
        ahead = self.values.ahead(params, self.operator, self.place, self.key)
        return self._targets(ahead, policy)

    def _targets(self, ahead: Any, policy: Array) -> Array:
        signals = self.operator.heard_under(policy)[:, None, :]
        earned = self.operator.reward(self.place, signals)[:, 0]
        return earned + self.operator.model.discount * ahead.under(policy)

    def improve(self, params: Any, policy: Array) -> tuple[Array, Array]:
        """The policy with every cluster's signal improved in turn, and what it gives."""
        operator, arrangement = self.operator, self.operator.arrangement
        ahead = self.values.ahead(params, operator, self.place, self.key)
        most = max(arrangement.choices)
        choices = jnp.asarray(arrangement.choices)

        def one(turn: Array, policy: Array) -> Array:
            cluster = turn if self.order is None else self.order[turn]
            earned = operator.reward(self.place, operator.variants(policy, cluster))
            returns = earned + operator.model.discount * ahead.choices(policy, cluster)
            returns = jnp.where(jnp.arange(most) < choices[cluster], returns, -jnp.inf)
            best, chosen = first_best(returns)
            # Rounding decides nothing: a signal within it stays.
            held = jnp.take_along_axis(returns, policy[:, cluster][:, None], 1)[:, 0]
            slack = 8 * jnp.finfo(best.dtype).eps * jnp.max(jnp.abs(best))
            kept = jnp.where(held >= best - slack, policy[:, cluster], chosen)
            return policy.at[:, cluster].set(kept)

        policy = jax.lax.fori_loop(0, arrangement.clusters, one, policy)
        return policy, self._targets(ahead, policy)

    def residual(self, params: Any, beta: Scalar) -> Any:
        """Params - fit(T_policy values)."""
        del beta
        assert self.policy is not None
        return params - self.values.fit(params, self.prepared, self.targets(params, self.policy))


class FittedSteering(eqx.Module):
    """What `steer_fitted` returns.

    **Fields:** `states` (S, N) that were sampled; `values` and `policy` (S, C) there; `params` of
    the family, differentiable for `LinearValues` in the model's rewards, behaviours and discount;
    `residual`, the largest |T V - V| at the samples (an estimate of the error times
    1 - discount: only samples were looked at, and clusters improved one at a time); `steps`,
    rounds; `code`; `input_report`; `family`, `key` and `labels` as they were given.
    """

    states: Int[Array, "samples agents"]
    values: Float[Array, " samples"]
    policy: Int[Array, "samples clusters"]
    params: Any
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    code: Int[Array, ""]
    input_report: InputReport
    family: AbstractValues
    key: Any
    labels: tuple[int, ...] = eqx.field(static=True)

    def value(self, model: FactoredMDP, states: Any) -> Float[Array, " states"]:
        """Values of any states of the model, integers (S, N)."""
        return self.family.at(self.params, _operator(model, self.labels), _place(model, states))

    def signals(self, model: FactoredMDP, states: Any) -> Int[Array, "states clusters"]:
        """Signals of the clusters in any states (S, N): greedy, one cluster at a time."""
        operator = _operator(model, self.labels)
        return _signals(operator, self.family, self.params, _place(model, states), self.key)

    def raise_if_failed(self) -> "FittedSteering":
        """Return self, or raise on the host if any lane failed, as `Solution` does."""
        raise_failed(self.code, self.input_report, _MESSAGES)
        return self


def steer_fitted(
    model: FactoredMDP,
    labels: Any,
    values: AbstractValues | None = None,
    *,
    key: Any = None,
    states: Any = None,
    samples: int = 1_000,
    weights: Any = None,
    order: Any = None,
    method: FittedIteration | None = None,
) -> FittedSteering:
    """Signals for a population too large to list its joint states: values are fitted to samples.

    Nothing of size |X| is formed with `LinearValues`, a separable reward and behaviours that are
    no tables over joint states: forty agents are as easy as four. There are no bounds: compare
    with `steer` on a smaller population, or simulate.

    **Arguments:**

    - `model`, `labels`, `order`: as for `steer`; labels must be concrete.
    - `values`: `LinearValues()` (default), or `mepjax.learn.NetworkValues()`.
    - `key`: a JAX random key; draws states, first params of a network, and next states it samples.
    - `states`: where to fit, integers (S, N), such as those that `simulate` visits. Default:
        all of them where there are at most `samples`, else `samples` drawn uniformly.
    - `weights`: of the squares in the fit, (S,), default equal.
    - `method`: `FittedIteration()`.

    **Returns:** a `FittedSteering`.

    **Raises:** `ValueError` for states out of range, weights or features of another shape,
    features that do not fit memory, a missing `key`. Inside `jit` bad numbers give a code.

    Source: clustered control of transition-independent MDPs, section 3.5.

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> game = datasets.channel_game(3)
    >>> found = mdp.steer_fitted(game, [0, 0, 1], mdp.LinearValues("clusters"))
    >>> found.signals(game, [[0, 1, 2]]).shape
    (1, 2)

    ```
    """
    values = LinearValues() if values is None else values
    method = FittedIteration() if method is None else method
    if not isinstance(values, AbstractValues):
        raise TypeError(
            f"{_OWNER}: `values` must be LinearValues or other values; got {type(values).__name__}."
        )
    check_count(_OWNER, "samples", samples)
    operator = _operator(model, labels)
    count = operator.arrangement.clusters
    turns = np.arange(count) if order is None else np.asarray(order)
    if sorted(turns.reshape(-1).tolist()) != list(range(count)):
        raise ValueError(f"{_OWNER}: `order` must be a permutation of 0..{count - 1}; got {order}.")
    if key is not None:
        key = check_key(key)
    place = _sampled(model, states, samples, key)
    number = place.index.shape[0]
    checks = [*model.checks(), *values.checks(_OWNER, operator, number)]
    if weights is None:
        weights = np.full(number, 1 / number, model.dtype)
    weights = as_data_like("weights", weights, model.dtype)
    if weights.shape != (number,):
        raise ValueError(
            f"{_OWNER}: `weights` must have shape ({number},), one per state; got {weights.shape}."
        )
    checks += check_weights(_OWNER, "weights", weights)
    enforce(checks)
    input_report = report(checks)
    found = _solve(operator, values, place, weights, jnp.asarray(turns), key, method)
    params, policy, at, residual, steps, code, prepared, later = found
    code = jnp.maximum(code, input_report.code)
    if values.differentiable:
        under = Fitted(operator, values, place, later, prepared, policy)
        params, at = _attached(under, params, code)
    given = tuple(np.asarray(labels).tolist())
    return FittedSteering(
        place.digits, at, policy, params, residual, steps, code, input_report, values, later, given
    )


def _operator(model: FactoredMDP, labels: Any) -> ClusteredMDP:
    full, count = check_labels(model, np.asarray(labels), None)
    return ClusteredMDP(model, arrange(model, full, count))


@program
def _solve(
    operator: ClusteredMDP,
    values: AbstractValues,
    place: Place,
    weights: Array,
    order: Array,
    key: Any,
    method: FittedIteration,
) -> Any:
    """The loop, and one more round for the residual. Nothing here carries a gradient."""
    still = trees.stop_gradient((operator, values, weights))
    dtype = operator.model.dtype
    rtol = values.tolerance(dtype) if method.rtol is None else method.rtol
    first, later = (key, key) if key is None else jax.random.split(key)
    prepared = still[1].prepare(still[0], place, still[2] / jnp.sum(still[2]))
    problem = Fitted(
        operator=still[0], values=still[1], place=place, key=later, prepared=prepared,
        order=order, rtol=jnp.asarray(rtol, dtype),
    )  # fmt: skip
    result = solve_stage(
        problem,
        still[1].init(still[0], first),
        jnp.asarray(jnp.inf, dtype),
        method,
        rtol=jnp.asarray(rtol, dtype),
        max_steps=jnp.asarray(method.max_steps, jnp.int32),
    )
    policy, targets = problem.improve(result.params, result.state[0])
    at = problem.at(result.params)
    residual = jnp.max(jnp.abs(targets - at))
    return result.params, policy, at, residual, result.steps, result.code, prepared, later


@program
def _attached(fitted: Fitted, params: Any, code: Array) -> tuple[Any, Array]:
    """Params and values with the derivative of what the policy gives, NaN at failing codes."""
    params = attach(
        params,
        fitted,
        jnp.ones((), trees.dtype_of(params)),
        is_failing(code),
        options=LinearSolve(),
        on_failure="nan",
    )
    return params, fitted.at(params)


@program
def _signals(
    operator: ClusteredMDP, values: AbstractValues, params: Any, place: Place, key: Any
) -> Array:
    there = Fitted(operator, values, place, key, None)
    policy = jnp.zeros((place.index.shape[0], operator.arrangement.clusters), jnp.int32)
    step = lambda _, policy: there.improve(params, policy)[0]  # noqa: E731
    return jax.lax.fori_loop(0, _ROUNDS, step, policy)


def _sampled(model: FactoredMDP, states: Any, samples: int, key: Any) -> Place:
    if states is not None:
        return _place(model, states)
    if model.n_states <= samples:
        return Place.of(jnp.arange(model.n_states), model.sizes)
    if key is None:
        raise ValueError(
            f"{_OWNER}: needs a `key` to draw {samples} of {model.n_states} joint states, such as "
            "jax.random.key(0)."
        )
    drawn = jax.random.randint(jax.random.fold_in(key, 0), (samples,), 0, model.n_states)
    return Place.of(drawn, model.sizes)


def _place(model: FactoredMDP, states: Any) -> Place:
    """States of all agents (S, N) as a block of joint states."""
    array: Any = np.asarray(states) if is_concrete(states) else states
    if array.ndim != 2 or array.shape[1] != model.n_agents or not array.shape[0]:
        raise ValueError(
            f"{_OWNER}: `states` must have shape (S, {model.n_agents}), the states of all agents; "
            f"got {array.shape}."
        )
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"{_OWNER}: `states` must be integers; got dtype {array.dtype}.")
    if isinstance(array, np.ndarray):
        wrong = np.argwhere((array < 0) | (array >= np.asarray(model.sizes)))
        if len(wrong):
            row, agent = wrong[0]
            raise ValueError(
                f"{_OWNER}: `states` of agent {agent} must be in 0..{model.sizes[agent] - 1}; got "
                f"{array[row, agent]} in row {row}."
            )
    digits = jnp.asarray(array, jnp.int32)
    index = jnp.zeros(digits.shape[0], jnp.int32)
    for agent, size in enumerate(model.sizes):
        index = index * size + digits[:, agent]
    return Place(index, digits, model.sizes)
