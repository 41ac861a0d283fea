"""Behaviours from what agents were seen to do."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from .._core.checks import is_count
from .behaviours import AbstractBehaviour, Local, Scoped, Table


class Estimate(NamedTuple):
    """Behaviours from a log, and how much it says.

    **Fields:** `behaviours`, one per agent; `counts`, how often each agent was seen in each (state
    or scope, signal), shape (states, M); `unseen`, how many of these were never seen, by agent.
    """

    behaviours: tuple[AbstractBehaviour, ...]
    counts: tuple[np.ndarray, ...]
    unseen: tuple[int, ...]

    def words(self) -> str:
        """What was never seen, in a sentence an agent."""
        return "\n".join(
            f"agent {agent}: {unseen} of {counts.size} pairs of state and signal were never seen"
            + (f", the first is state {x}, signal {m}" if unseen else "")
            for agent, (unseen, counts) in enumerate(zip(self.unseen, self.counts, strict=True))
            for x, m in [np.argwhere(counts == counts.min())[0]]
        )


def estimate(
    log: tuple[Any, Any, Any],
    *,
    sizes: Sequence[int],
    signals: int | Sequence[int],
    kind: str | Sequence[Sequence[int]] = "local",
    smoothing: float = 1.0,
) -> Estimate:
    """Behaviours of all agents from observed moves, by counts with smoothing.

    Host code in NumPy. p(x_n' | scope, signal) = (count + smoothing) / (total + smoothing |X_n|),
    so where nothing was seen all next states are equally likely.

    **Arguments:**

    - `log`: (states, signals, next states), integers of shape (rows, N) each.
    - `sizes`, `signals`: as for `FactoredMDP`.
    - `kind`: what behaviour depends on beside the signal: "local", the own state; "table", the
        joint state; or one tuple of parents per agent.
    - `smoothing`: what is added to every count; 0 leaves rows that were never seen undefined and
        is refused where there are any.

    **Returns:** an `Estimate`; hand its `behaviours` to `FactoredMDP`.

    **Raises:** `ValueError` for a log without rows, of another shape, or with states or signals out
    of range (agent and row named); negative smoothing.

    **Example:**

    ```python
    >>> import numpy as np
    >>> from mepjax import mdp
    >>> x = np.array([[0], [0], [1], [0]])
    >>> found = mdp.estimate((x, np.zeros((4, 1), int), 1 - x), sizes=[2], signals=1)
    >>> found.behaviours[0].p[:, 0].round(2).tolist()
    [[0.2, 0.8], [0.67, 0.33]]

    ```
    """
    sizes = tuple(int(size) for size in sizes)
    agents = len(sizes)
    many: Any = [signals] * agents if is_count(signals) else signals
    each = [int(number) for number in many]
    if smoothing < 0:
        raise ValueError(f"estimate: `smoothing` must be >= 0; got {smoothing}.")
    before, heard, after = _read(log, sizes, each)
    if isinstance(kind, str):
        if kind not in ("local", "table"):
            raise ValueError(
                'estimate: `kind` must be "local", "table" or parents of every agent; '
                f"got {kind!r}."
            )
        every = tuple(range(agents))
        scopes = [(agent,) if kind == "local" else every for agent in range(agents)]
    else:
        scopes = [tuple(int(parent) for parent in parents) for parents in kind]
        if len(scopes) != agents:
            raise ValueError(
                f"estimate: `kind` must have parents for {agents} agents; got {len(scopes)}."
            )
    behaviours, counts = [], []
    for agent, scope in enumerate(scopes):
        within = np.ravel_multi_index(
            tuple(before[:, parent] for parent in scope), tuple(sizes[parent] for parent in scope)
        )
        states = int(np.prod([sizes[parent] for parent in scope]))
        seen = np.zeros((states, each[agent], sizes[agent]))
        np.add.at(seen, (within, heard[:, agent], after[:, agent]), 1)
        counts.append(seen.sum(-1).astype(int))
        if smoothing == 0 and np.any(counts[-1] == 0):
            x, m = np.argwhere(counts[-1] == 0)[0]
            raise ValueError(
                f"estimate: agent {agent} was never seen in state {x} with signal {m}, so "
                "`smoothing` must be > 0; got 0."
            )
        p = (seen + smoothing) / (seen + smoothing).sum(-1, keepdims=True)
        if kind == "table":
            behaviours.append(Table(p))
        elif kind == "local" or scope == (agent,):
            behaviours.append(Local(p))
        else:
            behaviours.append(Scoped(p, scope))
    unseen = tuple(int(np.sum(count == 0)) for count in counts)
    return Estimate(tuple(behaviours), tuple(counts), unseen)


def _read(log: Any, sizes: tuple[int, ...], signals: list[int]) -> list[np.ndarray]:
    if not isinstance(log, tuple | list) or len(log) != 3:
        raise ValueError("estimate: `log` must be (states, signals, next states).")
    arrays = [np.asarray(part) for part in log]
    names = ("states", "signals", "next states")
    for name, array, limits in zip(names, arrays, (sizes, signals, sizes), strict=True):
        if array.ndim != 2 or array.shape[1] != len(sizes) or len(array) != len(arrays[0]):
            raise ValueError(
                f"estimate: {name} of `log` must have shape (rows, {len(sizes)}); "
                f"got {array.shape}."
            )
        if not len(array):
            raise ValueError("estimate: `log` has no rows.")
        if not np.issubdtype(array.dtype, np.integer):
            raise TypeError(f"estimate: {name} of `log` must be integers; got dtype {array.dtype}.")
        wrong = np.argwhere((array < 0) | (array >= np.asarray(limits)))
        if len(wrong):
            row, agent = wrong[0]
            raise ValueError(
                f"estimate: {name} of agent {agent} must be in 0..{limits[agent] - 1}; got "
                f"{array[row, agent]} in row {row}."
            )
    return arrays
