"""Generated supply networks."""

import jax
import numpy as np
import pytest

from mepjax.datasets import supply_network


def test_nodes_are_around_their_towns():
    towns, destination = supply_network(6, spread=0.0)
    nodes, _ = supply_network(600, spread=0.3)
    assert destination.tolist() == [4.0, 7.0]
    assert np.all((np.asarray(towns) >= 0) & (np.asarray(towns) <= [11, 8]))
    offsets = np.asarray(nodes) - np.asarray(towns)[np.arange(600) % 6]
    np.testing.assert_allclose(offsets.std(axis=0), 0.3, rtol=0.1)
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=0.05)


def test_another_seed_has_other_towns_and_the_same_seed_the_same():
    first, second, again = (np.asarray(supply_network(20, seed=s)[0]) for s in (0, 1, 0))
    np.testing.assert_array_equal(first, again)
    assert np.max(np.abs(first - second)) > 1


def test_precision_and_number_of_nodes():
    with jax.enable_x64(False):
        nodes, destination = supply_network(7, groups=3)
    assert nodes.shape == (7, 2) and nodes.dtype == destination.dtype == np.float32
    np.testing.assert_allclose(nodes, supply_network(7, groups=3)[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n": 0}, "`n` must be at least 1; got 0"),
        ({"groups": 0}, "`groups` must be at least 1; got 0"),
        ({"spread": -1.0}, "`spread` must be finite and >= 0; got -1.0"),
        ({"spread": float("nan")}, "`spread` must be finite"),
    ],
)
def test_bad_arguments_are_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        supply_network(**arguments)
