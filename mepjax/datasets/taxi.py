"""A taxi that fetches a passenger and brings them where they want to go."""

from collections.abc import Sequence

import numpy as np

from ..mdp.model import MDP
from .gridworld import model_of_table

_STOPS = "RGYB"
# South, north, east, west, as Gymnasium numbers them.
_MOVES = ((1, 0), (-1, 0), (0, 1), (0, -1))


def taxi(
    layout: Sequence[str], *, discount: float = 1.0, step_cost: float = 1.0,
    illegal_cost: float = 10.0,
) -> MDP:  # fmt: skip
    """Gymnasium's taxi as a shortest path: every step costs, and more what is not permitted.

    States are ((row x columns + column) x 5 + passenger) x 4 + destination, with the passenger at
    one of the stops R, G, Y, B or, 4, in the taxi. All ends where the passenger is at the
    destination. Actions are south, north, east, west, pick up, drop off.

    **Arguments:** `layout`, the map of Gymnasium: rows between lines of `+---+`, cells apart by `:`
    or by walls `|`, and the letters of the four stops; costs of a step, and of picking up or
    dropping off where that cannot be done.

    **Returns:** an `MDP`. The first state is uniform over those in which the passenger waits at one
    stop and wants to go to another.

    **Raises:** `ValueError` for another map.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> from mepjax.datasets import taxi
    >>> model = taxi(["+---+", "|R:G|", "|Y:B|", "+---+"])
    >>> print(mdp.solve(model).values[1])  # fetch at R, where the taxi is, and go to G
    3.0

    ```
    """
    rows = [str(row).rstrip() for row in layout]
    inside = rows[1:-1]
    width = len(rows[0]) if rows else 0
    if not inside or width % 2 == 0 or any(len(row) != width for row in rows):
        raise ValueError("taxi: `layout` must be rows of equal, odd length between two borders.")
    grid = np.array([list(row) for row in inside])
    cells = grid[:, 1::2]
    stops = [np.argwhere(cells == letter) for letter in _STOPS]
    if any(len(found) != 1 for found in stops):
        raise ValueError("taxi: `layout` must have each of R, G, Y and B once.")
    height, columns = cells.shape
    at = np.array([r * columns + c for ((r, c),) in stops])
    r, c, passenger, goal = (
        part.ravel()
        for part in np.meshgrid(*map(np.arange, (height, columns, 5, 4)), indexing="ij")
    )
    n, place = len(r), r * columns + c

    def number(place: np.ndarray, passenger: np.ndarray) -> np.ndarray:
        return (place * 5 + passenger) * 4 + goal

    after, costs = np.zeros((n, 6), int), np.full((n, 6), float(step_cost))
    for action, (down, right) in enumerate(_MOVES):
        new_r = np.clip(r + down, 0, height - 1)
        # What stands between two cells, or the border.
        open_ = grid[r, 2 * c + 1 + right] == ":" if right else np.ones(n, bool)
        new_c = np.where(open_, c + right, c)
        after[:, action] = number(new_r * columns + new_c, passenger)
    here = (passenger < 4) & (at[np.minimum(passenger, 3)] == place)
    after[:, 4] = number(place, np.where(here, 4, passenger))
    costs[~here, 4] = illegal_cost
    riding = passenger == 4
    stop = np.argmax(at == place[:, None], axis=1)
    at_stop = (at == place[:, None]).any(axis=1)
    after[:, 5] = number(place, np.where(riding & at_stop, stop, passenger))
    costs[~(riding & at_stop), 5] = illegal_cost
    start = (passenger < 4) & (passenger != goal)
    return model_of_table(after, passenger == goal, costs, discount, start / start.sum())
