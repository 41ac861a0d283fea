"""Coefficients along the path of supports."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..select.sparse_path import SparsePath
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELLED = 12


def sparse_path(
    path: SparsePath,
    *,
    size: int | None = None,
    names: Sequence[str] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw each column's coefficient against the number of columns used.

    **Arguments:**

    - `path`: of `mepjax.select.sparse_path`.
    - `size`: the number that was chosen, marked by a line.
    - `names`: of the columns, written beside the largest coefficients.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. Coefficients are in units of the response per unit of the column.

    **Raises:** `ValueError` for lanes of a `vmap`; `ImportError` without matplotlib, naming the
    command that installs it.

    **Example:**

    ```python
    >>> import jax
    >>> from mepjax import plot, select
    >>> design = jax.random.normal(jax.random.key(0), (30, 8))
    >>> path = select.sparse_path(design, design[:, 0], 3)
    >>> plot.sparse_path(path, size=1).get_xlabel()
    'columns used'

    ```
    """
    if np.ndim(path.n_sizes):
        raise ValueError(
            f"sparse_path: `path` must be one path; got lanes of shape {np.shape(path.n_sizes)}."
        )
    axes = style.new_figure((7, 4.5)) if ax is None else ax
    sizes = np.arange(1, int(path.n_sizes) + 1)
    table = np.stack([np.asarray(path.dense(int(s)), np.float64) for s in sizes])
    used = np.flatnonzero(np.any(table != 0, axis=0))
    largest = used[np.argsort(-np.abs(table[-1, used]), kind="stable")]
    for place, column in enumerate(largest):
        index = place % len(style.PALETTE)
        name = str(column) if names is None else str(names[column])
        axes.plot(
            sizes, table[:, column], color=style.PALETTE[index],
            linestyle=style.LINES[place // len(style.PALETTE) % len(style.LINES)],
            marker=style.MARKERS[index], markersize=4,
            label=name.replace("$", r"\$") if place < _LABELLED else None,
        )  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    if size is not None:
        axes.axvline(size, color="0.35", linestyle=":", label=f"chosen: {size}")
    axes.set_xticks(sizes[:: 1 + len(sizes) // 20])
    axes.set_xlabel("columns used")
    axes.set_ylabel("coefficient")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return axes
