"""What moves: recorded traces from a table, or a scene in a TOML file."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ..._core.scaling import Scaling
from ...datasets import moving_network
from ..errors import CommandError
from .points import check_degrees, lonlat_of, read_table
from .table import TableFile, show

HELP = (
    "Traces as a table with the columns id, t and coordinates, one fix a row (lon and lat are "
    "degrees); or a scene as TOML: facilities, duration, absent (pairs of facilities without a "
    "link), and [network] with n, seed, groups, spread, speed, or nodes, velocities, destination, "
    "destination_velocity. Default: a bundled example."
)
_TOP = {
    "facilities", "duration", "absent", "network", "nodes", "velocities", "destination",
    "destination_velocity",
}  # fmt: skip
_NETWORK = {"n", "seed", "groups", "spread", "speed"}
_DURATION = 20.0


@dataclass(frozen=True)
class Scene:
    """Places at the start, and how they move.

    **Fields:** `nodes` (N, d) and their `ids`; `destination` (d,), or `None` for points and their
    centres; `moves`, the keyword of `mepjax.control.track` that says how; `first` and `last` time;
    `names` of coordinates; `scaling` from input units; `facilities` and `absent` links if told.
    """

    nodes: np.ndarray
    ids: tuple[str, ...]
    destination: np.ndarray | None
    moves: dict[str, Any]
    first: float
    last: float
    names: tuple[str, ...]
    scaling: Scaling
    facilities: int | None = None
    absent: tuple[tuple[int, int], ...] = ()


class Steady(eqx.Module):
    """Constant velocities of nodes and destination."""

    nodes: Any
    destination: Any

    def __call__(self, time: Any, problem: Any, values: Any) -> dict[str, Any]:
        """The same at all times."""
        if self.destination is None:
            return {"x": self.nodes}
        return {"nodes": self.nodes, "destinations": self.destination}


def example() -> Scene:
    """The thesis's scene on generated motion, with 60 nodes."""
    return _network({"n": 60}, _DURATION, 5, ((1, 2), (2, 3), (4, 1), (1, 3), (4, 5), (5, 3)))


def read_scene(path: Path, destination: str | None) -> Scene:
    """The scene in a file; `destination` is the id of it in traces.

    **Raises:** `CommandError` that names the file, and the id or key.
    """
    if path.suffix.lower() != ".toml":
        return _traces(read_table(path, "SCENE"), destination)
    where = f"SCENE {show(path)}"
    if destination is not None:
        raise CommandError("--destination: got it beside a TOML file; expected it with traces.")
    try:
        return _toml(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise CommandError(f"{where}: cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{where}: is no TOML: {error}.") from None
    except (KeyError, TypeError, ValueError) as error:
        text = f"lacks {error.args[0]!r}." if isinstance(error, KeyError) else str(error)
        raise CommandError(f"{where}: {text}") from None


# Traces.


def _traces(table: TableFile, destination: str | None) -> Scene:
    titles = [title.strip().lower() for title in table.titles]
    for name in ("id", "t"):
        if titles.count(name) != 1:
            raise CommandError(
                f"{table.what}: got columns {', '.join(map(show, table.titles[:12]))}; expected "
                "id, t and coordinates, such as x and y."
            )
    chosen = [i for i, title in enumerate(titles) if title not in ("id", "t")]
    if not chosen:
        raise CommandError(f"{table.what}: got no coordinates; expected such as x and y.")
    clock = _numbers(table, titles.index("t"))
    places = np.stack([_numbers(table, index) for index in chosen], axis=1)
    lonlat = lonlat_of([titles[index] for index in chosen])
    if lonlat is not None:
        picked = [chosen[place] for place in lonlat]
        check_degrees(table, picked, [places[:, place] for place in lonlat])
    scaling = Scaling.of("none", places, None, lonlat)
    ids = [word.strip() for word in table.words(titles.index("id"))]
    found = {
        name: _trace(table, name, rows, clock, scaling.apply(places))
        for name, rows in _rows_of(ids).items()
    }
    end = None
    if destination is not None:
        if destination not in found:
            shown = ", ".join(show(name) for name in list(found)[:8])
            raise CommandError(f"--destination: got {show(destination)}; expected an id: {shown}.")
        end = found.pop(destination)
        if not found:
            raise CommandError(f"{table.what}: got the destination alone; expected nodes too.")
    first, last = _common(table, [*found.items(), *([] if end is None else [(destination, end)])])
    field = "x" if end is None else "nodes"
    traces: dict[str, Any] = {field: list(found.values())}
    if end is not None:
        traces["destinations"] = [end]
    start = np.stack([_at(trace, first) for trace in found.values()])
    return Scene(
        start, tuple(found), None if end is None else _at(end, first), {"traces": traces},
        first, last, tuple(table.titles[index] for index in chosen), scaling,
    )  # fmt: skip


def _numbers(table: TableFile, index: int) -> np.ndarray:
    if not table.is_numeric(index):
        cell = next(iter(table.words(index)), "")
        raise CommandError(
            f"{table.what}: column {show(table.titles[index])} is not numeric, it has "
            f"{show(cell)}; expected times and coordinates."
        )
    return table.numbers(index)


def _rows_of(ids: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(ids):
        rows.setdefault(name, []).append(row)
    return rows


def _trace(
    table: TableFile, name: str, rows: list[int], clock: np.ndarray, places: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Fixes of one id in the order of their times."""
    if len(rows) < 2:
        raise CommandError(
            f"{table.what}, {table.where(rows[0])}: got one fix of id {show(name)}; expected at "
            "least two."
        )
    order = np.array(rows)[np.argsort(clock[rows], kind="stable")]
    same = np.flatnonzero(np.diff(clock[order]) == 0)
    if same.size:
        row = int(order[same[0] + 1])
        raise CommandError(
            f"{table.what}, {table.where(row)}: got the time {clock[row]:g} of id {show(name)} "
            "twice; expected every time once."
        )
    return clock[order], places[order]


def _common(table: TableFile, found: Sequence[tuple[Any, Any]]) -> tuple[float, float]:
    """The times that all traces cover."""
    late = max(found, key=lambda item: item[1][0][0])
    early = min(found, key=lambda item: item[1][0][-1])
    first, last = float(late[1][0][0]), float(early[1][0][-1])
    if not first < last:
        raise CommandError(
            f"{table.what}: got id {show(late[0])} from {first:g} on and id {show(early[0])} until "
            f"{last:g}; expected times that all ids cover."
        )
    return first, last


def _at(trace: tuple[np.ndarray, np.ndarray], time: float) -> np.ndarray:
    times, places = trace
    return np.stack([np.interp(time, times, column) for column in places.T])


# TOML.


def _toml(found: dict[str, Any]) -> Scene:
    _known("the file", found, _TOP)
    facilities = found.get("facilities")
    if facilities is not None and (not isinstance(facilities, int) or facilities < 1):
        raise ValueError(f"facilities must be an integer >= 1; got {facilities!r:.40}.")
    duration = float(found.get("duration", _DURATION))
    if not 0 < duration < np.inf:
        raise ValueError(f"duration must be positive and finite; got {duration:g}.")
    absent = tuple((int(a), int(b)) for a, b in found.get("absent", []))
    if "network" in found:
        _known("[network]", found["network"], _NETWORK)
        return _network(found["network"], duration, facilities, absent)
    nodes = _places("nodes", found["nodes"])
    moves = _places("velocities", found["velocities"])
    if moves.shape != nodes.shape:
        raise ValueError(f"velocities must be as many as nodes; got {len(moves)} of {len(nodes)}.")
    end = pushed = None
    if "destination" in found:
        end = _places("destination", [found["destination"]])
        still = [[0.0] * end.shape[1]]
        moved = [found["destination_velocity"]] if "destination_velocity" in found else still
        pushed = _places("destination_velocity", moved)
        if not nodes.shape[1] == end.shape[1] == pushed.shape[1]:
            raise ValueError(
                f"destination and its velocity must have {nodes.shape[1]} coordinates, as nodes "
                f"have; got {end.shape[1]} and {pushed.shape[1]}."
            )
    names = ("x", "y", "z")[: nodes.shape[1]] if nodes.shape[1] <= 3 else None
    names = names or tuple(f"x{i}" for i in range(nodes.shape[1]))
    steady = Steady(jnp.asarray(moves), None if pushed is None else jnp.asarray(pushed))
    return Scene(
        nodes, tuple(str(i) for i in range(len(nodes))), None if end is None else end[0],
        {"velocity": steady}, 0.0, duration, names, Scaling.identity(nodes.shape[1]), facilities,
        absent,
    )  # fmt: skip


def _known(where: str, table: Any, names: set[str]) -> None:
    if not isinstance(table, dict):
        raise ValueError(f"{where} must be a table; got {table!r:.60}.")
    for name in table:
        if name not in names:
            expected = ", ".join(sorted(names))
            raise ValueError(f"{where} has the key {name!r}; expected only {expected}.")


def _places(name: str, rows: Any) -> np.ndarray:
    places = np.asarray(rows, float)
    if places.ndim != 2 or 0 in places.shape or not np.all(np.isfinite(places)):
        raise ValueError(f"{name} must be rows of finite numbers; got shape {places.shape}.")
    return places


def _network(
    options: dict[str, Any], duration: float, facilities: int | None, absent: Any
) -> Scene:
    options = dict(options)
    nodes, end, velocity = moving_network(int(options.pop("n", 200)), **options)
    return Scene(
        np.asarray(nodes, float), tuple(str(i) for i in range(len(nodes))),
        np.asarray(end, float), {"velocity": velocity}, 0.0, duration, ("x", "y"),
        Scaling.identity(2), facilities, tuple(absent),
    )  # fmt: skip
