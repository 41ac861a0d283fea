"""Solving Markov decision processes: values, a policy, and how far they can be from the truth."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import arrays, checks
from .._core.codes import Code, SolveError, as_code, is_failing, told_critical
from .._core.programs import own_arithmetic
from .._core.types import Scalar
from ..solvers.base import AbstractSolver
from ..solvers.implicit import LinearSolve, attach
from ..solvers.loop import StageResult, solve_stage
from .bellman import bounds
from .end_components import COUNTED, EndComponents, find_end_components, lowest_beta
from .methods import ModifiedPolicyIteration, PolicyIteration
from .model import MDP, find_proper
from .soft import ENTROPIES, SoftBellman, stopped, upper_start

_OWNER = "mdp.solve"
# Above so many states sweeps are cheaper than solves.
_FEW_STATES = 2_000


class MDPSolution(eqx.Module):
    """What `mdp.solve` found.

    **Fields:** `values` (states,); `action_values` (states, actions), +inf where not permitted;
    `log_policy` (states, actions), -inf where an action is not taken; `lower` and `upper`, bounds
    of the exact values (infinite where none is known); `residual`, the largest change by one more
    backup; `steps` of the method; `code`; `critical_beta`, where the code is
    UNBOUNDED the beta above which counted entropy is finite (see `mdp.critical_beta`), else NaN.
    """

    values: Float[Array, " states"]
    action_values: Float[Array, "states actions"]
    log_policy: Float[Array, "states actions"]
    lower: Float[Array, " states"]
    upper: Float[Array, " states"]
    residual: Float[Array, ""]
    steps: Int[Array, ""]
    code: Int[Array, ""]
    critical_beta: Float[Array, ""]
    input: checks.InputReport

    @property
    def actions(self) -> Int[Array, " states"]:
        """The likeliest action in every state."""
        return jnp.argmax(self.log_policy, axis=-1)

    def raise_if_failed(self) -> None:
        """Raise `ValueError` for bad input, `SolveError` where the solve failed; on the host."""
        code = Code(int(self.code))
        if code in (Code.INVALID_INPUT, Code.NON_FINITE_INPUT):
            raise ValueError(self.input.message(int(self.input.index), float(self.input.got)))
        if code.is_failing:
            text, least = code.message, float(self.critical_beta)
            if code == Code.UNBOUNDED and not np.isnan(least):
                text += f" {told_critical(least)}"
            raise SolveError(f"{_OWNER}: {text}")


def solve_values(
    model: SoftBellman,
    beta: Scalar,
    *,
    start: Any = None,
    method: AbstractSolver | None = None,
    on_failure: str = "nan",
) -> tuple[Float[Array, " states"], StageResult]:
    """Values that solve V = T V, with their derivative, and how the solve ended.

    **Arguments:** `start`, values to start from; default `upper_start`.
    """
    method = PolicyIteration() if method is None else method
    still, dtype = stopped(model), model.costs.dtype
    beta = jnp.asarray(beta, dtype)
    at = jax.lax.stop_gradient(beta)
    if start is None:
        start = upper_start(still, at)
    rtol = method.rtol
    if rtol is None:
        rtol = 1e-10 if dtype == jnp.float64 else 1e-6
    found = solve_stage(
        still, start, at, method,
        rtol=jnp.asarray(rtol, dtype), max_steps=jnp.asarray(method.max_steps, jnp.int32),
    )  # fmt: skip
    code = jax.lax.stop_gradient(_with_limit(still, found, at, method))
    found = eqx.tree_at(lambda stage: stage.code, found, code)
    values = attach(
        jax.lax.stop_gradient(found.params), model, beta, is_failing(found.code),
        options=LinearSolve(), on_failure=on_failure,
    )  # fmt: skip
    return values, found


def _with_limit(
    model: SoftBellman, found: StageResult, beta: Scalar, method: AbstractSolver
) -> Int[Array, ""]:
    """The code of the stage; UNBOUNDED where values are those of a policy that never ends.

    Without discount, counted entropy or negative costs may be collected for ever. V = T V is the
    least of all values if and only if its own policy ends: if it does, V <= T_pi V for every other
    policy pi bounds what that one costs.
    """
    counts = model.log_prior is None and not model.hard
    collects = jnp.asarray(counts)
    if not counts:
        costs = model.costs
        if model.log_prior is not None:
            costs = jnp.where(jnp.isneginf(model.log_prior), 0.0, costs)
        if model.ends is not None:
            costs = jnp.where(model.ends[:, None], 0.0, costs)
        collects = jnp.any(costs < 0)

    def ends() -> Bool[Array, ""]:
        # An h > 0 with h - P h > 0 proves that the spectral radius is below one.
        kept = model.hard and isinstance(method, PolicyIteration)
        policy = found.state if kept else model.backup(found.params, beta)[1]
        chain = model.under(policy, beta)
        one = jnp.ones_like(found.params)
        counted = eqx.tree_at(lambda c: c.cost, chain, one)
        time = counted.values(one)
        falls = time - chain.discount * chain.transitions.mv(time)
        told = 32 * float(jnp.finfo(time.dtype).eps) * jnp.max(jnp.abs(time)) < 0.5
        return jnp.all(jnp.isfinite(time) & (time > 0) & (falls > 0.5)) & told

    suspect = collects & (model.discount == 1)
    fine = jax.lax.cond(suspect, ends, lambda: jnp.asarray(True))
    # Newton's method from a policy that ends fails only where there is nothing to find.
    lost = found.code == int(Code.NON_FINITE)
    if isinstance(method, PolicyIteration):
        lost = lost | is_failing(found.code)
    broken = suspect & (~fine | lost)
    return jnp.where(broken, as_code(Code.UNBOUNDED), found.code)


@own_arithmetic()
def solve(
    model: MDP,
    beta: Any = np.inf,
    *,
    entropy: str = "prior",
    prior: Any = None,
    method: AbstractSolver | None = None,
    init: Any = None,
) -> MDPSolution:
    """The policy of least cost, or of least free energy at inverse temperature `beta`.

    Minimises E sum_t discount^t c - H / beta. Our beta is one over the temperature; that of the
    thesis is `thesis_beta`.

    **Arguments:**

    - `model`: the `MDP`.
    - `beta`: > 0; inf, the default, is the problem without entropy.
    - `entropy`: `"prior"`, -E sum discount^t KL(policy | prior); `"policy"`, that of the policy
        counted; `"paths"`, of the transitions too. The latter two reward staying alive: without
        discount they are infinite below a critical beta, as sums of negative costs may be: the
        code is then `UNBOUNDED`.
    - `prior`: probabilities (states, actions) that sum to one; default uniform over what is
        permitted. What it gives no probability is not done, at beta = inf either.
    - `method`: `PolicyIteration` (default up to 2,000 states), `ModifiedPolicyIteration` (default
        above) or `ValueIteration`.
    - `init`: values to start from, shape (states,). Without discount they should be those of a
        policy that ends.

    **Returns:** `MDPSolution`; differentiable in every array of the model, in `beta` and `prior`.

    **Raises:** `TypeError` or `ValueError` for bad arguments; what is traced becomes the code.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> kernel = mdp.Dense(jnp.array([[[0.5, 0.5], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]))
    >>> model = mdp.MDP(kernel, jnp.array([[2.0, 1.5], [0.0, 0.0]]), discount=0.5)
    >>> found = mdp.solve(model)
    >>> print(found.values.round(3), found.actions)
    [2.667 0.   ] [0 0]

    ```
    """
    if not isinstance(model, MDP):
        raise TypeError(f"{_OWNER}: `model` must be an MDP; got {type(model).__name__}.")
    if entropy not in ENTROPIES:
        raise ValueError(f"{_OWNER}: `entropy` must be one of {ENTROPIES}; got {entropy!r}.")
    dtype = model.costs.dtype
    beta = arrays.as_data_like("beta", beta, dtype)
    hard = checks.is_concrete(beta) and bool(np.isposinf(np.asarray(beta)))
    found = [*model.checks(), checks.check_range(_OWNER, "beta", beta, low=0.0, open_low=True)]
    log_prior = None
    if prior is not None:
        prior = arrays.as_data_like("prior", prior, dtype)
        if prior.shape != (model.n_states, model.n_actions):
            raise ValueError(
                f"{_OWNER}: `prior` must have shape {(model.n_states, model.n_actions)}; "
                f"got {prior.shape}."
            )
        found += [
            checks.check_range(_OWNER, "prior", prior, low=0.0),
            checks.check_rows_sum_to_one(_OWNER, "prior", prior),
        ]
        log_prior = jnp.where(prior > 0, jnp.log(jnp.where(prior > 0, prior, 1.0)), -jnp.inf)
        model, some = _within(model, prior)
        found.append(some)
    if init is not None:
        init = arrays.as_data_like("init", init, dtype)
        if init.shape != (model.n_states,):
            raise ValueError(
                f"{_OWNER}: `init` must have shape ({model.n_states},); got {init.shape}."
            )
        found.append(checks.check_finite(_OWNER, "init", init))
        init = jnp.where(model.terminal, 0.0, init)
    checks.enforce(found)
    if prior is not None:
        model = _with_end(model, prior)
    if method is None:
        few = model.n_states <= _FEW_STATES
        method = PolicyIteration() if few else ModifiedPolicyIteration()
    # What can be collected for ever is looked for where that may be asked for.
    endless = not (checks.is_concrete(model.discount) and float(model.discount) < 1)
    components = None
    if entropy in COUNTED and endless and not hard:
        components = find_end_components(model.kernel, model.terminal, model.permitted)
    return _solve(
        model, beta, log_prior, init, checks.report(found), components, entropy, hard, method
    )


def _within(model: MDP, prior: Any) -> tuple[MDP, checks.Check]:
    """The model without actions that have no prior probability, at any beta; some must be left."""
    xp: Any = np if checks.is_concrete(prior, model.permitted, model.terminal) else jnp
    support = xp.asarray(prior) > 0
    if model.permitted is not None:
        support = support & xp.asarray(model.permitted)
    some = xp.any(support, axis=1) | xp.asarray(model.terminal)
    sentence = (
        f"{_OWNER}: `prior` must give some permitted action of every state a probability; "
        "state {got} has none."
    )
    model = eqx.tree_at(
        lambda m: m.permitted, model, jnp.asarray(support), is_leaf=lambda leaf: leaf is None
    )
    return model, checks.Check(xp.all(some), xp.argmin(some), sentence)


def _with_end(model: MDP, prior: Any) -> MDP:
    """The model with a policy that ends by actions of the `prior`, where all is concrete."""
    if not checks.is_concrete(prior, model.permitted, model.discount):
        return model
    try:
        proper = find_proper(_OWNER, model.kernel, model.discount, model.terminal, model.permitted)
    except ValueError as error:
        raise ValueError(str(error).replace("some policy", "some policy of the `prior`")) from None
    if proper is None:
        return model
    return eqx.tree_at(lambda m: m.proper, model, proper, is_leaf=lambda leaf: leaf is None)


@eqx.filter_jit
def _solve(
    model: MDP, beta: Any, log_prior: Any, init: Any, report: Any,
    components: EndComponents | None, entropy: str, hard: bool, method: AbstractSolver,
) -> MDPSolution:  # fmt: skip
    operator = model.bellman(entropy=entropy, prior=log_prior, hard=hard)
    values, stage = solve_values(operator, beta, start=init, method=method)
    action_values = operator.action_values(values, beta)
    updated, policy = operator.decide(action_values, beta)
    if hard and isinstance(method, PolicyIteration):
        policy = stage.state
    if hard:
        actions = jnp.arange(model.n_actions, dtype=jnp.int32)
        policy = jnp.where(policy[:, None] == actions, 0.0, -jnp.inf).astype(values.dtype)
    still = jax.lax.stop_gradient((values, updated, beta))
    lower, upper = bounds(stopped(operator), still[0], still[2])
    code = jnp.maximum(stage.code, report.code)
    critical = jnp.full((), jnp.nan, values.dtype)
    if components is not None:
        costs = model.expected_costs()
        critical = jax.lax.cond(
            code == int(Code.UNBOUNDED),
            lambda: lowest_beta(components, model.kernel, costs, operator.noise),
            lambda: critical,
        )
    return MDPSolution(
        values, action_values, policy, lower, upper,
        jnp.max(jnp.abs(still[1] - still[0])), stage.steps, code, critical, report,
    )  # fmt: skip


def thesis_beta(beta: Any, discount: Any, alpha: Any = None) -> Any:
    """Our beta, one over the temperature, from that of the thesis.

    Its fixed point (3.10) at beta is the policy of least free energy at temperature
    discount / beta; with a discount alpha of the entropy of its own, (3.16), at discount /
    (alpha beta). Alpha only rescales the temperature: what it gives is optimal for the stated
    objective if alpha = discount, and not otherwise.
    """
    return (1.0 if alpha is None else alpha) * beta / discount
