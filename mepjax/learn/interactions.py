"""Records of past interactions: who was told what, where they went, what it cost."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import arrays, checks
from .._core.types import Tracer
from ..problems.autonomy.grouped import as_groups, check_indices
from ..problems.clustering import Clustering
from .coverage import Coverage, measure_coverage
from .policy_value import PolicyValue, policy_value

_OWNER = "Interactions"
# Interactions whose distances to all centres are computed at once.
_BLOCK = 1024


class Interactions(eqx.Module):
    """m interactions: entity i was told to join cluster j, went to cluster k, and paid a cost.

    **Arguments:**

    - `entity`: row of the problem's `x`, shape (m,), integers.
    - `prescribed`: the cluster it was told to join, shape (m,), in 0 .. K - 1.
    - `realised`: the cluster it went to, shape (m,); `None` where only costs were seen.
    - `cost`: what it paid, shape (m,). A cost that is missing is that of the problem, at the
        centres in force.
    - `centres`: those in force at the time, (K, d), or (R, K, d) for R rounds. Where overrides
        depend on where the centres are, nothing but tables at those centres can be learnt
        without them.
    - `round`: which of R `centres` were in force, shape (m,).
    - `propensity`: the probability with which the entity was told what it was, shape (m,), in
        (0, 1]; asked for by `policy_value`.
    - `times`: how often a row counts, shape (m,), >= 0; default once. A row that is there twice
        counts twice.

    **Raises:** `TypeError` or `ValueError` naming the argument, what was got and what was expected.

    **Example:**

    ```python
    >>> from mepjax.learn import Interactions
    >>> log = Interactions([0, 1, 1], prescribed=[0, 1, 1], realised=[0, 0, 1])
    >>> len(log), len(log.take([0, 2])), len(log.extend(log))
    (3, 2, 6)

    ```
    """

    entity: Int[Array, " m"]
    prescribed: Int[Array, " m"]
    realised: Int[Array, " m"] | None
    cost: Float[Array, " m"] | None
    centres: Float[Array, "rounds k d"] | None
    round: Int[Array, " m"] | None
    propensity: Float[Array, " m"] | None
    times: Float[Array, " m"] | None

    def __init__(
        self,
        entity: Any,
        prescribed: Any,
        realised: Any = None,
        *,
        cost: Any = None,
        centres: Any = None,
        round: Any = None,
        propensity: Any = None,
        times: Any = None,
    ) -> None:
        self.entity = _indices("entity", entity, None)
        m = self.entity.shape[0]
        self.prescribed = _indices("prescribed", prescribed, m)
        self.realised = None if realised is None else _indices("realised", realised, m)
        self.cost = _numbers("cost", cost, m)
        self.propensity = _numbers("propensity", propensity, m)
        self.times = _numbers("times", times, m)
        if realised is None and cost is None:
            raise ValueError(
                f"{_OWNER}: at least one of `realised` and `cost` must be given; got neither."
            )
        if centres is None:
            if round is not None:
                raise ValueError(
                    f"{_OWNER}: `round` says which of `centres` were in force; got no `centres`."
                )
            self.centres = self.round = None
        else:
            sets = arrays.as_parameter("centres", centres)
            sets = sets[None] if sets.ndim == 2 else sets
            if sets.ndim != 3 or sets.size == 0:
                raise ValueError(
                    f"{_OWNER}: `centres` must have shape (K, d) or (R, K, d); got {sets.shape}."
                )
            self.centres = sets
            if round is None and sets.shape[0] > 1:
                raise ValueError(
                    f"{_OWNER}: `round` must tell which of the {sets.shape[0]} `centres` "
                    "were in force; got None."
                )
            self.round = _indices("round", np.zeros(m, np.int32) if round is None else round, m)
        checks.enforce(self._own_checks())

    def _own_checks(self) -> tuple[checks.Check, ...]:
        """What needs no problem."""
        found: list[checks.Check] = []
        for name in ("entity", "prescribed", "realised"):
            index = getattr(self, name)
            if index is not None:
                found += check_indices(_OWNER, name, index, np.iinfo(np.int32).max, "an index")
        if self.centres is not None and self.round is not None:
            found.append(checks.check_finite(_OWNER, "centres", self.centres))
            count = self.centres.shape[0]
            found += check_indices(_OWNER, "round", self.round, count, "one of `centres`")
        if self.cost is not None:
            found.append(checks.check_finite(_OWNER, "cost", self.cost))
        if self.propensity is not None:
            found.append(
                checks.check_range(
                    _OWNER, "propensity", self.propensity, low=0.0, high=1.0, open_low=True
                )
            )
        if self.times is not None:
            found.append(checks.check_finite(_OWNER, "times", self.times))
            found.append(checks.check_range(_OWNER, "times", self.times, low=0.0))
        return tuple(found)

    def checks(self, problem: Clustering) -> tuple[checks.Check, ...]:
        """That every index is one of the problem's, and every number possible.

        **Raises:** `ValueError` for centres of another number or of other features.
        """
        n, d = problem.x.shape
        if self.centres is not None and self.centres.shape[1:] != (problem.k, d):
            raise ValueError(
                f"{_OWNER}: `centres` must have shape ({problem.k}, {d}) in each round, as the "
                f"problem has k={problem.k} and {d} features; got {self.centres.shape[1:]}."
            )
        k = problem.k
        found = [
            *self._own_checks(),
            *check_indices(_OWNER, "entity", self.entity, n, "a row of the problem's `x`"),
            *check_indices(_OWNER, "prescribed", self.prescribed, k, "a cluster"),
        ]
        if self.realised is not None:
            found += check_indices(_OWNER, "realised", self.realised, k, "a cluster")
        if self.cost is not None and problem.cost.never_negative:
            found.append(checks.check_range(_OWNER, "cost", self.cost, low=0.0))
        return tuple(found)

    def for_problem(self, problem: Clustering) -> "Interactions":
        """The same as JAX arrays in the precision of the problem.

        **Raises:** `ValueError` for concrete values that do not fit the problem; traced ones must
        be looked at through `checks`.
        """
        checks.enforce(self.checks(problem))
        cast = arrays.cast_floats(self, problem.x.dtype)
        return jax.tree.map(
            lambda leaf: leaf if isinstance(leaf, Tracer) else jnp.asarray(leaf), cast
        )

    def __len__(self) -> int:
        return self.entity.shape[0]

    @property
    def counted(self) -> Any:
        """How often each row counts."""
        return np.ones(len(self)) if self.times is None else self.times

    def take(self, rows: Any) -> "Interactions":
        """The interactions at `rows`, integers or a mask, with all centres."""
        rows = np.asarray(rows) if checks.is_concrete(rows) else rows

        def at(leaf: Any) -> Any:
            return None if leaf is None else leaf[rows]

        return Interactions(
            at(self.entity),
            at(self.prescribed),
            at(self.realised),
            cost=at(self.cost),
            centres=self.centres,
            round=at(self.round),
            propensity=at(self.propensity),
            times=at(self.times),
        )

    def extend(self, more: "Interactions") -> "Interactions":
        """These interactions and then `more`, whose rounds come after those here.

        **Raises:** `ValueError` where one has a column that the other lacks, but for `times`.
        """
        for name in ("realised", "cost", "centres", "propensity"):
            here, there = getattr(self, name), getattr(more, name)
            if (here is None) != (there is None):
                raise ValueError(
                    f"{_OWNER}: `{name}` must be in both of two logs or in none; "
                    f"got it in {'the first' if there is None else 'the second'} only."
                )
        centres = rounds = None
        if self.centres is not None and more.centres is not None:
            if self.centres.shape[1:] != more.centres.shape[1:]:
                raise ValueError(
                    f"{_OWNER}: `centres` of two logs must have the same shape in each round; "
                    f"got {self.centres.shape[1:]} and {more.centres.shape[1:]}."
                )
            centres = _joined(self.centres, more.centres)
            rounds = _joined(self.round, more.round + self.centres.shape[0])  # type: ignore
        times = None
        if self.times is not None or more.times is not None:
            times = _joined(self.counted, more.counted)
        return Interactions(
            _joined(self.entity, more.entity),
            _joined(self.prescribed, more.prescribed),
            _joined(self.realised, more.realised),
            cost=_joined(self.cost, more.cost),
            centres=centres,
            round=rounds,
            propensity=_joined(self.propensity, more.propensity),
            times=times,
        )

    def distances(self, problem: Clustering) -> Float[Array, "m k"]:
        """From each entity to all centres in force at the time."""
        assert self.centres is not None and self.round is not None
        origin = jax.lax.stop_gradient(problem.origin)
        centres = jnp.asarray(self.centres, problem.x.dtype) - origin

        def row(at: tuple[Array, Array]) -> Array:
            entity, place = at
            return problem.cost.pairwise((problem.x[entity] - origin)[None], centres[place])[0]

        return jax.lax.map(row, (self.entity, self.round), batch_size=_BLOCK)

    def costs(self, problem: Clustering, centres: Any = None) -> Float[Array, " m"]:
        """What each interaction cost: as logged, else by the problem at the centres in force.

        With `centres` (K, d) what it would cost there, had the entity gone to the same cluster.
        """
        if centres is None and self.cost is not None:
            return jnp.asarray(self.cost, problem.x.dtype)
        if self.realised is None or (centres is None and self.centres is None):
            missing = "realised" if self.realised is None else "centres"
            raise ValueError(
                f"{_OWNER}: `{missing}` must be given for costs that were not logged; got None."
            )
        log = self
        if centres is not None:
            log = Interactions(self.entity, self.prescribed, self.realised, centres=centres)
        found = log.distances(problem)
        return jnp.take_along_axis(found, jnp.asarray(self.realised)[:, None], axis=1)[:, 0]

    def coverage(self, problem: Clustering, groups: Any = None) -> Coverage:
        """What of the problem the interactions have not seen.

        **Arguments:** `problem`; `groups`, the group of each entity, shape (N,), for tables by
        group.

        **Returns:** a `Coverage`.

        **Example:**

        ```python
        >>> import jax.numpy as jnp, mepjax as mj
        >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
        >>> log = mj.learn.Interactions([0, 1, 1], [0, 1, 1], [0, 0, 1])
        >>> print(log.coverage(problem).pairs_unseen)
        0.5

        ```
        """
        checks.enforce(self.checks(problem))
        return measure_coverage(self, problem, groups)

    def policy_value(
        self,
        log_policy: Any,
        problem: Clustering,
        *,
        centres: Any = None,
        entities: str = "by weight",
        estimate_propensity: bool = False,
    ) -> PolicyValue:
        """What another policy would have cost, estimated from these interactions alone.

        Self-normalised importance weights pi(j|i) / propensity. See `PolicyValue`.

        **Arguments:**

        - `log_policy`: log pi(j|i), shape (N, K), such as `problem.policy(centres, beta)`.
        - `problem`: the problem; its autonomy is not looked at.
        - `centres`: cost at these centres instead, legal where overrides do not depend on them.
        - `entities`: `"by weight"` where they were drawn in proportion to their weights, as
            `interact` does, `"alike"` where all had the same chance.
        - `estimate_propensity`: take for a missing propensity how often each entity was told
            each cluster.

        **Returns:** a `PolicyValue`.

        **Raises:** `ValueError` without propensities, unless they may be estimated.
        """
        log = self.for_problem(problem)
        return policy_value(log, log_policy, problem, centres, entities, estimate_propensity)


def _joined(first: Any, second: Any) -> Any:
    if first is None:
        return None
    if not isinstance(first, jax.Array) and not isinstance(second, jax.Array):
        return np.concatenate([first, second])
    dtype = first.dtype if isinstance(first, jax.Array) else second.dtype
    return jnp.concatenate([jnp.asarray(first, dtype), jnp.asarray(second, dtype)])


def _indices(name: str, value: Any, count: int | None) -> Any:
    if not isinstance(value, jax.Array) and np.size(value) == 0:
        raise ValueError(f"{_OWNER}: `{name}` must have at least one interaction; got none.")
    array = as_groups(_OWNER, name, value)
    if count is not None and array.shape != (count,):
        raise ValueError(
            f"{_OWNER}: `{name}` must have shape ({count},) for {count} interactions; "
            f"got {array.shape}."
        )
    return array


def _numbers(name: str, value: Any, count: int) -> Any:
    if value is None:
        return None
    array = arrays.as_parameter(name, value)
    if array.shape != (count,):
        raise ValueError(
            f"{_OWNER}: `{name}` must have shape ({count},) for {count} interactions; "
            f"got {array.shape}."
        )
    return array
