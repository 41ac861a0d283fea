"""How much of each capacity is used."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..engine.solution import Solution
from ..problems.facility_path.problem import FacilityPath
from . import style
from .views import PathView, path_view

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Relative; the solve meets capacities far better than the eye can see.
_OVER = 0.01
_GAP = 1.0
_LEVEL = 16


class _Group(NamedTuple):
    """Bars of one kind of capacity."""

    title: str
    names: list[str]
    used: np.ndarray
    limit: np.ndarray
    equality: bool


def capacity_usage(
    problem: FacilityPath,
    solution: Solution,
    *,
    params: Any = None,
    beta: Any = None,
    ax: "Axes | None" = None,
    view: PathView | None = None,
) -> "Axes":
    """Draw the soft use of entries, facilities and links as bars, and their capacities as lines.

    Solid lines are bounds, dashed ones have to be met. Bars that miss their line by more than 1 %
    are hatched. Of links, those with a finite capacity above zero are drawn.

    **Arguments:**

    - `problem`, `solution`: what was solved, with at least one capacity, and the outcome.
    - `params`, `beta`: drawn instead of those of the solution, as in `routes`.
    - `ax`: axes to draw in; default those of a new figure.
    - `view`: what `plot.views.path_view` made of them, where it is at hand.

    **Returns:** the axes. All is per unit of weight: shares of the weight that enter at a facility,
    visits of a facility, uses of a link.

    **Raises:** `ValueError` for a problem without capacities or for lanes of a `vmap`;
    `ImportError` without matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, section 2.7, capacity constraints.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import supply_network
    >>> from mepjax.plot import capacity_usage
    >>> nodes, end = supply_network(30)
    >>> problem = mj.FacilityPath(nodes, end, 2, entry_capacity=mj.Equal([0.75, 0.25]))
    >>> solution = mj.anneal(problem, mj.Geometric(0.05, 50.0, 1.5), key=jax.random.key(0))
    >>> [f"{bar.get_height():.3f}" for bar in capacity_usage(problem, solution).patches]
    ['0.750', '0.250']

    ```
    """
    style.check_single("capacity_usage", solution)
    if not problem.capacities.given:
        raise ValueError("capacity_usage: `problem` must have a capacity; got none.")
    view = path_view(problem, solution, params=params, beta=beta) if view is None else view
    groups = _groups(problem, view)
    count = sum(len(group.names) for group in groups)
    axes = style.new_figure((max(4.5, 2 + 0.45 * count), 4)) if ax is None else ax
    start, places, names = 0.0, [], []
    for group in groups:
        at = start + np.arange(len(group.names))
        _draw(axes, at, group)
        places += at.tolist()
        names += group.names
        start = float(at[-1]) + 1 + _GAP
    many = count > _LEVEL or any(len(name) > 2 for name in names)
    axes.set_xticks(places, names, rotation=60 if many else 0, ha="right" if many else "center")
    axes.set_xlim(-0.8, places[-1] + 0.8)
    axes.set_ylim(0, 1.18 * axes.get_ylim()[1])
    axes.set_ylabel("per unit of weight")
    _legend(axes, groups)
    return axes


def _groups(problem: FacilityPath, view: PathView) -> list[_Group]:
    capacities = problem.capacities
    numbers = [str(index) for index in range(problem.total)]
    found = []
    for capacity, title, used in (
        (capacities.entry, "entering at facility", view.entry),
        (capacities.facility, "visits of facility", view.usage),
    ):
        if capacity is not None:
            limit = np.asarray(capacity.limit, np.float64)
            found.append(_Group(title, numbers, used, limit, capacity.equality))
    if capacities.link is not None:
        limit = np.asarray(capacities.link.limit, np.float64)
        chosen = np.argwhere(np.isfinite(limit) & (limit > 0) & ~np.eye(len(limit), dtype=bool))
        if len(chosen):
            rows, columns = chosen.T
            used = view.links[rows, columns]
            names = [f"{row}→{column}" for row, column in chosen]
            equality = capacities.link.equality
            found.append(_Group("traffic on link", names, used, limit[rows, columns], equality))
    return found


def _draw(ax: Any, at: np.ndarray, group: _Group) -> None:
    over = group.used > (1 + _OVER) * group.limit
    missed = over | (group.equality & (group.used < (1 - _OVER) * group.limit))
    for place, used, miss in zip(at, group.used, missed, strict=True):
        ax.bar(
            place, used, width=0.7, color=style.PALETTE[5 if miss else 4], edgecolor="black",
            linewidth=0.9, hatch="///" if miss else "", zorder=1,
        )  # fmt: skip
    limited = np.isfinite(group.limit)
    ax.hlines(
        group.limit[limited], at[limited] - 0.45, at[limited] + 0.45, color="black", linewidth=2.2,
        linestyle=(0, (1.6, 0.8)) if group.equality else "-", zorder=2,
    )  # fmt: skip
    ax.annotate(
        group.title, (float(np.mean(at)), 1), xycoords=("data", "axes fraction"), xytext=(0, -4),
        textcoords="offset points", ha="center", va="top", fontsize=9.5, fontweight="bold",
    )  # fmt: skip


def _legend(ax: Any, groups: list[_Group]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Patch(facecolor=style.PALETTE[4], edgecolor="black")]
    labels = ["used"]
    lines: tuple[tuple[bool, Any, str], ...] = (
        (False, "-", "at most"),
        (True, (0, (1.6, 0.8)), "to be met"),
    )
    for equality, line, label in lines:
        if any(group.equality == equality for group in groups):
            handles.append(Line2D([], [], color="black", linewidth=2.2, linestyle=line))
            labels.append(label)
    style.legend_above(ax, handles, labels)
