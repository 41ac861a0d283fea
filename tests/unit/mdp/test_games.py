"""Games as factored MDPs, against responses computed by hand and brute force."""

import jax.numpy as jnp
import numpy as np
import pytest

from mepjax import datasets, mdp
from mepjax.datasets.channels import BANDWIDTHS, COSTS
from tests.oracles.steering_numpy import BruteForce


def followed(behaviour):
    """Next states (states, signals) of a player without noise."""
    assert isinstance(behaviour, mdp.NextState)
    return behaviour.table


def likely(behaviour):
    """Probabilities (states, signals, own) of a player's next states."""
    assert isinstance(behaviour, mdp.Table)
    return behaviour.p


def channel_utility(beta, player):
    """u_n for having chosen x[player], from the formula of the paper."""

    def utility(x, signal):
        own = x[player]
        others = sum(x[n] == own for n in range(len(x)) if n != player)
        return BANDWIDTHS[own] / (1 + others) - beta * COSTS[signal][own]

    return utility


@pytest.mark.parametrize("scenario", ["revenue", "medium"])
def test_channel_game_is_that_of_the_paper(scenario):
    beta = np.random.default_rng(3).uniform(size=3)
    model = datasets.channel_game(3, scenario=scenario, seed=3)
    tables = []
    for player in range(3):
        utility = channel_utility(beta[player], player)
        table = np.zeros((27, 3, 3))
        for x, chosen in enumerate(np.ndindex(3, 3, 3)):
            for signal in range(3):
                options = [
                    utility([*chosen[:player], own, *chosen[player + 1 :]], signal)
                    for own in range(3)
                ]
                table[x, signal, int(np.argmax(options))] = 1
        np.testing.assert_array_equal(followed(model.behaviours[player]), table.argmax(-1))
        tables.append(table)

    def earned(x, heard):
        if scenario == "medium":
            return float(sum(own == 1 for own in x))
        return sum(COSTS[signal][own] for own, signal in zip(x, heard, strict=True))

    best = BruteForce(tables, earned, (3, 3, 3), (0, 1, 1), (3, 3), 0.9).solve()[0]
    np.testing.assert_allclose(mdp.steer(model, [0, 1, 1]).values, best, rtol=1e-8)


def pair(**options):
    """Two players who want to agree (signal 0) or differ (signal 1)."""

    def utility(x, signal):
        return float((x[0] == x[1]) == (signal == 0))

    return mdp.game(
        [utility, utility], [1.0, 0, 0, 1], sizes=(2, 2), signals=2, discount=0.9, **options
    )


def test_best_responses_break_ties_as_asked():
    flat = [np.zeros((4, 1)), np.zeros((4, 1))]

    def rows(ties):
        return mdp.game(
            flat,
            np.zeros(4),
            sizes=(2, 2),
            signals=1,
            discount=0.9,
            response=mdp.BestResponse(ties=ties),
        ).behaviours

    assert followed(rows("first")[1])[:, 0].tolist() == [0, 0, 0, 0]
    assert followed(rows("stay")[1])[:, 0].tolist() == [0, 1, 0, 1]
    np.testing.assert_allclose(likely(rows("uniform")[1])[:, 0], 0.5)


def test_logit_responses_and_inertia():
    model = pair(response=mdp.Logit(0.5), inertia=0.3)
    agree = np.exp(2) / (np.exp(2) + 1)
    # Player 0 in state (0, 1) under signal 0: agreeing is action 1; it keeps 0 with .3.
    np.testing.assert_allclose(
        likely(model.behaviours[0])[1, 0], [0.3 + 0.7 * (1 - agree), 0.7 * agree], atol=1e-12
    )


def test_round_robin_moves_one_player_at_a_time():
    model = pair(order="round-robin")
    assert model.sizes == (2, 2, 2) and model.steered == (0, 1)
    # Who disagrees and is told to agree: with turn 0 player 0 moves, with turn 1 player 1.
    at = model.state(0, 1, 0), model.state(0, 1, 1)
    first, second, turn = map(followed, model.behaviours)
    assert [int(first[x, 0]) for x in at] == [1, 0]
    assert [int(second[x, 0]) for x in at] == [1, 0]
    assert [int(turn[x, 0]) for x in at] == [1, 0]
    found = mdp.steer(model, [0, 1])
    np.testing.assert_allclose(found.values[jnp.asarray(at)], 9.0, atol=1e-7)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"order": "random"}, "not transition-independent: exactly one player moves"),
        ({"order": "sometimes"}, "`order` must be"),
        ({"inertia": 1.5}, r"`inertia` must be in \[0, 1\]; got 1.5"),
    ],
)
def test_games_that_are_no_factored_mdp_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        pair(**changed)


def test_utilities_and_options_are_checked():
    with pytest.raises(ValueError, match=r"player 1 must have shape \(4, 2\).*got \(4, 1\)"):
        mdp.game(
            [np.zeros((4, 2)), np.zeros((4, 1))],
            np.zeros(4),
            sizes=(2, 2),
            signals=2,
            discount=0.9,
        )
    with pytest.raises(ValueError, match="`temperature` must be positive"):
        mdp.Logit(0.0)
    with pytest.raises(ValueError, match="`ties` must be"):
        mdp.BestResponse(ties="last")
    with pytest.raises(ValueError, match="`scenario` must be"):
        datasets.channel_game(scenario="rich")
