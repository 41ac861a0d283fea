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
