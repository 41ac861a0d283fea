"""Brute force for small factored MDPs: the joint kernel, all joint signals, no structure used."""

import itertools

import numpy as np


def joint_kernel(tables, sizes, signals):
    """p(x' | x, signals) (|X|, |X|), from one table (|X|, M_n, |X_n|) per agent."""
    states = list(itertools.product(*map(range, sizes)))
    kernel = np.ones((len(states), len(states)))
    for y, following in enumerate(states):
        for n, table in enumerate(tables):
            kernel[:, y] *= table[:, signals[n], following[n]]
    return kernel


def joint_signals(labels, choices):
    """All (cluster signals, agent signals), the last cluster fastest."""
    for chosen in itertools.product(*map(range, choices)):
        yield chosen, [chosen[label] for label in labels]


class BruteForce:
    """One clustering: kernels (S, |X|, |X|) and rewards (S, |X|) of all joint signals."""

    def __init__(self, tables, reward, sizes, labels, choices, discount):
        """`reward(x, signals)` for tuples of states and agent signals."""
        states = list(itertools.product(*map(range, sizes)))
        every = list(joint_signals(labels, choices))
        self.chosen = np.array([chosen for chosen, _ in every])
        self.kernels = np.stack([joint_kernel(tables, sizes, heard) for _, heard in every])
        self.rewards = np.array([[reward(x, heard) for x in states] for _, heard in every])
        self.discount = discount

    def returns(self, values):
        return self.rewards + self.discount * self.kernels @ values

    def backup(self, values):
        returns = self.returns(values)
        return returns.max(0), self.chosen[returns.argmax(0)]

    def under(self, policy):
        """Number of the joint signal in every state."""
        return np.array([np.flatnonzero((self.chosen == row).all(1))[0] for row in policy])

    def apply(self, values, policy):
        return self.returns(values)[self.under(policy), np.arange(len(values))]

    def cluster_backup(self, values, policy, cluster):
        """max over one cluster's signal, the others as in `policy`."""
        returns = self.returns(values)
        best, improved = np.full(len(values), -np.inf), policy.copy()
        for x in range(len(values)):
            for m in range(self.chosen[:, cluster].max() + 1):
                row = policy[x].copy()
                row[cluster] = m
                value = returns[np.flatnonzero((self.chosen == row).all(1))[0], x]
                if value > best[x]:
                    best[x], improved[x] = value, row
        return best, improved

    def evaluate(self, policy):
        rows = self.under(policy)
        states = np.arange(len(rows))
        kernel, earned = self.kernels[rows, states], self.rewards[rows, states]
        return np.linalg.solve(np.eye(len(rows)) - self.discount * kernel, earned)

    def solve(self):
        """Optimal values and a policy, by policy iteration to the end."""
        policy = self.backup(np.zeros(self.kernels.shape[1]))[1]
        while True:
            values = self.evaluate(policy)
            best, greedy = self.backup(values)
            if np.all(best <= values + 1e-12):
                return values, policy
            policy = greedy


def random_tables(rng, sizes, signals):
    states = int(np.prod(sizes))
    tables = [rng.uniform(size=(states, signals, size)) for size in sizes]
    return [table / table.sum(-1, keepdims=True) for table in tables]


def random_local(rng, sizes, signals):
    tables = [rng.uniform(size=(size, signals, size)) for size in sizes]
    return [table / table.sum(-1, keepdims=True) for table in tables]


def as_joint(local, sizes):
    """Tables over joint states from tables over own states."""
    digits = np.stack(np.unravel_index(np.arange(int(np.prod(sizes))), sizes), -1)
    return [table[digits[:, n]] for n, table in enumerate(local)]


def partitions(agents, clusters=None):
    """All labels 0..C-1 of `agents` agents in order of first use (restricted growth)."""

    def grow(labels):
        if len(labels) == agents:
            if clusters is None or max(labels) + 1 == clusters:
                yield list(labels)
            return
        for label in range(max(labels) + 2):
            yield from grow([*labels, label])

    yield from grow([0])
