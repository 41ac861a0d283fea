"""What more clusters are worth, and what finding that costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def value_by_clusters(
    clusters: Sequence[int],
    values: Any,
    cvi: Any,
    ratios: dict[str, Any] | None = None,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the best values by number of clusters, and how near clustered value iteration comes.

    **Arguments:**

    - `clusters`: the numbers of clusters, rising.
    - `values`: the best values (means of many clusterings, say), over that of the last number.
    - `cvi`: what clustered value iteration finds, in the same units, shape (numbers,), or
        (numbers, 3) with the lowest and the highest after the mean.
    - `ratios`: times over that of clustered value iteration by name of the method, one a number of
        clusters; drawn against a second, logarithmic axis.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes of the values.

    **Raises:** `ValueError` for shapes that do not fit; `ImportError` without matplotlib, naming
    the command that installs it.

    Source: clustered control of transition-independent MDPs, Figures 1 and 2.

    **Example:**

    ```python
    >>> from mepjax.plot import value_by_clusters
    >>> axes = value_by_clusters([1, 2, 3], [0.8, 0.9, 1.0], [0.8, 0.89, 0.99])
    >>> len(axes.patches)
    3

    ```
    """
    counts, best, found = np.asarray(clusters), np.asarray(values, float), np.asarray(cvi, float)
    if best.shape != counts.shape or found.shape[:1] != counts.shape or found.ndim > 2:
        raise ValueError(
            f"value_by_clusters: `values` must have shape {counts.shape} and `cvi` that or "
            f"{(*counts.shape, 3)}; got {best.shape} and {found.shape}."
        )
    axes = style.new_figure((6.5, 4)) if ax is None else ax
    axes.bar(
        counts, best, width=0.6, color=style.PALETTE[4], edgecolor="black", linewidth=0.6,
        label="best value",
    )  # fmt: skip
    middle = found if found.ndim == 1 else found[:, 0]
    spread = None if found.ndim == 1 else np.abs(found[:, 1:] - middle[:, None]).T
    axes.errorbar(
        counts, middle, spread, color="black", marker="o", markersize=5, linestyle="", capsize=3,
        label="clustered value iteration",
    )  # fmt: skip
    axes.set_xticks(counts)
    axes.set_xlabel("number of clusters C")
    axes.set_ylabel("value, over that of the most clusters")
    low = min(float(np.min(best)), float(np.min(found)))
    axes.set_ylim(max(0.0, low - 0.6 * (1.02 - low)), 1.02)
    if ratios:
        times = axes.twinx()
        for index, (name, ratio) in enumerate(ratios.items()):
            times.plot(
                counts, ratio, color=style.PALETTE[5 - index], marker=style.MARKERS[index + 1],
                linestyle=style.LINES[index], label=name,
            )  # fmt: skip
        times.set_yscale("log")
        times.set_ylabel("time, over that of clustered value iteration")
        times.legend(loc="upper left", frameon=False, fontsize=9)
    axes.legend(loc="lower right", frameon=True, fontsize=9)
    return axes
