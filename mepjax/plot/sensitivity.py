"""What the free energy of a plan depends on most."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..problems.parametric_mdp import PlanSensitivities
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def sensitivity(
    found: PlanSensitivities,
    of: str = "states",
    *,
    names: Sequence[str] | None = None,
    most: int = 15,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the largest derivatives of the free energy as bars, ranked.

    **Arguments:** `found`, of `problem.sensitivities`; `of`, a field of it, of which rows are drawn
    by their norm; `names` of the rows, default their numbers; `most` bars; `ax`: axes to draw in;
    default those of a new figure.

    **Returns:** the axes.

    **Raises:** `ValueError` for another field or too few names; `ImportError` without matplotlib,
    naming the command that installs it.

    Source: parameterized sequential decision making, section 3.6 F.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.plot import sensitivity
    >>> problem = mj.datasets.small_cells(12, 2).problem()
    >>> found = problem.sensitivities(problem.init(jax.random.key(0)), 1.0)
    >>> len(sensitivity(found, most=4).patches)
    4

    ```
    """
    order = found.ranked(of)
    values = np.asarray(getattr(found, of), np.float64)
    sizes = np.linalg.norm(values, axis=-1) if of in ("states", "actions") else np.abs(values)
    if names is not None and len(names) != sizes.size:
        raise ValueError(
            f"sensitivity: `names` must have {sizes.size} names, one of each row; got {len(names)}."
        )
    order = order[:most]
    labels = [str(i) if names is None else str(names[i]) for i in order]
    axes = style.new_figure((6.5, 4)) if ax is None else ax
    rows = np.arange(len(order))[::-1]
    axes.barh(
        rows, sizes.ravel()[order], color=style.PALETTE[4], edgecolor="black", linewidth=0.6
    )  # fmt: skip
    axes.set_yticks(rows, labels, fontsize=8)
    axes.set_xlabel("size of dF / d " + {"states": "place", "actions": "place"}.get(of, of))
    return axes
