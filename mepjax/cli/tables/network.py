"""What nodes travel through, from the options of `mepjax route` and the files they name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CommandError
from ..options.capacity import Capacity, read_numbers
from .points import REACH, Points, check_degrees, read_plain, read_table
from .table import show


@dataclass(frozen=True)
class Network:
    """Places in input units.

    **Fields:** `destinations` (L, d); `fixed` (F, d), the facilities that stand already, or
    `None`; masks `between` facilities (M, M) and of the `exit` to destinations (M, L), or `None`;
    capacities, or `None`.
    """

    destinations: np.ndarray
    fixed: np.ndarray | None = None
    between: np.ndarray | None = None
    exit: np.ndarray | None = None
    entry_capacity: Capacity | None = None
    facility_capacity: Capacity | None = None
    link_capacity: Capacity | None = None

    @property
    def standing(self) -> int:
        """How many facilities stand already."""
        return 0 if self.fixed is None else len(self.fixed)

    @property
    def capacities(self) -> dict[str, Capacity]:
        """Those there are, by `entry`, `facility` and `link`."""
        found = {name: getattr(self, f"{name}_capacity") for name in ("entry", "facility", "link")}
        return {name: capacity for name, capacity in found.items() if capacity is not None}

    @property
    def is_limited(self) -> bool:
        """Whether there is any capacity."""
        return bool(self.capacities)


def read_destinations(texts: Sequence[str], points: Points) -> np.ndarray:
    """Destinations (L, d), each from numbers separated by commas in the order of the columns.

    **Raises:** `CommandError` for none, or one that is not such a place.
    """
    names, d = ", ".join(points.names[:12]), len(points.names)
    what = f"{d} numbers separated by commas, one for each of the columns {names}"
    if d == 1:
        what = f"1 number, for the column {names}"
    if not texts:
        raise CommandError(f"--destination: got none; expected {what}.")
    places = []
    for text in texts:
        place = read_numbers("--destination", text, what)
        if len(place) != d or not np.all(np.isfinite(place)):
            raise CommandError(f"--destination: got {show(text)}; expected {what}.")
        if points.lonlat is not None:
            for index, (kind, reach) in zip(points.lonlat, REACH.items(), strict=True):
                if abs(place[index]) > reach:
                    raise CommandError(
                        f"--destination: got {show(text)}; expected {what}, with a {kind} from "
                        f"-{reach:g} to {reach:g}."
                    )
        places.append(place)
    return np.array(places)


def read_fixed(path: Path, points: Points) -> np.ndarray:
    """Facilities that stand already (F, d): the columns of the nodes, or as many without names.

    **Raises:** `CommandError` for anything that is not such a table.
    """
    table = read_table(path, "--fixed")
    d = len(points.names)
    if table.names and all(table.names.count(name) == 1 for name in points.names):
        chosen = [table.names.index(name) for name in points.names]
    elif table.width == d:
        chosen = list(range(d))
    else:
        names = ", ".join(show(name) for name in points.names[:12])
        raise CommandError(
            f"{table.what}: got {table.width} columns; expected those of the nodes, {names}, or "
            f"{d} in their order."
        )
    for index in chosen:
        if not table.is_numeric(index):
            cell = next(iter(table.words(index)), "")
            raise CommandError(
                f"{table.what}: column {show(table.titles[index])} is not numeric, it has "
                f"{show(cell)}; expected coordinates."
            )
    parsed = [table.numbers(index) for index in chosen]
    if points.lonlat is not None:
        roles = points.lonlat
        check_degrees(table, [chosen[r] for r in roles], [parsed[r] for r in roles])
    return np.stack(parsed, axis=1)


def read_links(path: Path, m: int, ends: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Masks (M, M) between facilities and, where the file has such columns, (M, L) to the ends.

    **Raises:** `CommandError` for a table of another shape or other numbers than 0 and 1.
    """
    table = read_plain(path, "--links")
    if table.n != m or table.width not in (m, m + ends):
        destinations = f"{ends} {'destination' if ends == 1 else 'destinations'}"
        raise CommandError(
            f"{table.what}: got {table.n} rows and {table.width} columns; expected {m} and {m} for "
            f"{m} facilities, or {m + ends} columns with the {destinations}."
        )
    values = np.stack([table.numbers(index) for index in range(table.width)], axis=1)
    wrong = np.argwhere((values != 0) & (values != 1))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise CommandError(
            f"{table.what}, {table.where(row)}: got {values[row, column]:g}; expected 1 where one "
            "may travel from the facility of the row to that of the column, and 0 elsewhere."
        )
    allowed = values == 1
    return allowed[:, :m], allowed[:, m:] if table.width > m else None


def read_link_capacity(file: str, m: int) -> Capacity:
    """Bounds (M, M) on the traffic from the facility of the row to that of the column.

    After `=` before the file's name they are to be met exactly.

    **Raises:** `CommandError` for a table of another shape, negative numbers or NaN.
    """
    equal = file.startswith("=")
    table = read_plain(Path(file.removeprefix("=")), "--link-capacity")
    if (table.n, table.width) != (m, m):
        raise CommandError(
            f"{table.what}: got {table.n} rows and {table.width} columns; expected {m} and {m} for "
            f"{m} facilities."
        )
    values = np.stack([table.raw_numbers(index) for index in range(m)], axis=1)
    wrong = np.argwhere(~(values >= 0))
    if len(wrong):
        row, column = (int(index) for index in wrong[0])
        raise CommandError(
            f"{table.what}, {table.where(row)}: got {values[row, column]:g}; expected a number >= 0"
            ", or inf for no limit."
        )
    return Capacity(values, equal)
