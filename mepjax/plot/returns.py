"""How long solutions of each size last: v(k), beside that of data without groups."""

from typing import TYPE_CHECKING

import numpy as np

from ..select.model_order import NAMES, ModelOrder
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def returns(order: ModelOrder, *, ax: "Axes | None" = None) -> "Axes":
    """Draw v(k) against k as bars, the mean v of the null references as lines, and the answer.

    The bar of the best size is filled; others are hatched. The title says in words what the best
    size is and whether it is clear.

    **Arguments:**

    - `order`: a report of `mepjax.select`.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. v has no units: it is a log ratio of temperatures.

    **Raises:** `ValueError` for lanes of a `vmap`; `ImportError` without matplotlib, naming the
    command that installs it.

    Source: parameterized sequential decision making, Figures 5.1, 6.3 and 7.1.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax.plot import returns
    >>> from mepjax.select.model_order import model_order
    >>> order = model_order("scatter", range(1, 5), jnp.array([8.0, 4.0, 0.5, 0.4]))
    >>> returns(order).get_xlabel()
    'size k'

    ```
    """
    if np.ndim(order.sizes) != 1:
        raise ValueError(
            f"returns: `order` must be one report; got lanes of shape {np.shape(order.sizes)[:-1]}."
            " Draw each, picked with `jax.tree.map(lambda leaf: leaf[lane], order)`."
        )
    axes = style.new_figure((7, 4)) if ax is None else ax
    sizes, values = np.asarray(order.sizes), np.asarray(order.returns, np.float64)
    finite = values[np.isfinite(values)]
    top = float(np.max(finite, initial=0.0)) or 1.0
    # A size that is resolved has no end: its bar leaves the picture.
    heights = np.where(np.isposinf(values), 1.15 * top, values)
    best = sizes == int(order.best)
    for chosen, colour, hatch, label in (
        (best, style.PALETTE[0], None, f"best: {int(order.best)}"),
        (~best, "white", "///", None),
    ):
        shown = chosen & ~np.isnan(heights)
        axes.bar(
            sizes[shown], heights[shown], color=colour, edgecolor=style.PALETTE[0], hatch=hatch,
            linewidth=0.8, label=label if np.any(shown) else None,
        )  # fmt: skip
    nulls = values - np.asarray(order.excess, np.float64)
    for index, (row, name) in enumerate(zip(nulls, ("uniform box", "normal"), strict=True)):
        known = np.isfinite(row)
        if np.any(known):
            axes.plot(
                sizes[known], row[known], color=style.PALETTE[[1, 5][index]],
                linestyle=style.LINES[index], marker=style.MARKERS[index], markersize=4,
                label=f"without groups: {name}",
            )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    if np.any(np.isposinf(values)):
        axes.set_ylim(top=1.1 * top)
    axes.set_xlabel("size k")
    axes.set_ylabel("v(k) = log T(k-1) - log T(k)")
    axes.set_xticks(sizes[:: 1 + len(sizes) // 20])
    axes.set_title(
        f"{NAMES.get(order.kind, order.kind)}\n{order.in_words()}", fontsize=9, wrap=True
    )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=9)
    return axes
