"""What states are worth, and where the policy goes from each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from ..mdp.model import MDP
from ..mdp.solve import MDPSolution
from . import style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Moves less likely than this are not drawn.
_RARE = 0.05


def policy_map(
    model: MDP, solution: MDPSolution, *, places: Any = None, ax: "Axes | None" = None
) -> "Axes":
    """Draw states in the colour of their value, with arrows to where the policy goes.

    The darker an arrow, the likelier the move; moves of less than 5 % are left out.

    **Arguments:** `model` and its `solution` by `mdp.solve`; `places`, (states, 2), such as the
    cells of a grid; default the value of each state along the first axis, so that arrows lead to
    the end at the left; `ax`: axes to draw in; default those of a new figure.

    **Returns:** the axes. Values are costs, in the units of the model's.

    **Raises:** `ValueError` for places of another shape; `ImportError` without matplotlib, naming
    the command that installs it.

    **Example:**

    ```python
    >>> import jax.numpy as jnp
    >>> from mepjax import mdp
    >>> from mepjax.plot import policy_map
    >>> kernel = mdp.Deterministic([[1, 0], [2, 0], [2, 2]])
    >>> model = mdp.MDP(kernel, jnp.ones((3, 2)), discount=1.0, terminal=[2])
    >>> axes = policy_map(model, mdp.solve(model))
    >>> len(axes.texts)  # an arrow from each of the two states before the end
    2

    ```
    """
    values = np.asarray(solution.values, np.float64)
    n = model.n_states
    if values.shape != (n,):
        raise ValueError(
            f"policy_map: `solution` must have {n} values, one for each state; got shape "
            f"{values.shape}."
        )
    given = places is not None
    if given:
        places = np.asarray(places, np.float64)
        if places.shape != (n, 2):
            raise ValueError(
                f"policy_map: `places` must have shape ({n}, 2); got {np.shape(places)}."
            )
    else:
        places = np.stack([values, np.arange(n)], axis=1)
    axes = style.new_figure((6.5, 5)) if ax is None else ax
    moves, ends = _moves(model, solution), np.asarray(model.terminal)
    for s, e in np.argwhere(moves > _RARE):
        if s != e and not ends[s]:
            arrow = {"arrowstyle": "-|>", "color": "black", "alpha": min(1.0, moves[s, e]),
                     "shrinkA": 6, "shrinkB": 6, "linewidth": 1.0}  # fmt: skip
            axes.annotate("", places[e], places[s], arrowprops=arrow, zorder=2)
    drawn = axes.scatter(
        *places[~ends].T, c=values[~ends], cmap="viridis", s=90, edgecolor="black", linewidth=0.5,
        zorder=3,
    )  # fmt: skip
    if ends.any():
        squares = axes.scatter(
            *places[ends].T, marker="s", s=90, color="white", edgecolor="black", zorder=3,
        )  # fmt: skip
        style.legend_above(axes, [squares], ["end"])
    axes.figure.colorbar(drawn, ax=axes, label="expected cost to go")
    axes.set_xlabel("first coordinate" if given else "expected cost to go")
    axes.set_ylabel("second coordinate" if given else "state")
    if given and not style.is_elongated(places):
        axes.set_aspect("equal")
    return axes


def _moves(model: MDP, solution: MDPSolution) -> np.ndarray:
    """Probability of going from state to state under the policy."""
    outcomes = model.kernel.outcomes()
    p = np.asarray(model.kernel.probabilities(), np.float64)
    policy = np.exp(np.asarray(solution.log_policy, np.float64))
    shape = np.broadcast_shapes(p.shape, *(np.shape(index) for index in outcomes))
    state, action, after = (np.broadcast_to(np.asarray(i), shape).ravel() for i in outcomes)
    moves = np.zeros((model.n_states, model.n_states))
    np.add.at(moves, (state, after), np.broadcast_to(p, shape).ravel() * policy[state, action])
    return moves
