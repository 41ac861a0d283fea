"""Average costs by stochastic approximation, and centres by stochastic gradients."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import checks
from .._core.types import Scalar
from ..problems.clustering import Clustering
from ..problems.costs.entities import WeightedEntities
from .interactions import Interactions
from .learner import AbstractLearner, Needs


class TabularState(eqx.Module):
    """Estimates of d_avg(i, j) at the centres of now, and how often each was visited."""

    costs: Float[Array, "n k"]
    visits: Float[Array, "n k"]


class Tabular(AbstractLearner):
    """A table of average costs that every interaction moves towards what it cost.

    q(i, j) moves by the step max(floor, (1 + visits)^-omega) of its distance to the cost that was
    observed, equation (68); centres move towards the mean of the entities that came to them,
    equation (69), with a step that is a share of the whole way, so that it needs no tuning to
    the number of entities. Visits are kept through the anneal. Where the cost is no squared
    distance the mean is that cost's own centre.

    It learns no autonomy model, and nothing that would serve other centres: it is right where
    overrides do not depend on the centres, entities are few and interactions cheap. It needs to
    see where entities go, for the centres; costs may be those of the problem.

    **Arguments:** `omega` in (1/2, 1]; `floor`, the least step, in [0, 1]; `centre_step` in (0, 1].

    **Raises:** `ValueError` for other values.

    Source: autonomy-aware clustering, appendix F, equations (68) and (69).

    **Example:** see `learn.interact`.
    """

    omega: Any
    floor: Any
    centre_step: Any

    def __init__(self, omega: Any = 0.7, floor: Any = 0.02, centre_step: Any = 0.3) -> None:
        self.omega, self.floor, self.centre_step = omega, floor, centre_step
        for name, value, low in (
            ("omega", omega, 0.5),
            ("floor", floor, -1e-300),
            ("centre_step", centre_step, 0.0),
        ):
            if checks.is_concrete(value):
                bounds = {"low": max(low, 0.0), "high": 1.0, "open_low": low >= 0}
                checks.enforce([checks.check_range("Tabular", name, np.asarray(value), **bounds)])

    @property
    def needs(self) -> Needs:
        """Where entities went, and what they paid or the centres from which that follows."""
        return Needs(realised=True, cost=True)

    @property
    def pace(self) -> tuple[int, int | None]:
        """32 rounds at each beta, as many interactions in each as there are entities."""
        return 32, None

    def init(self, key: Any, problem: Clustering) -> TabularState:
        """Nothing visited: the first observation of each pair is its first estimate."""
        del key
        empty = jnp.zeros((problem.x.shape[0], problem.k), problem.x.dtype)
        return TabularState(empty, empty)

    def resize(self, state: TabularState, problem: Clustering) -> TabularState:
        """New entities were not visited."""
        more = problem.x.shape[0] - state.costs.shape[0]
        return TabularState(*(jnp.pad(a, ((0, more), (0, 0))) for a in (state.costs, state.visits)))

    def update(
        self, state: TabularState, problem: Clustering, interactions: Interactions, key: Any
    ) -> tuple[TabularState, dict[str, Any]]:
        """Equation (68). Several visits of one pair move it as often, towards their mean."""
        del key
        dtype, shape = state.costs.dtype, state.costs.shape
        times = jnp.asarray(interactions.counted, dtype)
        observed = interactions.costs(problem)
        place = interactions.entity * shape[1] + interactions.prescribed
        empty = jnp.zeros((shape[0] * shape[1],), dtype)
        visits = empty.at[place].add(times).reshape(shape)
        paid = empty.at[place].add(times * observed).reshape(shape)
        apart = observed - state.costs.reshape(-1)[place]
        loss = jnp.sum(times * apart**2) / jnp.maximum(jnp.sum(times), 1e-30)
        visited = visits > 0
        mean = paid / jnp.where(visited, visits, 1.0)
        omega, floor = (jnp.asarray(a, dtype) for a in (self.omega, self.floor))
        step = jnp.maximum((1 + state.visits) ** -omega, floor)
        share = 1 - (1 - step) ** visits
        costs = jnp.where(visited, state.costs + share * (mean - state.costs), state.costs)
        return TabularState(costs, state.visits + visits), {"loss": loss}

    def costs(
        self, state: TabularState, problem: Clustering, rows: Int[Array, " m"], centres: Any
    ) -> Float[Array, "m k"]:
        """The table; what was never visited costs what an entity would pay that obeys."""
        origin = problem.origin
        plain = problem.cost.pairwise(problem.x[rows] - origin, centres - origin)
        return jnp.where(state.visits[rows] > 0, state.costs[rows], plain)

    def move(
        self,
        state: TabularState,
        problem: Clustering,
        centres: Float[Array, "k d"],
        beta: Scalar,
        interactions: Interactions,
        explored: Array,
        key: Any,
    ) -> Float[Array, "k d"]:
        """Equation (69), on the interactions that the policy itself has prescribed."""
        del state, beta, key
        assert interactions.realised is not None
        origin = problem.origin
        times = jnp.where(explored, 0.0, jnp.asarray(interactions.counted, centres.dtype))
        came = interactions.realised[:, None] == jnp.arange(problem.k)
        weights = came * (times / times.shape[0])[:, None]
        entities = WeightedEntities(weights, problem.x[interactions.entity] - origin)
        there = problem.cost.step(entities, centres - origin) + origin
        arrived = jnp.sum(weights, axis=0)[:, None] > 0
        step = jnp.asarray(self.centre_step, centres.dtype)
        return jnp.where(arrived, centres + step * (there - centres), centres)
