"""What a smaller answer costs."""

from typing import TYPE_CHECKING

import numpy as np

from ..select.trade_off import TradeOff
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def trade_off(curve: TradeOff, *, ax: "Axes | None" = None) -> "Axes":
    """Draw coverage against the share of pairs that are computed, one point a multiplier.

    Filled points are efficient, and joined; empty ones are beaten by another in both. The numbers
    are the multipliers of computation.

    **Arguments:** `curve`: what `select.trade_off` returned; `ax`: axes to draw in; default those
    of a new figure.

    **Returns:** the axes. Coverage is in units of the cost, the share has none.

    **Raises:** `ValueError` where no solution has a cost, and for lanes of a `vmap`; `ImportError`
    without matplotlib, naming the command that installs it.

    Source: scalable resource allocation, section IV.

    **Example:**

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> curve = mj.select.trade_off(
    ...     mj.ScalableClustering(x, 2), [0.0, 3.0], mj.Geometric(0.1, 20.0, 1.3),
    ...     key=jax.random.key(0))
    >>> mj.plot.trade_off(curve).get_xlabel()
    'share of pairs computed (exp(-d / (s V)) > 0.01)'

    ```
    """
    coverage, kept = np.asarray(curve.coverage), np.asarray(curve.parts.kept)
    if coverage.ndim != 1:
        raise ValueError(f"trade_off: `curve` must be one curve; got lanes {coverage.shape[:-1]}.")
    known = np.isfinite(coverage) & np.isfinite(kept)
    if not np.any(known):
        raise ValueError("trade_off: `curve` must have a finite cost; every solution failed.")
    axes = style.new_figure((6.5, 4.2)) if ax is None else ax
    efficient = np.asarray(curve.efficient) & known
    colour = style.PALETTE[0]
    order = np.flatnonzero(efficient)[np.argsort(kept[efficient])]
    axes.plot(
        kept[order], coverage[order], color=colour, marker="o", markersize=6, linewidth=1.2,
        label="efficient",
    )  # fmt: skip
    beaten = known & ~efficient
    if np.any(beaten):
        axes.plot(
            kept[beaten], coverage[beaten], linestyle="", marker="o", markersize=6,
            markerfacecolor="white", markeredgecolor=colour, label="beaten by another",
        )  # fmt: skip
    for index in np.flatnonzero(known):
        axes.annotate(
            f"{float(curve.computation[index]):.3g}", (kept[index], coverage[index]),
            xytext=(5, 4), textcoords="offset points", fontsize=8, color="0.25",
        )  # fmt: skip
    axes.margins(x=0.1, y=0.12)
    axes.set_xlabel("share of pairs computed (exp(-d / (s V)) > 0.01)")
    axes.set_ylabel("coverage: mean cost to the group")
    axes.set_title("numbers: multiplier of computation", fontsize=9)
    axes.legend(frameon=False, fontsize=9)
    return axes
