"""What a step costs, as a function of parameters of the state, the action and the next state."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import checks
from ...mdp.kernels.base import AbstractKernel
from ..costs.base import AbstractCost
from ..costs.names import NAMES, as_cost
from ..costs.quadratic import SquaredEuclidean
from ..uncertain import Spread

_OWNER = "ParametricMDP"


class Step(eqx.Module):
    """A cost from the state to the next state, or (`towards_action`) from the state to the action.

    `fn`, where there is no `cost`, is any function of (state, action, next state).
    """

    cost: AbstractCost | None
    fn: Callable[..., Any] | None
    towards_action: bool = eqx.field(static=True)

    @property
    def squared(self) -> bool:
        """Whether it is the squared distance, whose location step has a closed form."""
        return isinstance(self.cost, SquaredEuclidean)

    def expected(
        self,
        kernel: AbstractKernel,
        states: Float[Array, "s d"],
        actions: Float[Array, "a e"] | None,
        known: tuple[Any, Any] | None = None,
        spread: Spread | None = None,
    ) -> Float[Array, "s a"]:
        """Mean cost of every action in every state.

        `known`, masks of states and actions: what goes to or from others costs nothing. `spread`,
        how parameters of states scatter, each independently of the others.
        """
        if self.cost is not None and self.towards_action:
            assert actions is not None
            costs = self._towards(states, actions, spread)
            return costs if known is None else jnp.where(known[0][:, None] & known[1], costs, 0.0)
        state, _, after = kernel.outcomes()
        if spread is None or self.squared:
            costs = self.by_outcome(kernel, states, states, actions)
        else:
            costs = self._averaged(kernel, states, actions, spread)
        if spread is not None and self.squared:
            both = spread.variance[state] + spread.variance[after]
            costs = costs + jnp.where(state == after, 0.0, both)
        if known is not None:
            costs = jnp.where(known[0][state] & known[0][after], costs, 0.0)
        return kernel.mean(costs)

    def _towards(
        self, states: Float[Array, "s d"], actions: Float[Array, "a d"], spread: Spread | None
    ) -> Float[Array, "s a"]:
        if spread is None or self.squared:
            costs = self._pairs(states[:, None], actions[None, :])
            return costs if spread is None else costs + spread.variance[:, None]
        assert spread.offsets is not None and spread.weights is not None
        places = states[:, None] + spread.offsets
        costs = self._pairs(places[:, None], actions[None, :, None])
        return jnp.einsum("sam,sm->sa", costs, spread.weights, precision="highest")

    def _averaged(
        self, kernel: AbstractKernel, states: Any, actions: Any, spread: Spread
    ) -> Float[Array, "..."]:
        """`by_outcome`, the mean over samples of both ends; a state's own is one and the same."""
        assert spread.offsets is not None and spread.weights is not None
        state, _, after = kernel.outcomes()
        places = jnp.moveaxis(states[:, None] + spread.offsets, 1, 0)
        weights = spread.weights.T

        def of(start: Any, end: Any) -> Array:
            return self.by_outcome(kernel, start, end, actions)

        def from_one(start: Any, chance: Any) -> Array:
            each = jax.lax.map(
                lambda other: of(start, other[0]) * other[1][after], (places, weights)
            )
            return jnp.sum(each, axis=0) * chance[state]

        apart = jnp.sum(jax.lax.map(lambda one: from_one(*one), (places, weights)), axis=0)
        stays = jax.lax.map(lambda one: of(one[0], one[0]) * one[1][state], (places, weights))
        return jnp.where(state == after, jnp.sum(stays, axis=0), apart)

    def by_outcome(
        self,
        kernel: AbstractKernel,
        starts: Float[Array, "s d"],
        ends: Float[Array, "s d"],
        actions: Float[Array, "a e"] | None,
    ) -> Float[Array, "..."]:
        """Cost of every outcome, with the parameters of states where steps start and end."""
        state, action, after = kernel.outcomes()
        start, end = starts[state], ends[after]
        if self.squared:
            return self._pairs(start, end)
        # What cannot happen is evaluated elsewhere: a distance from a place to itself may have no
        # derivative, which zero times would still be NaN.
        possible = kernel.probabilities() > 0
        end = jnp.where(possible[..., None], end, end + 1)
        if self.cost is not None:
            costs = self._pairs(start, end)
        elif actions is None:
            costs = jnp.vectorize(
                lambda s, n: self._call(s, None, n), signature="(d),(d)->()"
            )(start, end)  # fmt: skip
        else:
            costs = jnp.vectorize(self._call, signature="(d),(e),(d)->()")(
                start, actions[action], end
            )
        return jnp.where(possible, costs, 0.0)

    def _pairs(self, x: Float[Array, "... d"], y: Float[Array, "... d"]) -> Float[Array, "..."]:
        if self.squared:
            return jnp.sum((x - y) ** 2, axis=-1)
        cost = self.cost
        assert cost is not None

        def one(a: Array, b: Array) -> Array:
            return cost.pairwise(a[None], b[None])[0, 0]

        return jnp.vectorize(one, signature="(d),(d)->()")(x, y)

    def of_one(self, state: Array, action: Any, after: Array) -> Float[Array, ""]:
        """Cost of one step between parameters."""
        if self.cost is None:
            return self._call(state, action, after)
        return self._pairs(state, action if self.towards_action else after)

    def _call(self, state: Array, action: Any, after: Array) -> Array:
        assert self.fn is not None
        value = jnp.asarray(self.fn(state, action, after))
        if value.shape != ():
            raise ValueError(
                f"{_OWNER}: `cost` must return a scalar for a state, an action and a next state; "
                f"got shape {value.shape}."
            )
        return value


def as_step(cost: Any, states: Any, actions: Any) -> Step:
    """A step's cost from a name, an instance or a function."""
    if isinstance(cost, AbstractCost) or (isinstance(cost, str) and cost in NAMES):
        found = as_cost(cost)
        if not found.smooth:
            raise ValueError(
                f"{_OWNER}: `cost` {type(found).__name__} has no second derivatives where places "
                "would come to rest; use a smooth cost such as mepjax.costs.Euclidean()."
            )
        if actions is not None and actions.shape[1] != states.shape[1]:
            raise ValueError(
                f"{_OWNER}: `cost` between states and actions needs `action_params` of "
                f"{states.shape[1]} coordinates, as `state_params` have; got {actions.shape[1]}."
            )
        count = states.shape[0]
        weights = jnp.full((count,), 1 / count, states.dtype)
        return Step(found.for_data(states, weights), None, actions is not None)
    if not callable(cost) or isinstance(cost, type):
        raise TypeError(
            f'{_OWNER}: `cost` must be the name of a cost, such as "sqeuclidean", an instance of a '
            "class in mepjax.costs or a function of (state, action, next state); "
            f"got {cost!r:.60}."
        )
    checks.check_function(_OWNER, "cost", cost, "(self, state, action, next_state)")
    return Step(None, cost, False)


def squared_stiffness(flow: Any, ends: Any, n: int) -> Float[Array, "n n"]:
    """Half of the Hessian of sum flow |from - to|^2 in n unknown places.

    The Laplacian of the flow between them, grounded by what goes to known places. Without flow a
    place has stiffness one.

    **Arguments:** `flow`, an array; `ends`, two integer arrays that broadcast with it: the number
    of the unknown place at either end, n for known ones.
    """
    first, second = (jnp.broadcast_to(end, flow.shape) for end in ends)
    both = jnp.zeros((n + 1, n + 1), flow.dtype).at[first, second].add(flow)
    both = both + both.T
    held = jnp.sum(both, axis=1)[:n] - jnp.diagonal(both)[:n]
    # NaN and negative numbers count as flow, to be seen.
    live = ~(jnp.abs(held) <= float(jnp.finfo(flow.dtype).tiny) ** 0.5)
    apart = both[:n, :n] * (1 - jnp.eye(n, dtype=flow.dtype))
    stiffness = jnp.diag(held) - apart
    coupled = live[:, None] & live[None, :]
    return jnp.where(coupled, stiffness, jnp.eye(n, dtype=flow.dtype))


def flow_of(kernel: AbstractKernel, traffic: Float[Array, "s a"]) -> Float[Array, "..."]:
    """Traffic of every outcome."""
    state, action, _ = kernel.outcomes()
    return traffic[state, action] * jax.lax.stop_gradient(kernel.probabilities())
