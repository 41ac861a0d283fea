"""What ignoring autonomy costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..engine.solution import Solution
from ..problems.clustering.problem import Clustering
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def cost_of_ignoring(
    problem: Clustering | Sequence[Clustering],
    solution: Solution | Sequence[Solution],
    ignored: Solution | Sequence[Solution],
    *,
    labels: Sequence[str] | None = None,
    costs: tuple[Sequence[float], Sequence[float]] | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the hard cost of centres found with and without autonomy, as pairs of bars.

    Both are measured under the problem's own autonomy, by `problem.evaluate`; above each pair is
    by how many per cent ignoring it is dearer.

    **Arguments:**

    - `problem`: one with autonomy, or several, such as one for each kappa.
    - `solution`: its solution, or that of each.
    - `ignored`: solutions of the same data without autonomy; one serves several problems.
    - `labels`: what to write under each pair; default kappa, where autonomy has one, else the
        autonomy's name.
    - `costs`: hard costs of `solution` and of `ignored`, where they are at hand.
    - `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. Costs are in the units of the problems.

    **Raises:** `ValueError` if the numbers of problems, solutions and labels differ, or for lanes
    of a `vmap`; `ImportError` without matplotlib, naming the command that installs it.

    Source: autonomy-aware clustering, Table 1.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.datasets import four_square
    >>> from mepjax.plot import cost_of_ignoring
    >>> x, _ = four_square(40)
    >>> plain, aware = (mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(p)) for p in (0.0, 0.3))
    >>> schedule = mj.Geometric(1.0, 100.0, 1.5)
    >>> found = [mj.anneal(p, schedule, key=jax.random.key(0)) for p in (aware, plain)]
    >>> axes = cost_of_ignoring(aware, *found)
    >>> [label.get_text() for label in axes.get_xticklabels()]
    ['κ = 0.3']

    ```
    """
    problems = [problem] if isinstance(problem, Clustering) else list(problem)
    solutions = [solution] if isinstance(solution, Solution) else list(solution)
    without = [ignored] * len(problems) if isinstance(ignored, Solution) else list(ignored)
    names = [_name(p) for p in problems] if labels is None else [str(label) for label in labels]
    if not problems or not len(problems) == len(solutions) == len(without) == len(names):
        raise ValueError(
            f"cost_of_ignoring: got {len(problems)} problems, {len(solutions)} solutions, "
            f"{len(without)} without autonomy and {len(names)} labels; expected as many of each, "
            "at least one."
        )
    for each in (*solutions, *without):
        style.check_single("cost_of_ignoring", each)
    if costs is None:
        aware, blind = (
            np.array([_cost(p, s.params) for p, s in zip(problems, found, strict=True)])
            for found in (solutions, without)
        )
    else:
        aware, blind = (np.asarray(each, np.float64) for each in costs)
    axes = style.new_figure((max(4.0, 2.5 + 1.1 * len(problems)), 4.5)) if ax is None else ax
    draw_bars(axes, aware, blind, names)
    return axes


def draw_bars(ax: Any, aware: np.ndarray, blind: np.ndarray, names: Sequence[str]) -> None:
    """Pairs of bars from their costs."""
    places = np.arange(len(names))
    width = 0.38
    edge: dict[str, Any] = {"width": width, "edgecolor": "black", "linewidth": 0.9}
    ax.bar(places - width / 2, aware, label="autonomy known", color=style.PALETTE[0], **edge)
    ax.bar(
        places + width / 2, blind, label="autonomy ignored", color=style.PALETTE[1],
        hatch="///", **edge,
    )  # fmt: skip
    for place, known, not_known in zip(places, aware, blind, strict=True):
        text = f"{100 * (not_known / known - 1):+.1f}%" if known > 0 else "undefined"
        ax.annotate(
            text, (place, max(known, not_known)), xytext=(0, 4), textcoords="offset points",
            ha="center", va="bottom",
        )  # fmt: skip
    ax.set_xticks(places, names, parse_math=False)
    ax.set_xlim(-0.7, len(names) - 0.3)
    ax.set_ylabel("hard cost under autonomy")
    # Room for the legend above the numbers.
    ax.set_ylim(0, 1.3 * max(float(np.max([aware, blind])), np.finfo(float).tiny))
    ax.legend(loc="upper left", ncols=2, frameon=False, fontsize=9)


def _cost(problem: Clustering, params: Any) -> float:
    """Of the best prescriptions, within the capacity if there is one."""
    return float(problem.harden(params, capacities="assign").cost)


def _name(problem: Clustering) -> str:
    kappa = getattr(problem.autonomy, "kappa", None)
    if kappa is not None and np.ndim(kappa) == 0:
        return f"κ = {float(kappa):g}"
    return type(problem.autonomy).__name__
