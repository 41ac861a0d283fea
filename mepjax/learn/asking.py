"""Environments that are functions, real systems or logs."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import io_callback
from jaxtyping import Array, Int

from .._core import bits, checks
from ..problems.clustering import Clustering
from .environments import AbstractEnvironment, Observation, of_batches
from .interactions import Interactions

_ANSWERS = ("realised", "cost")


class FromFunction(AbstractEnvironment):
    """Entities that do what a JAX function says.

    **Arguments:** `fn(key, entity, x, prescribed, centres)`, for one entity, its row and its
    features (d,), gives `(realised, cost)`, either of them `None` where it is hidden.

    **Raises:** `TypeError` if `fn` is not callable or captures traced values; where it is asked,
    `ValueError` for answers of another shape or dtype.

    **Example:** an entity whose first feature is negative never stays.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> def follows(key, entity, x, prescribed, centres):
    ...     return jnp.where(x[0] < 0, 1 - prescribed, prescribed), None
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> asked, told = mj.learn.FromFunction(follows), jnp.array([0, 0])
    >>> print(asked.observe(jax.random.key(0), problem, jnp.arange(2), told, problem.x).realised)
    [1 0]

    ```
    """

    fn: Callable[..., Any]

    def __check_init__(self) -> None:
        checks.check_function(
            "FromFunction", "fn", self.fn, "(self, key, entity, x, prescribed, y)"
        )

    def observe(
        self, key: Any, problem: Clustering, entity: Any, prescribed: Any, centres: Any
    ) -> Observation:
        """What the function answers for each interaction."""

        def all_of(key: Any, entity: Array, prescribed: Array, centres: Array) -> Observation:
            keys = jax.random.split(key, entity.shape[0])
            one = lambda key, i, j: self._one(key, problem, i, j, centres)  # noqa: E731
            return jax.vmap(one)(keys, entity, prescribed)

        arguments = (jnp.asarray(entity), jnp.asarray(prescribed), jnp.asarray(centres))
        return of_batches(all_of, key, *arguments)

    def _one(self, key: Any, problem: Clustering, i: Array, j: Array, centres: Array) -> Any:
        answer = self.fn(key, i, problem.x[i], j, centres)
        if not isinstance(answer, tuple) or len(answer) != 2 or answer == (None, None):
            raise ValueError(
                "FromFunction: `fn` must return (realised, cost), one of which may be None; "
                f"got {type(answer).__name__}."
            )
        kinds = {"realised": jnp.integer, "cost": jnp.floating}
        found: list[Array | None] = []
        for name, value in zip(_ANSWERS, answer, strict=True):
            if value is None:
                found.append(None)
                continue
            value = jnp.asarray(value)
            if value.shape != () or not jnp.issubdtype(value.dtype, kinds[name]):
                raise ValueError(
                    f"FromFunction: `{name}` that `fn` returns must be a scalar "
                    f"{'integer' if name == 'realised' else 'floating number'}; "
                    f"got dtype {value.dtype} and shape {value.shape}."
                )
            found.append(value.astype(jnp.int32 if name == "realised" else problem.x.dtype))
        return Observation(*found)


class _Failures:
    """What went wrong on the host, by the object that it belongs to."""

    def __init__(self) -> None:
        self.texts: list[str] = []


class FromCallback(AbstractEnvironment):
    """A real system, asked by a function on the host.

    Calls keep their order, and each is for a whole batch. Where the function raises, or answers
    what cannot be, nothing more is asked; `interact` keeps what was learnt before and tells the
    text of it. It cannot be mapped by `vmap`.

    **Arguments:**

    - `fn(entity, prescribed, centres)`: NumPy arrays, the first two of one shape, in gives
        NumPy arrays of that shape: `realised`, `cost`, or a tuple of both, as `answers` says.
    - `answers`: `"realised"`, `"cost"` or `"both"`.

    **Raises:** `TypeError` if `fn` is not callable, `ValueError` for other `answers`.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> asked = mj.learn.FromCallback(lambda entity, prescribed, centres: 1 - prescribed)
    >>> problem, told = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2), jnp.array([0, 1])
    >>> print(asked.observe(jax.random.key(0), problem, told, told, problem.x).realised)
    [1 0]

    ```
    """

    fn: Callable[..., Any] = eqx.field(static=True)
    answers: str = eqx.field(static=True)
    failures: _Failures = eqx.field(static=True)

    def __init__(self, fn: Callable[..., Any], answers: str = "realised") -> None:
        if not callable(fn):
            raise TypeError(f"FromCallback: `fn` must be callable; got {type(fn).__name__}.")
        if answers not in ("realised", "cost", "both"):
            raise ValueError(
                f"FromCallback: `answers` must be 'realised', 'cost' or 'both'; got {answers!r}."
            )
        self.fn, self.answers, self.failures = fn, answers, _Failures()

    @property
    def failure(self) -> str | None:
        """What the function raised, or what was wrong with its answer, last."""
        return self.failures.texts[-1] if self.failures.texts else None

    def observe(
        self, key: Any, problem: Clustering, entity: Any, prescribed: Any, centres: Any
    ) -> Observation:
        """One call for all."""
        del key
        shape, k, dtype = jnp.shape(entity), problem.k, problem.x.dtype
        never_negative = problem.cost.never_negative
        names = _ANSWERS if self.answers == "both" else (self.answers,)
        nothing = {
            "realised": np.zeros(shape, np.int32),
            "cost": np.zeros(shape, dtype),
        }

        def ask(entity: Any, prescribed: Any, centres: Any) -> tuple[Any, ...]:
            try:
                y = bits.from_host_words(centres, dtype)
                answer = self.fn(np.asarray(entity), np.asarray(prescribed), y)
                found = answer if self.answers == "both" else (answer,)
                if not isinstance(found, tuple) or len(found) != len(names):
                    raise ValueError("`fn` must return a tuple (realised, cost)")
                checked = [
                    _answered(name, value, shape, k, dtype, never_negative)
                    for name, value in zip(names, found, strict=True)
                ]
            except Exception as error:  # whatever it is, it must not end the program
                self.failures.texts.append(f"{type(error).__name__}: {error}")
                return (*(travelling[name] for name in names), np.asarray(True))
            return (*map(_travelling, checked), np.asarray(False))

        travelling = {name: _travelling(array) for name, array in nothing.items()}
        shapes = [
            jax.ShapeDtypeStruct(travelling[name].shape, travelling[name].dtype) for name in names
        ]
        *found, failed = io_callback(
            ask,
            (*shapes, jax.ShapeDtypeStruct((), np.dtype(bool))),
            entity,
            prescribed,
            bits.words_of(jnp.asarray(centres, dtype)),
            ordered=True,
        )
        if checks.is_concrete(failed) and bool(failed):
            raise RuntimeError(f"FromCallback: {self.failure}")
        seen = dict(zip(names, found, strict=True))
        if "cost" in seen:
            seen["cost"] = bits.from_words(seen["cost"], dtype)
        known = jnp.broadcast_to(~failed, shape)
        return Observation(seen.get("realised"), seen.get("cost"), known, failed)


def _travelling(array: np.ndarray) -> np.ndarray:
    return bits.host_words(array) if array.dtype.kind == "f" else array


def _answered(
    name: str, value: Any, shape: Any, k: int, dtype: Any, never_negative: bool
) -> np.ndarray:
    array = np.asarray(value)
    if array.shape != shape:
        raise ValueError(f"`{name}` must have shape {shape}; got {array.shape}")
    if name == "realised":
        if array.dtype.kind not in "iu":
            raise ValueError(f"`realised` must be integers; got dtype {array.dtype}")
        if array.size and not (0 <= array.min() and array.max() < k):
            worst = array.min() if array.min() < 0 else array.max()
            raise ValueError(f"`realised` must be a cluster, in 0 .. {k - 1}; got {worst}")
        return array.astype(np.int32)
    if array.dtype.kind not in "fiu" or not np.all(np.isfinite(array)):
        raise ValueError(f"`cost` must be finite numbers; got dtype {array.dtype} or NaN or Inf")
    if never_negative and array.size and array.min() < 0:
        raise ValueError(f"`cost` must be >= 0; got {array.min():.7g}")
    return array.astype(dtype)


class Replay(AbstractEnvironment):
    """A log that answers what it has seen: one of the interactions of that entity told that.

    All else is not known. Costs are of the centres asked about where it is logged where entities
    went, else those logged. Legal where overrides do not depend on the centres, or these are near.

    **Arguments:** `interactions`.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> log = mj.learn.Interactions([0, 1], [0, 0], [1, 0])
    >>> problem = mj.Clustering(jnp.array([[-1.0], [1.0]]), 2)
    >>> who, told = jnp.array([0, 1, 1]), jnp.array([0, 0, 1])
    >>> seen = mj.learn.Replay(log).observe(jax.random.key(0), problem, who, told, problem.x)
    >>> print(seen.realised, seen.known)
    [1 0 0] [ True  True False]

    ```
    """

    interactions: Interactions

    def __check_init__(self) -> None:
        if not isinstance(self.interactions, Interactions):
            raise TypeError(
                "Replay: `interactions` must be mepjax.learn.Interactions; "
                f"got {type(self.interactions).__name__}."
            )

    def observe(
        self, key: Any, problem: Clustering, entity: Any, prescribed: Any, centres: Any
    ) -> Observation:
        """One of the rows of each pair (entity, told), by chance where there are several."""
        log = self.interactions.for_problem(problem)
        pairs = log.entity * problem.k + log.prescribed
        # Rows that do not count come last, behind every pair.
        beyond = jnp.iinfo(jnp.int32).max
        pairs = jnp.where(jnp.asarray(log.counted) > 0, pairs, beyond)
        order = jnp.argsort(pairs)
        pairs = pairs[order]

        def found(key: Any, entity: Array, prescribed: Array, centres: Array) -> Observation:
            asked = entity * problem.k + prescribed
            first, last = (jnp.searchsorted(pairs, asked, side=side) for side in ("left", "right"))
            count = last - first
            uniform = jax.random.uniform(key, asked.shape)
            offset = jnp.minimum((uniform * count).astype(jnp.int32), jnp.maximum(count - 1, 0))
            row = order[jnp.minimum(first + offset, pairs.shape[0] - 1)]
            known = count > 0
            if log.realised is None:
                return Observation(None, jnp.where(known, log.cost[row], 0.0), known)  # type: ignore
            return Observation(_known(log.realised[row], known), None, known)

        arguments = (jnp.asarray(entity), jnp.asarray(prescribed), jnp.asarray(centres))
        return of_batches(found, key, *arguments)


def _known(realised: Int[Array, " m"], known: Array) -> Int[Array, " m"]:
    return jnp.where(known, realised, 0).astype(jnp.int32)
