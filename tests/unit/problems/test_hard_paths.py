import itertools

import jax
import numpy as np
import pytest

import mepjax as mj

from ...oracles import paths_numpy as oracle

N, M, STAGES = 5, 2, 2
Z = np.array([[2.0, 0.0], [2.5, 1.0]])


def build(**options):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(N, 2)), np.array([[0.6, 0.2], [1.4, -0.1]])
    weights = options.pop("weights", None)
    problem = mj.FacilityPath(x, Z, M, n_stages=STAGES, weights=weights, **options)
    return problem, x, y


def brute_force(problem, x, y, meets, **switches):
    """The least cost of all ways to give every node a walk."""
    walks = oracle.walks((N, M, len(Z), STAGES), **switches)
    rho = np.asarray(problem.weights)
    rho = rho / rho.sum()
    cost = oracle.walk_costs(walks, oracle.squared_costs(x, y, Z))
    best = np.inf
    # Of the walks with the same use only the cheapest can be taken.
    used = np.concatenate(
        [walks.visits, walks.entry, walks.links.sum(1).reshape(len(cost.T), -1)], 1
    )
    kinds = np.unique(used, axis=0)
    cheapest = np.stack([cost[:, (used == kind).all(1)].min(1) for kind in kinds], axis=1)
    for choice in itertools.product(range(len(kinds)), repeat=N):
        total = rho @ cheapest[np.arange(N), list(choice)]
        if total < best:
            use = rho @ kinds[list(choice)]
            if meets(use[:M], use[M : 2 * M], use[2 * M :].reshape(M, M)):
                best = total
    return best


CASES = {
    "entry": ({"entry_capacity": [0.4, 0.6]}, lambda v, e, f: (e <= [0.41, 0.61]).all()),
    "entry not whole": ({"entry_capacity": [0.5, 0.7]}, lambda v, e, f: (e <= [0.5, 0.7]).all()),
    "entry equal": (
        {"entry_capacity": mj.Equal([0.2, 0.8])},
        lambda v, e, f: np.allclose(e, [0.2, 0.8]),
    ),
    "visits": ({"facility_capacity": [0.6, 0.6]}, lambda v, e, f: (v <= 0.61).all()),
    "visits equal": (
        {"facility_capacity": mj.Equal([0.6, 1.0])},
        lambda v, e, f: np.allclose(v, [0.6, 1.0]),
    ),
    "links": (
        {"link_capacity": [[0.0, 0.2], [0.2, 0.0]], "entry_capacity": [0.8, 0.2]},
        lambda v, e, f: f[0, 1] <= 0.21 and f[1, 0] <= 0.21 and (e <= [0.81, 0.21]).all(),
    ),
}


@pytest.mark.parametrize("switch", [{}, {"max_hops": np.array([1, 2, 2, 1, 2])}, {"direct": True}])
@pytest.mark.parametrize("case", CASES)
def test_whole_nodes_meet_capacities_at_least_cost(case, switch):
    options, meets = CASES[case]
    problem, x, y = build(**options, **switch)
    expected = brute_force(problem, x, y, meets, **switch)
    hard = problem.harden(problem.at(y), capacities="assign")
    np.testing.assert_allclose(hard.cost, expected, rtol=1e-9)
    np.testing.assert_allclose(hard.cost, np.mean(hard.node_costs), rtol=1e-12)
    # The routes cost what they are said to, and meet the capacities.
    visits, entries, links = np.zeros(M), np.zeros(M), np.zeros((M, M))
    for i, (route, end) in enumerate(zip(hard.routes, hard.destinations, strict=True)):
        stops = [int(j) for j in route if j >= 0]
        points = [x[i], *y[stops], Z[end]]
        length = sum(float(((a - b) ** 2).sum()) for a, b in itertools.pairwise(points))
        np.testing.assert_allclose(hard.node_costs[i], length, rtol=1e-9)
        for j in stops:
            visits[j] += 1 / N
        if stops:
            entries[stops[0]] += 1 / N
        for a, b in itertools.pairwise(stops):
            links[a, b] += 1 / N
    assert meets(visits, entries, links)


def test_bounds_on_entries_admit_unequal_weights():
    weights = np.array([3.0, 1.0, 1.0, 2.0, 1.0])
    problem, x, y = build(weights=weights, entry_capacity=[0.5, 0.6])
    expected = brute_force(problem, x, y, lambda v, e, f: (e <= [0.5 + 1e-9, 0.6 + 1e-9]).all())
    hard = problem.harden(problem.at(y), capacities="assign")
    np.testing.assert_allclose(hard.cost, expected, rtol=1e-9)


def test_what_whole_nodes_cannot_do_is_said():
    problem, _, y = build(entry_capacity=[0.55, 0.5])
    with pytest.raises(mj.SolveError, match="Whole nodes were asked for"):
        problem.harden(problem.at(y), capacities="assign")
    problem, _, y = build(facility_capacity=[0.9, 0.9], weights=np.arange(1.0, N + 1))
    with pytest.raises(ValueError, match="needs equal weights"):
        problem.harden(problem.at(y), capacities="assign")
    with pytest.raises(ValueError, match="must be 'ignore' or 'assign'; got 'strict'"):
        problem.harden(problem.at(y), capacities="strict")
    problem, _, y = build(entry_capacity=[0.4, 0.6])
    with pytest.raises(TypeError, match="cannot be traced"):
        jax.jit(lambda p: problem.harden(p, capacities="assign").cost)(problem.at(y))


def test_ignoring_capacities_takes_the_cheapest_routes():
    problem, x, y = build(entry_capacity=[0.4, 0.6])
    ignored = problem.harden(problem.at(y)).cost
    np.testing.assert_allclose(ignored, brute_force(problem, x, y, lambda v, e, f: True))
    assert ignored <= problem.harden(problem.at(y), capacities="assign").cost
