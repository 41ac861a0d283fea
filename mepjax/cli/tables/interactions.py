"""Logs of interactions, and the centres that were in force, from files."""

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import CommandError
from .points import Points, read_table
from .table import TableFile, show

_COLUMNS = ("entity", "prescribed", "realised", "cost", "round", "propensity")
# What is learnt from: where entities went, or what they paid.
_NEEDED = {"realised": _COLUMNS[:3], "cost": ("entity", "prescribed", "cost")}


def read_centres(path: Path, points: Points, k: int) -> tuple[np.ndarray, dict[str, int]]:
    """Centres (R, K, d) in input units, and the place of every round by its name."""
    table = read_table(path, "--centres")
    titles = [title.strip().lower() for title in table.titles]
    rounds = ["0"] * table.n
    if "round" in titles:
        rounds = [_key(word) for word in table.words(titles.index("round"))]
    columns = []
    for name in points.names:
        if name.strip().lower() not in titles:
            raise CommandError(
                f"{table.what}: got columns {', '.join(table.titles)}; expected those of the "
                f"points, {', '.join(points.names)}, and round where there are several."
            )
        columns.append(table.numbers(titles.index(name.strip().lower())))
    places = np.stack(columns, axis=1)
    names = list(dict.fromkeys(rounds))
    sets = [places[[round == name for round in rounds]] for name in names]
    for name, rows in zip(names, sets, strict=True):
        if len(rows) != k:
            raise CommandError(
                f"{table.what}: got {len(rows)} rows in round {show(name)}; expected one for each "
                f"of the {k} clusters, in their order."
            )
    return np.stack(sets), {name: place for place, name in enumerate(names)}


def read_log(
    path: Path, points: Points, k: int, rounds: dict[str, int] | None, learnt: str = "realised"
) -> dict[str, Any]:
    """The columns of a log, as `mepjax.learn.Interactions` takes them.

    `learnt`: the column that is learnt from, `"realised"` or `"cost"`.
    """
    needed = _NEEDED[learnt]
    table = read_table(path, "LOG")
    titles = [title.strip().lower() for title in table.titles]
    unknown = [t for t, name in zip(table.titles, titles, strict=True) if name not in _COLUMNS]
    missing = [name for name in needed if name not in titles]
    if unknown or missing:
        got = (
            f"unknown columns {', '.join(map(show, unknown))}"
            if unknown
            else (f"no column {missing[0]}")
        )
        raise CommandError(
            f"{table.what}: got {got}; expected {', '.join(needed)} and, where known, "
            f"{', '.join(name for name in _COLUMNS if name not in needed)}."
        )
    found: dict[str, Any] = {"entity": _entities(table, titles.index("entity"), points)}
    for name in ("prescribed", "realised"):
        if name not in titles:
            continue
        found[name] = _whole(table, titles.index(name), k, f"a cluster from 0 to {k - 1}")
    for name in ("cost", "propensity"):
        if name in titles:
            found[name] = table.numbers(titles.index(name))
    if rounds is not None and ("round" in titles or len(rounds) == 1):
        words = table.words(titles.index("round")) if "round" in titles else ["0"] * table.n
        known = rounds if "round" in titles else {"0": 0}
        for row, word in enumerate(words):
            if _key(word) not in known:
                raise CommandError(
                    f"{table.what}, {table.where(row)}, column round: got {show(word)}; expected "
                    "a round of --centres."
                )
        found["round"] = np.array([known[_key(word)] for word in words], np.int32)
    elif rounds is not None:
        raise CommandError(
            f"{table.what}: got no column round; expected one, as --centres has {len(rounds)}."
        )
    return found


def _key(word: str) -> str:
    """A round by its number where it has one, so that 1 and 1.0 are the same."""
    try:
        return f"{float(word):g}"
    except ValueError:
        return word.strip()


def _entities(table: TableFile, column: int, points: Points) -> np.ndarray:
    if points.ids is None:
        return _whole(table, column, len(points.x), "a row of POINTS, counted from 0")
    places = {name: row for row, name in enumerate(points.ids)}
    words = table.words(column)
    for row, word in enumerate(words):
        if word not in places:
            raise CommandError(
                f"{table.what}, {table.where(row)}, column entity: got {show(word)}; expected one "
                "of the --ids of POINTS."
            )
    return np.array([places[word] for word in words], np.int32)


def _whole(table: TableFile, column: int, count: int, expected: str) -> np.ndarray:
    values = table.numbers(column)
    wrong = np.flatnonzero((values != np.round(values)) | (values < 0) | (values >= count))
    if wrong.size:
        row = int(wrong[0])
        raise CommandError(
            f"{table.what}, {table.where(row)}, column {table.titles[column]}: got "
            f"{values[row]:g}; expected {expected}."
        )
    return values.astype(np.int32)


def read_groups(path: Path, column: str) -> np.ndarray:
    """The group of each point: the different values of a column of POINTS, numbered."""
    table = read_table(path, "POINTS")
    words = table.words(table.find(column, "--share"))
    names = sorted(set(words))
    places = {name: place for place, name in enumerate(names)}
    return np.array([places[word] for word in words], np.int32)
