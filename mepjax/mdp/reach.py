"""Which states can end, and a policy under which they do: reachability, on the host."""

from typing import NamedTuple

import numpy as np

from .kernels.base import AbstractKernel


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
