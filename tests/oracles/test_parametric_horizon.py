"""`ParametricMDP` with a horizon against `FacilityPath`, NumPy and the listing of all paths."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import mdp

from ..jitted import jitted
from ..registry import parametric_mdp as rows
from . import mdp_numpy as oracle

KEY = jax.random.key(0)
N, M, STAGES = 5, 2, 3
RNG = np.random.default_rng(2)
USERS, BASE = RNG.normal(size=(N, 2)), np.array([[2.5, 0.7]])
CELLS = np.array([[0.4, 0.1], [1.3, 0.6]])


def chained(**options):
    """Users to cells, cells to each other and to the base, which has to be reached in time."""
    n = N + M + 1
    after = np.broadcast_to(N + np.arange(M + 1), (n, M + 1)).copy()
    after[-1] = n - 1
    permitted = np.ones(after.shape, bool)
    permitted[:N, M] = False
    in_time = np.where(np.arange(n) == n - 1, 0.0, np.inf)
    given = {
        "state_params": np.concatenate([USERS, np.zeros((M, 2)), BASE]),
        "unknown_states": range(N, N + M), "terminal": [n - 1], "permitted": permitted,
        "entropy": "policy", "horizon": STAGES + 1, "end_costs": in_time,
    }  # fmt: skip
    return mj.ParametricMDP(mdp.Deterministic(after), **(given | options))


@pytest.mark.slow
def test_counting_paths_in_stages_is_a_facility_path():
    with jax.enable_x64(True):
        problem = chained()
        same = mj.FacilityPath(USERS, BASE[0], M, n_stages=STAGES, self_loops=True)
        y = jnp.asarray(CELLS)
        for beta in (0.3, 4.0, 60.0):
            for name in ("free_energy", "update", "residual"):
                ours, theirs = (getattr(jitted, name)(p, y, beta) for p in (problem, same))
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-10)
            ours, theirs = (jitted.terms(p, y, beta) for p in (problem, same))
            np.testing.assert_allclose(ours.distortion, theirs.distortion, rtol=1e-9)
            np.testing.assert_allclose(ours.entropy, theirs.entropy, rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(problem.init(KEY), same.init(KEY), atol=1e-10)
        np.testing.assert_allclose(problem.beta_scale(), same.beta_scale(), rtol=1e-9)
        hard, paths = problem.harden(y), same.harden(y)
        np.testing.assert_allclose(hard.cost, paths.cost, rtol=1e-12)
        # Waiting at a cell is free, and paths leave the base out.
        for went, path in zip(np.asarray(problem.routes(y))[:N] - N, paths.routes, strict=True):
            walked, same_way = (
                [cell for cell, _ in itertools.groupby(way) if 0 <= cell < M]
                for way in (went, path)
            )
            assert walked == same_way
        assert problem.convex_at_zero and float(problem.beta_floor()) == 0
        assert hard.actions.shape == (STAGES + 1, N + M + 1)


def listed(problem, y, beta):
    """F relative to the prior by listing all sequences of actions of every user."""
    at = np.concatenate([USERS, y, BASE])
    after, q = np.asarray(problem.kernel.next), np.exp(np.asarray(problem.log_prior()))
    total = 0.0
    for user in range(N):
        mass = 0.0
        for actions in itertools.product(range(M + 1), repeat=problem.horizon):
            state, cost, weight = user, 0.0, 1.0
            for action in actions:
                if state == N + M:
                    # Nothing is decided at the end.
                    weight *= 1 / (M + 1)
                    continue
                new = after[state, action]
                weight *= q[state, action]
                cost += ((at[state] - at[new]) ** 2).sum()
                state = new
            mass += weight * np.exp(-beta * cost) * (state == N + M)
        total -= np.log(mass) / beta / N
    return total


def test_relative_to_a_prior_it_is_the_sum_over_all_paths():
    with jax.enable_x64(True):
        problem = chained(entropy="prior", horizon=3)
        energy = jitted.free_energy(problem, jnp.asarray(CELLS), 2.0)
        np.testing.assert_allclose(energy, listed(problem, CELLS, 2.0), rtol=1e-12)


@pytest.mark.parametrize("entropy", ["prior", "paths"])
def test_noisy_stages_are_those_of_numpy(entropy):
    with jax.enable_x64(True):
        end = np.linspace(0.3, 1.0, 7)
        problem = rows.build(
            rows.dense, discount=lambda _: 0.9, entropy=lambda _: entropy,
            horizon=lambda _: 3, end_costs=lambda _: end,
        )(np.float64)  # fmt: skip
        y, beta = np.array([[0.3, 0.4], [1.5, 0.1]]), 2.5
        p = rows.noisy()
        at = np.concatenate([rows.USERS, y, rows.BASE])
        c = np.broadcast_to(((at[:, None] - at[None]) ** 2).sum(-1)[:, None, :], p.shape)
        q = rows.PERMITTED / rows.PERMITTED.sum(1, keepdims=True)
        weight = q if entropy == "prior" else rows.PERMITTED.astype(float)
        step, v = oracle.step_costs(p, c, beta, entropy), np.where(np.arange(7) == 6, 0, end)
        policies = []
        for _ in range(3):
            total = step + 0.9 * p @ v
            gibbs = weight * np.exp(-beta * total)
            v = np.where(np.arange(7) == 6, 0, -np.log(gibbs.sum(1)) / beta)
            policies = [gibbs / gibbs.sum(1, keepdims=True), *policies]
        params = jnp.asarray(y)
        np.testing.assert_allclose(problem.state_values(params, beta), v, rtol=1e-12)
        found = np.exp(problem.policy(params, beta))
        np.testing.assert_allclose(found[:, :6], np.array(policies)[:, :6], rtol=1e-9)
        traffic, come = problem.stage_traffic(params, beta), rows.START
        for stage in range(3):
            taken = come[:, None] * policies[stage] * (np.arange(7) != 6)[:, None]
            np.testing.assert_allclose(traffic[stage], taken, atol=1e-12)
            come = 0.9 * np.einsum("sa,sat->t", taken, p)
        np.testing.assert_allclose(problem.traffic(params, beta), traffic.sum(0), atol=1e-12)
        terms = problem.terms(params, beta)
        paid = (traffic.sum(0) * (p * c).sum(-1)).sum() + come @ np.where(np.arange(7) == 6, 0, end)
        np.testing.assert_allclose(terms.distortion, paid, rtol=1e-12)
        whole = terms.distortion - terms.entropy / beta
        np.testing.assert_allclose(terms.free_energy, whole, rtol=1e-10)


def test_one_at_a_time_at_every_stage():
    """Figure 1.1 (b): robots share a narrow passage, each stage has room for one of them."""
    with jax.enable_x64(True):
        robots, narrow, door, end = 3, [3], 4, 5
        # A robot waits where it is or enters the passage, which leads to the door and out.
        after = [[0, 3], [1, 3], [2, 3], [4, 4], [5, 5], [5, 5]]
        problem = mj.ParametricMDP(
            mdp.Deterministic(after), terminal=[end], unknown_states=[door],
            state_params=jnp.asarray([[0.0], [0.5], [1.0], [2.0], [0.0], [4.0]]),
            start=np.where(np.arange(6) < robots, 1 / robots, 0.0), horizon=5,
            end_costs=np.where(np.arange(6) == end, 0.0, np.inf),
            capacities=(mdp.visits(narrow * 3, stage=[0, 1, 2]), np.full(3, 1 / robots)),
        )  # fmt: skip

        @eqx.filter_jit
        def solved(problem):
            params = problem.eliminate(problem.init(KEY), 2.0)
            used = problem.usage(params, 2.0)
            return used, problem.stage_traffic(params, 2.0), problem.constraint_code(params, 2.0)

        used, traffic, code = solved(problem)
        # All three have to be through in five steps, so that each stage is full.
        np.testing.assert_allclose(used, 1 / robots, atol=1e-7)
        entering = traffic[:, :robots, 1].sum(axis=1)
        np.testing.assert_allclose(entering, [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=1e-7)
        assert int(code) in (mj.Code.OK, mj.Code.WEAKLY_ACTIVE)


def test_bad_horizons_are_told():
    with pytest.raises(ValueError, match="`horizon` must be at least 1 or None; got 0"):
        chained(horizon=0)
    with pytest.raises(ValueError, match="`end_costs` are those at the end of a `horizon`"):
        chained(horizon=None, entropy="prior")
    with pytest.raises(ValueError, match=r"`end_costs` must have shape \(8,\); got \(2,\)"):
        chained(end_costs=np.zeros(2))
    with pytest.raises(ValueError, match="`end_costs` must be >= .*; got nan"):
        chained(end_costs=np.full(8, np.nan))
    with pytest.raises(ValueError, match="name stage 9; there are 4"):
        chained(capacities=(mdp.visits(5, stage=9), [0.5]))
    with pytest.raises(ValueError, match="`stage` must be one or 2 numbers; got 3"):
        mdp.visits([4, 5], stage=[0, 1, 2])
    # No user gets to the base in one step.
    late = chained(horizon=1)
    assert int(late.constraint_code(jnp.asarray(CELLS), 1.0)) == mj.Code.INFEASIBLE
