"""Interactions as learners of an autonomy model look at them, and how such learners are fitted."""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from ..problems.autonomy.base import AbstractAutonomy
from ..problems.clustering import Clustering
from .interactions import Interactions
from .learner import AbstractLearner, average_costs

# A log-probability that a loss counts at most, so that surprises do not make it infinite.
_LEAST = 1e-6


class Evidence(eqx.Module):
    """m interactions in numbers.

    `pull` is d(y_j, y_k) from the prescribed centre to all, `reach` d(x_i, y_k) from the entity,
    both (m, K) at the centres in force; `None` where the learner does not look at them.
    """

    entity: Int[Array, " m"]
    prescribed: Int[Array, " m"]
    realised: Int[Array, " m"]
    round: Int[Array, " m"]
    times: Float[Array, " m"]
    propensity: Float[Array, " m"] | None
    pull: Float[Array, "m k"] | None
    reach: Float[Array, "m k"] | None


class Uncertainty(eqx.Module):
    """Covariance of each block of parameters, and which of these the data tell.

    Variances of those that they do not are infinite.
    """

    covariance: Float[Array, "blocks size size"]
    identified: Bool[Array, "blocks size"]


class ModelLearner(AbstractLearner):
    """A learner of p(k|j,i) by likelihood. Its parameters are blocks, (blocks, size)."""

    @abc.abstractmethod
    def evidence(self, problem: Clustering, interactions: Interactions) -> Evidence:
        """The interactions in numbers."""

    @abc.abstractmethod
    def parameters(self, state: Any) -> Float[Array, "blocks size"]:
        """Numbers that the state stands for."""

    @abc.abstractmethod
    def model(self, parameters: Float[Array, "blocks size"]) -> AbstractAutonomy:
        """The autonomy with these numbers, differentiable in them."""

    @abc.abstractmethod
    def named(self, values: Array) -> dict[str, Array]:
        """Something for each of the parameters, by their names in the model."""

    @abc.abstractmethod
    def probabilities(
        self, parameters: Float[Array, "blocks size"], evidence: Evidence
    ) -> Float[Array, "m k"]:
        """p(. | j, i) for each interaction."""

    @abc.abstractmethod
    def refitted(
        self, parameters: Float[Array, "blocks size"], evidence: Evidence
    ) -> Float[Array, "blocks size"]:
        """Parameters for other outcomes of the same interactions, from those nearby."""

    @abc.abstractmethod
    def uncertainty(self, state: Any) -> Uncertainty:
        """How well the parameters are known."""

    @property
    def saturated(self) -> bool:
        """Whether the model meets the counts (told, went) of any one round exactly."""
        return False

    def autonomy(self, state: Any) -> AbstractAutonomy:
        """The autonomy model with the parameters that were learnt."""
        return self.model(self.parameters(state))

    def costs(
        self, state: Any, problem: Clustering, rows: Int[Array, " m"], centres: Float[Array, "k d"]
    ) -> Float[Array, "m k"]:
        """Averages of the distances under the learnt model, differentiable in the centres."""
        return average_costs(self.autonomy(state), problem, rows, centres)

    def loss(self, state: Any, evidence: Evidence) -> Float[Array, ""]:
        """Mean negative log-likelihood of interactions under a state."""
        found = self.probabilities(self.parameters(state), evidence)
        chosen = jnp.take_along_axis(found, evidence.realised[:, None], axis=1)[:, 0]
        surprise = -jnp.log(jnp.maximum(chosen, _LEAST))
        return jnp.sum(evidence.times * surprise) / jnp.sum(evidence.times)


def as_evidence(problem: Clustering, log: Interactions, *, at_centres: bool) -> Evidence:
    """Interactions that `Interactions.for_problem` has prepared, in numbers."""
    dtype = problem.x.dtype
    assert log.realised is not None
    pull = reach = None
    if at_centres:
        assert log.centres is not None and log.round is not None
        reach = log.distances(problem)
        origin = jax.lax.stop_gradient(problem.origin)
        between = jax.vmap(lambda y: problem.cost.pairwise(y, y))(log.centres - origin)
        pull = between[log.round, log.prescribed]
    rounds = jnp.zeros_like(log.entity) if log.round is None else log.round
    return Evidence(
        entity=jnp.asarray(log.entity),
        prescribed=jnp.asarray(log.prescribed),
        realised=jnp.asarray(log.realised),
        round=jnp.asarray(rounds),
        times=jnp.asarray(log.counted, dtype),
        propensity=log.propensity,
        pull=pull,
        reach=reach,
    )
