"""How much dearer it is to locate first and route afterwards."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost_ratio(
    n_facilities: Sequence[int],
    sequential: Any,
    simultaneous: Any,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the cost of locating first, over that of deciding both at once, against M.

    **Arguments:**

    - `n_facilities`: the numbers of facilities M, rising.
    - `sequential`: hard costs of the locate-then-route baseline, one a number of facilities, or
        shape (numbers, layouts): then the median is drawn as a line and every layout as a point.
    - `simultaneous`: hard costs of `FacilityPath` for the same, of the same shape.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. The ratio has no units; above one deciding both at once is cheaper.

    **Raises:** `ValueError` for shapes that do not fit or costs that are not positive;
    `ImportError` without matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, Figure 2.5 (g).

    **Example:**

    ```python
    >>> from mepjax.plot import cost_ratio
    >>> axes = cost_ratio([2, 4, 8], [9.0, 8.0, 7.0], [8.0, 6.0, 4.0])
    >>> axes.lines[0].get_ydata().tolist()
    [1.125, 1.3333333333333333, 1.75]

    ```
    """
    counts = np.asarray(n_facilities)
    costs = [np.asarray(cost, np.float64) for cost in (sequential, simultaneous)]
    if counts.ndim != 1 or not counts.size or np.any(np.diff(counts) <= 0):
        raise ValueError(
            f"cost_ratio: `n_facilities` must be rising numbers; got {n_facilities!r}."
        )
    for name, cost in zip(("sequential", "simultaneous"), costs, strict=True):
        if cost.shape != costs[0].shape or cost.shape[:1] != counts.shape or cost.ndim > 2:
            raise ValueError(
                f"cost_ratio: `{name}` must have shape ({counts.size},) or ({counts.size}, "
                f"layouts), as the other; got {cost.shape}."
            )
        if not np.all(np.isfinite(cost) & (cost > 0)):
            raise ValueError(f"cost_ratio: `{name}` must be finite and > 0.")
    ratios = costs[0] / costs[1]
    axes = style.new_figure((6, 4)) if ax is None else ax
    several = ratios.ndim == 2 and ratios.shape[1] > 1
    middle = np.median(ratios.reshape(counts.size, -1), axis=1)
    axes.plot(
        counts, middle, color=style.PALETTE[0], marker="o", markersize=6, linewidth=1.6,
        label="median" if several else None,
    )  # fmt: skip
    if several:
        spread = np.repeat(counts, ratios.shape[1])
        axes.plot(
            spread, ratios.ravel(), linestyle="", marker="_", markersize=9, color="0.35",
            label=f"each of {ratios.shape[1]} layouts", zorder=1,
        )  # fmt: skip
        axes.legend(loc="upper left", frameon=False, fontsize=9)
    axes.axhline(1, color="black", linewidth=0.9, linestyle=":", zorder=0.5)
    axes.set_xticks(counts)
    axes.set_xlabel("number of facilities M")
    axes.set_ylabel("cost of locating first, then routing\nover cost of both at once")
    return axes
