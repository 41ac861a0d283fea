"""Where the states of a parameterised decision process stand, and the traffic between them."""

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .._core.programs import program
from ..engine.solution import Solution
from ..problems.parametric_mdp import ParametricMDP
from ..problems.parametric_mdp.step_costs import flow_of
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Traffic below this share of the largest is not drawn.
_THIN = 1e-3


@program
def _flow(problem: ParametricMDP, params: Any, beta: Any) -> Any:
    return flow_of(problem.kernel, problem.traffic(params, beta)), problem.parameters(params)[0]


def small_cells(problem: ParametricMDP, solution: Solution, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the places of all states, and lines between them as wide as their traffic is large.

    Known states are dots, placed ones triangles with their number among the states, and states at
    which all ends squares.

    **Arguments:** `problem`, with states of two coordinates; `solution` of `anneal`; `ax`: axes to
    draw in; default those of a new figure.

    **Returns:** the axes, in the units of the coordinates.

    **Raises:** `ValueError` unless states have two coordinates, or for the lanes of a `vmap`;
    `ImportError` without matplotlib, naming the command that installs it.

    Source: parameterized sequential decision making, Figure 3.4.

    **Example:**

    ```python
    >>> import jax, mepjax as mj
    >>> from mepjax.plot import small_cells
    >>> problem = mj.datasets.small_cells(12, 2, seed=4).problem()
    >>> solution = mj.anneal(problem, mj.Geometric(1.0, 1e4, 1.2), key=jax.random.key(0))
    >>> axes = small_cells(problem, solution)
    >>> len(axes.texts)  # numbers of the two cells
    2

    ```
    """
    style.check_single("small_cells", solution)
    if problem.unknowns.states.shape[1] != 2:
        raise ValueError(
            "small_cells: states must have two coordinates to be drawn; got "
            f"{problem.unknowns.states.shape[1]}."
        )
    axes = style.new_figure((6.5, 5.5)) if ax is None else ax
    flow, places = jax.tree.map(np.asarray, _flow(problem, solution.params, solution.beta))
    outcomes = problem.kernel.outcomes()
    start = np.broadcast_to(np.asarray(outcomes.state), flow.shape).ravel()
    end = np.broadcast_to(np.asarray(outcomes.next), flow.shape).ravel()
    between = np.zeros((len(places), len(places)))
    np.add.at(between, (start, end), flow.ravel())
    np.fill_diagonal(between, 0.0)
    for s, e in np.argwhere(between > _THIN * between.max(initial=0.0)):
        width = 0.5 + 5 * np.sqrt(between[s, e] / between.max())
        axes.plot(
            *places[[s, e]].T, color=style.SHARED, alpha=0.35, linewidth=width, zorder=1,
            solid_capstyle="round",
        )  # fmt: skip
    ends = np.asarray(problem.terminal)
    placed = np.zeros(len(places), bool)
    if problem.unknowns.state_index is not None:
        placed[np.asarray(problem.unknowns.state_index)] = True
    kinds = (
        ("known", ~placed & ~ends, "o", 18, 0), ("placed", placed, "^", 90, 1),
        ("end", ends & ~placed, "s", 80, 2),
    )  # fmt: skip
    for name, which, marker, size, colour in kinds:
        if which.any():
            axes.scatter(
                *places[which].T, marker=marker, s=size, color=style.PALETTE[colour],
                edgecolor="black", linewidth=0.5, label=name, zorder=2,
            )  # fmt: skip
    for state in np.flatnonzero(placed):
        axes.annotate(
            str(state), places[state], xytext=(6, 5), textcoords="offset points", fontsize=8
        )
    axes.set_aspect("auto" if style.is_elongated(places) else "equal")
    axes.set_xlabel("first coordinate")
    axes.set_ylabel("second coordinate")
    axes.legend(frameon=False, fontsize=9)
    return axes
