"""How a flow is integrated from time to time: adaptive steps, or a fixed one."""

import abc
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks, trees
from .._core.codes import Code, as_code
from .moving import needed_diffrax

# A step of an integrator smaller than this share of the whole time is a flow that has stalled.
_SMALLEST_STEP = 1e-9


class Flow(eqx.Module):
    """A flow d state / d t = rate, where `carry` is a guess handed from step to step (prices).

    `rate(time, state, carry)` gives (d state / d t, better carry); `size` is a characteristic
    size of each leaf of the state, with which errors are compared.
    """

    rate: Callable[[Any, Any, Any], tuple[Any, Any]]
    size: Any


class Flown(eqx.Module):
    """States after each interval (NaN once it has ended early), and how it ended.

    `state` and `time` are where the flow came to, `carry` the last guess there.
    """

    states: Any
    carries: Any
    state: Any
    carry: Any
    time: Float[Array, ""]
    code: Int[Array, ""]
    n_steps: Int[Array, ""]


class AbstractIntegrator(eqx.Module):
    """How to integrate."""

    @abc.abstractmethod
    def check_times(self, times: Any) -> Any:
        """What is to be known of the times before anything is traced; static."""

    @abc.abstractmethod
    def run(self, flow: Flow, state: Any, carry: Any, times: Array, plan: Any) -> Flown:
        """From times[0] through all times."""


class Adaptive(AbstractIntegrator):
    """Adaptive steps of diffrax's Tsit5, a Runge-Kutta method of fifth order.

    **Arguments:**

    - `rtol`: error of a step relative to the size of the data, > 0.
    - `max_steps`: static; more give MAX_STEPS.

    Derivatives are diffrax's recursive checkpointing: in reverse, with memory that grows as the
    square root of the steps.
    """

    rtol: float = eqx.field(static=True, default=1e-6)
    max_steps: int = eqx.field(static=True, default=16_384)

    def __check_init__(self) -> None:
        if not 0 < self.rtol < 1:
            raise ValueError(f"Adaptive: `rtol` must be in (0, 1); got {self.rtol}.")
        checks.check_count("Adaptive", "max_steps", self.max_steps)

    def check_times(self, times: Any) -> None:
        """Nothing."""

    def run(self, flow: Flow, state: Any, carry: Any, times: Array, plan: Any) -> Flown:
        """With results between steps interpolated to fourth order."""
        diffrax = needed_diffrax()
        dtype = times.dtype
        span = times[-1] - times[0]
        resolution = 8 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(times))
        controller = diffrax.PIDController(
            rtol=0.0,
            atol=max(self.rtol, 4 * float(jnp.finfo(dtype).eps)),
            norm=_Relative(flow.size),
            dtmin=jnp.maximum(_SMALLEST_STEP * span, resolution),
            force_dtmin=False,
        )
        solution = diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, args: flow.rate(t, y, carry)[0]),
            diffrax.Tsit5(),
            times[0],
            times[-1],
            0.1 * (times[1] - times[0]),
            state,
            saveat=diffrax.SaveAt(
                subs=[diffrax.SubSaveAt(ts=times[1:]), diffrax.SubSaveAt(t1=True)]
            ),
            stepsize_controller=controller,
            max_steps=self.max_steps,
            throw=False,
        )
        reached = jnp.isfinite(solution.ts[0])
        states = jax.tree.map(lambda rows: _known(rows, reached), solution.ys[0])
        end = jax.tree.map(lambda rows: rows[0], solution.ys[1])
        result = solution.result
        code = jnp.where(result == diffrax.RESULTS.successful, int(Code.OK), int(Code.STALLED))
        too_many = result == diffrax.RESULTS.max_steps_reached
        code = jnp.where(too_many, int(Code.MAX_STEPS), code).astype(jnp.int32)
        carries = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (times.shape[0] - 1, *leaf.shape)), carry
        )
        return Flown(
            states=states, carries=carries, state=end, carry=carry, time=solution.ts[1][0],
            code=code, n_steps=jnp.asarray(solution.stats["num_steps"], jnp.int32),
        )  # fmt: skip


class _Relative(eqx.Module):
    """Largest over leaves of the root mean square of what is relative to their size."""

    size: Any

    def __call__(self, errors: Any) -> Float[Array, ""]:
        relative = jax.tree.map(
            lambda error, size: _rms(error / jax.lax.stop_gradient(size)), errors, self.size
        )
        return jnp.max(jnp.stack(jax.tree.leaves(relative)))


def _rms(value: Array) -> Array:
    square = jnp.mean(value**2)
    positive = square > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1.0)), 0.0)


def _known(rows: Array, reached: Array) -> Array:
    return jnp.where(reached.reshape(reached.shape + (1,) * (rows.ndim - 1)), rows, jnp.nan)


class Euler(AbstractIntegrator):
    """Fixed steps of Euler's method, as a controller on a clock takes them.

    **Arguments:** `step`, > 0, in units of time: each interval between times is divided into the
    fewest equal steps that are no longer; all have as many as the longest. A step that would
    carry something farther than the data are wide has STALLED.
    """

    step: float = eqx.field(static=True, default=0.03)

    def __check_init__(self) -> None:
        if not 0 < self.step < math.inf:
            raise ValueError(f"Euler: `step` must be positive; got {self.step}.")

    def check_times(self, times: Any) -> int:
        """Steps in each interval."""
        if not checks.is_concrete(times):
            raise TypeError(
                "Euler: `times` must be concrete, since they say how many steps there are; use "
                "Adaptive() for traced ones."
            )
        longest = float(np.max(np.diff(np.asarray(times, np.float64)), initial=0.0))
        if not np.isfinite(longest):
            return 1
        return max(1, math.ceil(longest / self.step - 1e-6))

    def run(self, flow: Flow, state: Any, carry: Any, times: Array, plan: Any) -> Flown:
        """Prices are carried from step to step."""
        count = int(plan)

        def step(now: tuple[Any, ...], dt: Array) -> tuple[tuple[Any, ...], None]:
            state, carry, time, code, n_steps = now
            rate, better = flow.rate(time, state, carry)
            move = jax.tree.map(lambda r: dt * r, rate)
            new = trees.add(state, move)
            finite = trees.all_finite(rate)
            far = jax.tree.map(lambda m, s: jnp.max(jnp.abs(m) / s), move, flow.size)
            wild = jnp.max(jnp.stack(jax.tree.leaves(far))) > 1
            failed = jnp.where(finite, int(Code.STALLED), int(Code.NON_FINITE))
            now_code = jnp.where(finite & ~wild, int(Code.OK), failed).astype(jnp.int32)
            code = jnp.where(code == int(Code.OK), now_code, code)
            going = code == int(Code.OK)
            state = trees.where(going, new, state)
            carry = trees.where(going, better, carry)
            time = jnp.where(going, time + dt, time)
            return (state, carry, time, code, n_steps + (going & (dt > 0))), None

        def interval(now: tuple[Any, ...], ends: tuple[Array, Array]) -> tuple[Any, Any]:
            first, last = ends
            dt = (last - first) / count
            now, _ = jax.lax.scan(lambda n, _: step(n, dt), now, None, length=count)
            state, carry, time, code, n_steps = now
            going = code == int(Code.OK)
            # Sums of steps drift from the clock.
            time = jnp.where(going, last, time)
            shown = jax.tree.map(lambda leaf: jnp.where(going, leaf, jnp.nan), (state, carry))
            return (state, carry, time, code, n_steps), shown

        start = (state, carry, times[0], as_code(Code.OK), jnp.zeros((), jnp.int32))
        end, (states, carries) = jax.lax.scan(interval, start, (times[:-1], times[1:]))
        state, carry, time, code, n_steps = end
        return Flown(states, carries, state, carry, time, code, n_steps)
