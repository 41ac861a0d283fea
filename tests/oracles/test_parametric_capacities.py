"""Prices of a decision process against NumPy, `Clustering` and finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Params, mdp

from ..registry import parametric_mdp as rows
from ..registry import row_named
from . import mdp_numpy as oracle

KEY = jax.random.key(0)
PLACES = np.array([[0.3, 0.4], [1.5, 0.1]])
BETA = 3.0
# Visits of both cells, and what goes from the second straight to the base.
LIMITS = {
    "bounds": [(mdp.visits([4, 5]), [0.7, np.inf]), (mdp.uses(5, 6), [0.9])],
    "equal": [(mdp.visits([4, 5]), mj.Equal([0.8, 0.6]))],
    "entries": [(mdp.entries([4, 5]), [0.3, 0.9]), (mdp.uses(4, 5), [0.05])],
}


@eqx.filter_jit
def found_at(problem, places):
    params = problem.eliminate(problem.at(places), BETA)
    return {
        "params": params,
        "usage": problem.usage(params, BETA),
        "terms": problem.terms(params, BETA),
        "residual": problem.residual(params, BETA),
        "code": problem.constraint_code(params, BETA),
    }


def tables(problem):
    """p, c (n, a, n) and how often each limited thing happens by (state, action), in NumPy."""
    p = rows.noisy() if isinstance(problem.kernel, mdp.Dense) else np.eye(7)[rows.AFTER]
    at = np.concatenate([rows.USERS, PLACES, rows.BASE])
    c = np.broadcast_to(((at[:, None] - at[None]) ** 2).sum(-1)[:, None, :], p.shape)
    users = np.isin(np.arange(7), range(4))[:, None]
    every = [p[:, :, 4], p[:, :, 5]]
    kinds = {
        "bounds": [*every, np.where(np.arange(7)[:, None] == 5, p[:, :, 6], 0)],
        "equal": every,
        "entries": [np.where(users, e, 0) for e in every]
        + [np.where(np.arange(7)[:, None] == 4, p[:, :, 5], 0)],
    }
    return p, c, kinds


@pytest.mark.parametrize("kind", LIMITS)
def test_prices_make_use_meet_the_limits(kind):
    """The dual, its gradient and what is best are NumPy's, on noisy transitions."""
    with jax.enable_x64(True):
        problem = rows.build(
            rows.dense, discount=lambda _: 0.95, capacities=lambda _: LIMITS[kind]
        )(np.float64)  # fmt: skip
        found = jax.device_get(found_at(problem, jnp.asarray(PLACES)))
        assert int(found["code"]) == 0
        p, c, kinds = tables(problem)
        table = np.array(kinds[kind])
        allowed = rows.PERMITTED
        q = allowed / allowed.sum(1, keepdims=True)
        terminal = np.arange(7) == 6
        limit = np.concatenate([np.ravel(getattr(w, "values", w)) for _, w in LIMITS[kind]])
        on = np.isfinite(limit)

        def dual(prices):
            charged = c + np.tensordot(prices, table, axes=1)[..., None]
            values, total = oracle.soft_values(p, charged, BETA, 0.95, "prior", q, terminal)
            policy = q * np.exp(-BETA * (total - values[:, None]))
            policy[terminal] = q[terminal]
            step = np.einsum("sa,sat->st", policy, p) * ~terminal[:, None]
            come = np.linalg.solve(np.eye(7) - 0.95 * step.T, rows.START)
            used = (table * (come[:, None] * policy * ~terminal[:, None])).sum((1, 2))
            return rows.START @ values - prices[on] @ limit[on], used

        prices = np.where(on, found["params"].dual, 0.0)
        best, used = dual(prices)
        np.testing.assert_allclose(found["usage"], used, rtol=1e-7)
        np.testing.assert_allclose(found["terms"].free_energy, best, rtol=1e-9)
        if kind != "equal":
            assert np.all(prices >= 0) and np.all(used <= limit + 1e-7)
            np.testing.assert_allclose(prices[on] * (used - limit)[on], 0.0, atol=1e-7)
            assert np.any(prices > 0)
        else:
            np.testing.assert_allclose(used, limit, atol=1e-7)
        # No other admissible prices are better.
        rng = np.random.default_rng(0)
        for _ in range(5):
            other = prices + 0.05 * rng.normal(size=prices.shape) * on
            other = other if kind == "equal" else np.maximum(other, 0.0)
            assert dual(other)[0] <= best + 1e-9
        terms = found["terms"]
        whole = (
            terms.distortion
            - terms.entropy / BETA
            + prices @ np.where(on, used - np.where(on, limit, 0), 0)
        )
        np.testing.assert_allclose(terms.free_energy, whole, rtol=1e-9)


@pytest.mark.parametrize("limit", [[0.5, 0.3, 0.25], mj.Equal([0.5, 0.3, 0.2]), [0.5, 0.3, 0.2]])
def test_actions_of_one_step_have_the_prices_of_clusters(limit):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, k = rng.normal(size=(12, 2)), 3
        problem = mj.ParametricMDP(
            mdp.Deterministic(np.full((13, k), 12)), terminal=[12],
            state_params=np.concatenate([x, [[0.0, 0.0]]]),
            action_params=np.zeros((k, 2)), unknown_actions=range(k),
            capacities=(mdp.takes(range(k)), limit),
        )  # fmt: skip
        same = mj.Clustering(jnp.asarray(x), k, capacity=limit)
        y = jnp.asarray(rng.normal(size=(k, 2)))

        @eqx.filter_jit
        def solved(problem, y):
            params = problem.eliminate(problem.at(y), 5.0)
            start = problem.init(KEY)
            return (
                params.dual,
                problem.policy(params, 5.0),
                problem.update(params, 5.0).primal,
                start,
            )

        ours, theirs = solved(problem, y), solved(same, y)
        shift = (ours[0] - theirs[0])[0]
        np.testing.assert_allclose(ours[0] - theirs[0], shift, atol=1e-7)
        np.testing.assert_allclose(ours[1][:12], theirs[1], atol=1e-6)
        np.testing.assert_allclose(ours[2], theirs[2], atol=1e-7)
        np.testing.assert_allclose(ours[3].primal, theirs[3].primal, atol=1e-7)


@pytest.mark.slow
def test_the_price_is_what_a_little_more_capacity_saves():
    """A whole anneal, by finite differences, with the gradient of the implicit rule."""
    with jax.enable_x64(True):
        problem = row_named("parametric-mdp-capacities").build(np.float64)
        schedule = mj.Explicit([1.0, 4.0])

        @jax.jit
        def energy(limit):
            moved = eqx.tree_at(lambda q: q.limits.limit, problem, limit)
            solution = mj.anneal(moved, schedule, key=KEY)
            return solution.free_energy, (solution.params, solution.code)

        limit = problem.limits.limit
        (_, (params, code)), slope = jax.jit(jax.value_and_grad(energy, has_aux=True))(limit)
        tight = int(jnp.argmax(params.dual))
        assert int(code) == 0 and float(params.dual[tight]) > 0
        np.testing.assert_allclose(slope, -params.dual, atol=1e-8)
        step = 1e-5 * jnp.eye(limit.size)[tight]
        difference = (energy(limit + step)[0] - energy(limit - step)[0]) / 2e-5
        np.testing.assert_allclose(slope[tight], difference, rtol=1e-5)


def test_bad_capacities_are_told():
    kernel = mdp.Deterministic([[1], [2], [2]])
    good = {"state_params": jnp.zeros((3, 2)), "unknown_states": [1], "terminal": [2]}

    def build(capacities, **more):
        return mj.ParametricMDP(kernel, **(good | more), capacities=capacities)

    with pytest.raises(TypeError, match="`capacities` must be a pair"):
        build(jnp.ones(2))
    with pytest.raises(ValueError, match=r"`capacities` must have shape \(1,\); got \(2,\)"):
        build((mdp.visits(1), [0.5, 0.5]))
    with pytest.raises(ValueError, match="`capacities` must be > 0; got 0"):
        build((mdp.visits(1), [0.0]))
    with pytest.raises(ValueError, match="name state 7; there are 3"):
        build((mdp.visits(7), [0.5]))
    with pytest.raises(ValueError, match="name action 1; there are 1"):
        build((mdp.takes(1), [0.5]))
    with pytest.raises(ValueError, match="`start` and `end` must be as many"):
        mdp.uses([1, 2], [3])
    with pytest.raises(TypeError, match="`states` must be a number of a state"):
        mdp.visits(0.5)
    with pytest.raises(ValueError, match="`actions` must be at least 0; got -1"):
        mdp.takes(-1)
    loop = mdp.Deterministic([[1, 0], [2, 0], [2, 2]])
    with pytest.raises(ValueError, match="there are none here"):
        mj.ParametricMDP(loop, **good, capacities=(mdp.entries(1), [0.5]))
    # All must pass state 1, once: half of that cannot be.
    narrow = build((mdp.visits(1), [0.5]))
    params = narrow.eliminate(narrow.at(jnp.zeros((1, 2))), 2.0)
    assert int(narrow.constraint_code(params, 2.0)) == mj.Code.INFEASIBLE
    with pytest.raises(ValueError, match="there are no `capacities`"):
        build(None).usage(jnp.zeros((1, 2)), 2.0)
    assert isinstance(params, Params)
