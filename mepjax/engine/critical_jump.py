"""The schedule that steps just past each predicted transition."""

import math
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._core import checks
from .schedules import (
    DEFAULT_MAX_STAGES,
    AbstractSchedule,
    Stage,
    as_scalar,
    check_interval,
    check_stages,
)


class CriticalJump(AbstractSchedule):
    """Small steps around predicted phase transitions, large ones between them.

    Between transitions solutions hardly move, so stages there are wasted: each stage asks the
    detector for the next critical beta. A stage just before it, at 1 / `overshoot` times it, and
    one just after, at `overshoot` times it, cross it. From there beta is multiplied by
    `min_factor`, and the step in log beta grows at most `easing`-fold per stage up to that of
    `max_factor`, as new branches move fast at first and transitions that the curvature does not
    announce must not be jumped over.

    **Arguments:**

    - `beta_min`, `beta_max`: first and last inverse temperature; default 0.5 b and 1e4 b with b
        the problem's `beta_scale` (its first transition). Without `beta_max` it goes on past
        1e4 b to the next predicted transition for as long as slots are at one place whose data
        are not, then until decisions are hard (an entropy below a thousandth of log K), or until
        rounding or `max_stages` ends it.
    - `overshoot`, `min_factor`, `max_factor`: all > 1.
    - `easing`: static, > 1. With `inf` transitions are crossed in one step, from any distance up
        to `max_factor`: fewer stages, with more branches missed.
    - `max_stages`: static length of the trace.
    - `open_ended`: static; whether it goes on past `beta_max`; default where none is given.

    **Raises:** `ValueError` for numbers out of range.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.CriticalJump(beta_max=100.0).max_stages
    512

    ```
    """

    beta_min: Float[Array, ""] | None
    beta_max: Float[Array, ""] | None
    overshoot: Float[Array, ""]
    min_factor: Float[Array, ""]
    max_factor: float = eqx.field(static=True)
    easing: float = eqx.field(static=True)
    max_stages: int = eqx.field(static=True)
    goes_on: bool = eqx.field(static=True)

    def __init__(
        self,
        beta_min: Any = None,
        beta_max: Any = None,
        *,
        overshoot: Any = 1.02,
        min_factor: Any = 1.02,
        max_factor: float = 1.5,
        easing: float = 1.5,
        max_stages: int = DEFAULT_MAX_STAGES,
        open_ended: bool | None = None,
    ) -> None:
        owner = "CriticalJump"
        self.beta_min = None if beta_min is None else as_scalar(owner, "beta_min", beta_min)
        self.beta_max = None if beta_max is None else as_scalar(owner, "beta_max", beta_max)
        self.overshoot = as_scalar(owner, "overshoot", overshoot)
        self.min_factor = as_scalar(owner, "min_factor", min_factor)
        if not math.isfinite(max_factor) or max_factor <= 1:
            raise ValueError(f"{owner}: `max_factor` must be > 1; got {max_factor}.")
        self.max_factor = float(max_factor)
        if not easing > 1:
            raise ValueError(f"{owner}: `easing` must be > 1 or inf; got {easing}.")
        self.easing = float(easing)
        check_stages(owner, max_stages)
        self.max_stages = max_stages
        self.goes_on = beta_max is None if open_ended is None else bool(open_ended)
        checks.enforce(self.checks())

    @property
    def open_ended(self) -> bool:
        """Where no `beta_max` was given, or as asked for."""
        return self.goes_on

    @property
    def horizon(self) -> float:
        """`max_factor`: transitions further ahead do not matter to the next stage."""
        return self.max_factor

    def checks(self) -> tuple[checks.Check, ...]:
        """Positive increasing beta, factors above one."""
        owner = "CriticalJump"
        conditions = [
            checks.check_range(owner, "overshoot", self.overshoot, low=1.0, open_low=True),
            checks.check_range(owner, "min_factor", self.min_factor, low=1.0, open_low=True),
        ]
        for name, value in (("beta_min", self.beta_min), ("beta_max", self.beta_max)):
            if value is not None:
                conditions.append(checks.check_finite(owner, name, value))
                conditions.append(checks.check_range(owner, name, value, low=0.0, open_low=True))
        if self.beta_min is not None and self.beta_max is not None:
            conditions.extend(check_interval(owner, self.beta_min, self.beta_max))
        return tuple(conditions)

    def last_stage(self) -> "CriticalJump":
        """The same kind of schedule with one stage, at beta_max."""
        return eqx.tree_at(lambda s: s.beta_min, self, self.beta_max, is_leaf=lambda s: s is None)

    def init(self, scale: Float[Array, ""]) -> Stage:
        """The stage at beta_min; the state is beta_max and the largest factor of the next step."""
        start = 0.5 * scale if self.beta_min is None else jnp.asarray(self.beta_min, scale.dtype)
        end = 1e4 * scale if self.beta_max is None else jnp.asarray(self.beta_max, scale.dtype)
        beta = jnp.minimum(start, end)
        return Stage(beta, beta >= end, (end, self._eased(jnp.ones_like(beta))))

    def next(self, stage: Stage, predicted: Float[Array, ""]) -> Stage:
        """Just before or just past the predicted transition, as far as steps go, or beta_max."""
        end, reach = stage.state
        before, past = predicted / self.overshoot, predicted * self.overshoot
        # Past the end small steps lead nowhere towards what did not separate in its time.
        late = stage.last & (predicted <= stage.beta)
        before, past = (jnp.where(late, jnp.inf, beta) for beta in (before, past))
        near = before < self.min_factor * stage.beta
        # A step at once has no stage before a transition.
        target = past if math.isinf(self.easing) else jnp.where(near, past, before)
        beta = jnp.clip(target, self.min_factor * stage.beta, reach * stage.beta)
        beta = jnp.where(stage.last, beta, jnp.minimum(beta, end)).astype(stage.beta.dtype)
        factor = jnp.where(near, 1.0, beta / stage.beta).astype(beta.dtype)
        return Stage(beta, beta >= end, (end, self._eased(factor)))

    def _eased(self, factor: Float[Array, ""]) -> Float[Array, ""]:
        """The largest factor of the step after one of `factor`."""
        if math.isinf(self.easing):
            return jnp.full_like(factor, self.max_factor)
        return jnp.clip(factor**self.easing, self.min_factor, self.max_factor).astype(factor.dtype)

    def final_beta(self) -> Float[Array, ""] | None:
        """beta_max where it is given and the end; a beta derived from the data is a constant."""
        return None if self.goes_on else self.beta_max

    def expected_end(self) -> Float[Array, ""] | None:
        """beta_max where it is given."""
        return self.beta_max
