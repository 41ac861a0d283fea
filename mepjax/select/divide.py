"""Clustering by division: the dearest group is split in two on its own points, again and again."""

import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.codes import Code
from .._core.keys import check_key
from .._core.padding import pad_rows, pad_weights
from .._core.programs import program
from ..engine.anneal import anneal
from ..engine.schedules import Geometric
from ..problems.clustering.problem import Clustering
from ..solvers.adjoints import NoGrad

# Two centres part at their first transition and are as good as hard at 64 times it.
_FIRST, _LAST, _FACTOR, _STAGES = 0.95, 64.0, 1.4, 16


class Stop(NamedTuple):
    """When to stop dividing before there are `k` groups; whichever comes first.

    **Fields:** `cost`, a mean cost that is low enough, in the units of the cost; `seconds` on the
    clock.
    """

    cost: float | None = None
    seconds: float | None = None


class Split(NamedTuple):
    """One division: group `parent` keeps some of its points and `child` gets the others.

    **Fields:** `parent`, `child`: rows of `Division.centres`; `size`, points of the parent before;
    `saved`, by how much the mean cost of all points fell; `pair_evaluations`.
    """

    parent: int
    child: int
    size: int
    saved: float
    pair_evaluations: int


class Division(eqx.Module):
    """What `divide_and_conquer` returns.

    **Fields:**

    - `centres` (k', d) with k' <= k; fewer where nothing is left to split or `stop` said so.
    - `assignments` (N,): the nearest centre of each point.
    - `cost`: mean cost, by weight.
    - `splits`: one `Split` for each division, in their order.
    - `pair_evaluations`: costs of a point and a centre that were computed, polish included.
    - `code`: OK, or the worst failing code of the divisions that were kept.
    """

    centres: Float[Array, "k d"]
    assignments: Int[np.ndarray, " n"]
    cost: float
    splits: tuple[Split, ...] = eqx.field(static=True)
    pair_evaluations: int = eqx.field(static=True)
    code: Code = eqx.field(static=True)


class _Leaf(NamedTuple):
    rows: np.ndarray
    centre: np.ndarray
    cost: float  # its part of the mean cost
    whole: bool = False  # found not to divide


def divide_and_conquer(
    x: Any,
    k: int,
    *,
    weights: Any = None,
    key: Any,
    polish: int = 5,
    stop: Stop | None = None,
    cost: Any = "sqeuclidean",
) -> Division:
    """Centres by splitting the group of largest cost in two, `k` - 1 times.

    Each division is a two-centre anneal on the points of that group alone, so that a level costs N
    pairs and not N k. Two centres that do not part, or of which one gets no point, are merged again
    and the group is not tried any more. A group's points are padded to a few sizes with weight
    zero, so that few programs are compiled. For what is lost against annealing all centres at once
    see `benchmarks/table_one`.

    **Arguments:**

    - `x`, `weights`, `cost`: as in `mepjax.Clustering`.
    - `k`: number of groups to reach, >= 1.
    - `key`: a JAX random key.
    - `polish`: hard updates of all centres on all points after the last division, >= 0. With
        `polish=0` this is a seeding, which `anneal(..., init=division.centres)` takes where
        as many groups were reached.
    - `stop`: a `Stop`, to end with fewer groups at a cost or after some seconds.

    **Returns:** a `Division`. Works on the host, group by group: not inside `jit`.

    **Raises:** `TypeError` or `ValueError` naming the argument; `TypeError` for traced values.

    Source: parameterized sequential decision making, chapter 8; scalable resource allocation,
    section IV, whose dividing of the data this is.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> x = four_square(40)[0]
    >>> division = mj.select.divide_and_conquer(x, 4, key=jax.random.key(0))
    >>> print(division.centres.shape, len(division.splits), division.code.name)
    (4, 2) 3 OK

    ```
    """
    key = check_key(key)
    checks.check_count("divide_and_conquer", "k", k)
    if not (checks.is_count(polish) and polish >= 0):
        raise ValueError(f"divide_and_conquer: `polish` must be an integer >= 0; got {polish!r}.")
    stop = _checked(stop)
    if not checks.is_concrete(x, weights):
        raise TypeError("divide_and_conquer: `x` and `weights` must not be traced.")
    whole = Clustering(x, 1, weights=weights, cost=cost)
    return _Divider(whole, key, stop).run(int(k), int(polish))


class _Divider:
    def __init__(self, whole: Clustering, key: Any, stop: Stop) -> None:
        self.whole, self.key, self.stop = whole, key, stop
        self.x = np.asarray(whole.x)
        weights = np.asarray(whole.weights)
        self.shares = weights / weights.sum()
        self.started = time.perf_counter()
        self.pairs = 0
        self.codes: list[Code] = []

    def run(self, k: int, polish: int) -> Division:
        rows = np.flatnonzero(self.shares)
        centre = np.asarray(self.whole.init(self.key))[0]
        leaves = [self._leaf(rows, centre)]
        splits = []
        while len(leaves) < k and not self._ends(leaves):
            parent = max(
                (i for i, leaf in enumerate(leaves) if not leaf.whole),
                key=lambda i: leaves[i].cost,
                default=None,
            )
            if parent is None:
                break
            before, leaf = self.pairs, leaves[parent]
            halves = self._halves(leaf, len(splits))
            if halves is None:
                leaves[parent] = leaf._replace(whole=True)
                continue
            leaves[parent] = halves[0]
            leaves.append(halves[1])
            saved = leaf.cost - halves[0].cost - halves[1].cost
            pairs = self.pairs - before
            splits.append(Split(parent, len(leaves) - 1, len(leaf.rows), saved, pairs))
        return self._division(leaves, splits, polish)

    def _ends(self, leaves: list[_Leaf]) -> bool:
        seconds, cost = self.stop.seconds, self.stop.cost
        late = seconds is not None and time.perf_counter() - self.started >= seconds
        return late or (cost is not None and sum(leaf.cost for leaf in leaves) <= cost)

    def _leaf(self, rows: np.ndarray, centre: np.ndarray) -> _Leaf:
        problem = self._problem(rows, 1)
        paid = _paid(problem, jnp.asarray(centre)[None])[: len(rows)]
        self.pairs += len(rows)
        return _Leaf(rows, centre, float(self.shares[rows] @ np.asarray(paid, np.float64)))

    def _problem(self, rows: np.ndarray, k: int) -> Clustering:
        """The clustering of some points, padded."""
        x = pad_rows(self.x[rows])
        shares = self.shares[rows]
        weights = pad_weights(shares / shares.max()).astype(x.dtype)
        return Clustering(x, k, weights=weights, cost=self.whole.cost)

    def _halves(self, leaf: _Leaf, index: int) -> tuple[_Leaf, _Leaf] | None:
        """Two leaves in place of one; `None` where it does not divide."""
        if len(leaf.rows) < 2 or leaf.cost <= 0:
            return None
        found = _divide(self._problem(leaf.rows, 2), jax.random.fold_in(self.key, index))
        centres, side, steps, code = jax.tree.map(np.asarray, found)
        side = side[: len(leaf.rows)]
        # Each step of an update, and the assignment, looks at both centres of every point.
        self.pairs += 2 * len(leaf.rows) * (int(steps) + 1)
        if side.all() or not side.any():
            return None
        first, second = (self._leaf(leaf.rows[side == j], centres[j]) for j in (0, 1))
        rounding = 8 * float(np.finfo(self.x.dtype).eps) * leaf.cost
        if not first.cost + second.cost < leaf.cost - rounding:
            return None
        self.codes.append(Code(int(code)))
        return first, second

    def _division(self, leaves: list[_Leaf], splits: list[Split], polish: int) -> Division:
        centres = jnp.asarray(np.stack([leaf.centre for leaf in leaves]))
        n, k = self.x.shape[0], len(leaves)
        problem = Clustering(self.x, k, weights=self.whole.weights, cost=self.whole.cost)
        centres, assignments, paid = _polished(problem, centres, jnp.asarray(polish))
        self.pairs += n * k * (polish + 1)
        failing = [code for code in self.codes if code.is_failing]
        return Division(
            centres,
            np.asarray(assignments),
            float(self.shares @ np.asarray(paid, np.float64)),
            tuple(splits),
            self.pairs,
            max(failing, default=Code.OK),
        )


@program
def _paid(problem: Clustering, centres: Any) -> Any:
    return problem.least_costs(centres)[1]


@program
def _divide(problem: Clustering, key: Any) -> Any:
    """Two centres, which of them each point is nearer to, inner steps, code."""
    first = problem.beta_scale()
    schedule = Geometric(_FIRST * first, _LAST * first, _FACTOR, max_stages=_STAGES)
    solution = anneal(problem, schedule, key=key, adjoint=NoGrad())
    side, _ = problem.least_costs(solution.params)
    return solution.params, side, jnp.sum(solution.trace.steps), solution.code


@program
def _polished(problem: Clustering, centres: Any, steps: Any) -> Any:
    """Centres after so many updates at a beta where only rounding is soft."""
    dtype = problem.x.dtype
    beta = 1 / (jnp.finfo(dtype).eps * jnp.maximum(problem.spread**2, jnp.finfo(dtype).tiny))
    centres = jax.lax.fori_loop(0, steps, lambda _, y: problem.update(y, beta), centres)
    return centres, *problem.least_costs(centres)


def _checked(stop: Any) -> Stop:
    stop = Stop() if stop is None else stop
    if not isinstance(stop, Stop):
        raise TypeError(
            f"divide_and_conquer: `stop` must be a Stop, such as Stop(seconds=10); got {stop!r}."
        )
    for name, value in zip(stop._fields, stop, strict=True):
        if value is not None and not value >= 0:
            raise ValueError(f"divide_and_conquer: `stop.{name}` must be >= 0; got {value!r}.")
    return stop
