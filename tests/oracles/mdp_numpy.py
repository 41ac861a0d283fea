"""Markov decision processes in plain float64 NumPy, written from the definitions."""

import itertools

import numpy as np


def random_mdp(seed, n=5, a=3, *, terminal=False, sparsity=0.4):
    """p (n, a, n), costs (n, a, n); with `terminal` the last state ends and all can reach it."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(n), size=(n, a)) * (rng.uniform(size=(n, a, n)) > sparsity)
    p[..., 0] += 1e-3
    if terminal:
        p[..., -1] += 0.05
    p = p / p.sum(-1, keepdims=True)
    costs = rng.uniform(0.2, 2.0, size=(n, a, n))
    return p, costs


def step_costs(p, costs, beta, entropy):
    """Expected cost of a step, less the entropy of the next state for `paths`."""
    c = (p * costs).sum(-1)
    if entropy == "paths":
        c = c + np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1) / beta
    return c


def soft_values(p, costs, beta, discount, entropy, prior=None, terminal=None, sweeps=20_000):
    """Repeat the Bellman operator from zero; prior (n, a) for `prior`, a mask is prior > 0."""
    n, a, _ = p.shape
    q = np.full((n, a), 1 / a) if prior is None else prior
    weight = q if entropy == "prior" else (q > 0).astype(float)
    c, v = step_costs(p, costs, beta, entropy), np.zeros(n)
    total = c
    for _ in range(sweeps):
        total = c + discount * p @ v
        if np.isinf(beta):
            new = np.where(q > 0, total, np.inf).min(1)
        else:
            low = total.min(1, keepdims=True)
            with np.errstate(under="ignore"):
                new = low[:, 0] - np.log((weight * np.exp(-beta * (total - low))).sum(1)) / beta
        if terminal is not None:
            new = np.where(terminal, 0, new)
        if np.max(np.abs(new - v)) < 1e-15 * max(1, np.abs(v).max()):
            break
        v = new
    return v, total


def evaluate(p, costs, policy, beta, discount, entropy, prior=None, terminal=None):
    """Values of a policy (n, a) by one linear solve, entropy included."""
    n, a, _ = p.shape
    q = np.full((n, a), 1 / a) if prior is None else prior
    c = step_costs(p, costs, beta, entropy)
    safe = np.where(policy > 0, policy, 1)
    ratio = np.log(safe) - (np.log(np.where(policy > 0, q, 1)) if entropy == "prior" else 0)
    r = (policy * (c + ratio / beta)).sum(1)
    m = np.einsum("sa,sat->st", policy, p)
    if terminal is not None:
        r, m = np.where(terminal, 0, r), np.where(terminal[:, None], 0, m)
    return np.linalg.solve(np.eye(n) - discount * m, r)


def hard_values(p, costs, discount, terminal=None):
    """The best of all deterministic stationary policies, by listing them."""
    n, a, _ = p.shape
    best = np.full(n, np.inf)
    for choice in itertools.product(range(a), repeat=n):
        policy = np.eye(a)[list(choice)]
        best = np.minimum(
            best, evaluate(p, costs, policy, np.inf, discount, "prior", terminal=terminal)
        )
    return best


def simplex_minimum(function, shape, rng, rounds=4000):
    """Least value of a function of row-stochastic matrices by random search with shrinking steps.

    Slow and crude on purpose: it knows nothing of Bellman.
    """
    logits = np.zeros(shape)

    def soft(logits):
        e = np.exp(logits - logits.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)

    value, size = function(soft(logits)), 1.0
    for _ in range(rounds):
        trial = logits + size * rng.normal(size=shape)
        new = function(soft(trial))
        if new < value:
            logits, value, size = trial, new, size * 1.3
        else:
            size *= 0.97
    return value


def end_components(p, allowed):
    """All sets of states in which one can stay for ever, from each to each, by listing subsets.

    Each with its pairs (n, a) of state and action that stay inside; maximal ones only.
    """
    n = p.shape[0]
    found = []
    for size in range(n, 0, -1):
        for states in itertools.combinations(range(n), size):
            inside = np.isin(np.arange(n), states)
            stays = allowed & inside[:, None] & (p[..., ~inside].sum(-1) == 0)
            if not stays.any(1)[inside].all():
                continue
            step = (np.einsum("sa,sat->st", stays.astype(float), p) > 0)[np.ix_(states, states)]
            reach = np.linalg.matrix_power(np.eye(size) + step, size) > 0
            if reach.all() and not any(inside[both].all() for both, _ in found):
                # A part of a larger one is no component of its own.
                if not any(other[inside].all() for other, _ in found):
                    found.append((inside, stays))
    return found


def average_free_energy(p, costs, beta, entropy, stays, sweeps=4000):
    """Least mean of cost less entropy / beta of a step for ever inside, by value iteration.

    The chain waits with probability one half, which halves the mean and keeps it from swinging.
    """
    inside = stays.any(1)
    c = step_costs(p, costs, beta, entropy)
    v = np.zeros(len(c))
    gain = 0.0
    for _ in range(sweeps):
        q = np.where(stays, c + p @ v, np.inf)[inside]
        low = q.min(1)
        new = low - np.log(np.exp(-beta * (q - low[:, None])).sum(1)) / beta
        change = new - v[inside]
        gain = (change.min() + change.max()) / 2
        if np.ptp(change) < 1e-13:
            break
        v[inside] = 0.5 * (v[inside] + new)
        v[inside] -= v[inside][0]
    return gain


def critical_beta(p, costs, entropy, allowed):
    """Where the worst end component stops rewarding to stay: by bisection of its mean."""
    lows = [0.0]
    for _, stays in end_components(p, allowed):
        low, high = 1e-3, 1e3
        for _ in range(60):
            middle = np.sqrt(low * high)
            positive = average_free_energy(p, costs, middle, entropy, stays) > 0
            low, high = (low, middle) if positive else (middle, high)
        lows.append(low)
    return max(lows)
