import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj

X = np.random.default_rng(3).normal(size=(6, 2))
Z = np.array([[2.0, 0.0]])
STEP = 1e-5
FIELDS = {
    "nodes": lambda q: q.nodes,
    "destinations": lambda q: q.destinations,
    "weights": lambda q: q.weights,
    "facility_capacity": lambda q: q.capacities.facility.limit,
}


@pytest.fixture(scope="module")
def solved():
    with jax.enable_x64(True):
        weights = np.array([1.0, 2.0, 1.5, 1.0, 0.5, 1.0])
        problem = mj.FacilityPath(X, Z, 2, weights=weights, facility_capacity=[0.6, 0.8])

        @eqx.filter_jit
        def solve(problem):
            solution = mj.anneal(
                problem, mj.Geometric(0.2, 3.0, 1.3, max_stages=16), key=jax.random.key(1)
            )
            return solution.params.primal, solution.free_energy, solution.params, solution.code

        places, _, params, code = solve(problem)
        assert int(code) == mj.Code.OK
        assert float(params.dual.facility.max()) > 1e-3
        return problem, solve, params, problem.sensitivities(params, 3.0)


@pytest.mark.parametrize("name", FIELDS)
def test_derivatives_are_those_of_solving_again(solved, name):
    problem, solve, _, found = solved
    get = FIELDS[name]
    array = np.asarray(get(problem))
    entry = (1,) if array.shape[0] > 1 else (0,)
    columns, slopes = [], []
    for axis in np.ndindex(array.shape[1:]):
        index = entry + axis
        moved = []
        for sign in (1, -1):
            changed = array.copy()
            changed[index] += sign * STEP
            moved.append(solve(eqx.tree_at(get, problem, jnp.asarray(changed))))
        (above, high, *_), (below, low, *_) = moved
        columns.append(np.ravel(above - below) / (2 * STEP))
        slopes.append(float(high - low) / (2 * STEP))
    np.testing.assert_allclose(
        np.ravel(found.free_energy[name][entry]), slopes, rtol=1e-5, atol=1e-8
    )
    expected = np.linalg.norm(np.stack(columns), 2)
    np.testing.assert_allclose(found.locations[name][entry], expected, rtol=1e-5)


def test_ranking_puts_the_most_influential_first(solved):
    _, _, _, found = solved
    sizes = np.linalg.norm(found.free_energy["nodes"], axis=1)
    np.testing.assert_array_equal(found.ranked("nodes"), np.argsort(-sizes))
    order = found.ranked("nodes", by="locations")
    assert (np.diff(np.asarray(found.locations["nodes"])[order]) <= 0).all()
    with pytest.raises(KeyError, match="`name` must be one of"):
        found.ranked("roads")
    with pytest.raises(ValueError, match="`by` must be"):
        found.ranked("nodes", by="size")
