"""Games as factored MDPs: players respond to the last round and to the planner's signal."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from .behaviours import AbstractBehaviour, NextState, Table
from .factored import FactoredMDP
from .rewards import AbstractReward, JointReward, Separable

# Utilities of a player that are this close, relative to the largest, tie.
_TIE = 1e-12


class BestResponse(eqx.Module):
    """Players take an action that is best against the others' last actions.

    **Arguments:** `ties` among best actions: the "first", "stay" (the present action where it is
    one of them, else the first) or "uniform" (at random).
    """

    ties: str = eqx.field(static=True, default="first")

    def __check_init__(self) -> None:
        if self.ties not in ("first", "stay", "uniform"):
            raise ValueError(
                f'BestResponse: `ties` must be "first", "stay" or "uniform"; got {self.ties!r}.'
            )

    def rows(self, utility: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Probabilities of actions from utilities of actions (last axis) and present actions."""
        best = utility.max(-1, keepdims=True)
        tied = utility >= best - _TIE * np.abs(utility).max(initial=1.0)
        if self.ties == "uniform":
            return tied / tied.sum(-1, keepdims=True)
        chosen = tied.argmax(-1)
        if self.ties == "stay":
            stays = np.take_along_axis(tied, present[..., None], -1)[..., 0]
            chosen = np.where(stays, present, chosen)
        return np.eye(utility.shape[-1])[chosen]


class Logit(eqx.Module):
    """Players take action a with probability proportional to exp(utility(a) / temperature)."""

    temperature: float = eqx.field(static=True)

    def __check_init__(self) -> None:
        if not 0 < self.temperature < np.inf:
            raise ValueError(
                f"Logit: `temperature` must be positive and finite; got {self.temperature}."
            )

    def rows(self, utility: np.ndarray, present: np.ndarray) -> np.ndarray:
        """Probabilities of actions from utilities of actions (last axis)."""
        scaled = (utility - utility.max(-1, keepdims=True)) / self.temperature
        weights = np.exp(scaled)
        return weights / weights.sum(-1, keepdims=True)


def game(
    utilities: Sequence[Any],
    reward: Any,
    *,
    sizes: Sequence[int],
    signals: int | Sequence[int],
    discount: Any,
    response: BestResponse | Logit | None = None,
    inertia: float = 0.0,
    order: str = "simultaneous",
) -> FactoredMDP:
    """A population of players, each responding to the others' last actions and to its signal.

    Host code in NumPy: it enumerates the joint actions once.

    **Arguments:**

    - `utilities`: one per player: an array (|X|, M) over joint actions (the last player's
        fastest) and signals, or a function of actions x (N,) and a signal. A player looks at what
        each own action would give against the others' present ones.
    - `reward`, `sizes`, `signals`, `discount`: as for `FactoredMDP`; sizes count actions.
    - `response`: `BestResponse()` (default) or `Logit(temperature)`.
    - `inertia`: probability with which a player keeps its action whatever its utility.
    - `order`: "simultaneous", or "round-robin": one player moves at a time, which a turn counter
        says, one more deterministic agent that no signal reaches (state 0..N-1, whose turn it is;
        the reward then has one more agent too: a `Separable` one gets a table of zeros, an array
        over joint actions is repeated).

    **Returns:** a `FactoredMDP`.

    **Raises:** `ValueError` for utilities of another shape or not finite, inertia outside [0, 1],
    or another order: players that revise one at a time in random order are not independent
    given state and signals (exactly one of them moves), so that is no transition-independent MDP.

    Source: clustered control of transition-independent MDPs, sections 2 and 6.3.

    **Example:**

    ```python
    >>> from mepjax import mdp
    >>> agree = lambda x, signal: float(x[0] == x[1])
    >>> model = mdp.game([agree, agree], [0, 0, 0, 1.0], sizes=[2, 2], signals=2, discount=0.9)
    >>> model.n_states
    4

    ```
    """
    sizes = tuple(int(size) for size in sizes)
    players = len(sizes)
    each = [signals] * players if isinstance(signals, int | np.integer) else list(signals)
    if order == "random":
        raise ValueError(
            'game: `order` "random" (one player at a time, drawn at random) is not transition-'
            "independent: exactly one player moves, so players are not independent given state and "
            'signals. Use "simultaneous", with `inertia` if few should move, or "round-robin".'
        )
    if order not in ("simultaneous", "round-robin"):
        raise ValueError(f'game: `order` must be "simultaneous" or "round-robin"; got {order!r}.')
    if not 0 <= inertia <= 1:
        raise ValueError(f"game: `inertia` must be in [0, 1]; got {inertia}.")
    if len(utilities) != players:
        raise ValueError(
            f"game: `utilities` must be one per player, {players}; got {len(utilities)}."
        )
    response = BestResponse() if response is None else response
    rows = []
    for player, utility in enumerate(utilities):
        table = _tabulate(utility, player, sizes, int(each[player]))
        rows.append(_responses(table, player, sizes, response, inertia))
    if order == "round-robin":
        rows, reward = _in_turn(rows, reward, sizes)
        sizes, each = (*sizes, players), [*each, 1]
    behaviours = [_behaviour(table) for table in rows]
    return FactoredMDP(behaviours, reward, sizes=sizes, signals=each, discount=discount)


def _tabulate(utility: Any, player: int, sizes: tuple[int, ...], signals: int) -> np.ndarray:
    """Utilities (|X|, M) of a player."""
    states = int(np.prod(sizes))
    if callable(utility):
        actions = np.stack(np.unravel_index(np.arange(states), sizes), -1)
        table = np.array([[utility(x, m) for m in range(signals)] for x in actions], float)
    else:
        table = np.asarray(utility, float)
    if table.shape != (states, signals):
        raise ValueError(
            f"game: utilities of player {player} must have shape {(states, signals)} (joint "
            f"actions, signals); got {table.shape}."
        )
    if not np.isfinite(table).all():
        raise ValueError(f"game: utilities of player {player} must be finite.")
    return table


def _responses(
    table: np.ndarray,
    player: int,
    sizes: tuple[int, ...],
    response: BestResponse | Logit,
    inertia: float,
) -> np.ndarray:
    """Next-action rows (|X|, M, |X_n|) of a player."""
    states, signals = table.shape
    grid = np.moveaxis(table.reshape(*sizes, signals), player, -1)  # others, signals, own
    own = np.broadcast_to(np.expand_dims(grid, player), (*sizes, signals, sizes[player]))
    own = own.reshape(states, signals, sizes[player])
    present = np.unravel_index(np.arange(states), sizes)[player]
    present = np.broadcast_to(present[:, None], (states, signals))
    rows = response.rows(own, present)
    stay = np.eye(sizes[player])[present]
    return (1 - inertia) * rows + inertia * stay


def _in_turn(
    rows: list[np.ndarray], reward: Any, sizes: tuple[int, ...]
) -> tuple[list[np.ndarray], Any]:
    """Rows over (joint action, turn), with the turn counter's own, and the reward to match."""
    players, states = len(sizes), int(np.prod(sizes))
    turns = []
    for player, table in enumerate(rows):
        present = np.unravel_index(np.arange(states), sizes)[player]
        stay = np.broadcast_to(np.eye(sizes[player])[present][:, None], table.shape)
        moved = np.stack([table if turn == player else stay for turn in range(players)], 1)
        turns.append(moved.reshape(states * players, *table.shape[1:]))
    following = np.eye(players)[(np.arange(players) + 1) % players]
    turns.append(np.tile(following, (states, 1))[:, None])
    if isinstance(reward, Separable):
        scopes = (*reward.scopes, (players,))
        return turns, Separable([*reward.tables, np.zeros((players, 1))], scopes)
    if isinstance(reward, AbstractReward) or callable(reward):
        if callable(reward):
            function: Callable[..., Any] = reward
            reward = JointReward(lambda x, signals: function(x[:-1], signals[:-1]))
        return turns, reward
    return turns, np.repeat(np.asarray(reward), players)


def _behaviour(table: np.ndarray) -> AbstractBehaviour:
    """Next states where rows are deterministic, the rows elsewhere."""
    if np.all((table == 0) | (table == 1)):
        return NextState(table.argmax(-1))
    return Table(table)
