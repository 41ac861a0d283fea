"""Methods on a Bellman operator that knows nothing of models: a table in NumPy's order."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import mdp
from mepjax.mdp.bellman import AbstractBellman, AbstractChain, bounds
from mepjax.mdp.methods import ModifiedPolicyIteration, PolicyIteration, ValueIteration
from mepjax.solvers.loop import solve_stage


class Chain(AbstractChain):
    cost: Any
    p: Any
    discount: Any

    def sweep(self, values):
        return self.cost + self.discount * self.p @ values

    def values(self, guess):
        del guess
        return jnp.linalg.solve(jnp.eye(len(self.cost)) - self.discount * self.p, self.cost)


class Table(AbstractBellman):
    discount: Any
    costs: Any
    p: Any

    def backup(self, values, beta):
        del beta
        q = self.costs + self.discount * self.p @ values
        return jnp.min(q, axis=1), jnp.argmin(q, axis=1)

    def under(self, policy, beta):
        del beta
        rows = jnp.arange(len(policy))
        return Chain(self.costs[rows, policy], self.p[rows, policy], self.discount)


def table(discount, n=6, a=3, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(n, 0.5), size=(n, a))
    costs = rng.normal(size=(n, a))
    if discount == 1:  # every step may be the last one
        p, costs = p * rng.uniform(0.7, 0.95, (n, a, 1)), costs + 2
    return Table(jnp.asarray(discount), jnp.asarray(costs), jnp.asarray(p))


def optimum(model):
    """Plain value iteration in NumPy."""
    costs, p, values = np.asarray(model.costs), np.asarray(model.p), np.zeros(len(model.costs))
    for _ in range(20_000):
        values = np.min(costs + float(model.discount) * p @ values, axis=1)
    return values


@eqx.filter_jit
def run(model, start, method):
    limits = {"rtol": jnp.asarray(1e-11), "max_steps": jnp.asarray(5_000)}
    return solve_stage(model, start, jnp.asarray(jnp.inf), method, **limits)


@pytest.mark.parametrize("discount", [0.3, 0.95, 1.0])
@pytest.mark.parametrize(
    "method", [ValueIteration(), ModifiedPolicyIteration(sweeps=4), PolicyIteration()]
)
def test_methods_find_the_optimum(method, discount):
    with jax.enable_x64(True):
        model = table(discount)
        found = run(model, jnp.zeros(len(model.costs)), method)
        assert int(found.code) == 0
        np.testing.assert_allclose(found.params, optimum(model), rtol=1e-9, atol=1e-9)


def test_the_span_stops_long_before_values_settle():
    with jax.enable_x64(True):
        model = table(0.99, n=40)
        found = run(model, jnp.zeros(40), ValueIteration())
        np.testing.assert_allclose(found.params, optimum(model), rtol=1e-9)
        assert int(found.steps) < 60


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_at_any_values(seed):
    with jax.enable_x64(True):
        model = table(0.9, seed=seed)
        best = optimum(model)
        values = jnp.asarray(np.random.default_rng(seed).normal(size=6) * 10)
        low, high = bounds(model, values, jnp.inf)
        assert (low <= best + 1e-12).all() and (best <= high + 1e-12).all()
        # Without discount values above T V are above the optimum, and the other way round.
        model = table(1.0, seed=seed)
        best = optimum(model)
        for sign in (1, -1):
            low, high = bounds(model, jnp.asarray(best) + sign * 5, jnp.inf)
            assert np.isinf(high if sign < 0 else low).all()
            assert ((high >= best - 1e-12) if sign > 0 else (low <= best + 1e-12)).all()


def test_sweeps_must_be_a_count():
    with pytest.raises(ValueError, match="`sweeps` must be at least 0; got -1"):
        ModifiedPolicyIteration(sweeps=-1)


@pytest.mark.parametrize(
    "method", [PolicyIteration(), ValueIteration(), ModifiedPolicyIteration()],
    ids=lambda m: type(m).__name__,
)  # fmt: skip
def test_bounds_hold_in_float32_near_discount_one(method):
    """Against values solved in float64 of the same numbers; rounding is a thousand times blown."""
    rng, n, discount = np.random.default_rng(0), 40, np.float32(0.999)
    p = rng.dirichlet(np.ones(n), (n, 3)).astype(np.float32)
    costs = rng.uniform(size=(n, 3)).astype(np.float32)
    found = mdp.solve(mdp.MDP(mdp.Dense(p), costs, discount=discount), method=method)
    assert int(found.code) == 0
    exact, actions, rows = np.zeros(n), np.zeros(n, int), np.arange(n)
    for _ in range(20):
        chain = np.eye(n) - float(discount) * p.astype(float)[rows, actions]
        exact = np.linalg.solve(chain, costs.astype(float)[rows, actions])
        actions = (costs + float(discount) * p.astype(float) @ exact).argmin(axis=1)
    assert np.all(found.lower <= exact) and np.all(exact <= found.upper)
    assert np.max(found.upper - found.lower) < 2e-3 * exact.max()


@pytest.mark.parametrize("method", [ValueIteration(), ModifiedPolicyIteration()])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sweeps_come_to_rest_where_something_ends(method, dtype):
    # Towards an end no constant passes through a backup: moving values to the middle of their
    # bounds would never come to rest.
    n, discount = 60, 0.95
    after = np.stack([np.minimum(np.arange(n) + 1, n - 1), np.maximum(np.arange(n) - 1, 0)], axis=1)
    model = mdp.MDP(
        mdp.Deterministic(after), np.ones((n, 2), dtype), discount=discount, terminal=[n - 1]
    )
    found = mdp.solve(model, method=method)
    found.raise_if_failed()
    exact = (1 - discount ** np.arange(n - 1, -1, -1.0)) / (1 - discount)
    np.testing.assert_allclose(found.values, exact, rtol=1e-6 if dtype == np.float32 else 1e-12)
    assert (found.lower <= exact).all() and (exact <= found.upper).all()
    assert int(found.steps) <= 70
