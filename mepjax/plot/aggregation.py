"""The transitions of a chain, its states in the order of their superstates."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..problems.markov_aggregation import Aggregation, MarkovAggregation
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NAMED = 40


def aggregation(
    problem: MarkovAggregation,
    hard: Aggregation,
    *,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw transitions as a heat map, rows and columns ordered by superstate, with lines between.

    **Arguments:**

    - `problem`, and `hard` of `problem.harden`.
    - `names`: of the states, written where there are at most 40.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. Darker is more probable, on the scale of a square root.

    **Raises:** `ValueError` for names that do not fit or rows that are no chain; `ImportError`
    without matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, Figure 6.4.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> from mepjax.plot import aggregation
    >>> rows = jnp.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.8, 0.1, 0.1]])
    >>> problem = mj.MarkovAggregation(rows, 2)
    >>> aggregation(problem, problem.harden(rows[:2])).get_xlabel()
    'next state'

    ```
    """
    rows = np.asarray(problem.transitions, np.float64)
    n, s = rows.shape
    if n != s:
        raise ValueError(
            f"aggregation: `problem` must be of a chain; got rows of shape ({n}, {s})."
        )
    if names is not None and len(names) != n:
        raise ValueError(f"aggregation: `names` must be {n}, one a state; got {len(names)}.")
    axes = style.new_figure((6, 5.5)) if ax is None else ax
    labels = np.asarray(hard.assignments)
    order = np.argsort(labels, kind="stable")
    axes.imshow(np.sqrt(rows[np.ix_(order, order)]), cmap="Blues", vmin=0, aspect="equal")
    for place in np.flatnonzero(np.diff(labels[order])) + 0.5:
        axes.axhline(place, color=style.PALETTE[5], linewidth=1.2)
        axes.axvline(place, color=style.PALETTE[5], linewidth=1.2)
    if n <= _NAMED:
        shown = [str(i) if names is None else str(names[i]) for i in order]
        axes.set_xticks(range(n), shown, fontsize=8, rotation=90, parse_math=False)
        axes.set_yticks(range(n), shown, fontsize=8, parse_math=False)
    axes.set_xlabel("next state")
    axes.set_ylabel("state, by superstate")
    return axes
