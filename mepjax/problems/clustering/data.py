"""The data of a clustering: who is clustered, at what cost, under which autonomy and limits."""

import dataclasses
from typing import Any, Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..._core import arrays, checks, sampling, trees
from ..._core.params import Params, primal_of
from ..._core.programs import own_arithmetic, program
from ...engine.problem import Constrained, Continuation, Growable, check_fields
from ...exec.base import AbstractExecutor
from ...exec.from_disk import FromDisk, check_suits
from ...exec.in_memory import InMemory
from ...exec.sources import Rows, RowWeights, own_weights
from ...solvers.armijo import Armijo
from ...solvers.base import AbstractSolver
from ...solvers.fixed_point import FixedPoint
from ..autonomy.base import AbstractAutonomy, NoAutonomy
from ..autonomy.fixed import Uniform
from ..autonomy.function import as_autonomy
from ..capacity.prices import (
    ClusterCapacity,
    as_cluster_capacity,
)
from ..costs.base import AbstractCost
from ..costs.euclidean import Euclidean
from ..costs.mean import MeanCost
from ..costs.names import as_cost
from ..costs.quadratic import SquaredEuclidean
from ..per_entity import placed
from . import on_disk
from .sums import EntitySums

_STATIONARITY = ("exact", "frozen")


class ClusteringData(Growable, Constrained):
    """The data of a `Clustering`, which documents them, and what follows from them alone."""

    # Points on disk are `Rows` here, and `RowWeights` their weights: sums go through them alike.
    x: Float[Array, "n d"]
    weights: Float[Array, " n"]
    autonomy: AbstractAutonomy
    cost: AbstractCost
    capacity: ClusterCapacity | None
    # A constant near the data, subtracted inside every computation; zero where the cost needs
    # to know where the origin is.
    origin: Float[Array, " d"]
    # The size of the data, with which errors and steps are compared; a constant too.
    spread: Float[Array, ""]
    executor: AbstractExecutor
    k: int = eqx.field(static=True)
    stationarity: str = eqx.field(static=True)

    @own_arithmetic()
    def __init__(
        self,
        x: Any,
        k: int,
        *,
        weights: Any = None,
        cost: Any = "sqeuclidean",
        autonomy: Any = None,
        stationarity: str = "exact",
        capacity: Any = None,
    ) -> None:
        owner = "Clustering"
        if isinstance(k, bool) or not isinstance(k, int | np.integer):
            raise TypeError(f"{owner}: `k` must be an int; got {type(k).__name__} {k!r}.")
        if k < 1:
            raise ValueError(f"{owner}: `k` must be at least 1; got {k}.")
        if stationarity not in _STATIONARITY:
            raise ValueError(
                f"{owner}: `stationarity` must be one of {_STATIONARITY}; got {stationarity!r}."
            )
        if checks.is_elsewhere(x) or checks.is_elsewhere(weights):
            more = {"cost": cost, "autonomy": autonomy, "stationarity": stationarity}
            self._build_together(x, weights, {"k": int(k), "capacity": capacity} | more)
            return
        self.k = int(k)
        self.stationarity = stationarity
        self.executor = FromDisk() if isinstance(x, Rows) else InMemory()
        points: Any = x
        self.x = points if isinstance(x, Rows) else arrays.as_float_array("x", x)
        if self.x.ndim != 2:
            raise ValueError(
                f"{owner}: `x` must be 2-D, (entities, features); got shape {self.x.shape}."
            )
        n, d = self.x.shape
        if n == 0 or d == 0:
            raise ValueError(f"{owner}: `x` must not be empty; got shape {self.x.shape}.")
        dtype = self.x.dtype
        if isinstance(self.x, Rows):
            weights = own_weights(owner, self.x, weights)
        elif weights is None:
            weights = np.ones(n, dtype)
        elif not isinstance(weights, jax.Array | np.ndarray):
            weights = np.asarray(weights, dtype)  # a list has no precision of its own
        if not isinstance(weights, RowWeights):
            weights = arrays.as_float_array("weights", weights, dtype)
        self.weights = cast(Any, weights)
        if self.weights.shape != (n,):
            raise ValueError(
                f"{owner}: `weights` must have shape ({n},) for {n} entities; "
                f"got {self.weights.shape}."
            )
        self.cost = arrays.cast_floats(as_cost(cost), dtype)
        self.autonomy = arrays.cast_floats(as_autonomy(autonomy) or NoAutonomy(), dtype)
        self.capacity = as_cluster_capacity(owner, capacity, self.k, dtype)
        if not self.cost.smooth and self._follows_centres:
            raise ValueError(
                f"{owner}: `cost` {type(self.cost).__name__} has no derivatives to follow an "
                'autonomy that depends on the centres; use `stationarity="frozen"` or a smooth '
                "cost such as mepjax.costs.Euclidean()."
            )
        if isinstance(self.x, Rows):
            on_disk.check_supported(self)
            checks.enforce(self.checks())
            self.cost = on_disk.cost_for(self.cost, self.x)
            self.origin, self.spread = on_disk.measured(self.x, self.cost)
            return
        checks.enforce(self.checks())
        self.cost = self.cost.for_data(self.x, self.weights)
        self.origin, self.spread = self._measured(x if checks.is_concrete(x) else self.x)

    def _build_together(self, x: Any, weights: Any, others: dict[str, Any]) -> None:
        """Of arrays that several processes hold: all measure and check them in one program."""
        built, report = _built(type(self), x, weights, others)
        failed = int(report.index)
        if failed < len(report.sentences):
            raise ValueError(report.message(failed, float(report.got)))
        for field in dataclasses.fields(built):
            object.__setattr__(self, field.name, getattr(built, field.name))

    def _measured(self, raw: Any) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Origin and spread as constants; on the host where that is possible, the mean in float64.

        There nothing is compiled for them.
        """
        host, dtype = checks.is_concrete(raw, self.weights), self.x.dtype
        xp, wide = (np, np.float64) if host else (jnp, dtype)
        weights = xp.asarray(self.weights, wide)
        shares = weights / xp.sum(weights)
        origin = np.zeros(self.x.shape[1], dtype)
        if self.cost.translation_invariant:
            origin = (shares @ xp.asarray(raw, wide)).astype(dtype)
        spread = self.cost.spread(xp.asarray(self.x) - origin, shares.astype(dtype))
        return jax.lax.stop_gradient((jnp.asarray(origin), jnp.asarray(spread, dtype)))

    def replace(self, **fields: Any) -> Self:
        """The same clustering with other arguments of its construction, by name.

        Origin, spread and the constants that the cost takes from the data are measured again.
        """
        capacity = None if self.capacity is None else self.capacity.given
        weights = None if isinstance(self.x, Rows) else self.weights
        now = {
            "x": self.x, "k": self.k, "weights": weights, "cost": self.cost.as_given(),
            "autonomy": self.autonomy, "stationarity": self.stationarity, "capacity": capacity,
        }  # fmt: skip
        check_fields(type(self).__name__, fields, now)
        new = type(self)(**(now | fields))
        # Points that go to disk, or come from there, have another executor.
        same = isinstance(new.x, Rows) == isinstance(self.x, Rows)
        return new.on(self.executor) if same else new

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite data, usable weights, valid cost and autonomy."""
        owner = "Clustering"
        n, d = self.x.shape
        models = (
            *self.autonomy.check(n, self.k),
            *(() if self.capacity is None else self.capacity.checks(owner)),
        )
        if isinstance(self.x, Rows):
            # Points on disk were checked when they were measured.
            return (*self.cost.check(d), *models)
        squares = type(self.cost) in (SquaredEuclidean, Euclidean)
        return (
            checks.check_finite(owner, "x", self.x),
            *checks.check_weights(owner, "weights", self.weights),
            *((checks.check_squares(owner, "x", self.x),) if squares else ()),
            *self.cost.check(d),
            *self.cost.check_data(self.x),
            *models,
        )

    @property
    def variational(self) -> bool:
        """False for frozen stationarity of an autonomy that depends on the centres."""
        return self.stationarity == "exact" or not self.autonomy.depends_on_centres

    @property
    def smooth(self) -> bool:
        """Whether the cost has derivatives wherever centres may stand."""
        return self.cost.smooth

    @property
    def convex_at_zero(self) -> bool:
        """Where the cost is convex in a centre and the autonomy leaves one minimum."""
        return self.cost.convex and self.autonomy.convex_at_zero

    @property
    def exchangeable(self) -> bool:
        """Unless the autonomy or a capacity tells clusters apart."""
        return self.autonomy.exchangeable and self.capacity is None

    @property
    def n_slots(self) -> int:
        """K, the number of clusters."""
        return self.k

    @property
    def continuation(self) -> Continuation | None:
        """From a milder autonomy, where there is a start that is unique."""
        stages = self.autonomy.relaxation_stages
        return Continuation(self.relaxed, stages) if stages else None

    @property
    def references(self) -> tuple[str, ...]:
        """Deterministic annealing, and the paper on autonomy; with capacities the thesis too."""
        works = (*super().references, "autonomy_aware_clustering")
        return works if self.capacity is None else (*works, "parameterised_decisions")

    def relaxed(self, s: Float[Array, ""]) -> Self:
        """The same problem with a milder autonomy."""
        # Of points on disk a sample tells where to begin.
        seen = on_disk.few_of(self) if isinstance(self.x, Rows) else self
        easier = self.autonomy.relaxed(s, seen._centred(), seen._shares(), self.k, self.cost)
        return trees.replaced(self, autonomy=easier)

    def _centred(self) -> Float[Array, "n d"]:
        return self.x - jax.lax.stop_gradient(self.origin)

    def _shares(self) -> Float[Array, " n"]:
        return self.weights / jnp.sum(self.weights)

    @property
    def _follows_centres(self) -> bool:
        """Whether derivatives go through an autonomy that moves with the centres."""
        return self.autonomy.depends_on_centres and self.stationarity == "exact"

    @property
    def is_soft_means(self) -> bool:
        """Whether the policy is a softmax of squared distances: no autonomy or uniform one."""
        simple = isinstance(self.autonomy, NoAutonomy | Uniform)
        return simple and isinstance(self.cost, SquaredEuclidean)

    @property
    def _in_blocks(self) -> bool:
        """Whether sums over the data go block by block."""
        return self.is_soft_means or self.executor.in_blocks

    @property
    def has_slot_spectrum(self) -> bool:
        """For Bregman costs, no capacity, and clusters that may be relabelled.

        Exact without autonomy, for squares with uniform one too; else an estimate without
        overrides. Costs other than squares are seen in memory only.
        """
        squares = isinstance(self.cost, SquaredEuclidean)
        means = isinstance(self.cost, MeanCost) and not self.executor.in_blocks
        return (squares or means) and self.autonomy.exchangeable and self.capacity is None

    def centres(self, params: Any) -> Float[Array, "k d"]:
        """The centres in params, with prices or without."""
        return primal_of(params)

    def _relative(self, params: Any) -> Float[Array, "k d"]:
        return primal_of(params) - jax.lax.stop_gradient(self.origin)

    def at(self, values: Any) -> Any:
        """Params with centres at given places, shape (K, d), and prices zero."""
        if self.capacity is None:
            return values
        values = arrays.as_float_array("centres", values, self.x.dtype)
        if values.shape != (self.k, self.x.shape[1]):
            raise ValueError(
                f"Clustering: `centres` must have shape ({self.k}, {self.x.shape[1]}); "
                f"got {values.shape}."
            )
        return Params(values, jnp.zeros((self.k,), values.dtype))

    @property
    def scatters(self) -> bool:
        """True: starts are entities drawn by weight."""
        return True

    def scatter(self, key: Any) -> Any:
        """Centres on K places of entities drawn by weight, all different where there are as many.

        The start where nothing is annealed: `anneal(problem, Explicit([beta]),
        init=problem.scatter(key), repair=Repair(), ...)`.
        """
        line, draws = jax.random.split(key)
        if isinstance(self.x, Rows):
            # Of a sample, which is all that may be in memory.
            return self.subsample(line, max(10_000, self.k)).scatter(draws)
        # Rows are lined up along a random direction: what is drawn depends on the weights alone.
        direction = jax.random.normal(line, self.origin.shape, self.x.dtype)
        along = jnp.sum((self.x - self.origin) * direction, axis=1)
        along, shares = self.executor.everywhere((along, self._shares()))
        rows = sampling.different(draws, along, shares, self.k)
        return self.at(self.x[rows])

    def default_solver(self) -> AbstractSolver:
        """`FixedPoint` where the alternation never raises F (and for frozen), else `Armijo`."""
        if self._follows_centres:
            return Armijo()
        return FixedPoint()

    def harden_to(self, path: Any, params: Any) -> float:
        """Write the cluster that each of many points is told to join, slab by slab, to an NPY file.

        **Arguments:** `path`, replaced if it exists, whole or not at all; `params`, as in `init`.

        **Returns:** the hard cost, summed in float64.

        **Raises:** `TypeError` for points in memory, whose assignments `harden` returns, and inside
        `jit`; `OSError` where the file cannot be written.
        """
        return on_disk.harden_to(self, path, params)[0]

    def on(self, executor: AbstractExecutor) -> Self:
        """This problem with its sums over entities computed by `executor`.

        **Raises:** `TypeError` for `Streaming` and `Sharded` with a cost that has no derivatives,
        and with a capacity unless autonomy is none or uniform and the cost squared Euclidean;
        `ValueError` if the number of entities does not fit the executor.
        """
        if executor == self.executor:
            return self
        check_suits("Clustering", self.x, executor)
        if executor.in_blocks and not self.smooth:
            raise TypeError(
                f"Clustering: with `executor` {type(executor).__name__}, `cost` must be one whose "
                f"centres are found by sums over entities; got {type(self.cost).__name__}, which "
                "sorts them and is computed in memory only."
            )
        if executor.in_blocks and self.capacity is not None and not self.is_soft_means:
            raise TypeError(
                f"Clustering: with `executor` {type(executor).__name__} and `capacity`, `autonomy` "
                "must be none or uniform and `cost` SquaredEuclidean; others are computed in "
                "memory only."
            )
        executor.check(self.x.shape[0])
        moved = trees.replaced(self, executor=executor)
        if not executor.in_blocks or isinstance(executor, FromDisk):
            return moved
        return placed(moved, EntitySums(moved, executor).by_entity())

    def subsample(self, key: Any, n: int) -> Self:
        """`n` entities of equal weight, drawn in proportion to theirs; itself if it has no more.

        Systematic sampling: one draw from each of n strips of equal weight, in their order.
        """
        count = self.x.shape[0]
        if isinstance(self.x, Rows):
            # Few enough of them are read whole.
            return on_disk.sampled(self, key, n)
        if count <= n:
            return self
        places = sampling.systematic(key, self.executor.everywhere(self.weights), n)
        # What was measured stays, so that F is that of all data but for chance.
        return trees.replaced(
            self.on(InMemory()),
            x=self.x[places],
            weights=jnp.ones((n,), self.x.dtype),
            autonomy=self.autonomy.of_entities(places),
        )


@program
def _built(kind: Any, x: Array, weights: Any, others: dict[str, Any]) -> tuple[Any, Any]:
    """A clustering inside of a program, and whether its data are as they should be."""
    if weights is None:
        weights = jnp.ones_like(x[:, 0])
    problem = kind(x, weights=weights, **others)
    return problem, checks.report(problem.checks())
