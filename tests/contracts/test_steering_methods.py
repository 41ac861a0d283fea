"""What every method of `mdp.steer` keeps: one program a method, one lane for each way to say it.

Exact methods agree with brute force and so with each other; all end where no cluster alone does
better. Agents in another order, clusters with other names or in another order and a constant more
in the rewards change only what they should.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import Code, mdp
from tests.oracles.steering_numpy import BruteForce, random_tables

SIZES, SIGNALS, DISCOUNT = (2, 3, 2), 2, 0.9
STATES, LABELS = 12, (0, 1, 1)
DRAWS, MORE = 3, -3.0
# Agents 0 and 2 change places: where the states are then, and the labels.
SWAPPED = np.arange(STATES).reshape(SIZES).transpose(2, 1, 0).reshape(-1)

EXACT = (
    mdp.Hybrid(),
    mdp.ValueIteration(),
    mdp.ModifiedPolicyIteration(sweeps=5),
    mdp.PolicyIteration(),
)
ONE_CLUSTER = (mdp.CVI(), mdp.ClusteredPolicyIteration(), mdp.ApproximatePolicyIteration())
BY_NAME = {type(method).__name__: method for method in (*EXACT, *ONE_CLUSTER)}


class Saying(NamedTuple):
    """One system in one of the ways to say it."""

    tables: list[np.ndarray]
    reward: np.ndarray
    labels: tuple[int, ...]
    order: tuple[int, ...] = (0, 1)


def sayings(seed):
    """A random system: as it is, more reward, agents moved, clusters renamed, others first."""
    rng = np.random.default_rng(seed)
    tables, reward = random_tables(rng, SIZES, SIGNALS), rng.uniform(size=STATES)
    moved = [tables[agent][SWAPPED] for agent in (2, 1, 0)]
    renamed = tuple(1 - label for label in LABELS)
    return {
        "as it is": Saying(tables, reward, LABELS),
        "more reward": Saying(tables, reward + MORE, LABELS),
        "agents moved": Saying(moved, reward[SWAPPED], LABELS[::-1]),
        "clusters renamed": Saying(tables, reward, renamed, (1, 0)),
        "others first": Saying(tables, reward, LABELS, (1, 0)),
    }


def force(said):
    grid = said.reward.reshape(SIZES)
    return BruteForce(
        said.tables, lambda x, heard: grid[x], SIZES, said.labels, [SIGNALS] * 2, DISCOUNT
    )


def solved(method):
    """(ways to say it, what was found) of every draw."""
    drawn = [sayings(seed) for seed in range(DRAWS)]
    lanes = [said for ways in drawn for said in ways.values()]

    def solve(tables, reward, labels, order):
        model = mdp.FactoredMDP(tables, reward, sizes=SIZES, signals=SIGNALS, discount=DISCOUNT)
        return mdp.steer(model, labels, method=method, order=order, clusters=2)

    stacked = [jnp.asarray(np.stack([getattr(s, f) for s in lanes])) for f in Saying._fields[1:]]
    tables = [jnp.asarray(np.stack([said.tables[n] for said in lanes])) for n in range(3)]
    found = jax.device_get(jax.jit(jax.vmap(solve))(tables, *stacked))
    assert np.all(found.code == Code.OK)
    leaves, form = jax.tree.flatten(found)
    each = [jax.tree.unflatten(form, of_lane) for of_lane in zip(*leaves, strict=True)]
    ways = len(drawn[0])
    return [
        (said, dict(zip(said, each[draw * ways : (draw + 1) * ways], strict=True)))
        for draw, said in enumerate(drawn)
    ]


@pytest.mark.parametrize("name", BY_NAME)
def test_every_method_keeps_what_steering_promises(name):
    exact = BY_NAME[name] in EXACT
    for said, found in solved(BY_NAME[name]):
        base = found["as it is"]
        brute = force(said["as it is"])
        best, _ = brute.solve()
        np.testing.assert_allclose(brute.evaluate(base.policy), base.values, atol=1e-7)
        for cluster in range(2):
            improved, _ = brute.cluster_backup(base.values, base.policy, cluster)
            np.testing.assert_allclose(improved, base.values, atol=1e-7)
        # Theorem 3, both sides, with one full sweep from values that need not be optimal.
        full = np.max(np.abs(brute.backup(base.values)[0] - base.values))
        gap = np.max(np.abs(best - base.values))
        assert full / (1 + DISCOUNT) - 1e-10 <= gap <= full / (1 - DISCOUNT) + 1e-10
        np.testing.assert_array_less(base.lower, best + 1e-10)
        np.testing.assert_array_less(best - 1e-10, base.upper)
        if exact:
            np.testing.assert_allclose(base.values, best, atol=2e-8)
            assert base.certified
            np.testing.assert_allclose(found["others first"].values, best, atol=2e-8)
        else:
            np.testing.assert_allclose(base.residual, full, atol=1e-10)
        other, policy = found["others first"].values, found["others first"].policy
        for cluster in range(2):
            improved, _ = brute.cluster_backup(other, policy, cluster)
            np.testing.assert_allclose(improved, other, atol=1e-7)

        more, moved, renamed = (
            found[way] for way in ("more reward", "agents moved", "clusters renamed")
        )
        shift = MORE / (1 - DISCOUNT)
        np.testing.assert_allclose(more.values, base.values + shift, atol=1e-7)
        np.testing.assert_allclose(more.upper, base.upper + shift, atol=1e-7)
        np.testing.assert_array_equal(more.policy, base.policy)
        np.testing.assert_allclose(moved.values, base.values[SWAPPED], atol=2e-8)
        np.testing.assert_array_equal(moved.policy, base.policy[SWAPPED])
        np.testing.assert_allclose(renamed.values, base.values, atol=2e-8)
        np.testing.assert_array_equal(renamed.policy, base.policy[:, ::-1])
        assert more.certified == moved.certified == renamed.certified == base.certified
