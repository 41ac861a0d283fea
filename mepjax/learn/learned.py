"""What learning while annealing ends with."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.codes import Code, SolveError
from .._core.failures import raise_failed
from ..problems.clustering import Clustering
from .learner import AbstractLearner, with_autonomy


class LearningTrace(eqx.Module):
    """One entry for each level of beta, NaN after the last.

    **Fields:** `beta`; `loss`, how badly what was known before a round foretold it; `free_energy`,
    `distortion`, `entropy` of the policy under the costs as learnt, on all entities; `explored`,
    the share of interactions that were prescribed at random.
    """

    beta: Float[Array, " stages"]
    loss: Float[Array, "stages *starts"]
    free_energy: Float[Array, "stages *starts"]
    distortion: Float[Array, "stages *starts"]
    entropy: Float[Array, "stages *starts"]
    explored: Float[Array, " stages"]


class Starts(eqx.Module):
    """Centres of every start, and what fresh interactions say that they cost.

    That is what the learner foretells, corrected by how much the interactions cost more than it
    foretold of them; the standard error is that of the correction. With a model that holds at any
    centres the last entry is none of the starts, but what `mepjax.solve` finds under it.
    """

    centres: Float[Array, "starts k d"]
    cost: Float[Array, " starts"]
    standard_error: Float[Array, " starts"]


class Learned(eqx.Module):
    """Centres and what was learnt on the way, as plain data without derivatives.

    **Fields:**

    - `params`: centres (K, d) of the start that fresh interactions say is cheapest.
    - `autonomy`: the learnt model, `None` where only costs were learnt.
    - `state`: what the learner keeps.
    - `starts`: centres of all starts, what they cost, and how sure that is.
    - `code`: see `mepjax.Code`.
    - `n_interactions`: of all starts together, fresh ones included.
    - `trace`: see `LearningTrace`; that of the start kept.
    - `learner`: whose state it is.
    """

    params: Float[Array, "k d"]
    autonomy: Any
    state: Any
    starts: Starts
    code: Int[Array, ""]
    n_interactions: Int[Array, ""]
    trace: LearningTrace
    beta: Float[Array, ""]
    learner: AbstractLearner
    input_report: checks.InputReport
    message: str | None = eqx.field(static=True, default=None)

    def problem(self, problem: Clustering) -> Any:
        """The problem under the learnt autonomy, or under the costs of a network.

        The latter is an `AveragedClustering`, whose F and D are what the network says.

        **Raises:** `ValueError` where neither was learnt.
        """
        if self.autonomy is None:
            aware = self.learner.problem(self.state, problem)
            if aware is not None:
                return aware
            raise ValueError(
                f"Learned: `autonomy` is None, as {type(self.learner).__name__} learns costs; "
                "there is no problem under it."
            )
        return with_autonomy(problem, self.autonomy)

    def costs(self, problem: Clustering) -> Float[Array, "n k"]:
        """Average costs as learnt, at the centres kept: prescribe the least of each row."""
        everybody = jnp.arange(problem.x.shape[0])
        return self.learner.costs(self.state, problem, everybody, self.params)

    def told(self, message: str) -> "Learned":
        """The same with why it ended early, in words."""
        return dataclasses.replace(self, message=message)

    def raise_if_failed(self) -> "Learned":
        """Return self, or raise on the host if learning failed.

        **Raises:** `ValueError` for bad input, `SolveError` otherwise, with what an environment
        said that broke down.
        """
        failed = checks.is_concrete(self.code) and np.any(np.asarray(self.code) >= Code.MAX_STEPS)
        asked_badly = (
            int(np.max(np.asarray(self.input_report.index))) >= len(self.input_report.sentences)
            if failed
            else False
        )
        if failed and asked_badly and self.message is not None:
            raise SolveError(f"The environment broke down: {self.message}")
        if failed and asked_badly and np.max(np.asarray(self.code)) == Code.INVALID_INPUT:
            raise SolveError(
                "The environment answered what cannot be: a cluster outside 0 .. K - 1, or a cost "
                "that is NaN, Inf, or negative where it cannot be; or nothing at all. What was "
                "learnt before is kept."
            )
        messages = self.learner.breakdown(self._last_loss()) if failed else None
        raise_failed(self.code, self.input_report, messages)
        return self

    def _last_loss(self) -> float:
        """That of the last level that was begun, in the first lane that failed."""
        codes = np.asarray(self.code).reshape(-1)
        lane = int(np.flatnonzero(codes >= Code.MAX_STEPS)[0])
        beta, loss = (
            np.asarray(a).reshape(codes.size, -1)[lane] for a in (self.trace.beta, self.trace.loss)
        )
        levels = np.flatnonzero(np.isfinite(beta))
        return float(loss[levels[-1]]) if levels.size else np.nan
