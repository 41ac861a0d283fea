"""Players that share channels, and a planner that sets prices."""

from typing import Any

import numpy as np

from ..mdp.factored import FactoredMDP
from ..mdp.games import BestResponse, Logit, game
from ..mdp.rewards import Separable

BANDWIDTHS = (20.0, 50.0, 100.0)
# Cost of the channels under each of the planner's signals.
COSTS = ((0.0, 10.0, 30.0), (1.0, 15.0, 50.0), (10.0, 50.0, 100.0))


def channel_game(
    n: int = 6,
    *,
    scenario: str = "revenue",
    discount: float = 0.9,
    inertia: float = 0.0,
    response: BestResponse | Logit | None = None,
    sensitivity: Any = None,
    seed: int = 0,
) -> FactoredMDP:
    """Players choose channels of bandwidth 20, 50, 100; the planner chooses what they cost.

    A player takes the channel x with the largest b(x) / (1 + others there) - beta_n cost(x, signal)
    against what the others chose last. The paper states neither the discount, the draws of beta_n,
    the order of revisions nor ties; the choices here are simultaneous best responses, the first of
    tied channels, and beta_n uniform in [0, 1].

    **Arguments:**

    - `n`: players, with 3^n joint states.
    - `scenario`: "revenue", the planner earns what players pay; or "medium", it earns one for every
        player in the medium channel.
    - `discount`, `inertia`, `response`: as for `mdp.game`.
    - `sensitivity`: beta_n, to prices, shape (n,); default uniform draws by `seed`.
    - `seed`: of NumPy's `default_rng`, for beta_n.

    **Returns:** a `FactoredMDP` with 3 signals.

    **Raises:** `ValueError` for n < 1, another scenario, or sensitivities that are not n finite
    numbers.

    Source: clustered control of transition-independent MDPs, section 6.3.

    **Example:**

    ```python
    >>> from mepjax.datasets import channel_game
    >>> channel_game(3).n_states
    27

    ```
    """
    if n < 1:
        raise ValueError(f"channel_game: `n` must be at least 1; got {n}.")
    if scenario not in ("revenue", "medium"):
        raise ValueError(
            f'channel_game: `scenario` must be "revenue" or "medium"; got {scenario!r}.'
        )
    if sensitivity is None:
        sensitivity = np.random.default_rng(seed).uniform(size=n)
    sensitivity = np.asarray(sensitivity, float)
    if sensitivity.shape != (n,) or not np.isfinite(sensitivity).all():
        raise ValueError(
            f"channel_game: `sensitivity` must be {n} finite numbers; got {sensitivity!s}."
        )
    bandwidth, cost = np.asarray(BANDWIDTHS), np.asarray(COSTS)  # cost[signal, channel]
    channels, sizes = len(bandwidth), (len(bandwidth),) * n
    chosen = np.stack(np.unravel_index(np.arange(channels**n), sizes), -1)
    sharing = (chosen[:, :, None] == chosen[:, None, :]).sum(-1)  # itself included
    speed = bandwidth[chosen] / sharing
    utilities = [
        speed[:, player, None] - sensitivity[player] * cost[:, chosen[:, player]].T
        for player in range(n)
    ]
    medium = np.repeat((np.arange(channels) == 1)[:, None], len(cost), 1).astype(float)
    earned = cost.T if scenario == "revenue" else medium
    return game(
        utilities,
        Separable([earned] * n),
        sizes=sizes,
        signals=len(cost),
        discount=discount,
        response=response,
        inertia=inertia,
    )
