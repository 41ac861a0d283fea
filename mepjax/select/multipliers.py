"""What the multipliers of a scalable clustering say, and the multiplier that meets a budget."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code, as_code, is_failing
from .._core.keys import check_key
from .._core.programs import program
from .._core.types import Scalar
from ..engine.anneal import anneal
from ..engine.branching.noise import NoDetector
from ..engine.schedules import AbstractSchedule, Explicit
from ..engine.solution import Solution
from ..problems.scalable_clustering import CostParts, ScalableClustering
from ..solvers.adjoints import NoGrad
from ..solvers.implicit import LinearSolve, attach

_OWNER = "multiplier_report"
# Trials of a multiplier: the bracket of 2^20 is then known to all digits of float32.
_TRIALS = 40
_SMALLEST, _LARGEST = 1e-4, 1e2


class MultiplierReport(eqx.Module):
    """Costs, multipliers and entropy at an annealed solution, and how costs follow multipliers.

    **Fields:**

    - `costs` (3,): coverage F_1, interaction F_2, computation F_3.
    - `multipliers` (3,): beta_1 = beta, beta_2 = interaction beta, beta_3 = computation V beta.
    - `log_partition`: sum_i weights_i log Z_i, which is -beta F.
    - `entropy`: S = log_partition + sum_k beta_k F_k, in nats.
    - `response` (3, 3): dF_k / dbeta_j along the annealed solution. Symmetric, since F_k is the
        slope of -log_partition in beta_k; negative semidefinite where the solution is a minimum.
    """

    costs: Float[Array, "3"]
    multipliers: Float[Array, "3"]
    log_partition: Float[Array, ""]
    entropy: Float[Array, ""]
    response: Float[Array, "3 3"]

    @property
    def entropy_slopes(self) -> Float[Array, "3"]:
        """dS/dbeta_j, which is sum_k beta_k dF_k/dbeta_j: so beta_k is dS/dF_k, equation (12)."""
        return self.multipliers @ self.response

    def exchange_rate(self, paid: int, bought: int) -> Float[Array, ""]:
        """dF_bought / dF_paid when the multiplier of `paid` moves and the others stay.

        The slope of a trade-off curve: `exchange_rate(2, 0)` is by how much the coverage cost
        rises for each unit of computation that is saved, with its sign.
        """
        return self.response[bought, paid] / self.response[paid, paid]


def multiplier_report(problem: ScalableClustering, params: Any, beta: Scalar) -> MultiplierReport:
    """What the three multipliers say at an annealed solution.

    **Arguments:**

    - `problem`: a `ScalableClustering` whose reaches minimise F.
    - `params`: of a solution at `beta`, or the `Solution` itself. Derivatives are implicit, so they
        are those of the solution only where it is one.
    - `beta`: the free energy's beta.

    **Returns:** a `MultiplierReport`. Legal inside `jit`, `grad` and `vmap`.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind.

    Source: scalable resource allocation, equations (8) to (12) and (33) to (35), whose second
    derivatives of log Z lack a minus sign.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.2], [-0.8], [0.9], [1.1]])
    >>> problem = mj.ScalableClustering(x, 2, computation=0.5)
    >>> solution = mj.anneal(problem, mj.Geometric(0.1, 5.0, 1.3), key=jax.random.key(0))
    >>> report = mj.select.multiplier_report(problem, solution.params, solution.beta)
    >>> print(report.multipliers[:2])
    [5. 5.]

    ```
    """
    _check(problem, _OWNER)
    if isinstance(params, Solution):
        params = params.params
    return _report(problem, params, jnp.asarray(beta, problem.x.dtype))


@program
def _report(problem: ScalableClustering, params: Any, beta: Any) -> MultiplierReport:
    variance = problem.variance()

    def costs(multipliers: Float[Array, "3"]) -> tuple[Float[Array, "3"], CostParts]:
        first, second, third = multipliers
        moved = problem.replace(interaction=second / first, computation=third / (variance * first))
        solved = attach(
            params, moved, first, jnp.zeros((), bool), options=LinearSolve(), on_failure="nan"
        )
        parts = moved.costs_by_part(solved, first)
        return jnp.stack([parts.coverage, parts.interaction, parts.computation]), parts

    multipliers = beta * jnp.stack(
        [jnp.ones_like(beta), problem.interaction, problem.computation * variance]
    )
    response, parts = jax.jacfwd(costs, has_aux=True)(multipliers)
    found = jnp.stack([parts.coverage, parts.interaction, parts.computation])
    log_partition = -beta * problem.free_energy(params, beta)
    entropy = log_partition + multipliers @ found
    return MultiplierReport(found, multipliers, log_partition, entropy, response)


class Budget(eqx.Module):
    """What `with_budget` returns.

    **Fields:** `problem`, with the multiplier found; its `solution`; `computation`, the multiplier;
    `spent`, what the solution spends of what was limited; `target`; `code`: that of the solution,
    or INFEASIBLE where no multiplier within [1e-4, 1e2] spends the target.
    """

    problem: ScalableClustering
    solution: Solution
    computation: Float[Array, ""]
    spent: Float[Array, ""]
    target: Float[Array, ""]
    code: Int[Array, ""]


class _Bracket(NamedTuple):
    """Logarithms of two multipliers, what the solutions there spend, and the cheaper start."""

    low: Array
    high: Array
    spent_low: Array
    spent_high: Array
    params: Any  # of the solution at `low`


def with_budget(
    problem: ScalableClustering,
    schedule: AbstractSchedule | None = None,
    *,
    key: Any,
    kept: Any = None,
    computation_cost: Any = None,
    rtol: float = 1e-2,
) -> Budget:
    """The multiplier of computation at which the solution spends what it may.

    The problem is annealed at a small multiplier; a bracketed root over its logarithm follows,
    in which each trial starts from the solution of the last one that spent more. What a solution
    spends jumps where groups merge or reaches change branch: a target inside such a jump is met by
    no multiplier.

    **Arguments:**

    - `problem`: a `ScalableClustering`; its own `computation` is not looked at.
    - `schedule`: of the first anneal, whose last beta is that of all solutions; default as in
        `anneal`.
    - `key`: a JAX random key.
    - `kept`: the share of pairs that may be computed, in (0, 1); or
    - `computation_cost`: the computation cost F_3 that may be spent, > 0.
    - `rtol`: by how much what is spent may miss the target, relative to it. The share of pairs is a
        count, so a small `rtol` may be out of reach.

    **Returns:** a `Budget`; look at its `code`. Legal inside `jit` and `vmap`; the solution carries
    no derivative.

    **Raises:** `TypeError` or `ValueError` for arguments of the wrong kind or out of range.

    Source: scalable resource allocation, section IV-B.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.2], [-0.8], [0.9], [1.1]])
    >>> problem = mj.ScalableClustering(x, 2)
    >>> schedule = mj.Geometric(0.1, 5.0, 1.3)
    >>> key = jax.random.key(0)
    >>> budget = mj.select.with_budget(problem, schedule, key=key, computation_cost=0.05)
    >>> print(budget.code, f"{budget.spent:.3f}")
    0 0.050

    ```
    """
    _check(problem, "with_budget")
    key = check_key(key)
    if (kept is None) == (computation_cost is None):
        raise ValueError(
            "with_budget: give either `kept` or `computation_cost`; got "
            f"{'both' if kept is not None else 'neither'}."
        )
    name, target = ("kept", kept) if kept is not None else ("computation_cost", computation_cost)
    target = jnp.asarray(target, problem.x.dtype)
    if target.shape:
        raise ValueError(f"with_budget: `{name}` must be a number; got shape {target.shape}.")
    if checks.is_concrete(target):
        value = float(target)
        if not (value > 0 and (name != "kept" or value < 1)) or not np.isfinite(value):
            expected = "in (0, 1)" if name == "kept" else "finite and > 0"
            raise ValueError(f"with_budget: `{name}` must be {expected}; got {value:g}.")
    if not rtol > 0:
        raise ValueError(f"with_budget: `rtol` must be > 0; got {rtol}.")
    still = trees.stop_gradient((problem, schedule, target))
    return _budget(*still, key, jnp.asarray(rtol, problem.x.dtype), jnp.asarray(name == "kept"))


@program
def _budget(
    problem: ScalableClustering, schedule: Any, target: Any, key: Any, rtol: Any, of_kept: Any
) -> Budget:
    def at(log_multiplier: Array) -> ScalableClustering:
        return problem.replace(computation=jnp.exp(log_multiplier))

    def spent(log_multiplier: Array, params: Any, beta: Array) -> Array:
        parts = at(log_multiplier).costs_by_part(params, beta)
        return jnp.where(of_kept, parts.kept, parts.computation)

    low = jnp.log(jnp.asarray(_SMALLEST, problem.x.dtype))
    high = jnp.log(jnp.asarray(_LARGEST, problem.x.dtype))
    first = anneal(at(low), schedule, key=key, adjoint=NoGrad())
    beta = first.beta

    def resolve(log_multiplier: Array, params: Any) -> Solution:
        return anneal(
            at(log_multiplier),
            Explicit(beta[None]),
            key=key,
            init=params,
            detector=NoDetector(noise=0.0),
            adjoint=NoGrad(),
        )

    def trial(ends: _Bracket, _: None) -> tuple[_Bracket, None]:
        middle = 0.5 * (ends.low + ends.high)
        params = resolve(middle, ends.params).params
        value = spent(middle, params, beta)
        lowers = value > target
        return _Bracket(
            jnp.where(lowers, middle, ends.low),
            jnp.where(lowers, ends.high, middle),
            jnp.where(lowers, value, ends.spent_low),
            jnp.where(lowers, ends.spent_high, value),
            jax.tree.map(lambda a, b: jnp.where(lowers, a, b), params, ends.params),
        ), None

    # An end that is never moved was never solved: what it spends stays infinitely far.
    far = jnp.asarray(jnp.inf, problem.x.dtype)
    start = _Bracket(low, high, spent(low, first.params, beta), -far, first.params)
    ends, _ = jax.lax.scan(trial, start, None, length=_TRIALS)
    misses = jnp.stack([jnp.abs(ends.spent_low - target), jnp.abs(ends.spent_high - target)])
    chosen = jnp.where(misses[0] <= misses[1], ends.low, ends.high)
    solution = resolve(chosen, ends.params)
    value = spent(chosen, solution.params, beta)
    unmet = ~(jnp.abs(value - target) <= rtol * target)
    ended = jnp.where(is_failing(first.code), first.code, solution.code)
    code = jnp.where(unmet & ~is_failing(ended), as_code(Code.INFEASIBLE), ended)
    return Budget(at(chosen), solution, jnp.exp(chosen), value, target, code)


def _check(problem: Any, owner: str) -> None:
    if not isinstance(problem, ScalableClustering):
        raise TypeError(
            f"{owner}: `problem` must be a ScalableClustering; got {type(problem).__name__}."
        )
    if not problem.variational:
        raise ValueError(
            f"{owner}: `problem` must have radius='minimum': the printed radius is not stationary."
        )
