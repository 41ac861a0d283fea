"""Networks as values of a population: near the optimum where agents interact."""

import jax
import numpy as np
import pytest

from mepjax import learn, mdp
from mepjax.mdp.values import AbstractValues
from tests.unit.mdp.steering import LABELS, SIZES, STATES, draw

pytest.importorskip("flax")
pytest.importorskip("optax")


def solved(**options):
    model, force = draw(1)
    network: AbstractValues = learn.NetworkValues((16,), **options)
    found = mdp.steer_fitted(
        model, LABELS, network, key=jax.random.key(0), method=mdp.FittedIteration(max_steps=400)
    )
    return model, force(LABELS), found


def test_a_network_has_nearly_the_values_of_the_optimum_and_its_policy_is_worth_them():
    model, force, found = solved()
    best, _ = force.solve()
    assert found.code == 0
    np.testing.assert_allclose(found.values, best, rtol=0.02)
    states = np.stack(np.unravel_index(np.arange(STATES), SIZES), -1)
    policy = np.asarray(found.signals(model, states))
    assert np.all(force.evaluate(policy) >= 0.98 * best)


@pytest.mark.slow
def test_sampled_next_states_do_nearly_as_well():
    _, force, found = solved(draws=64)
    best, _ = force.solve()
    assert found.code == 0
    np.testing.assert_allclose(found.values, best, rtol=0.04)


def test_what_is_refused():
    with pytest.raises(ValueError, match="`draws` must be at least 1 or None; got 0"):
        learn.NetworkValues(draws=0)
    with pytest.raises(ValueError, match="`learning_rate` must be positive; got -1"):
        learn.NetworkValues(learning_rate=-1)
    big = mdp.FactoredMDP(
        [mdp.Local(np.full((2, 2, 2), 0.5))] * 26,
        mdp.Separable([np.zeros((2, 2))] * 26),
        sizes=[2] * 26,
        signals=2,
        discount=0.9,
    )
    with pytest.raises(ValueError, match=r"next states hold .* NetworkValues\(draws=...\)"):
        mdp.steer_fitted(big, np.zeros(26, int), learn.NetworkValues(), key=jax.random.key(0))
