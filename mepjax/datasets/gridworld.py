"""Grids of cells on which something moves: the thesis's, and maps of Gymnasium."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .._core.arrays import default_float
from ..mdp.kernels import Deterministic, Sparse
from ..mdp.model import MDP

# 65 cells, 12 of them walls (#); the end is T. The thesis prints no layout.
LAYOUT = (
    "....#........",
    ".##....#...#.",
    ".#.........#.",
    "...#.#.#...#.",
    ".....#......T",
)
# Up, down, left, right, four diagonals, stay.
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0))


def gridworld(
    layout: Sequence[str] = LAYOUT, *, slip: tuple[float, float] = (0.05, 0.025),
    discount: float = 0.95, step_cost: float = 1.0,
) -> MDP:  # fmt: skip
    """Cells between which one moves in eight directions or stays, and may slip.

    Moves into walls or off the grid stay where they are. States are the cells that are no walls,
    row by row.

    **Arguments:**

    - `layout`: rows of `.` (free), `#` (wall) and `T` (end).
    - `slip`: probability to end in each straight and each diagonal neighbour of the *current* cell
        instead.
    - `discount`, and the `step_cost` of every step.

    **Returns:** an `MDP` with 9 actions, up, down, left, right, the diagonals, stay; the first
    state is uniform.

    **Raises:** `ValueError` for rows of unequal length, other characters, or slips that add up to
    one or more.

    Source: parameterized sequential decision making, section 3.5.

    **Example:**

    ```python
    >>> from mepjax.datasets import gridworld
    >>> model = gridworld()
    >>> model.n_states, model.n_actions
    (53, 9)

    ```
    """
    rows = [str(row) for row in layout]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("gridworld: `layout` must be rows of equal length.")
    if set("".join(rows)) - set(".#T"):
        raise ValueError("gridworld: `layout` must consist of '.', '#' and 'T'.")
    straight, diagonal = slip
    total = 4 * straight + 4 * diagonal
    if straight < 0 or diagonal < 0 or total >= 1:
        raise ValueError(f"gridworld: `slip` must be >= 0 and add up to less than 1; got {total}.")
    grid = np.array([list(row) for row in rows])
    number = np.where(grid == "#", -1, np.cumsum(grid.ravel() != "#").reshape(grid.shape) - 1)
    cells = np.argwhere(grid != "#")
    terminal = grid[grid != "#"] == "T"

    def ends(move: tuple[int, int]) -> np.ndarray:
        there = cells + move
        inside = ((there >= 0) & (there < grid.shape)).all(axis=1)
        clipped = np.clip(there, 0, np.array(grid.shape) - 1)
        found = number[clipped[:, 0], clipped[:, 1]]
        return np.where(inside & (found >= 0), found, np.arange(len(cells)))

    n, a = len(cells), len(_MOVES)
    reached = np.stack([ends(move) for move in _MOVES])
    parts = []
    for action in range(a):
        parts.append((action, reached[action], 1 - total))
        for other in range(8):
            chance = straight if other < 4 else diagonal
            if chance > 0:
                parts.append((action, reached[other], chance))
    edges = _merged(parts, n, a)
    return _model(edges, (n, a), terminal, np.full((n, a), step_cost), discount)


def frozen_lake(
    layout: Sequence[str], *, slippery: bool = True, discount: float = 1.0, step_cost: float = 1.0,
    hole_cost: float = 100.0,
) -> MDP:  # fmt: skip
    """Gymnasium's lake as a shortest path: every step costs, and so does a hole, where all ends.

    **Arguments:** `layout`, rows of `S` (start), `F` (frozen), `H` (hole) and `G` (goal);
    `slippery`, whether two moves of three go to one side or the other.

    **Returns:** an `MDP` with the actions left, down, right, up, in Gymnasium's order.

    **Raises:** `ValueError` for rows of unequal length or other characters.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> from mepjax.datasets import frozen_lake
    >>> print(mdp.solve(frozen_lake(["SF", "HG"], slippery=False)).values)
    [2. 1. 0. 0.]

    ```
    """
    rows = [str(row).strip() for row in layout]
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("frozen_lake: `layout` must be rows of equal length.")
    if set("".join(rows)) - set("SFHG"):
        raise ValueError("frozen_lake: `layout` must consist of 'S', 'F', 'H' and 'G'.")
    grid = np.array([list(row) for row in rows])
    height, width = grid.shape
    r, c = np.divmod(np.arange(height * width), width)
    moves = ((0, -1), (1, 0), (0, 1), (-1, 0))
    reached = np.stack(
        [np.clip(r + dr, 0, height - 1) * width + np.clip(c + dc, 0, width - 1) for dr, dc in moves]
    )
    flat, n = grid.ravel(), height * width
    parts = []
    for action in range(4):
        taken = [(action + turn) % 4 for turn in (-1, 0, 1)] if slippery else [action]
        parts += [(action, reached[move], 1 / len(taken)) for move in taken]
    state, action, after, p = _merged(parts, n, 4)
    terminal = (flat == "H") | (flat == "G")
    drowned = np.bincount(state * 4 + action, p * (flat[after] == "H"), 4 * n).reshape(n, 4)
    start = (flat == "S") / max((flat == "S").sum(), 1)
    return _model(
        (state, action, after, p), (n, 4), terminal, step_cost + hole_cost * drowned, discount,
        start if (flat == "S").any() else None,
    )  # fmt: skip


_Edges = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _merged(parts: Sequence[tuple[int, np.ndarray, float]], n: int, a: int) -> _Edges:
    """State, action, next state and probability of edges, from next states by action and chance.

    By one action at a time: nothing is as large as the states squared.
    """
    found = []
    for action in range(a):
        mine = [(after, chance) for which, after, chance in parts if which == action]
        ways = np.stack([after for after, _ in mine], axis=1)
        place = np.arange(n)[:, None] * n + ways
        unique, inverse = np.unique(place.ravel(), return_inverse=True)
        chances = np.broadcast_to(np.array([chance for _, chance in mine]), ways.shape)
        found.append((unique // n, unique % n, np.bincount(inverse, chances.ravel())))
    state, after, p = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    action = np.repeat(np.arange(a), [len(each[0]) for each in found])
    order = np.argsort(state * a + action, kind="stable")
    return state[order], action[order], after[order], p[order]


def _model(
    edges: _Edges, sizes: tuple[int, int], terminal: np.ndarray, costs: np.ndarray,
    discount: float, start: np.ndarray | None = None,
) -> MDP:  # fmt: skip
    state, action, after, p = edges
    with jax.ensure_compile_time_eval():
        dtype = default_float()
        kernel = Sparse(
            state, action, after, jnp.asarray(p, dtype), n_states=sizes[0], n_actions=sizes[1],
        )  # fmt: skip
        given = None if start is None else jnp.asarray(start, dtype)
        return MDP(
            kernel, jnp.asarray(costs, dtype), discount=jnp.asarray(discount, dtype),
            terminal=terminal, start=given,
        )  # fmt: skip


def model_of_table(
    after: np.ndarray, terminal: np.ndarray, costs: np.ndarray, discount: float, start: np.ndarray
) -> MDP:
    """The process of a table of next states, in the default precision."""
    with jax.ensure_compile_time_eval():
        dtype = default_float()
        return MDP(
            Deterministic(after), jnp.asarray(costs, dtype), discount=jnp.asarray(discount, dtype),
            terminal=terminal, start=jnp.asarray(start, dtype),
        )  # fmt: skip
