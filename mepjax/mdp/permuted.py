"""The same population with its agents in another order."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Int

from .behaviours import AbstractBehaviour, Group, Local, NextState, Rows, Scoped, Table
from .factored import FactoredMDP
from .rewards import AbstractReward, JointReward, Separable, StateReward


class Reordered(eqx.Module):
    """A function of states (and signals) of agents in their old order, for the new one."""

    function: Callable[..., Any]
    places: Int[Array | np.ndarray, " agents"]
    all_signals: bool = eqx.field(static=True)

    def __call__(self, x: Array, signals: Array) -> Array:
        """The function, of agents in their old places."""
        return self.function(x[self.places], signals[self.places] if self.all_signals else signals)


def reorder_states(array: Any, sizes: Sequence[int], order: Sequence[int]) -> np.ndarray:
    """An array over joint states (first axis), for states numbered with agents in a new order."""
    array = np.asarray(array)
    rest = array.shape[1:]
    extra = range(len(sizes), len(sizes) + len(rest))
    return array.reshape(*sizes, *rest).transpose(*order, *extra).reshape(-1, *rest)


def permute(model: FactoredMDP, order: Sequence[int]) -> FactoredMDP:
    """The model whose agent k is agent order[k] of `model`; host code in NumPy."""
    places = {agent: place for place, agent in enumerate(order)}
    by_first = sorted(
        zip(model.behaviours, model.factors, strict=True), key=lambda bf: places[bf[1][0]]
    )
    moved = tuple(_behaviour(b, model, order, places) for b, _ in by_first)
    factors = tuple(tuple(places[agent] for agent in agents) for _, agents in by_first)
    # What was checked when the model was built stays so: rows and rewards only change places.
    new = object.__new__(FactoredMDP)
    fields = {
        "behaviours": moved,
        "reward": _reward(model.reward, model, order, places),
        "discount": model.discount,
        "sizes": tuple(model.sizes[agent] for agent in order),
        "signals": tuple(model.signals[agent] for agent in order),
        "factors": factors,
    }
    for name, value in fields.items():
        object.__setattr__(new, name, value)
    return new


def _behaviour(
    behaviour: AbstractBehaviour, model: FactoredMDP, order: Sequence[int], places: dict[int, int]
) -> AbstractBehaviour:
    if isinstance(behaviour, Table):
        return eqx.tree_at(
            lambda b: b.p, behaviour, reorder_states(behaviour.p, model.sizes, order)
        )
    if isinstance(behaviour, NextState):
        moved = reorder_states(behaviour.table, model.sizes, order)
        return eqx.tree_at(lambda b: b.table, behaviour, moved)
    if isinstance(behaviour, Scoped):
        parents = [places[agent] for agent in behaviour.parents]
        return Scoped(behaviour.p, parents)
    if isinstance(behaviour, Group):
        agents = [places[agent] for agent in behaviour.agents]
        return Group(agents, _behaviour(behaviour.behaviour, model, order, places))
    if isinstance(behaviour, Rows):
        back = np.array([places[agent] for agent in range(model.n_agents)])
        return eqx.tree_at(
            lambda b: b.function, behaviour, Reordered(behaviour.function, back, False)
        )
    assert isinstance(behaviour, Local)
    return behaviour


def _reward(
    reward: AbstractReward, model: FactoredMDP, order: Sequence[int], places: dict[int, int]
) -> AbstractReward:
    if isinstance(reward, StateReward):
        return eqx.tree_at(
            lambda r: r.table, reward, reorder_states(reward.table, model.sizes, order)
        )
    if isinstance(reward, Separable):
        scopes = [[places[a] for a in reward.scopes[agent]] for agent in order]
        return Separable([reward.tables[agent] for agent in order], scopes)
    assert isinstance(reward, JointReward)
    back = np.array([places[agent] for agent in range(model.n_agents)])
    return eqx.tree_at(lambda r: r.function, reward, Reordered(reward.function, back, True))


def same_shape(model: FactoredMDP) -> Any:
    """What two models must share to be solved by one program."""
    leaves, structure = jax.tree.flatten(model)
    return structure, tuple((np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves)
