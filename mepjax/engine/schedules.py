"""Annealing schedules: data that say which beta comes next.

beta is absolute, an inverse temperature in units of one over the cost.
"""

import abc
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core import checks
from .._core.arrays import as_float_array, refuse_masked
from .._core.types import Tracer

DEFAULT_MAX_STAGES = 512
# A stage shorter than this fraction of a regular one is merged into its neighbour.
_STAGE_SLACK = 1e-3
# Past its last beta an open-ended schedule may take this many stages more, by this factor each.
_STAGES_PAST, _FACTOR_PAST = 64, 2.0


class Stage(eqx.Module):
    """One stage of a schedule: its beta, whether it is the last, and the schedule's own state."""

    beta: Float[Array, ""]
    last: Bool[Array, ""]
    state: Any


class AbstractSchedule(eqx.Module):
    """A schedule is an `init`/`next` pair, so fixed and adaptive ones are one kind.

    `max_stages` is static: traces have that length, and needing more stages gives MAX_STEPS.
    """

    max_stages: eqx.AbstractVar[int]

    @property
    def horizon(self) -> float | None:
        """Static factor of beta within which `next` must know transitions; `None`: it need not."""
        return None

    @property
    def open_ended(self) -> bool:
        """Static: whether the anneal goes on past a `last` stage while something is undecided.

        That is so where slots are at one place whose data are not, or decisions are not yet hard.
        `next` then also gives the stages after those that are `last`.
        """
        return False

    @abc.abstractmethod
    def init(self, scale: Float[Array, ""]) -> Stage:
        """The first stage; `scale` is the problem's `beta_scale`."""

    @abc.abstractmethod
    def next(self, stage: Stage, predicted: Float[Array, ""]) -> Stage:
        """The stage after `stage`; `predicted` is the next critical beta, inf where none is near.

        It is the beta of `stage` itself where the next transition cannot be told.
        """

    def last_stage(self) -> "AbstractSchedule":
        """Its last stage alone, best in a trace of the same length: then programs are shared."""
        end = self.final_beta()
        if end is None:
            raise ValueError(f"{type(self).__name__}: its last beta is not known beforehand.")
        return Explicit(end[None])

    def final_beta(self) -> Float[Array, ""] | None:
        """The last beta as a differentiable function of the fields; `None` if derived from data."""
        return None

    def expected_end(self) -> Float[Array, ""] | None:
        """The last beta unless it goes on past that, against which progress is measured."""
        return self.final_beta()

    def checks(self) -> tuple[checks.Check, ...]:
        """Conditions on the fields."""
        return ()


def as_scalar(owner: str, name: str, value: Any) -> Any:
    """A scalar leaf: traced values stay, concrete ones keep their full precision."""
    if isinstance(value, Tracer):
        scalar = as_float_array(name, value)
    else:
        try:
            scalar = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise TypeError(f"{owner}: `{name}` must be a number; got {value!r}.") from error
    if scalar.ndim != 0:
        raise ValueError(
            f"{owner}: `{name}` must be a scalar; got shape {scalar.shape}. "
            "Use `jax.vmap` to solve for many values."
        )
    return scalar


def check_stages(owner: str, max_stages: Any) -> None:
    """Raise unless the number of stages is a positive int."""
    if isinstance(max_stages, bool) or not isinstance(max_stages, int) or max_stages < 1:
        raise ValueError(f"{owner}: `max_stages` must be a positive int; got {max_stages!r}.")


def check_interval(owner: str, beta_min: Any, beta_max: Any) -> tuple[checks.Check, ...]:
    """Finite, positive and in order."""
    return (
        checks.check_finite(owner, "beta_min", beta_min),
        checks.check_finite(owner, "beta_max", beta_max),
        checks.check_range(owner, "beta_min", beta_min, low=0.0, open_low=True),
        checks.Check(
            beta_max >= beta_min,
            beta_max,
            f"{owner}: `beta_max` must be at least `beta_min` (beta increases); got {{got}}.",
        ),
    )


class Geometric(AbstractSchedule):
    """beta_min, beta_min factor, beta_min factor^2, ..., ending exactly at beta_max.

    **Arguments:**

    - `beta_min`, `beta_max`: first and last inverse temperature, differentiable.
    - `factor`: growth per stage, > 1. At most 1.05 is advised.
    - `max_stages`: static length of the trace; found from the numbers when they are concrete,
        512 when they are traced.
    - `open_ended`: static; go on past `beta_max`, by a factor of at least 2 a stage, until the
        data have separated as far as there are slots and decisions are hard, or rounding or
        `max_stages` ends it. As in `CriticalJump` without `beta_max`.

    **Raises:** `ValueError` when beta is not positive or does not increase.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.Geometric(1.0, 10.0, 1.1).max_stages
    26

    ```
    """

    beta_min: Float[Array, ""]
    beta_max: Float[Array, ""]
    factor: Float[Array, ""]
    max_stages: int = eqx.field(static=True)
    goes_on: bool = eqx.field(static=True)

    def __init__(
        self,
        beta_min: Any,
        beta_max: Any,
        factor: Any = 1.02,
        *,
        max_stages: int | None = None,
        open_ended: bool = False,
    ) -> None:
        self.beta_min = as_scalar("Geometric", "beta_min", beta_min)
        self.beta_max = as_scalar("Geometric", "beta_max", beta_max)
        self.factor = as_scalar("Geometric", "factor", factor)
        checks.enforce(self.checks())
        if max_stages is None:
            known = checks.is_concrete(self.beta_min, self.beta_max, self.factor)
            max_stages = DEFAULT_MAX_STAGES
            if known:
                max_stages = int(self._count(np)) + (_STAGES_PAST if open_ended else 0)
        check_stages("Geometric", max_stages)
        self.max_stages = max_stages
        self.goes_on = bool(open_ended)

    @property
    def open_ended(self) -> bool:
        """As asked for."""
        return self.goes_on

    def _count(self, xp: Any) -> Any:
        spans = xp.log(self.beta_max / self.beta_min) / xp.log(self.factor)
        return xp.ceil(spans - _STAGE_SLACK) + 1

    def checks(self) -> tuple[checks.Check, ...]:
        """Positive increasing beta, factor above one."""
        return (
            *check_interval("Geometric", self.beta_min, self.beta_max),
            checks.check_range("Geometric", "factor", self.factor, low=1.0, open_low=True),
        )

    def _stage(self, index: Int[Array, ""]) -> Stage:
        end = self._count(jnp) - 1
        dtype = self.beta_min.dtype
        beta = jnp.minimum(self.beta_min * self.factor ** index.astype(dtype), self.beta_max)
        more = jnp.maximum(self.factor, jnp.asarray(_FACTOR_PAST, dtype))
        past = self.beta_max * more ** jnp.maximum(index - end, 0).astype(dtype)
        return Stage(jnp.where(index >= end, past, beta), index >= end, index)

    def init(self, scale: Float[Array, ""]) -> Stage:
        """The stage at beta_min."""
        return self._stage(jnp.zeros((), jnp.int32))

    def next(self, stage: Stage, predicted: Float[Array, ""]) -> Stage:
        """beta times factor, or beta_max; past that by at least 2."""
        return self._stage(stage.state + 1)

    def last_stage(self) -> "Geometric":
        """The same kind of schedule with one stage, at beta_max."""
        return eqx.tree_at(lambda s: s.beta_min, self, self.beta_max)

    def final_beta(self) -> Float[Array, ""] | None:
        """beta_max; not known where the end is open."""
        return None if self.open_ended else self.beta_max

    def expected_end(self) -> Float[Array, ""]:
        """beta_max."""
        return self.beta_max


class Linear(AbstractSchedule):
    """beta_min, beta_min + step, beta_min + 2 step, ..., ending exactly at beta_max.

    **Arguments:** `beta_min`, `beta_max` (differentiable), `step` > 0, and `max_stages` as in
    `Geometric`.

    **Raises:** `ValueError` when beta is not positive or does not increase.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.Linear(1.0, 2.0, 0.25).max_stages
    5

    ```
    """

    beta_min: Float[Array, ""]
    beta_max: Float[Array, ""]
    increment: Float[Array, ""]
    max_stages: int = eqx.field(static=True)

    def __init__(
        self, beta_min: Any, beta_max: Any, step: Any, *, max_stages: int | None = None
    ) -> None:
        self.beta_min = as_scalar("Linear", "beta_min", beta_min)
        self.beta_max = as_scalar("Linear", "beta_max", beta_max)
        self.increment = as_scalar("Linear", "step", step)
        checks.enforce(self.checks())
        if max_stages is None:
            known = checks.is_concrete(self.beta_min, self.beta_max, self.increment)
            max_stages = int(self._count(np)) if known else DEFAULT_MAX_STAGES
        check_stages("Linear", max_stages)
        self.max_stages = max_stages

    def _count(self, xp: Any) -> Any:
        spans = (self.beta_max - self.beta_min) / self.increment
        return xp.ceil(spans - _STAGE_SLACK) + 1

    def checks(self) -> tuple[checks.Check, ...]:
        """Positive increasing beta, positive step."""
        return (
            *check_interval("Linear", self.beta_min, self.beta_max),
            checks.check_range("Linear", "step", self.increment, low=0.0, open_low=True),
        )

    def _stage(self, index: Int[Array, ""]) -> Stage:
        last = index >= self._count(jnp) - 1
        beta = jnp.minimum(
            self.beta_min + self.increment * index.astype(self.beta_min.dtype), self.beta_max
        )
        return Stage(jnp.where(last, self.beta_max, beta), last, index)

    def init(self, scale: Float[Array, ""]) -> Stage:
        """The stage at beta_min."""
        return self._stage(jnp.zeros((), jnp.int32))

    def next(self, stage: Stage, predicted: Float[Array, ""]) -> Stage:
        """beta plus step, or beta_max."""
        return self._stage(stage.state + 1)

    def last_stage(self) -> "Linear":
        """The same kind of schedule with one stage, at beta_max."""
        return eqx.tree_at(lambda s: s.beta_min, self, self.beta_max)

    def final_beta(self) -> Float[Array, ""]:
        """beta_max, at which the last stage is solved."""
        return self.beta_max


class Explicit(AbstractSchedule):
    """Exactly the given betas.

    **Arguments:** `betas`, shape (stages,), positive and strictly increasing; differentiable in
    its last entry.

    **Raises:** `ValueError` when empty, not 1-D, not positive or not increasing.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.Explicit([0.5, 1.0, 4.0]).max_stages
    3

    ```
    """

    betas: Float[Array, " stages"]
    max_stages: int = eqx.field(static=True)

    def __init__(self, betas: Any) -> None:
        if not isinstance(betas, Tracer):
            refuse_masked("betas", betas)
            try:
                betas = np.asarray(betas, np.float64)
            except (TypeError, ValueError) as error:
                raise TypeError("Explicit: `betas` must be an array of numbers.") from error
        if betas.ndim != 1 or betas.shape[0] == 0:
            raise ValueError(
                f"Explicit: `betas` must be a non-empty 1-D array; got shape {betas.shape}."
            )
        self.betas = betas
        self.max_stages = betas.shape[0]
        checks.enforce(self.checks())

    def checks(self) -> tuple[checks.Check, ...]:
        """Finite, positive, increasing betas."""
        conditions = [
            checks.check_finite("Explicit", "betas", self.betas),
            checks.check_range("Explicit", "betas", self.betas, low=0.0, open_low=True),
        ]
        if self.max_stages > 1:
            xp, betas = checks.on_host(self.betas)
            smallest = xp.min(betas[1:] - betas[:-1])
            conditions.append(
                checks.Check(
                    smallest > 0,
                    smallest,
                    "Explicit: `betas` must increase; got a step of {got}.",
                )
            )
        return tuple(conditions)

    def _stage(self, index: Int[Array, ""]) -> Stage:
        betas = jnp.asarray(self.betas)
        return Stage(betas[index], index >= self.max_stages - 1, index)

    def init(self, scale: Float[Array, ""]) -> Stage:
        """The stage at the first beta of the list."""
        return self._stage(jnp.zeros((), jnp.int32))

    def next(self, stage: Stage, predicted: Float[Array, ""]) -> Stage:
        """The next beta of the list."""
        return self._stage(stage.state + 1)

    def final_beta(self) -> Float[Array, ""]:
        """The last beta of the list."""
        return self.betas[-1]
