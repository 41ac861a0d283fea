"""Random systems of three agents, with their brute force, for the tests of steering."""

import jax
import jax.numpy as jnp
import numpy as np

from mepjax import mdp
from mepjax.mdp.arrangement import arrange, check_labels
from mepjax.mdp.clustered import ClusteredMDP
from mepjax.mdp.rewards import StateReward
from tests.oracles.steering_numpy import BruteForce, as_joint, random_local, random_tables

SIZES, SIGNALS, DISCOUNT = (2, 3, 2), 2, 0.9
STATES = 12
LABELS = (0, 1, 1)


def draw(seed, local=False, separable=False, discount=DISCOUNT):
    """(model, brute force of a clustering) of a random system."""
    rng = np.random.default_rng(seed)
    if local:
        own = random_local(rng, SIZES, SIGNALS)
        tables, behaviours = as_joint(own, SIZES), [mdp.Local(p) for p in own]
    else:
        tables = behaviours = random_tables(rng, SIZES, SIGNALS)
    if separable:
        earned = [rng.uniform(size=(size, SIGNALS)) for size in SIZES]
        reward = mdp.Separable(earned)

        def by_agent(x, heard):
            return sum(r[s, a] for r, s, a in zip(earned, x, heard, strict=True))

        brute = by_agent
    else:
        reward = rng.uniform(size=STATES)
        grid = reward.reshape(SIZES)

        def by_state(x, heard):
            return grid[x]

        brute = by_state

    model = mdp.FactoredMDP(behaviours, reward, sizes=SIZES, signals=SIGNALS, discount=discount)

    def force(labels):
        return BruteForce(tables, brute, SIZES, labels, [SIGNALS] * (max(labels) + 1), discount)

    return model, force


def earned_in_states(model):
    """Rewards (states,) of a model that earns by its state alone."""
    assert isinstance(model.reward, StateReward)
    return model.reward.table


def stack(models):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)


def operator(model, labels):
    full, count = check_labels(model, np.asarray(labels), None)
    return ClusteredMDP(model, arrange(model, full, count))


def mixed_model(rng):
    """Every kind of behaviour once, a group among them, and the tables that brute force needs."""
    sizes = (2, 3, 2, 2)
    digits = np.stack(np.unravel_index(np.arange(24), sizes), -1)
    local = random_local(rng, (2,), 2)[0]
    scoped = rng.dirichlet(np.ones(3), size=(4, 2))  # of agent 1, parents 3 and 0
    joint = rng.dirichlet(np.ones(4), size=(24, 2))  # of the group of agents 2 and 3
    behaviours = [
        mdp.Local(local),
        mdp.Group([2, 3], joint),
        mdp.Scoped(scoped, [3, 0]),
    ]
    tables = [local[digits[:, 0]], scoped[digits[:, 3] * 2 + digits[:, 0]]]
    return sizes, behaviours, tables, joint
