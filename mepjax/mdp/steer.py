"""Find the signals that steer a population: one call, with bounds on what it might have missed."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import trees
from .._core.arrays import as_float_array
from .._core.checks import Check, InputReport, is_concrete, report
from .._core.codes import Code, is_failing
from .._core.failures import raise_failed
from .._core.programs import program
from ..solvers.base import AbstractSolver
from ..solvers.implicit import LinearSolve, attach
from ..solvers.loop import solve_stage
from . import certificates
from .arrangement import arrange, check_labels, label_checks, order_check
from .bellman import rounding
from .cluster_methods import AbstractClusterMethod, Hybrid, RoundRobin
from .clustered import ClusteredMDP
from .factored import FactoredMDP
from .steered import Policy, Steered, UnderPolicy, as_data, start_values, value_scale

TIES = ("first", "stay")

# Numbers that a backup may hold for one state (2 GiB in float64).
_MOST = 2**28
# Numbers that all states may hold (64 GiB), and how many arrays of all states a solve has.
_MOST_HELD, _ARRAYS = 2**33, 8

_MESSAGES = {
    Code.MAX_STEPS: (
        "The method's `max_steps` were taken before values settled. Errors shrink by the discount "
        "a step, so a discount close to one needs many: raise `max_steps` or the tolerance, or use "
        "`PolicyIteration()`, whose steps do not depend on the discount."
    )
}


class Steering(eqx.Module):
    """What `steer` returns.

    **Fields:**

    - `values`: what following `policy` is worth from every joint state; differentiable in the
        model's rewards, behaviours and discount.
    - `policy`: the signal of every cluster in every joint state, shape (|X|, C).
    - `lower`, `upper`: bounds between which the best values with this clustering lie.
    - `residual`: ||T values - values||, the largest change of a full backup, or what the relaxed
        certificate bounds it by; NaN where none was computed.
    - `cluster_steps`, `full_sweeps`: backups of one cluster and of all, the certificate's included.
    - `certified`: whether values are optimal within the tolerance: bounds say so, or clusters do
        not interact. Elsewhere no cluster alone can do better, and that is all that is known.
    - `loose`: `Hybrid` met a full backup that kept the policy but not the values: its
        `cluster_atol` is too loose, and costs full backups.
    - `code`: see `Code`. `input_report`: which check a traced input failed.
    - `labels`: the cluster of every steered agent. `certificate`: which one bounds come from.
    """

    values: Float[Array, " states"]
    policy: Policy
    lower: Float[Array, " states"]
    upper: Float[Array, " states"]
    residual: Float[Array, ""]
    cluster_steps: Int[Array, ""]
    full_sweeps: Int[Array, ""]
    certified: Bool[Array, ""]
    loose: Bool[Array, ""]
    code: Int[Array, ""]
    input_report: InputReport
    labels: Int[Array | np.ndarray, " steered"]
    certificate: str = eqx.field(static=True)

    def raise_if_failed(self) -> "Steering":
        """Return self, or raise on the host if any lane failed, as `Solution` does."""
        raise_failed(self.code, self.input_report, _MESSAGES)
        return self


def steer(
    model: FactoredMDP,
    labels: Any,
    *,
    method: AbstractSolver | None = None,
    order: Any = None,
    ties: str = "first",
    init: Any = None,
    certificate: str = "auto",
    clusters: int | None = None,
    block: int | None = None,
) -> Steering:
    """The signals that earn most, one for each cluster of agents in every joint state.

    Compiles whole; vmap over rewards, behaviours, discount, labels (with `clusters`) and `init`.

    **Arguments:**

    - `model`: a `FactoredMDP`.
    - `labels`: the cluster 0..C-1 of every steered agent, shape (N,).
    - `method`: `Hybrid()` (default, optimal), `CVI()`, `ClusteredPolicyIteration()`,
        `ApproximatePolicyIteration()` (coordinate-wise optimal); `ValueIteration()`,
        `ModifiedPolicyIteration()`, `PolicyIteration()` (optimal, all joint signals every time).
    - `order`: in which clusters take turns, a permutation of 0..C-1.
    - `ties`: which of equally good signals a cluster takes, the "first" or, with "stay", the one
        it has.
    - `init`: a policy (|X|, C) to start from (default: signal 0); a pair (values, policy), or a
        `Steering`, whose values must lie below one step of its policy: values then rise.
    - `certificate`: "exact" (one sweep over all joint signals), "relaxed" (cluster by cluster,
        |X|^2 M), "none", or "auto": exact where it is cheap, else relaxed where there is one.
    - `clusters`: C, needed where labels are traced.
    - `block`: states held at a time; default as many as 128 MB hold.

    **Returns:** a `Steering`.

    **Raises:** `ValueError` for labels that are not 0..C-1, cut a `Group` or join agents with
    different signals; an order that is no permutation; a start above what a step gives, with the
    largest violation; a sweep beyond memory. Inside `jit` such values give a code instead.

    Source: clustered control of transition-independent MDPs, sections 3 and 4.

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> game = datasets.channel_game(seed=0)
    >>> found = mdp.steer(game, [0, 0, 0, 1, 1, 1])
    >>> found.policy.shape, bool(found.certified)
    ((729, 2), True)

    ```
    """
    method = Hybrid() if method is None else method
    if not isinstance(method, AbstractSolver):
        raise TypeError(f"steer: `method` must be a solver; got {type(method).__name__}.")
    if ties not in TIES:
        raise ValueError(f"steer: `ties` must be one of {TIES}; got {ties!r}.")
    given = _as_integers("labels", labels)
    full, count = check_labels(model, given, clusters)
    layout = arrange(model, full, count)
    operator = ClusteredMDP(model, layout, block)
    chosen = certificates.choose(operator, certificate)
    _check_size(operator, method, chosen)
    policy, values = _start(operator, init)
    turns = _check_order(order, count)
    checks = model.checks()
    if not is_concrete(given):
        checks += label_checks(full, count)
    if not is_concrete(turns):
        checks += [order_check(turns, count)]
    if values is not None:
        checks += _check_rises(operator, values, policy)
    input_report = report(checks)
    _raise_if_concrete(input_report)
    found = _solve(operator, turns, policy, values, method, ties, chosen)
    code = jnp.maximum(found.code, input_report.code)
    return Steering(
        _attached(operator, found.values, found.policy, code),
        found.policy,
        found.lower,
        found.upper,
        found.residual,
        found.cluster_steps,
        found.full_sweeps,
        found.certified & (code == int(Code.OK)),
        found.loose,
        code,
        input_report,
        given,
        chosen,
    )


class _Found(NamedTuple):
    values: Array
    policy: Array
    lower: Array
    upper: Array
    residual: Array
    cluster_steps: Array
    full_sweeps: Array
    certified: Array
    loose: Array
    code: Array


@program
def _solve(
    operator: ClusteredMDP,
    order: Array,
    policy: Array,
    start: Array | None,
    method: AbstractSolver,
    ties: str,
    certificate: str,
) -> _Found:
    """The loop, and the certificate after it. Nothing here carries a gradient."""
    operator = trees.stop_gradient(operator)
    discount, dtype = operator.model.discount, operator.model.dtype
    if start is None:
        values = start_values(operator, policy)
    else:
        values = as_data(jax.lax.stop_gradient(start), operator.rewards(policy))
    scale = value_scale(operator, values, policy)
    eps = jnp.finfo(dtype).eps
    rtol = (1e-10 if dtype == jnp.float64 else 1e-6) if method.rtol is None else method.rtol
    atol = getattr(method, "atol", None)
    asked = rtol * scale if atol is None else jnp.asarray(atol, dtype)
    # Sums of |X| rounded terms can tell no less apart, and errors add up over 1 / (1 - discount).
    slack = 8 * eps * scale
    certain = isinstance(method, Hybrid)
    tolerance = jnp.maximum(asked, slack / (1 - discount) if certain else slack)
    sweeping = not isinstance(method, AbstractClusterMethod) or certain
    running = operator.with_rows() if sweeping or certificate == "exact" else operator
    problem = Steered(
        operator=running,
        discount=discount,
        start=policy,
        order=order,
        tolerance=tolerance,
        slack=slack,
        ties=ties,
    )
    result = solve_stage(
        problem,
        -values,
        jnp.asarray(jnp.inf, dtype),
        method,
        rtol=jnp.asarray(tolerance, dtype),
        max_steps=jnp.asarray(method.max_steps, jnp.int32),
    )
    values, state, code = -result.params, result.state, result.code
    none = jnp.zeros((), jnp.int32)
    if isinstance(state, RoundRobin):
        policy, loose = state.policy, state.loose
        steps, sweeps = state.cluster_steps, state.full_sweeps
    else:
        # The last backup of values that are not monotone also gives the policy.
        policy, loose = running.backup(values)[1], jnp.asarray(False)
        steps, sweeps = none, result.steps + 1
    if certain:
        # Its last full backup has proved bounds already; before that values only rise.
        residual = state.residual
        wider = rounding(values, discount)
        lower = jnp.where(state.done, values + state.lower, values) - wider
        upper = values + state.upper + wider
    else:
        residual, lower, upper = certificates.bounds(running, values, policy, certificate)
        sweeps = sweeps + (1 if certificate == "exact" else 0)
    apart = jnp.maximum(jnp.max(upper - values), jnp.max(values - lower))
    # Steps of a size leave values that much over (1 - discount) from their end.
    certified = (apart <= tolerance / (1 - discount)) | operator.model.local_separable
    return _Found(values, policy, lower, upper, residual, steps, sweeps, certified, loose, code)


@program
def _attached(operator: ClusteredMDP, values: Array, policy: Array, code: Array) -> Array:
    """Values with the derivative of what the policy is worth, NaN at failing codes."""
    return attach(
        values,
        UnderPolicy(operator, policy),
        jnp.ones((), values.dtype),
        is_failing(code),
        options=LinearSolve(),
        on_failure="nan",
    )


def _as_integers(name: str, values: Any) -> Any:
    array = np.asarray(values) if is_concrete(values) else values
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"steer: `{name}` must be integers; got dtype {array.dtype}.")
    return array


def _check_order(order: Any, clusters: int) -> Array:
    if order is None:
        return jnp.arange(clusters, dtype=jnp.int32)
    given = _as_integers("order", order)
    if given.shape != (clusters,) or (
        isinstance(given, np.ndarray) and sorted(given.tolist()) != list(range(clusters))
    ):
        raise ValueError(
            f"steer: `order` must be a permutation of 0..{clusters - 1}; got {given!s}."
        )
    return jnp.asarray(given, jnp.int32)


def _check_size(operator: ClusteredMDP, method: AbstractSolver, certificate: str) -> None:
    """Say how large the work is before it starts, where it cannot fit."""
    one_cluster = isinstance(method, AbstractClusterMethod) and not isinstance(method, Hybrid)
    model, clusters = operator.model, operator.arrangement.clusters
    held = model.n_states * (clusters + _ARRAYS)
    if held > _MOST_HELD:
        raise ValueError(
            f"steer: values and a policy of {model.n_states:.3g} joint states and {clusters} "
            f"clusters hold {held:.3g} numbers ({held * 8 / 2**30:.3g} GiB), more than "
            f"{_MOST_HELD:.3g}. Model fewer agents at once, or fit values with `steer_fitted`."
        )
    if one_cluster and certificate != "exact":
        return
    numbers = operator.exact_numbers()
    if numbers > _MOST:
        raise ValueError(
            f"steer: a backup over all {operator.arrangement.joint:.3g} joint signals holds "
            f"{numbers:.3g} numbers for one state ({numbers * 8 / 2**30:.3g} GiB), more than "
            f'{_MOST:.3g}. Use fewer `clusters`, or method=CVI() with certificate="relaxed" or '
            '"none"; `Local` or `Rows` behaviours keep tables small.'
        )


def _start(operator: ClusteredMDP, init: Any) -> tuple[Array, Array | None]:
    """(policy, values or None) to start from."""
    states, clusters = operator.model.n_states, operator.arrangement.clusters
    if init is None:
        return jnp.zeros((states, clusters), jnp.int32), None
    if isinstance(init, Steering):
        init = init.values, init.policy
    values, policy = init if isinstance(init, tuple) else (None, init)
    if values is None and jnp.issubdtype(jnp.result_type(policy), jnp.floating):
        values, policy = policy, None
    if values is not None:
        values = as_float_array("init", values, operator.model.dtype)
        if values.shape != (states,):
            raise ValueError(f"steer: values of `init` must be ({states},); got {values.shape}.")
    if policy is None:
        return _greedy(operator, values), values
    policy = _as_integers("init", policy)
    if policy.shape != (states, clusters):
        raise ValueError(
            f"steer: the policy of `init` must have shape ({states}, {clusters}); "
            f"got {policy.shape}."
        )
    if isinstance(policy, np.ndarray):
        wrong = (policy < 0) | (policy >= np.asarray(operator.arrangement.choices))
        if wrong.any():
            x, cluster = np.argwhere(wrong)[0]
            raise ValueError(
                f"steer: the policy of `init` must hold signals of its clusters; got "
                f"{policy[x, cluster]} in state {x} for cluster {cluster}, which has "
                f"{operator.arrangement.choices[cluster]}."
            )
    return jnp.asarray(policy, jnp.int32), values


@program
def _greedy(operator: ClusteredMDP, values: Array) -> Array:
    earned = operator.rewards(jnp.zeros((values.shape[0], operator.arrangement.clusters), int))
    return operator.backup(as_data(values, earned))[1]


@program
def _excess(operator: ClusteredMDP, values: Array, policy: Array) -> tuple[Array, Array]:
    """By how much values lie above one step of the policy, and by how much rounding lets them."""
    values = as_data(values, operator.rewards(policy))
    scale = value_scale(operator, values, policy)
    allowed = 32 * jnp.finfo(values.dtype).eps * scale / (1 - operator.model.discount)
    return jnp.max(values - operator.apply(values, policy)), allowed


def _check_rises(operator: ClusteredMDP, values: Array, policy: Array) -> list[Check]:
    excess, allowed = _excess(*jax.lax.stop_gradient((operator, values, policy)))
    return [
        Check(
            excess <= allowed,
            excess,
            "steer: values of `init` must not lie above one step from them (V <= T V), or they "
            "would not rise; got a violation of {got}. Start at lower values, or at a policy.",
        )
    ]


def _raise_if_concrete(checked: InputReport) -> None:
    if is_concrete(checked.index, checked.got) and np.ndim(checked.index) == 0:
        if int(checked.index) < len(checked.sentences):
            raise ValueError(checked.message(int(checked.index), float(checked.got)))
