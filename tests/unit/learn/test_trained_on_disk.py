"""A trained network on disk, going on from it, and moving it to other data."""
# pyright: reportArgumentType=false, reportOptionalMemberAccess=false

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax import Code, learn
from mepjax.learn.networks.learnt_costs import units
from mepjax.learn.networks.settings import TrainingState

from . import cases

KEY = jax.random.key(0)
SETTINGS: dict[str, Any] = {
    "options": {"width": 8, "heads": 2, "feedforward": 16, "head": (16,)},
    "batch": 1, "entities": 8, "draws": 1, "prefit": 2, "network_steps": 2, "centre_steps": 1,
    "cycles": 4,
}  # fmt: skip
ENVIRONMENT = learn.Simulated(mj.autonomy.Uniform(0.2))


def _begun():
    return learn.begin(
        cases.problem(), ENVIRONMENT, learn.Training(**SETTINGS), starts=2, fresh=50, key=KEY
    )


def _leaves(tree):
    data = jax.tree.map(
        lambda a: jax.random.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a,
        jax.tree.leaves(tree),
    )
    return [np.asarray(leaf) for leaf in data]


def _assert_same(one, two):
    one, two = _leaves(one), _leaves(two)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_what_goes_on_from_a_checkpoint_is_what_went_on_at_once(tmp_path):
    base = cases.problem()
    state = learn.advance(base, ENVIRONMENT, _begun(), 2)
    learn.save(tmp_path / "under way", base, state)
    read = learn.load(tmp_path / "under way", base, _begun())
    _assert_same(read.carry, state.carry)
    one, two = (learn.finish(base, ENVIRONMENT, each) for each in (state, read))
    _assert_same((one.params, one.state, one.trace), (two.params, two.state, two.trace))
    # What it ended with, on disk too, with every parameter and moment.
    learn.save(tmp_path / "done", base, one)
    again = learn.load(tmp_path / "done", base, one.learner)
    _assert_same((again.params, again.state), (one.params, one.state))
    np.testing.assert_array_equal(again.costs(base), one.costs(base))
    other = learn.Training(**(SETTINGS | {"centre_rate": 1e-2})).at_rest()
    with pytest.raises(ValueError, match="belongs to other learning"):
        learn.load(tmp_path / "done", base, other)
    # And it goes on from more interactions, which may come in any order.
    rng = np.random.default_rng(4)
    log = learn.Interactions(
        rng.integers(0, cases.N, 30),
        rng.integers(0, cases.K, 30),
        cost=rng.uniform(size=30),
        centres=rng.normal(size=(2, cases.K, 2)) + 3,
        round=rng.integers(0, 2, 30),
    )
    after = learn.update(again, base, log, key=KEY)
    assert int(after.code) == int(Code.OK)
    assert int(after.n_interactions) == int(one.n_interactions) + 30
    assert int(after.state.step) == int(one.state.step) + SETTINGS["network_steps"]
    moved = [np.any(a != b) for a, b in zip(*map(_leaves, (after.state, one.state)), strict=True)]
    # All but what cannot matter, such as biases of keys.
    assert np.mean(moved) > 0.8
    assert np.all(np.isfinite(after.params)) and np.any(np.asarray(after.params) != one.params)
    _assert_same(again.state, one.state)


def test_parameters_move_to_other_data_and_other_numbers_of_clusters():
    base = cases.problem()
    learner = learn.Training(**SETTINGS)
    state = learner.init(KEY, base)
    rng = np.random.default_rng(0)
    leaves, tree = jax.tree.flatten(state.average)
    before = jax.tree.unflatten(tree, [a + 0.3 * rng.normal(size=a.shape) for a in leaves])
    learnt = TrainingState(before, before, state.optimiser, state.step, None)
    wider = mj.Clustering(10 * rng.normal(size=(25, 2)), 5)
    after = learn.Training(**SETTINGS, init=learnt).init(jax.random.key(1), wider)
    _assert_same(after.params, before)
    # In spacings it is the same function, of other sizes.
    costs = learner.learnt_costs(after, wider)(wider.x, wider.x[:5])
    assert costs.shape == (25, 5) and np.all(np.asarray(costs) >= 0)
    at = (wider.x - wider.origin) / float(units(wider)[1])
    same = learner._frozen(wider)(before, at, at[:5], None, True)
    spacing = float(units(wider)[1])
    np.testing.assert_allclose(costs, spacing**2 * np.asarray(same), rtol=1e-10)
    with pytest.raises(ValueError, match=r"number of features \(3\)"):
        learn.Training(**SETTINGS, init=learnt).init(KEY, mj.Clustering(np.eye(3), 2))
