"""A Markov decision process in tables: transitions, and what is known of states."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from ... import mdp
from ...datasets import small_cells
from ...mdp.reach import proper_policy
from ..errors import CommandError
from .points import read_table
from .table import TableFile, show

HELP = (
    "Transitions: columns state, action, next and, where known, probability (default 1) and cost "
    "(default 0). States from which nothing goes are the end. Default: a bundled example."
)
STATES_HELP = (
    "States: column state, coordinates, and where known start (weight of starting there). States "
    "with empty coordinates are placed."
)
_NEEDED, _OPTIONAL = ("state", "action", "next"), ("probability", "cost")
# Probabilities of a state and action may miss one by as much.
_OFF = 1e-5


@dataclass(frozen=True)
class Decisions:
    """What was read.

    **Fields:** names of `states` and `actions`; `edges`, state, action and next state of every
    transition in the order of states, then actions; their `p` and `cost`; `start` (S,), or `None`;
    `coordinates`, their names; `places` (S, d), NaN where to be found.
    """

    states: list[str]
    actions: list[str]
    edges: np.ndarray
    p: np.ndarray
    cost: np.ndarray
    start: np.ndarray | None = None
    coordinates: tuple[str, ...] = ()
    places: np.ndarray | None = None

    @property
    def placed(self) -> np.ndarray:
        """Which states are to be placed."""
        if self.places is None:
            return np.zeros(len(self.states), bool)
        return np.asarray(np.isnan(self.places).any(axis=1))

    @property
    def terminal(self) -> np.ndarray:
        """States from which nothing goes."""
        ends = np.ones(len(self.states), bool)
        ends[self.edges[0]] = False
        return ends

    @property
    def permitted(self) -> np.ndarray:
        """Actions of which there is a transition; at the end all, which do nothing."""
        found = np.zeros((len(self.states), len(self.actions)), bool)
        found[self.edges[0], self.edges[1]] = True
        return found | self.terminal[:, None]

    def check_ends(self) -> None:
        """Raise `CommandError` naming a state from which no policy ends with probability one."""
        kernel = self.kernel(np.float32)
        good = proper_policy(kernel, self.terminal, self.permitted).good
        if not good.all():
            name = self.states[int(np.argmin(good))]
            raise CommandError(
                f"TRANSITIONS: got state {show(name)}, from which nothing leads surely to an end; "
                "expected a way to a state from which nothing goes, or --discount below 1."
            )

    def kernel(self, dtype: Any) -> mdp.Sparse:
        """The transitions."""
        state, action, after = self.edges
        return mdp.Sparse(
            state, action, after, self.p.astype(dtype),
            n_states=len(self.states), n_actions=len(self.actions),
        )  # fmt: skip

    def options(self, dtype: Any) -> dict[str, Any]:
        """What `MDP` and `ParametricMDP` are both told."""
        start = None if self.start is None else self.start.astype(dtype)
        return {"terminal": self.terminal, "permitted": self.permitted, "start": start}

    def model(self, dtype: Any, discount: float) -> mdp.MDP:
        """The process with the costs of the file alone."""
        costs = self.cost.astype(dtype)
        return mdp.MDP(self.kernel(dtype), costs, discount=discount, **self.options(dtype))

    def problem(self, dtype: Any, discount: float) -> mj.ParametricMDP:
        """Its unknown places, with squared distances on top of the costs of the file."""
        assert self.places is not None
        kernel = self.kernel(dtype)
        extra = kernel.mean(jax.numpy.asarray(self.cost, dtype)) if self.cost.any() else None
        return mj.ParametricMDP(
            kernel, state_params=np.nan_to_num(self.places).astype(dtype), discount=discount,
            unknown_states=self.placed, extra_costs=extra, **self.options(dtype),
        )  # fmt: skip


def example() -> Decisions:
    """The bundled network of small cells."""
    with jax.enable_x64(False):
        network = small_cells()
        users, base = np.asarray(network.users, float), np.asarray(network.base, float)
        after = np.asarray(network.kernel.outcomes().next)
        allowed = np.asarray(network.permitted)
    n, m = len(users), network.n_cells
    state, action = np.nonzero(allowed[:-1])
    return Decisions(
        [f"user_{i}" for i in range(n)] + [f"cell_{j}" for j in range(m)] + ["base"],
        [f"to_cell_{j}" for j in range(m)] + ["to_base"],
        np.stack([state, action, after[state, action]]).astype(np.int32),
        np.ones(len(state)), np.zeros(len(state)), np.asarray(network.start, float), ("x", "y"),
        np.concatenate([users, np.full((m, 2), np.nan), base[None]]),
    )  # fmt: skip


def read_decisions(transitions: Path, states: Path | None) -> Decisions:
    """The process in one or two files.

    **Raises:** `CommandError` naming the file, the line, what was got and what was expected.
    """
    table = read_table(transitions, "TRANSITIONS", header=True)
    column = _columns(table, _NEEDED, _OPTIONAL)
    words = {name: table.words(column[name]) for name in _NEEDED}
    p = table.numbers(column["probability"]) if "probability" in column else np.ones(table.n)
    cost = table.numbers(column["cost"]) if "cost" in column else np.zeros(table.n)
    wrong = np.flatnonzero((p < 0) | (p > 1))
    if wrong.size:
        row = int(wrong[0])
        raise CommandError(
            f"{table.what}, {table.where(row)}, column probability: got {p[row]:g}; expected a "
            "number from 0 to 1."
        )
    listed = None if states is None else read_table(states, "--states", header=True)
    if listed is None:
        names = list(dict.fromkeys([*words["state"], *words["next"]]))
    else:
        names = _names(listed)
    actions = list(dict.fromkeys(words["action"]))
    numbers = {name: place for place, name in enumerate(names)}
    for title in ("state", "next"):
        for row, word in enumerate(words[title]):
            if word not in numbers:
                raise CommandError(
                    f"{table.what}, {table.where(row)}, column {title}: got {show(word)}; expected "
                    "a state of --states."
                )
    place = {name: number for number, name in enumerate(actions)}
    edges = np.array(
        [
            [numbers[word] for word in words["state"]],
            [place[word] for word in words["action"]],
            [numbers[word] for word in words["next"]],
        ],
        np.int32,
    )
    pair = edges[0].astype(np.int64) * len(actions) + edges[1]
    sums = np.bincount(pair, p, len(names) * len(actions))[pair]
    wrong = np.flatnonzero(np.abs(sums - 1) > _OFF)
    if wrong.size:
        row = int(wrong[0])
        raise CommandError(
            f"{table.what}, {table.where(row)}: got probabilities of sum {sums[row]:.6g} for "
            f"action {show(words['action'][row])} in state {show(words['state'][row])}; expected 1."
        )
    order = np.argsort(pair, kind="stable")
    found = edges[:, order], p[order] / sums[order], cost[order]
    start, coordinates, places = (None, (), None) if listed is None else _known(listed)
    made = Decisions(names, actions, *found, start, coordinates, places)
    if made.terminal.all() or (start is not None and start @ ~made.terminal == 0):
        raise CommandError(f"{table.what}: got no state to start at from which something goes.")
    return made


def _columns(
    table: TableFile, needed: tuple[str, ...], optional: tuple[str, ...]
) -> dict[str, int]:
    titles = [title.strip().lower() for title in table.titles]
    for title in titles:
        if title not in needed + optional or titles.count(title) > 1:
            raise CommandError(
                f"{table.what}: got the column {show(title)}; expected {', '.join(needed)} and, "
                f"where known, {', '.join(optional)}, each once."
            )
    for name in needed:
        if name not in titles:
            raise CommandError(f"{table.what}: got no column {name}; expected {', '.join(needed)}.")
    return {title: index for index, title in enumerate(titles)}


def _names(table: TableFile) -> list[str]:
    names = table.words(table.find("state", "--states"))
    if len(set(names)) < len(names):
        row = next(row for row, name in enumerate(names) if name in names[:row])
        raise CommandError(
            f"{table.what}, {table.where(row)}, column state: got {show(names[row])} twice; "
            "expected every state once."
        )
    return names


def _known(table: TableFile) -> tuple[np.ndarray | None, tuple[str, ...], np.ndarray | None]:
    """Start, names of coordinates and places."""
    start = None
    if "start" in table.titles:
        start = table.numbers(table.titles.index("start"))
        if (start < 0).any() or not start.sum() > 0:
            raise CommandError(
                f"{table.what}, column start: got weights of sum {start.sum():g}, smallest "
                f"{start.min():g}; expected weights >= 0, one of them > 0."
            )
        start = start / start.sum()
    names = tuple(title for title in table.titles if title not in ("state", "start"))
    if not names:
        return start, (), None
    columns = []
    for name in names:
        cells = table.words(table.titles.index(name))
        values = [_coordinate(cell) for cell in cells]
        wrong = [row for row, value in enumerate(values) if value is None]
        if wrong:
            raise CommandError(
                f"{table.what}, {table.where(wrong[0])}, column {show(name)}: got "
                f"{show(cells[wrong[0]])}; expected a finite number, or nothing."
            )
        columns.append(np.array(values, float))
    places = np.array(columns).T
    half = np.flatnonzero(np.isnan(places).any(axis=1) & ~np.isnan(places).all(axis=1))
    if half.size:
        raise CommandError(
            f"{table.what}, {table.where(int(half[0]))}: got some of the coordinates; expected "
            "all of them, or none."
        )
    return start, names, places


def _coordinate(cell: str) -> float | None:
    """A number, NaN where there is none, `None` where it is something else."""
    if not cell.strip():
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
