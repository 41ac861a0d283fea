"""What a tracked problem did: one row for each time."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from .._core.checks import InputReport, enforce, is_concrete
from .._core.codes import Code
from .._core.failures import raise_failed
from ..engine.transitions import critical_beta
from .moving import AbstractScene

MESSAGES = {
    Code.STALLED: (
        "The control grew without bound, so that the scene ended early; the rows up to there "
        "stand. A law with `eps=0` does so wherever the attainable cost rises: give it an `eps`, "
        "or take Follow()."
    ),
    Code.MAX_STEPS: (
        "The integrator took all its steps before the last time; the rows up to there stand. "
        "Raise `max_steps` of Adaptive, loosen its `rtol`, or take Euler()."
    ),
    Code.NON_FINITE: (
        "NaN or Inf appeared on the way, in a velocity or in the problem; the rows up to there "
        "stand."
    ),
    Code.INVALID_INPUT: (
        "On the way the problem ceased to meet its own conditions, such as that every node reaches "
        "a destination; the rows up to there stand. One scene alone says which."
    ),
}


class Crossings(NamedTuple):
    """Phase transitions met: when, and the critical beta predicted just before."""

    time: np.ndarray
    beta: np.ndarray


class Reanneals(NamedTuple):
    """Re-anneals: when, how far the slot that moved farthest went, and by how much F fell."""

    time: np.ndarray
    jump: np.ndarray
    fall: np.ndarray


class Row(eqx.Module):
    """What is told of one time."""

    values: Any
    free_energy: Float[Array, ""]
    free_energy_rate: Float[Array, ""]
    distortion: Float[Array, ""]
    curvature: Float[Array, ""]
    lag: Float[Array, ""]
    speed: Float[Array, ""]
    saturated: Bool[Array, ""]
    jump: Float[Array, ""]
    fall: Float[Array, ""]
    code: Int[Array, ""]


class Rows(eqx.Module):
    """Rows of a scene, one for each time."""

    times: Float[Array, " t"]
    beta: Float[Array, ""]
    values: Any
    free_energy: Float[Array, " t"]
    distortion: Float[Array, " t"]
    code: Int[Array, " t"]
    scene: AbstractScene
    moved: dict[str, Array]
    input_report: InputReport

    def problem_at(self, index: int) -> Any:
        """The problem at times[index]."""
        fields = jax.tree.map(lambda rows: rows[index], self.moved)
        return self.scene.problem_at(self.times[index], fields)

    def values_at(self, index: int) -> Any:
        """Params at times[index]."""
        return jax.tree.map(lambda rows: rows[index], self.values)

    def _raise_if_invalid(self) -> None:
        """Raise `ValueError` with the problem's own sentence where it became invalid on the way."""
        if not is_concrete(self) or np.ndim(self.code) != 1:
            return
        invalid = np.asarray(self.code) == int(Code.INVALID_INPUT)
        if not invalid.any() or int(self.input_report.code) != int(Code.OK):
            return
        row = int(np.argmax(invalid))
        try:
            enforce(self.problem_at(row).checks())
        except ValueError as error:
            raise ValueError(f"at time {float(self.times[row]):.7g}: {error}") from None


class Track(Rows):
    """A tracked scene: the outcome of `track`.

    **Fields**, each with one entry for each of T times, NaN from where a scene ended early:

    - `times`; `values`, params as in `problem.init`; `beta`, the inverse temperature, a scalar.
    - `free_energy`, `distortion`, in units of the cost; `free_energy_rate`, dF/dt under the law.
    - `curvature` at the values, as it was looked at before a re-anneal: 1 where nothing interacts,
      0 at a phase transition, negative at a saddle.
    - `lag`: g . H^-1 g / 2, what F is above the minimum near by, to second order (the Hessian H
      floored at 0.1 of the metric); NaN where the residual is no gradient.
    - `speed`: largest over slots; `saturated`: whether the law gave up a bound on dF/dt, or a slot
      wanted to be faster than the limit.
    - `jump`, `fall`: of re-anneals, 0 elsewhere.
    - `code`: see `Code`. NEAR_CRITICAL where the curvature is not clearly positive; from where a
      scene ended early STALLED (the control grew without bound), MAX_STEPS or NON_FINITE.
    - `n_steps`: of the integrator, a scalar.

    `problem_at(i)` is the problem at times[i]; `problem` its class and what of it rests.
    """

    free_energy_rate: Float[Array, " t"]
    curvature: Float[Array, " t"]
    lag: Float[Array, " t"]
    speed: Float[Array, " t"]
    saturated: Bool[Array, " t"]
    jump: Float[Array, " t"]
    fall: Float[Array, " t"]
    n_steps: Int[Array, ""]

    @property
    def n_rows(self) -> Int[Array, ""]:
        """Times that were reached."""
        return jnp.sum(self.code < int(Code.MAX_STEPS), axis=-1)

    @property
    def transitions(self) -> Crossings:
        """When the curvature fell through zero, and the critical beta seen just before.

        Times are interpolated between rows; the critical beta is that of the last stable row.

        **Raises:** `TypeError` inside `jit`, `grad` and `vmap`.
        """
        self._look("transitions")
        curvature, times = np.asarray(self.curvature), np.asarray(self.times)
        moments, betas = [], []
        for i in range(1, len(times)):
            before, after = curvature[i - 1], curvature[i]
            if not (after <= 0 and (before > 0 or self.fall[i - 1] != 0)):
                continue
            share = before / (before - after) if before > 0 else 1.0
            moments.append(times[i - 1] + share * (times[i] - times[i - 1]))
            found = critical_beta(self.problem_at(i - 1), self.values_at(i - 1), self.beta)
            betas.append(float(found))
        return Crossings(np.asarray(moments), np.asarray(betas))

    @property
    def reanneals(self) -> Reanneals:
        """When there was a re-anneal, how far it jumped, and by how much F fell.

        **Raises:** `TypeError` inside `jit`, `grad` and `vmap`.
        """
        self._look("reanneals")
        rows = np.flatnonzero((np.asarray(self.jump) != 0) | (np.asarray(self.fall) != 0))
        return Reanneals(
            np.asarray(self.times)[rows], np.asarray(self.jump)[rows], np.asarray(self.fall)[rows]
        )

    def _look(self, name: str) -> None:
        if not is_concrete(self):
            raise TypeError(
                f"`{name}` looks at numbers, so it must be used outside `jit`, `grad` and `vmap`."
            )
        if np.ndim(self.times) != 1:
            raise ValueError(f"`{name}` is told of one scene; take one lane of these first.")

    def raise_if_failed(self) -> "Track":
        """Return self, or raise on the host if the scene ended early.

        **Raises:** `ValueError` for bad input, with the sentence the call would have used;
        `SolveError` otherwise. Warnings (NEAR_CRITICAL) do not raise.
        """
        self._raise_if_invalid()
        raise_failed(jnp.max(self.code, axis=-1), self.input_report, MESSAGES)
        return self
