"""How fast learners come near the best policy."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def learning_curves(curves: Mapping[str, Any], *, ax: "Axes | None" = None) -> "Axes":
    """Draw errors against episodes: the median of all seeds, and the middle half as a band.

    **Arguments:** `curves`, errors of shape (seeds, episodes) or (episodes,) by the learner's name,
    as `mdp.learning_curve` gives them; `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes, with a logarithmic scale of errors.

    **Raises:** `ValueError` for no curve, or errors of another shape; `ImportError` without
    matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, Figure 3.3.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax.plot import learning_curves
    >>> axes = learning_curves({"MEP": np.geomspace(1, 0.01, 50)})
    >>> len(axes.lines), axes.get_yscale()
    (1, 'log')

    ```
    """
    if not curves:
        raise ValueError("learning_curves: `curves` must have at least one learner; got none.")
    axes = style.new_figure((6.5, 4)) if ax is None else ax
    for index, (name, errors) in enumerate(curves.items()):
        errors = np.atleast_2d(np.asarray(errors, np.float64))
        if errors.ndim != 2 or errors.shape[1] == 0:
            raise ValueError(
                f"learning_curves: errors of {name!r} must have shape (seeds, episodes); "
                f"got {errors.shape}."
            )
        low, middle, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=0)
        episodes = np.arange(1, errors.shape[1] + 1)
        colour = style.PALETTE[index % len(style.PALETTE)]
        axes.plot(
            episodes, middle, color=colour, linestyle=style.LINES[index % len(style.LINES)],
            linewidth=1.6, label=name,
        )  # fmt: skip
        if len(errors) > 1:
            axes.fill_between(episodes, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_xlabel("episode")
    axes.set_ylabel("mean relative error of the policy's cost")
    axes.legend(frameon=False, fontsize=9)
    return axes
