"""`mepjax.datasets.prosumer_grid`."""

import numpy as np
import pytest

from mepjax.datasets import prosumer_grid, supply_network


def test_a_grid_is_what_it_says():
    grid = prosumer_grid(25, 5, seed=3, margin=1.5, line=0.1)
    np.testing.assert_array_equal(grid.consumers, supply_network(25, seed=3)[0])
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(grid.priority) > 1), [0, 10, 20])
    output, lines = np.asarray(grid.output), np.asarray(grid.lines)
    np.testing.assert_allclose(output.sum(), 1.5, rtol=1e-6)
    assert output.max() <= 3 * output.min()
    np.testing.assert_array_equal(lines, lines.T)
    assert np.all(np.diag(lines) == 0) and np.all(lines[0, 1:] > 0)
    assert np.all((lines == 0) | np.isclose(lines, 0.1))
    # Each has lines to its two nearest, found by brute force.
    places = np.asarray(grid.producers)
    for a in range(5):
        order = sorted(set(range(5)) - {a}, key=lambda b: np.linalg.norm(places[a] - places[b]))
        assert np.all(lines[1 + a, [1 + b for b in order[:2]]] > 0)
    again, other = prosumer_grid(25, 5, seed=3), prosumer_grid(25, 5, seed=4)
    np.testing.assert_array_equal(again.producers, grid.producers)
    assert not np.array_equal(other.producers, grid.producers)


@pytest.mark.parametrize("producers", [1, 4])
def test_its_problem_has_its_limits(producers):
    grid = prosumer_grid(11, producers)
    problem = grid.problem(max_hops=1)
    assert problem.fixed is not None and problem.capacities is not None
    entry, link = problem.capacities.entry, problem.capacities.link
    assert entry is not None and link is not None
    assert problem.n_facilities == 1 and problem.fixed.shape == (producers, 2)
    np.testing.assert_array_equal(entry.limit, grid.output)
    np.testing.assert_array_equal(link.limit, grid.lines)
    # Weights are normalised; what is critical counts five times.
    np.testing.assert_allclose(problem.weights[0], 5 * problem.weights[1], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "value"), [("producers", 0), ("margin", 0.9), ("margin", np.inf), ("line", 0.0)]
)
def test_bad_arguments_are_refused(name, value):
    with pytest.raises(ValueError, match=f"prosumer_grid: `{name}` must be"):
        prosumer_grid(5, **{name: value})
