"""Which states can end, and a policy under which they do: reachability, on the host."""

from typing import NamedTuple

import numpy as np

from .kernels.base import AbstractKernel
from .kernels.deterministic import Deterministic


class Proper(NamedTuple):
    """A policy that ends with probability one from every state in `good`."""

    policy: np.ndarray
    good: np.ndarray


def proper_policy(
    kernel: AbstractKernel, terminal: np.ndarray, permitted: np.ndarray | None
) -> Proper:
    """Actions that come nearer to a terminal state with positive probability, and never get lost.

    Found backwards from the terminal states, breadth first. Actions that may lead to where there
    is no way out are left out, until none is left.

    **Arguments:** `terminal`, boolean (states,); `permitted`, boolean (states, actions) or `None`.

    **Returns:** `Proper`: actions, zero where there is no way, and where there is one.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    state, action, after = kernel.graph()
    n = kernel.n_states
    pair = state.astype(np.int64) * kernel.n_actions + action
    usable = ~terminal[state]
    if permitted is not None:
        usable &= permitted[state, action]
    good = np.ones(n, bool)
    ends = np.flatnonzero(terminal)
    while True:
        lost = np.zeros(n * kernel.n_actions, bool)
        lost[pair[~good[after]]] = True
        kept = usable & ~lost[pair] & good[state]
        # From one node more, before all ends, along the edges turned round.
        heads = np.concatenate([after[kept], np.full(len(ends), n)])
        tails = np.concatenate([state[kept], ends])
        graph = sparse.csr_matrix((np.ones(len(heads), np.int8), (heads, tails)), (n + 1, n + 1))
        distance = csgraph.dijkstra(graph, unweighted=True, indices=n)[:n]
        reached = np.isfinite(distance)
        if np.array_equal(reached, good):
            break
        good = reached
    nearer = kept & (distance[after] == distance[state] - 1)
    policy = np.zeros(n, np.int32)
    policy[state[nearer]] = action[nearer]
    return Proper(policy, good)


def entered(kernel: AbstractKernel, permitted: np.ndarray | None) -> np.ndarray:
    """Which states some transition leads to, from others or from themselves, boolean (states,)."""
    state, action, after = kernel.graph()
    counts = np.ones(len(after), bool) if permitted is None else permitted[state, action]
    found = np.zeros(kernel.n_states, bool)
    found[after[counts]] = True
    return found


# Pairs of state and action up to which cycles are looked for when an object is built.
_MOST_PAIRS = 50_000


def earning_state(
    kernel: AbstractKernel, costs: np.ndarray, terminal: np.ndarray, permitted: np.ndarray | None
) -> int | None:
    """A state with a cycle ahead whose costs add up to less than nothing, `None` if there is none.

    By Bellman and Ford, on as many sweeps as there are states. For deterministic kernels, where a
    cycle can be gone round for ever; with noise only a solve can tell.

    **Arguments:** `costs`, shape (states, actions).
    """
    if not isinstance(kernel, Deterministic) or costs.size > _MOST_PAIRS:
        return None
    usable = np.broadcast_to(~terminal[:, None], costs.shape)
    usable = usable if permitted is None else usable & permitted
    if not np.any(costs[usable] < 0):
        return None
    after, costs = np.asarray(kernel.next), np.where(usable, costs, np.inf).astype(float)
    least = np.zeros(kernel.n_states)
    slack = 1e-6 * np.max(np.abs(costs[usable]))
    moved = None
    for _ in range(kernel.n_states):
        new = np.minimum(least, np.min(costs + least[after], axis=1))
        if np.all(new >= least - slack):
            return None
        moved, least = int(np.argmin(new - least)), new
    return moved
