"""Section 6.3 of clustered control: channels, and how far choices left open move Figure 5."""

from typing import Any

import jax
import numpy as np

from .. import mdp
from ..datasets import channel_game
from .numbers import CVI_FIGURE_5
from .reproduction import Claim, Setting, Task

SCENARIOS = ("revenue", "medium")
_EXACTLY = mdp.ModifiedPolicyIteration()
# The paper leaves open the discount, who revises when, noise, the draws of sensitivities and what
# the values of all states are summarised by: scenario, words, options of the game.
AS_READ = (
    (1, "discount .9", {}),
    (2, "discount .9", {}),
    (1, "inertia .3, discount .98", {"inertia": 0.3, "discount": 0.98}),
)
CHOICES = (
    (1, "discount .5", {"discount": 0.5}),
    (1, "discount .95", {"discount": 0.95}),
    (1, "inertia .5, discount .9", {"inertia": 0.5}),
    (1, "inertia .3, discount .9", {"inertia": 0.3}),
    (1, "inertia .3, discount .95", {"inertia": 0.3, "discount": 0.95}),
    (1, "logit of temperature 5, discount .9", {"response": mdp.Logit(5.0)}),
    (1, "sensitivities Beta(.3, .3), discount .5", {"discount": 0.5, "sensitivity": 0.3}),
    (2, "discount .5", {"discount": 0.5}),
    (2, "discount .95", {"discount": 0.95}),
    (2, "inertia .35, sensitivities Beta(.3, .3), discount .95",
     {"inertia": 0.35, "discount": 0.95, "sensitivity": 0.3}),
)  # fmt: skip


def channels(setting: Setting, scenario: str, **options: Any) -> dict[str, Any]:
    """Section 6.3: 2-norms over that at C = 6, with exact values and with CVI inside.

    Beside them how often CVI misses the best values of random clusterings, and by how much, and
    what greedy splitting lacks to the best of all clusterings at C = 3 and 4.
    """
    draws, random = setting.pick(1, 2, 5), setting.pick(4, 10, 10)
    exactly, nearly = mdp.ModifiedPolicyIteration(), mdp.CVI(rtol=1e-7)
    found, short, gaps = [], [], []
    with jax.enable_x64(True):
        for draw in range(draws):
            game = channel_game(scenario=scenario, seed=setting.seed + draw, **options)
            exact = mdp.split(game, weights="norm", method=exactly)
            near = mdp.split(game, weights="norm", method=nearly)
            found.append((exact, near))
            rng = np.random.default_rng(setting.seed + draw)
            for _ in range(random):
                labels = np.unique(rng.integers(0, 5, game.n_agents), return_inverse=True)[1]
                best, low = (
                    np.asarray(mdp.steer(game, labels, method=method, certificate="none").values)
                    for method in (exactly, nearly)
                )
                short.append(float(np.max(best - low) / np.max(np.abs(best))))
            for k in () if setting.scale == "small" else (3, 4):
                top = mdp.best_clustering(game, k, solver=exactly, weights="norm").values[0]
                gaps.append(float(1 - exact.values[k - 1] / top))
    shares = [exact.values / exact.values[-1] for exact, _ in found]
    inside = [near.values / exact.values[-1] for exact, near in found]
    return {
        "value": np.mean(shares, 0).tolist(),
        "cvi": np.mean(inside, 0).tolist(),
        "missed": [float(np.mean(np.array(short) > 1e-5))],
        "worst": [1 - max(short)],
        "gap": [max(gaps)] if gaps else None,
        "looked": found[0][0].examined.tolist(),
        "all": list(found[0][0].exhaustive),
        "fall": [float(np.mean([exact.gains_fall for exact, _ in found]))],
    }


def chosen(setting: Setting, scenario: str, options: dict[str, Any]) -> dict[str, Any]:
    """Figure 5 with other choices: the 2-norm and the lowest state, over those at C = 6.

    A `sensitivity` is the parameter a of draws from Beta(a, a).
    """
    norms, lowest = [], []
    with jax.enable_x64(True):
        for draw in range(setting.pick(1, 1, 3)):
            own = dict(options)
            if "sensitivity" in own:
                rng = np.random.default_rng(setting.seed + draw)
                own["sensitivity"] = rng.beta(own["sensitivity"], own["sensitivity"], 6)
            game = channel_game(scenario=scenario, seed=setting.seed + draw, **own)
            found = mdp.split(game, weights="norm", method=_EXACTLY)
            values = [
                mdp.steer(game, labels, method=_EXACTLY, certificate="none").values
                for labels in found.labels
            ]
            low = np.min(np.asarray(values), axis=1)
            norms.append(found.values / found.values[-1])
            lowest.append(low / low[-1])
    return {"value": np.mean(norms, 0).tolist(), "lowest": np.mean(lowest, 0).tolist()}


def channel_tasks(setting: Setting) -> list[Task]:
    """Both scenarios, the choice that comes nearest in the first, and above small the others."""
    rows: list[tuple[int, str, Any]] = [
        (
            number,
            words,
            lambda number=number, options=options: channels(
                setting, SCENARIOS[number - 1], **options
            ),
        )
        for number, words, options in AS_READ
    ]
    if setting.scale != "small":
        rows += [
            (
                number,
                words,
                lambda number=number, options=options: chosen(
                    setting, SCENARIOS[number - 1], options
                ),
            )
            for number, words, options in CHOICES
        ]
    return [
        Task(f"6.3 scenario {number}, {words}", compute, {"value": CVI_FIGURE_5[number - 1]})
        for number, words, compute in rows
    ]


def channel_claims(rows: dict[str, dict[str, Any]]) -> list[Claim]:
    """How near Figure 5 is, whether gains fall, and whether CVI is optimal."""
    claims = []
    for number in (1, 2):
        row = rows.get(f"6.3 scenario {number}, discount .9")
        if row is not None:
            apart = np.max(np.abs(np.subtract(row["value"], CVI_FIGURE_5[number - 1])))
            claims.append(
                Claim(
                    f"Figure 5, scenario {number}, largest difference",
                    "0", f"{apart:.3f}", bool(apart < 0.01),
                )
            )  # fmt: skip
            claims.append(
                Claim(
                    f"gains fall with the number of clusters (Theorem 6), scenario {number}",
                    "always", f"in {row['fall'][0]:.0%} of draws", row["fall"][0] == 1,
                )
            )  # fmt: skip
            missed, worst = row["missed"][0], 1 - row["worst"][0]
            claims.append(
                Claim(
                    f"CVI is optimal, as the reward is separable, scenario {number}",
                    "always", f"missed {missed:.0%}, by up to {worst:.1%}", missed == 0,
                )
            )  # fmt: skip
        apart = {
            key: float(np.max(np.abs(np.subtract(row["value"], CVI_FIGURE_5[number - 1]))))
            for key, row in rows.items()
            if key.startswith(f"6.3 scenario {number}")
        }
        if len(apart) > 1:
            best = min(apart, key=apart.__getitem__)
            claims.append(
                Claim(
                    f"the same with the best of {len(apart)} choices, scenario {number}, "
                    f"{best.partition(', ')[2]}",
                    "0", f"{apart[best]:.3f}", apart[best] < 0.01,
                )
            )  # fmt: skip
    return claims
