"""Scenes with capacities, and of parameterised decision processes."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import control
from mepjax.control.moving import ByFunction, scene_of
from mepjax.datasets import small_cells


def turning(time, problem, values):
    """Nodes turn and spread."""
    return {"nodes": 0.2 * problem.nodes[:, ::-1] * jnp.array([1.0, -1.0]) + 0.1 * problem.nodes}


@pytest.mark.slow
def test_shares_of_facilities_are_met_on_the_way_and_the_minimum_is_followed():
    with jax.enable_x64(True):
        nodes = np.random.default_rng(3).normal(size=(9, 2))
        shares = np.array([0.7, 0.3])
        problem = mj.FacilityPath(
            nodes, np.array([[3.0, 0.5]]), 2, entry_capacity=mj.Equal(shares)
        )  # fmt: skip
        first = float(problem.beta_scale())
        beta, key = 4 * first, jax.random.key(0)
        start = mj.anneal(
            problem, mj.Geometric(0.5 * first, beta, 1.5), key=key, adjoint=mj.NoGrad()
        )
        times, steps = np.linspace(0.0, 1.0, 4), control.Euler(0.05)
        moves = {"beta": beta, "velocity": turning, "integrator": steps}
        run = control.track(problem, start, times, law=control.Newton(), **moves)
        warm = control.every_frame(problem, times, init=start, key=key, **moves)
        assert np.all(np.asarray(run.code) == mj.Code.OK)
        for row in range(4):
            entering = run.problem_at(row).traffic(run.values_at(row), beta).first
            np.testing.assert_allclose(np.sum(entering, axis=0), shares, atol=1e-9)
        np.testing.assert_allclose(run.free_energy, warm.free_energy, atol=1e-6)
        # What the lag says is what the re-solve gains.
        gained = np.asarray(run.free_energy - warm.free_energy)
        np.testing.assert_allclose(run.lag, gained, rtol=0.05, atol=1e-10)


@pytest.mark.slow
def test_visits_and_links_stay_within_their_capacities_on_the_way():
    """Prices, carried by Euler, are those of limits that are met; others are free."""
    with jax.enable_x64(True):
        nodes = np.random.default_rng(3).normal(size=(9, 2))
        visits, limit = np.array([0.8, 0.7]), np.array([[np.inf, 0.2], [np.inf, np.inf]])
        problem = mj.FacilityPath(
            nodes, np.array([[3.0, 0.5]]), 2, facility_capacity=mj.Equal(visits),
            link_capacity=limit,
        )  # fmt: skip
        first = float(problem.beta_scale())
        beta, key = 4 * first, jax.random.key(0)
        start = mj.anneal(
            problem, mj.Geometric(0.5 * first, beta, 1.5), key=key, adjoint=mj.NoGrad()
        )
        times, steps = np.linspace(0.0, 0.6, 3), control.Euler(0.05)
        moves = {"beta": beta, "velocity": turning, "integrator": steps}
        run = control.track(problem, start, times, law=control.Newton(), **moves)
        warm = control.every_frame(problem, times, init=start, key=key, **moves)
        assert np.all(np.asarray(run.code) < mj.Code.MAX_STEPS)
        for row in range(3):
            values = run.values_at(row)
            flow = run.problem_at(row).traffic(values, beta)
            first_legs, links = np.asarray(flow.first), np.asarray(flow.links)
            np.testing.assert_allclose(first_legs.sum(0) + links.sum(0), visits, atol=1e-8)
            price = float(values.dual.link[0, 1])
            assert price >= 0 and links[0, 1] <= 0.2 + 1e-8
            assert abs(price * (links[0, 1] - 0.2)) < 1e-7
        np.testing.assert_allclose(run.free_energy, warm.free_energy, atol=1e-6)


def test_a_decision_process_built_of_traced_transitions_is_refused():
    """Which states are entered is found from concrete transitions only: all was NON_FINITE."""
    network = small_cells(4, 2, slip=0.1)
    problem, times = network.problem(), np.array([0.0, 1.0], np.float32)

    def rebuilt(time):
        traced = jax.tree.map(
            lambda leaf: leaf * jnp.ones_like(time) if eqx.is_inexact_array(leaf) else leaf,
            network.kernel,
        )
        return network._replace(kernel=traced).problem()

    moves = {"beta": 1.0, "at": rebuilt}
    with pytest.raises(ValueError, match="^track: `at` must not build the ParametricMDP from"):
        control.track(problem, jnp.zeros((2, 2)), times, **moves)
    with pytest.raises(ValueError, match="^every_frame: `at` must not build the ParametricMDP"):
        control.every_frame(problem, times, key=jax.random.key(0), **moves)

    # What the sentence says to do is not refused.
    def replaced(time):
        places = problem.unknowns.states + time
        return eqx.tree_at(lambda p: p.unknowns.states, problem, places)

    for at in (replaced, lambda time: network._replace(base=network.base + time).problem()):
        scene = scene_of("track", problem, None, jnp.asarray(times), None, at, None)
        assert isinstance(scene, ByFunction)


@pytest.mark.slow
def test_places_of_a_decision_process_follow_users_and_base():
    """Figure 4.3 in small: cells follow mobile users and a mobile base station."""
    with jax.enable_x64(True):
        network = small_cells(12, 2, seed=1)
        users = 0.05 * np.random.default_rng(0).normal(size=(12, 2))
        base = np.array([0.03, -0.02])

        def at(time):
            moved = network._replace(
                users=network.users + time * users, base=network.base + time * base
            )
            return moved.problem()

        problem = at(0.0)
        first = float(problem.beta_scale())
        beta = 20 * first
        start = mj.anneal(
            problem, mj.Geometric(0.5 * first, beta, 1.3), key=jax.random.key(0),
            adjoint=mj.NoGrad(),
        )  # fmt: skip
        times = np.linspace(0.0, 2.0, 5)
        run = control.track(problem, start, times, beta=beta, at=at, integrator=control.Euler(0.05))
        assert np.all(np.asarray(run.code) == mj.Code.OK)
        assert np.all(np.asarray(run.lag) < 1e-6 * np.asarray(run.free_energy))
        # dF/dt is that of differences of F, and the cells have moved with the users.
        change = np.trapezoid(run.free_energy_rate, times)
        np.testing.assert_allclose(run.free_energy[-1] - run.free_energy[0], change, rtol=1e-2)
        apart = np.linalg.norm(np.asarray(run.values[-1] - run.values[0]), axis=1)
        assert np.all(apart > 1e-3)
