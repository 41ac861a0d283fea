"""Which agents share a signal, and how the agents fall into two halves for the exact backup."""

import itertools
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .._core.checks import Check, is_concrete, is_count, on_host
from .behaviours import name_agents
from .factored import FactoredMDP


class Half(eqx.Module):
    """Some of the agents, and the clusters whose signals they hear.

    **Fields:** `factors`, `agents` and `clusters` by number; `size`, joint states of the agents.
    """

    factors: tuple[int, ...] = eqx.field(static=True)
    agents: tuple[int, ...] = eqx.field(static=True)
    size: int = eqx.field(static=True)
    clusters: tuple[int, ...] = eqx.field(static=True)


class Arrangement(eqx.Module):
    """A clustering of the agents, laid out for backups.

    Agents are sorted by cluster and cut once, so at most one cluster lies in both halves. A joint
    signal of all clusters is (one of clusters in the high half only, one of shared clusters, one
    of clusters in the low half only), the last cluster of `order` fastest. Labels that are traced
    leave agents as they are and share all clusters.

    **Fields:** `known` or else `traced`, the cluster of every agent (-1 where it is not steered);
    `choices`, the signals of every cluster; `parts`, how many joint signals (high only, shared,
    low only) have.
    """

    known: tuple[int, ...] | None = eqx.field(static=True)
    traced: Int[Array, " agents"] | None
    choices: tuple[int, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    high: Half
    low: Half
    parts: tuple[int, int, int] = eqx.field(static=True)

    @property
    def labels(self) -> Int[Array | np.ndarray, " agents"]:
        """The cluster of every agent, in NumPy where it is known."""
        if self.traced is not None:
            return self.traced
        return np.asarray(self.known, np.int32)

    @property
    def clusters(self) -> int:
        """C, the number of clusters, each of which gets one signal."""
        return len(self.choices)

    @property
    def joint(self) -> int:
        """How many joint signals there are."""
        return _product(self.choices)

    def heard(self, clusters: Sequence[int]) -> Int[Array | np.ndarray, "joint agents"]:
        """Signals of all agents for every joint signal of some clusters; 0 to all others."""
        choices = [range(self.choices[cluster]) for cluster in clusters]
        joint = np.array(list(itertools.product(*choices)), np.int32)
        by_cluster = np.zeros((joint.shape[0], self.clusters + 1), np.int32)
        by_cluster[:, list(clusters)] = joint.reshape(len(joint), len(clusters))
        # Label -1 takes the last column, which is 0.
        return (
            by_cluster[:, self.labels]
            if is_concrete(self.labels)
            else jnp.asarray(by_cluster)[:, self.labels]
        )

    def decode(self, place: Int[Array, " states"]) -> Int[Array, "states clusters"]:
        """Signals of the clusters from the number of a joint signal."""
        digits = jnp.unravel_index(place, tuple(self.choices[c] for c in self.order))
        columns = [digits[self.order.index(cluster)] for cluster in range(self.clusters)]
        return jnp.stack(columns, -1).astype(jnp.int32)

    def encode(self, policy: Int[Array, "states clusters"]) -> Int[Array, " states"]:
        """Number of a joint signal from the signals of the clusters."""
        number = jnp.zeros(policy.shape[0], jnp.int32)
        for cluster in self.order:
            number = number * self.choices[cluster] + policy[:, cluster]
        return number


def check_labels(model: FactoredMDP, labels: Any, clusters: int | None) -> tuple[Any, int]:
    """Labels of all agents (-1 where an agent is not steered), and the number of clusters.

    **Raises:** `ValueError` for labels of another length, not 0..C-1 each used, more clusters
    than agents, a cluster that cuts a group or joins agents with different signals.
    """
    owner, steered = "steer", model.steered
    concrete = is_concrete(labels)
    array = np.asarray(labels) if concrete else labels
    if array.shape != (len(steered),) or not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(
            f"{owner}: `labels` must be {len(steered)} integers, one per steered agent; got shape "
            f"{array.shape} and dtype {array.dtype}."
        )
    if clusters is not None and (not is_count(clusters) or not 1 <= clusters <= len(steered)):
        raise ValueError(
            f"{owner}: `clusters` must be an integer in 1..{len(steered)}, the steered agents; "
            f"got {clusters!r}."
        )
    if not concrete:
        return _check_traced(model, array, clusters)
    used = np.unique(array)
    count = clusters or int(used.max()) + 1
    if clusters is None and list(used) != list(range(count)) or used[0] < 0 or used[-1] >= count:
        raise ValueError(
            f"{owner}: `labels` must be 0..C-1, every one used; got {sorted(set(array.tolist()))}."
        )
    full = np.full(model.n_agents, -1)
    full[list(steered)] = array
    for agents in model.factors:
        if len(set(full[list(agents)])) > 1:
            raise ValueError(
                f"{owner}: `labels` must not cut the group of {name_agents(agents)}; got "
                f"{full[list(agents)].tolist()}."
            )
    for cluster in range(count):
        members = np.flatnonzero(full == cluster)
        sets = sorted({model.signals[agent] for agent in members})
        if len(sets) > 1:
            raise ValueError(
                f"{owner}: agents of one cluster must have the same number of signals; cluster "
                f"{cluster} ({name_agents(members.tolist())}) has {sets}."
            )
    return full, count


def _check_traced(model: FactoredMDP, labels: Any, clusters: int | None) -> tuple[Any, int]:
    if clusters is None:
        raise ValueError("steer: traced `labels` need `clusters`, how many there are.")
    sets = sorted({model.signals[agent] for agent in model.steered})
    if len(sets) > 1 or any(len(agents) > 1 for agents in model.factors):
        raise ValueError(
            "steer: traced `labels` need agents with one number of signals and without groups; got "
            f"signals {sets}. Pass concrete labels."
        )
    full = jnp.full(model.n_agents, -1, jnp.int32)
    return full.at[np.asarray(model.steered)].set(labels.astype(jnp.int32)), clusters


def label_checks(labels: Any, clusters: int) -> list[Check]:
    """Conditions on traced labels, for a result code."""
    xp, labels = on_host(labels)
    outside = (labels < -1) | (labels >= clusters)
    sentence = f"steer: `labels` must be in 0..{clusters - 1}; got {{got}}."
    return [Check(~xp.any(outside), labels[xp.argmax(outside)], sentence)]


def order_check(order: Any, clusters: int) -> Check:
    """That clusters take turns in a permutation, of a traced order; names one that has none."""
    xp, order = on_host(order)
    turns = xp.sum(order[:, None] == xp.arange(clusters), axis=0)
    missing = turns == 0
    sentence = (
        f"steer: `order` must be a permutation of 0..{clusters - 1}; got one in which cluster "
        "{got} has no turn."
    )
    return Check(~xp.any(missing), xp.argmax(missing), sentence)


def arrange(model: FactoredMDP, labels: Any, clusters: int) -> Arrangement:
    """Lay out a checked clustering (labels of all agents) so that an exact backup is cheapest."""
    if not is_concrete(labels):
        return _share_all(model, labels, clusters)
    labels = np.asarray(labels, np.int32)
    choices = _choices(model, labels, clusters)
    of_factor = [int(labels[agents[0]]) for agents in model.factors]
    # Those without a signal go last: they make rows longer, but no more of them.
    order = sorted(range(len(of_factor)), key=lambda f: (of_factor[f] < 0, of_factor[f], f))
    cuts = [
        _cut(model, labels, choices, order[:cut], order[cut:]) for cut in range(1, len(order) + 1)
    ]
    return min(cuts, key=_work)


def _choices(model: FactoredMDP, labels: np.ndarray, clusters: int) -> tuple[int, ...]:
    default = max(model.signals)
    members = [np.flatnonzero(labels == cluster) for cluster in range(clusters)]
    return tuple(model.signals[agents[0]] if agents.size else default for agents in members)


def _cut(
    model: FactoredMDP,
    labels: np.ndarray,
    choices: tuple[int, ...],
    high: Sequence[int],
    low: Sequence[int],
) -> Arrangement:
    heard = [int(labels[agents[0]]) for agents in model.factors]
    in_high, in_low = ({heard[f] for f in half if heard[f] >= 0} for half in (high, low))
    # A cluster without agents has a signal that nobody hears; the low half enumerates it.
    in_low |= set(range(len(choices))) - in_high
    alone, shared, other = (
        sorted(part) for part in (in_high - in_low, in_high & in_low, in_low - in_high)
    )
    alone_size, shared_size, other_size = (
        _product([choices[cluster] for cluster in part]) for part in (alone, shared, other)
    )
    return Arrangement(
        tuple(labels.tolist()),
        None,
        choices,
        (*alone, *shared, *other),
        _half(model, high, [*alone, *shared]),
        _half(model, low, [*shared, *other]),
        (alone_size, shared_size, other_size),
    )


def _share_all(model: FactoredMDP, labels: Any, clusters: int) -> Arrangement:
    """Agents in their own order, cut in the middle; every cluster is in both halves."""
    choices, every = (max(model.signals),) * clusters, tuple(range(clusters))
    sizes = [_product([model.sizes[a] for a in agents]) for agents in model.factors]
    joint = np.cumprod([1.0, *sizes])
    cut = max(1, int(np.argmin(np.abs(np.log(joint) - np.log(joint[-1]) / 2))))
    factors = range(len(model.factors))
    high, low = _half(model, factors[:cut], every), _half(model, factors[cut:], every)
    return Arrangement(None, labels, choices, every, high, low, (1, _product(choices), 1))


def _half(model: FactoredMDP, factors: Sequence[int], clusters: Sequence[int]) -> Half:
    agents = tuple(agent for f in factors for agent in model.factors[f])
    size = _product([model.sizes[agent] for agent in agents])
    return Half(tuple(factors), agents, size, tuple(clusters))


def _product(numbers: Sequence[int]) -> int:
    result = 1
    for number in numbers:
        result *= int(number)
    return result


def _work(arrangement: Arrangement) -> float:
    """Products of one exact backup of one state, and what its rows hold."""
    high, low = arrangement.high.size, arrangement.low.size
    alone, shared, other = (float(part) for part in arrangement.parts)
    high_first = alone * shared * (high * low + other * low)
    low_first = shared * other * (high * low + alone * high)
    # Rows are read once a sweep, which costs more than a product does.
    return min(high_first, low_first) + 4.0 * shared * (alone * high + other * low)
