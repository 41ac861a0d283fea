"""Free energy, policies and traffic of all paths through a sequence of stages, for own costs.

A path starts at a node, visits between one and K states, one per stage, and ends at a
destination, which it cannot leave. No path is ever listed. These are pure functions of arrays: a
finite-horizon problem whose costs depend on parameters is annealed by a `mepjax.Problem` whose
`free_energy` calls the one here. `mepjax.FacilityPath` is such a problem.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks
from .._core import paths as _recursion
from .._core.paths import Policies, Routes, StageCosts
from .._core.types import Scalar
from .facility_path.links import Links
from .uncertain import Covariance, Samples

__all__ = [
    "Covariance",
    "Links",
    "Policies",
    "Routes",
    "Samples",
    "StageCosts",
    "free_energy",
    "policies",
    "shortest",
    "stage_costs",
    "traffic",
]


def stage_costs(
    first: Any, links: Any, last: Any, direct: Any = None, *, n_stages: int | None = None
) -> StageCosts:
    """The costs of every leg of a path, checked; +inf forbids a leg.

    **Arguments:** in one unit of cost, N nodes, M states, L destinations, K stages:

    - `first`: node i to state j at the first stage, shape (N, M).
    - `links`: state a to state b at the next stage, shape (M, M), or (K-1, M, M) where it
        differs by stage.
    - `last`: state a to destination l, shape (M, L) or (M,) for one destination; (K, M, L)
        where it differs by stage. +inf at all but the last stage makes every path of full length.
    - `direct`: node i straight to destination l, shape (N, L) or (N,); default forbidden.
    - `n_stages`: K; needed where no array says it.

    **Returns:** a `StageCosts`, the argument of the functions of this module.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    **Example:** one node, two states, two stages.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> costs = mj.paths.stage_costs(
    ...     first=jnp.array([[1.0, 2.0]]),
    ...     links=jnp.array([[jnp.inf, 0.5], [0.5, jnp.inf]]),
    ...     last=jnp.array([3.0, 1.0]),
    ...     n_stages=2,
    ... )
    >>> print(mj.paths.shortest(costs).states, mj.paths.shortest(costs).costs)
    [[0 1]] [2.5]

    ```
    """
    owner = "stage_costs"
    first = arrays.as_float_array("first", first)
    dtype = first.dtype
    if first.ndim != 2 or 0 in first.shape:
        raise ValueError(
            f"{owner}: `first` must be 2-D, (nodes, states), not empty; got shape {first.shape}."
        )
    n, m = first.shape
    links = arrays.as_float_array("links", links, dtype)
    last = arrays.as_float_array("last", last, dtype)
    last = last[:, None] if last.ndim == 1 else last
    k = n_stages
    if k is None:
        sizes = [links.shape[0] + 1] if links.ndim == 3 else []
        sizes += [last.shape[0]] if last.ndim == 3 else []
        if not sizes:
            raise ValueError(f"{owner}: `n_stages` is needed where costs do not differ by stage.")
        k = sizes[0]
    if isinstance(k, bool) or not isinstance(k, int | np.integer):
        raise TypeError(f"{owner}: `n_stages` must be an int; got {type(k).__name__} {k!r}.")
    if k < 1:
        raise ValueError(f"{owner}: `n_stages` must be at least 1; got {k}.")
    k = int(k)
    if links.shape not in ((m, m), (k - 1, m, m)):
        raise ValueError(
            f"{owner}: `links` must have shape ({m}, {m}) or ({k - 1}, {m}, {m}) for {m} states "
            f"and {k} stages; got {links.shape}."
        )
    ends = last.shape[-1] if last.ndim else 0
    if ends == 0 or last.shape not in ((m, ends), (k, m, ends)):
        raise ValueError(
            f"{owner}: `last` must have shape ({m},), ({m}, destinations) or "
            f"({k}, {m}, destinations); got {last.shape}."
        )
    if direct is not None:
        direct = arrays.as_float_array("direct", direct, dtype)
        direct = direct[:, None] if direct.ndim == 1 else direct
        if direct.shape != (n, ends):
            raise ValueError(
                f"{owner}: `direct` must have shape ({n}, {ends}); got {direct.shape}."
            )
    return StageCosts(first, links, last, direct, k)


def _limits(costs: StageCosts, max_hops: Any) -> Int[Array, " n"] | None:
    if max_hops is None:
        return None
    owner, n = "paths", costs.first.shape[0]
    if costs.staged:
        raise ValueError(
            f"{owner}: `max_hops` needs costs that are the same at every stage; where they differ, "
            "forbid legs by +inf instead."
        )
    limits = max_hops if isinstance(max_hops, jax.Array) else np.asarray(max_hops)
    if not jnp.issubdtype(limits.dtype, jnp.integer) or limits.shape not in ((), (n,)):
        raise ValueError(
            f"{owner}: `max_hops` must be an int or {n} of them, one per node; got shape "
            f"{limits.shape} of dtype {limits.dtype}."
        )
    low, high = (1.0 if costs.direct is None else 0.0), float(costs.n_stages)
    checks.enforce([checks.check_range(owner, "max_hops", limits, low=low, high=high)])
    return jnp.broadcast_to(jnp.asarray(limits, jnp.int32), (n,))


def _shares(costs: StageCosts, weights: Any) -> Float[Array, " n"]:
    n, dtype = costs.first.shape[0], costs.first.dtype
    if weights is None:
        return jnp.full((n,), 1 / n, dtype)
    weights = arrays.as_float_array("weights", weights, dtype)
    if weights.shape != (n,):
        raise ValueError(f"paths: `weights` must have shape ({n},); got {weights.shape}.")
    return weights / jnp.sum(weights)


def free_energy(
    costs: StageCosts, beta: Scalar, *, weights: Any = None, max_hops: Any = None
) -> Float[Array, ""]:
    """F = -(1/beta) sum_i weights_i log sum_paths exp(-beta cost), all paths of node i.

    Time O(N M + K M^2), memory O(N M). +inf where a node with weight has no permitted path.

    **Arguments:**

    - `costs`: from `stage_costs`.
    - `beta`: inverse temperature, > 0, in inverse units of cost.
    - `weights`: importance of the nodes, shape (N,), normalised to sum one; default equal.
    - `max_hops`: at most this many states on a path, an int or one per node, shape (N,); for
        costs that are the same at every stage.

    **Returns:** a scalar in units of cost, at most the least cost and at least that minus
    log(number of paths) / beta.

    **Raises:** `ValueError` for a wrong shape or a limit out of range.

    Source: parameterized sequential decision making, equations (2.9) to (2.12), with an absorbing
    destination.

    **Example:** two paths of cost 3 and one of 2.5.

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> costs = mj.paths.stage_costs(
    ...     jnp.array([[1.0, 2.0]]), jnp.array([[jnp.inf, 0.5], [jnp.inf, jnp.inf]]),
    ...     jnp.array([2.0, 1.0]), n_stages=2)
    >>> print(f"{mj.paths.free_energy(costs, 100.0):.4f}")
    2.5000

    ```
    """
    values = _recursion.values(costs, beta, _limits(costs, max_hops))
    shares = _shares(costs, weights)
    # A node without weight may be cut off: 0 times infinity is nothing here.
    return jnp.sum(jnp.where(shares > 0, shares * jnp.where(shares > 0, values, 0.0), 0.0))


def policies(costs: StageCosts, beta: Scalar, *, max_hops: Any = None) -> Policies:
    """Log Gibbs policies: the probability of each next leg given where the path is.

    **Arguments:** as in `free_energy`.

    **Returns:** a `Policies`.

    Source: parameterized sequential decision making, equation (2.11).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> costs = mj.paths.stage_costs(jnp.zeros((1, 2)), jnp.zeros((2, 2)), jnp.zeros(2), n_stages=1)
    >>> print(jnp.exp(mj.paths.policies(costs, 1.0).first))
    [[0.5 0.5]]

    ```
    """
    return Policies(*_recursion.log_policies(costs, beta, _limits(costs, max_hops)))


def traffic(
    costs: StageCosts, beta: Scalar, *, weights: Any = None, max_hops: Any = None
) -> StageCosts:
    """Expected use of every leg per unit of weight, the gradient of F in the leg's cost.

    **Arguments:** as in `free_energy`.

    **Returns:** a `StageCosts` of the same shapes: `.first[i, j]` sums to one less what goes
    straight, `.last` and `.direct` together sum to one. Visits of the states (all stages) are
    `traffic.first.sum(0) + traffic.links.sum(range(traffic.links.ndim - 1))`.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> costs = mj.paths.stage_costs(jnp.zeros((1, 2)), jnp.zeros((2, 2)), jnp.zeros(2), n_stages=2)
    >>> print(mj.paths.traffic(costs, 1.0).links.sum())  # 4 of the 6 paths have two states
    0.6666667

    ```
    """
    limits = _limits(costs, max_hops)
    return eqx.filter_grad(lambda c: free_energy(c, beta, weights=weights, max_hops=limits))(costs)


def shortest(costs: StageCosts, *, max_hops: Any = None) -> Routes:
    """One cheapest path per node, by dynamic programming; among equals the one that ends sooner.

    The path may visit a state repeatedly if the costs reward it.

    **Arguments:** as in `free_energy`.

    **Returns:** a `Routes`: `states` (N, K), padded with -1; `destinations` (N,); `costs` (N,).

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> costs = mj.paths.stage_costs(jnp.array([[5.0, 1.0]]), jnp.zeros((2, 2)),
    ...     jnp.array([[2.0, 9.0], [9.0, 9.0]]), n_stages=3)
    >>> routes = mj.paths.shortest(costs)
    >>> print(routes.states, routes.destinations, routes.costs)
    [[ 1  0 -1]] [0] [3.]

    ```
    """
    return _recursion.shortest(costs, _limits(costs, max_hops))
