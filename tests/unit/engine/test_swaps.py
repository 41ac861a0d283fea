"""Random swaps of slots where no spectrum tells which to move."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

# Three facilities of which one may travel only from each to the next.
MASK = np.array([[0, 1, 0], [0, 0, 1], [0, 0, 0]], bool)
PLACES = np.array([[0.0, 0.0], [2.0, 0.3], [4.0, 0.0]])


def chain(weights=None):
    rng = np.random.default_rng(0)
    near = np.concatenate([place + 0.2 * rng.normal(size=(6, 2)) for place in PLACES])
    nodes = jnp.asarray(near)
    return mj.FacilityPath(nodes, jnp.array([6.0, 0.0]), 3, links=MASK, weights=weights)


def ended(problem, start, swaps):
    return mj.anneal(
        problem,
        mj.Explicit([20.0]),
        key=jax.random.key(0),
        init=start,
        repair=mj.Repair(swaps=swaps) if swaps else None,
    )


def test_swaps_find_the_order_in_which_masked_facilities_stand_best():
    problem = chain()
    orders = [jnp.asarray(PLACES)[np.array(order)] for order in itertools.permutations(range(3))]
    energies = [
        float(problem.free_energy(ended(problem, start, 0).params, 20.0)) for start in orders
    ]
    worst = orders[int(np.argmax(energies))]
    found = ended(problem, worst, 30)
    assert max(energies) > 1.2 * min(energies)
    assert found.code == mj.Code.OK
    np.testing.assert_allclose(problem.free_energy(found.params, 20.0), min(energies), rtol=1e-4)


@pytest.mark.slow
def test_swaps_are_the_same_inside_jit_and_have_the_derivative_of_the_solution():
    start = jnp.asarray(PLACES)[np.array([2, 0, 1])]

    def energy(weights):
        problem = chain(weights)
        return problem.free_energy(ended(problem, start, 30).params, 20.0)

    weights = jnp.linspace(0.5, 1.5, 18)
    value, slope = jax.jit(jax.value_and_grad(energy))(weights)
    np.testing.assert_allclose(value, energy(weights), rtol=1e-5)
    held = ended(chain(weights), start, 30).params
    envelope = jax.grad(lambda w: chain(w).free_energy(held, 20.0))(weights)
    np.testing.assert_allclose(slope, envelope, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_swaps_take_a_facility_from_where_it_is_idle_under_limits_of_entries():
    nodes = chain().nodes
    problem = mj.FacilityPath(
        nodes, jnp.array([6.0, 0.0]), 3, entry_capacity=jnp.array([0.2, 0.3, 0.5])
    )
    start = problem.at(
        jnp.broadcast_to(jnp.asarray(PLACES[2]), (3, 2)) + 0.05 * jnp.arange(3.0)[:, None]
    )
    without, found = (ended(problem, start, swaps) for swaps in (0, 30))
    assert found.code == mj.Code.OK
    many = [ended(problem, problem.scatter(jax.random.key(seed)), 0) for seed in range(4)]
    best = min(float(problem.free_energy(run.params, 20.0)) for run in many)
    energies = [float(problem.free_energy(run.params, 20.0)) for run in (without, found)]
    assert energies[1] < energies[0] and energies[1] < best * 1.001
