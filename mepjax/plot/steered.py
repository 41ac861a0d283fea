"""How a population behaves along time, with and without steering."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..mdp.factored import FactoredMDP
from ..mdp.population import expected_rewards
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def steered(
    model: FactoredMDP,
    labels: Any,
    policy: Any,
    *,
    steps: int = 20,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the expected reward along time under a policy, and under each signal held for ever.

    From a uniformly drawn first state; exact, without simulation.

    **Arguments:** `model`, `labels` and `policy` as `mdp.steer` has them; `steps` along time; `ax`:
    axes to draw in; default those of a new figure.

    **Returns:** the axes. Rewards are in the units of the model's.

    **Raises:** `ImportError` without matplotlib, naming the command that installs it.

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> from mepjax.plot import steered
    >>> game = datasets.channel_game(3)
    >>> axes = steered(game, [0, 0, 1], mdp.steer(game, [0, 0, 1]).policy, steps=5)
    >>> len(axes.lines)
    4

    ```
    """
    axes = style.new_figure((6.5, 4)) if ax is None else ax
    policy, time = np.asarray(policy), np.arange(steps)
    axes.plot(
        time, expected_rewards(model, labels, policy, steps), color=style.PALETTE[0], marker="o",
        markersize=4, linewidth=1.8, label="steered",
    )  # fmt: skip
    least = min(model.signals[agent] for agent in model.steered)
    for signal in range(min(least, 4)):
        held = expected_rewards(model, labels, np.full_like(policy, signal), steps)
        axes.plot(
            time, held, color=style.SHARED, linestyle=style.LINES[signal + 1], linewidth=1.2,
            label=f"signal {signal} to all, always",
        )  # fmt: skip
    axes.set_xticks(time[:: 1 + len(time) // 12])
    axes.set_xlabel("step")
    axes.set_ylabel("expected reward of the step")
    axes.legend(frameon=False, fontsize=9)
    return axes
