"""What a smaller answer costs: coverage against computation over a grid of multipliers."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks
from ..engine.sweep import sweep
from ..problems.scalable_clustering import CostParts, ScalableClustering


class TradeOff(eqx.Module):
    """Costs of the best solutions over a grid of multipliers of computation.

    **Fields,** each with an axis over the S multipliers:

    - `computation`: the multipliers.
    - `coverage`: mean distance of an entity to its group, of hard decisions.
    - `parts`: the soft costs by part, with the share of pairs that are `kept`.
    - `remainder`: F less computation V F_3: what is minimised beside the computation.
    - `slope`: -computation V, the slope of the curve of `remainder` against `parts.computation`.
        The multiplier is what one unit of computation is worth there.
    - `params`: a `ScalableParams` of each.
    - `code`: of the solutions.
    """

    computation: Float[Array, " s"]
    coverage: Float[Array, " s"]
    parts: CostParts
    remainder: Float[Array, " s"]
    slope: Float[Array, " s"]
    params: Any
    code: Int[Array, " s"]

    @property
    def efficient(self) -> Bool[Array, " s"]:
        """Whether no other solution covers better with as few pairs, or as well with fewer."""
        ok = jnp.isfinite(self.coverage)
        kept, coverage = self.parts.kept, self.coverage
        no_worse = (kept[:, None] <= kept) & (coverage[:, None] <= coverage) & ok[:, None]
        better = (kept[:, None] < kept) | (coverage[:, None] < coverage)
        return ok & ~jnp.any(no_worse & better, axis=0)


def trade_off(
    problem: ScalableClustering,
    computation: Any,
    schedule: Any = None,
    *,
    key: Any,
    seeds: int = 1,
    **options: Any,
) -> TradeOff:
    """Anneal a scalable clustering for every multiplier of computation, and tell what each costs.

    One `sweep`: all multipliers share one program. Of several seeds that of least hard cost counts.

    **Arguments:**

    - `problem`: a `ScalableClustering`; its own `computation` is not looked at.
    - `computation`: multipliers >= 0, shape (S,), in any order.
    - `schedule`: as in `anneal`, or a function of the multiplier.
    - `key`: a JAX random key; `seeds`: runs of each multiplier.
    - `options`: those of `sweep`.

    **Returns:** a `TradeOff`; look at its `code`. The outcome depends on the multiplier without a
    simple rule: the curve may jump, and fall back, where an anneal takes another branch, and
    `efficient` tells which of its points are worth having.

    **Raises:** `TypeError`, `ValueError` naming the argument, what was got and what was expected.

    Source: scalable resource allocation, section IV.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> curve = mj.select.trade_off(
    ...     mj.ScalableClustering(x, 2), [0.0, 3.0], mj.Geometric(0.1, 20.0, 1.3),
    ...     key=jax.random.key(0))
    >>> print(bool(curve.parts.computation[1] < curve.parts.computation[0]))
    True

    ```
    """
    owner = "trade_off"
    if not isinstance(problem, ScalableClustering):
        raise TypeError(
            f"{owner}: `problem` must be a mepjax.ScalableClustering; got "
            f"{type(problem).__name__} {problem!r:.60}."
        )
    if not isinstance(computation, jax.Array):
        computation = np.asarray(computation, problem.x.dtype)
    if computation.ndim != 1 or computation.size == 0:
        raise ValueError(
            f"{owner}: `computation` must be multipliers of shape (S,); got shape "
            f"{computation.shape}."
        )
    checks.enforce([checks.check_range(owner, "computation", computation, low=0.0)])
    computation = jnp.asarray(computation, problem.x.dtype)

    def build(multiplier: Array) -> ScalableClustering:
        return eqx.tree_at(lambda p: p.computation, problem, multiplier)

    best = sweep(build, computation, key=key, seeds=seeds, schedule=schedule, **options).best
    return _measured(problem, computation, best.params, best.beta, best.code)


@eqx.filter_jit
def _measured(
    problem: ScalableClustering, computation: Array, params: Any, beta: Array, code: Array
) -> TradeOff:
    variance = problem.variance()

    def one(lane: tuple[Array, Any, Array, Array]) -> TradeOff:
        multiplier, params, beta, code = lane
        moved = eqx.tree_at(lambda p: p.computation, problem, multiplier)
        parts, slope = moved.costs_by_part(params, beta), -multiplier * variance
        remainder = moved.free_energy(params, beta) + slope * parts.computation
        coverage = moved.harden(params).coverage
        return TradeOff(multiplier, coverage, parts, remainder, slope, params, code)

    return jax.lax.map(one, (computation, params, beta, code))
