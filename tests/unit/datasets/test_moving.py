"""`mepjax.datasets.moving_network`."""

import numpy as np
import pytest

from mepjax.datasets import moving_network, supply_network


def test_it_starts_as_the_supply_network_and_moves_in_towns():
    nodes, destination, velocity = moving_network(60, groups=3, seed=4)
    still = supply_network(60, groups=3, seed=4)
    np.testing.assert_array_equal(nodes, still[0])
    np.testing.assert_array_equal(destination, still[1])
    moves = velocity(1.7, None, None)
    assert moves["nodes"].shape == (60, 2) and moves["destinations"].shape == (1, 2)
    towns = np.asarray(moves["nodes"]).reshape(20, 3, 2)
    # Nodes stray from their town at a fifth of its speed.
    np.testing.assert_allclose(np.std(towns, axis=0), 0.2 * 0.3, rtol=0.5)
    steady = np.mean(np.asarray(velocity.swing)[:-1].reshape(20, 3, 2), axis=0)
    np.testing.assert_allclose(velocity.swing[0], steady[0], rtol=1e-6)
    again = moving_network(60, groups=3, seed=4).velocity(1.7, None, None)
    np.testing.assert_array_equal(moves["nodes"], again["nodes"])
    other = moving_network(60, groups=3, seed=5).velocity(1.7, None, None)
    assert not np.array_equal(moves["nodes"], other["nodes"])


@pytest.mark.parametrize("speed", [-1.0, np.inf])
def test_a_bad_speed_is_refused(speed):
    with pytest.raises(ValueError, match="`speed` must be finite and >= 0"):
        moving_network(3, speed=speed)


def test_nothing_moves_at_no_speed():
    moves = moving_network(3, speed=0.0).velocity(0.0, None, None)
    assert not np.any(moves["nodes"]) and not np.any(moves["destinations"])
