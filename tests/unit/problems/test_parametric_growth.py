"""Places of a decision process: where they split, what that gains, what one is worth; growth."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

import mepjax as mj
from mepjax import mdp
from mepjax.datasets import small_cells

from ...jitted import jitted

KEY = jax.random.key(0)
# Two cells at one place and one alone, off any solution.
CELLS = np.array([[0.5, 0.4], [0.5, 0.4], [0.2, 0.8]])
BETA = 3.0


@eqx.filter_jit
def dense(problem, y, beta):
    hessian = jax.hessian(problem.free_energy)(y, beta)
    return hessian, problem.metric(y, beta).as_matrix().reshape(hessian.shape)


def critical(problem, y, one, other):
    """Critical beta of two members of a group, from dense matrices."""
    hessian, metric = dense(problem, jnp.asarray(y), BETA)
    h, g = (np.asarray(m[one, :, one] - m[one, :, other]) for m in (hessian, metric))
    return BETA / (1 - scipy.linalg.eigh(h, g)[0][0])


def with_the_last_cell_twice(network):
    """Written out: the last of three cells is there twice, each with half of its prior."""
    n, states = len(network.users), len(network.users) + 5
    places = jnp.concatenate([network.users, jnp.zeros((4, 2)), network.base[None]])
    after = np.broadcast_to(n + np.arange(5), (states, 5)).copy()
    after[-1] = states - 1
    prior = np.tile([0.25, 0.25, 0.125, 0.125, 0.25], (states, 1))
    prior[:n] = np.array([2, 2, 1, 1, 0]) / 6
    return mj.ParametricMDP(
        mdp.Deterministic(after), state_params=places, unknown_states=range(n, n + 4),
        terminal=[states - 1], prior=prior, permitted=prior > 0,
        start=np.where(np.arange(states) < n, 1 / n, 0.0),
    )  # fmt: skip


@pytest.mark.slow
def test_spectrum_is_that_of_dense_matrices_and_of_processes_written_out():
    with jax.enable_x64(True):
        network = small_cells(7, 3, seed=2)
        problem = network.problem()
        spectrum = jax.device_get(jitted.slot_spectrum(problem, jnp.asarray(CELLS), BETA))
        tied = critical(problem, CELLS, 0, 1)
        np.testing.assert_allclose(spectrum.critical_beta[:2], tied, rtol=1e-9)
        written = with_the_last_cell_twice(network)
        alone = critical(written, np.concatenate([CELLS, CELLS[2:]]), 2, 3)
        np.testing.assert_allclose(spectrum.critical_beta[2], alone, rtol=1e-9)
        traffic = problem.traffic(jnp.asarray(CELLS), BETA)
        np.testing.assert_allclose(spectrum.mass, traffic.sum(1)[7:10], rtol=1e-12)
        # What the pair gains is what F of that process falls by.
        energy = jitted.free_energy
        before = energy(problem, jnp.asarray(CELLS), BETA)
        split = np.concatenate([CELLS[:2], spectrum.first[2:], spectrum.second[2:]])
        fallen = before - energy(written, jnp.asarray(split), BETA)
        assert fallen > 0
        np.testing.assert_allclose(spectrum.gain[2], fallen, rtol=1e-9)
        # Without a cell there is another to go to, by the plan of two.
        hard = float(problem.harden(jnp.asarray(CELLS)).cost)
        fewer = small_cells(7, 2, seed=2).problem()
        np.testing.assert_allclose(spectrum.removal[:2], 0.0, atol=1e-12)
        without = float(fewer.harden(jnp.asarray(CELLS[:2])).cost) - hard
        assert without > 0
        np.testing.assert_allclose(spectrum.removal[2], without, rtol=1e-9)


@pytest.mark.slow
def test_at_one_place_all_split_at_the_first_transition():
    with jax.enable_x64(True):
        problem = small_cells(7, 3, seed=2).problem()
        spectrum = jitted.slot_spectrum(problem, problem.init(KEY)[jnp.zeros(3, int)], 0.7)
        np.testing.assert_allclose(spectrum.critical_beta, problem.beta_scale(), rtol=1e-9)


def test_unknown_actions_of_one_step_split_as_clusters_do():
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x, k = rng.normal(size=(12, 2)), 4
        problem = mj.ParametricMDP(
            mdp.Deterministic(np.full((13, k), 12)), terminal=[12],
            state_params=np.concatenate([x, [[0.0, 0.0]]]),
            action_params=np.zeros((k, 2)), unknown_actions=range(k),
        )  # fmt: skip
        same = mj.Clustering(jnp.asarray(x), k)
        y = jnp.asarray(rng.normal(size=(2, 2)).repeat(2, axis=0))
        ours, theirs = jitted.slot_spectrum(problem, y, 1.7), jitted.slot_spectrum(same, y, 1.7)
        np.testing.assert_allclose(ours.critical_beta, theirs.critical_beta, rtol=1e-9)
        np.testing.assert_allclose(ours.mass, theirs.mass, rtol=1e-9)
        y = jnp.asarray(x[:4])
        ours, theirs = jitted.slot_spectrum(problem, y, 1e3), jitted.slot_spectrum(same, y, 1e3)
        np.testing.assert_allclose(ours.removal, theirs.removal, rtol=1e-9)


def test_what_tells_places_apart_leaves_no_spectrum():
    network = small_cells(6, 2, seed=1)
    assert network.problem().has_slot_spectrum and network.problem().exchangeable
    assert network.problem(discount=0.9, extra_costs=0.1 * np.ones((9, 3))).has_slot_spectrum
    dear = np.zeros((9, 3))
    dear[:, 1] = 0.1
    for options in ({"extra_costs": dear}, {"entropy": "policy"}, {"cost": mj.costs.Euclidean()}):
        assert not network.problem(**options).exchangeable
    slipping = small_cells(6, 2, seed=1, slip=0.1).problem()
    assert not slipping.exchangeable
    with pytest.raises(NotImplementedError, match="differ in more than where they are"):
        slipping.slot_spectrum(jnp.zeros((2, 2)), 1.0)
    one_way = mdp.Deterministic([[1, 2], [2, 3], [3, 3], [3, 3]])
    chain = mj.ParametricMDP(
        one_way, state_params=jnp.zeros((4, 2)), unknown_states=[1, 2], terminal=[3]
    )
    assert not chain.exchangeable


def test_a_start_is_drawn_by_weight():
    problem = small_cells(6, 2, seed=1).problem()
    drawn = problem.subsample(KEY, 2).start
    np.testing.assert_allclose(jnp.sum(drawn), 1.0)
    assert int(jnp.sum(drawn > 0)) == 2 and np.all(np.asarray(problem.start)[drawn > 0] > 0)


@pytest.mark.slow
def test_growth_and_repair_find_what_many_random_starts_do():
    """The default detector grows; over layouts it is not above the best of 30 starts."""
    ratios = []
    for seed in range(3):
        problem = small_cells(20, 4, seed=seed).problem()
        grown = mj.anneal(problem, key=KEY, repair=mj.Repair()).raise_if_failed()
        assert int(mj.n_distinct(problem, grown.params)) == 4
        starts = jax.random.uniform(jax.random.key(seed), (30, 4, 2))
        schedule = mj.Explicit([float(grown.beta)])

        @jax.jit
        def solved(start, problem=problem, schedule=schedule):
            ended = mj.anneal(
                problem, schedule, key=KEY, init=start, detector=mj.NoDetector(noise=0.0)
            )
            return problem.harden(ended.params).cost

        best = jnp.min(jax.lax.map(solved, starts))
        ratios.append(float(problem.harden(grown.params).cost / best))
    assert np.mean(ratios) <= 1.005, ratios
