"""What each split of a population is worth."""

from typing import TYPE_CHECKING

import numpy as np

from ..mdp.splitting import Clusterings
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def splitting(found: Clusterings, *, ax: "Axes | None" = None) -> "Axes":
    """Draw what clusterings are worth by number of clusters, and how many were looked at.

    Numbers above the bars are clusterings looked at, over all that there are.

    **Arguments:** `found`: what `mdp.split` or `mdp.best_clustering` returned; `ax`: axes to draw
    in; default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ImportError` without matplotlib, naming the command that installs it.

    Source: clustered control of transition-independent MDPs, Figure 4.

    **Example:**

    ```python
    >>> from mepjax import datasets, mdp
    >>> from mepjax.plot import splitting
    >>> axes = splitting(mdp.split(datasets.channel_game(3), clusters=2))
    >>> len(axes.patches)
    2

    ```
    """
    axes = style.new_figure((6.5, 4)) if ax is None else ax
    counts, values = np.asarray(found.clusters), np.asarray(found.values)
    bars = axes.bar(
        counts, values, width=0.6, color=style.PALETTE[4], edgecolor="black", linewidth=0.6
    )
    labels = [
        f"{looked}/{every}" for looked, every in zip(found.examined, found.exhaustive, strict=True)
    ]
    axes.bar_label(bars, labels, fontsize=8, padding=2)
    low, high = float(np.min(values)), float(np.max(values))
    room = max(high - low, 1e-3 * abs(high), 1e-12)
    axes.set_ylim(low - room, high + 0.25 * room)
    axes.set_xticks(counts)
    axes.set_xlabel("number of clusters C (above: clusterings looked at / all)")
    axes.set_ylabel("worth")
    return axes
