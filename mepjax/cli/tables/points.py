"""Points and matrices from files of every kind that is read."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import CommandError
from .binary import NPY, NPZ, PARQUET, read_npy, read_npz, read_parquet
from .delimited import TextTable, read_rows, read_text
from .kinds import refusal
from .table import TableFile, show

_LONGITUDE = {"lon", "long", "lng", "longitude"}
_LATITUDE = {"lat", "latitude"}
REACH = {"longitude": 180.0, "latitude": 90.0}


@dataclass(frozen=True)
class Points:
    """Points read from a file.

    **Fields:** `x` (N, d); the `names` of its columns; `weights` (N,) or `None`; `ids`, one text a
    point, or `None`; `lonlat`, which columns of `x` are longitude and latitude in degrees, or
    `None`; `note`, what of the file was left out, if anything.
    """

    x: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None
    ids: tuple[str, ...] | None = None
    lonlat: tuple[int, int] | None = None
    note: str = ""


def read_points(
    path: Path,
    *,
    columns: str | None = None,
    weights: str | None = None,
    ids: str | None = None,
    lonlat: bool = False,
    header: bool | None = None,
    array: str | None = None,
    argument: str = "POINTS",
) -> Points:
    """Read one point a row from delimited text (also by gzip), NPY, NPZ or Parquet.

    The kind is told by the content, whatever the file is called.

    **Arguments:**

    - `path`: text is UTF-8, separated by commas, semicolons, tabs, bars or blanks; blank lines
        and lines that start with # are skipped.
    - `columns`: names or 0-based indices, separated by commas; default all but the weights, the
        ids and columns without a name that number the rows, as pandas and R write them. A name
        in the header wins over an index.
    - `weights`: name or index of a column of weights >= 0.
    - `ids`: name or index of a column of names of the points.
    - `lonlat`: the coordinates are degrees of longitude and latitude, found by their names (lon,
        long, lng, longitude; lat, latitude), or two `columns` in this order.
    - `header`: whether the first line of a text holds names; default: it does if none of its
        cells is a number.
    - `array`: which array of an NPZ file.
    - `argument`: how messages call the file.

    **Raises:** `CommandError` for anything that is not such a table of finite numbers.
    """
    table = read_table(path, argument, header, array)
    place = None if weights is None else table.find(weights, "--weights")
    names_at = None if ids is None else table.find(ids, "--ids")
    note = ""
    if columns is None:
        counts = [index for index in range(table.width) if table.counts_rows(index)]
        chosen = [index for index in range(table.width) if index not in (place, names_at)]
        left_out = [index for index in counts if index in chosen]
        if left_out and len(left_out) < len(chosen):
            chosen = [index for index in chosen if index not in left_out]
            note = (
                f"{table.what}: left out column {', '.join(str(index) for index in left_out)}, "
                "which has no name and numbers the rows; --columns takes it, --ids keeps it as "
                "names"
            )
        if not chosen:
            known = "weights" if names_at is None else "ids" if place is None else "weights or ids"
            raise CommandError(
                f"{table.what}: got no column but the {known}; expected coordinates."
            )
    else:
        chosen = table.find_all(columns)
        for option, taken in (("--weights", place), ("--ids", names_at)):
            if taken in chosen:
                raise CommandError(
                    f"--columns: got {show(table.titles[taken])}, which is also the {option} "
                    "column; expected different columns."
                )
    roles = None
    if lonlat:
        roles = _find_lonlat(table, chosen, columns)
        if columns is None:
            chosen, roles = [chosen[role] for role in roles], (0, 1)
    parsed = [table.numbers(index, place) for index in chosen]
    shares = None
    if place is not None:
        shares = table.numbers(place, place)
        _check_weights(shares, table)
    if roles is not None:
        check_degrees(table, [chosen[role] for role in roles], [parsed[role] for role in roles])
    return Points(
        np.stack(parsed, axis=1),
        tuple(table.titles[index] for index in chosen),
        shares,
        None if names_at is None else tuple(table.words(names_at)),
        roles,
        note,
    )


def read_matrix(path: Path, k: int) -> np.ndarray:
    """Read a (k, k) matrix of override probabilities: text without a header, or NPY.

    **Raises:** `CommandError` unless its rows are probabilities that sum to one.
    """
    table = read_plain(path, "--matrix")
    what = table.what
    if (table.n, table.width) != (k, k):
        raise CommandError(
            f"{what}: got {table.n} rows and {table.width} columns; expected {k} and {k} for "
            f"-k {k}."
        )
    matrix = np.stack([table.numbers(index) for index in range(k)], axis=1)
    for row, values in enumerate(matrix):
        if np.min(values) < 0:
            raise CommandError(
                f"{what}, {table.where(row)}: got {np.min(values):g}; expected probabilities >= 0."
            )
        if abs(np.sum(values) - 1) > 1e-6:
            raise CommandError(
                f"{what}, {table.where(row)}: got a row that sums to {np.sum(values):.7g}; "
                "expected rows that sum to one."
            )
    return matrix / np.sum(matrix, axis=1, keepdims=True)


def read_plain(path: Path, option: str) -> TableFile:
    """The table of numbers in a text without a header, or in an NPY file."""
    what = f"{option} {show(path)}"
    raw = _read_bytes(path, what)
    if raw.startswith(NPY):
        return read_npy(raw, what)
    return TextTable(what, None, *read_rows(raw, what))


def read_table(
    path: Path, argument: str, header: bool | None = None, array: str | None = None
) -> TableFile:
    """The table in a file of any kind; `argument` is how messages call it, the rest as above."""
    what = f"{argument} {show(path)}"
    raw = _read_bytes(path, what)
    is_npz = raw.startswith(NPZ)
    is_text = not (is_npz or raw.startswith((NPY, PARQUET)))
    if array is not None and not is_npz:
        raise CommandError(
            f"--array: got {show(array)} beside a file of another kind; expected it with NPZ only."
        )
    if header is not None and not is_text:
        option = "--header" if header else "--no-header"
        raise CommandError(f"{option}: got it beside a binary file; expected it with text only.")
    if is_npz:
        return read_npz(raw, array, what)
    if raw.startswith(NPY):
        return read_npy(raw, what)
    if raw.startswith(PARQUET):
        return read_parquet(raw, what)
    return read_text(raw, header, what)


def _read_bytes(path: Path, what: str) -> bytes:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CommandError(f"{what}: got no such file; expected a text file.") from None
    except IsADirectoryError:
        raise CommandError(f"{what}: got a folder; expected a text file.") from None
    except (OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{what}: cannot be read ({reason}); expected a text file.") from None
    refused = refusal(raw)
    if refused is not None:
        raise CommandError(f"{what}: {refused}.")
    return raw


def _check_weights(weights: np.ndarray, table: TableFile) -> None:
    if np.min(weights) < 0:
        worst = int(np.argmin(weights))
        raise CommandError(
            f"--weights, {table.where(worst)}: got {weights[worst]:g}; expected >= 0."
        )
    total = math.fsum(weights) if np.max(weights) < 1e300 else math.inf
    if not 0 < total < math.inf:
        raise CommandError(
            f"--weights: got weights that sum to {total:g}; expected a positive finite sum."
        )


# Longitude and latitude.


def lonlat_of(titles: list[str]) -> tuple[int, int] | None:
    """Which lower-case titles are longitude and latitude; `None` unless each is one."""
    east = [place for place, title in enumerate(titles) if title in _LONGITUDE]
    north = [place for place, title in enumerate(titles) if title in _LATITUDE]
    return (east[0], north[0]) if len(east) == len(north) == 1 else None


def _find_lonlat(table: TableFile, chosen: list[int], columns: str | None) -> tuple[int, int]:
    """Which of the chosen columns are longitude and latitude, by name, else by their order."""
    titles = [table.titles[index].strip().lower() for index in chosen]
    east = [place for place, title in enumerate(titles) if title in _LONGITUDE]
    north = [place for place, title in enumerate(titles) if title in _LATITUDE]
    if len(east) == len(north) == 1:
        return east[0], north[0]
    if columns is not None and len(chosen) == 2 and len(east) <= 1 and len(north) <= 1:
        if not east and not north:
            return 0, 1
        known = (east or north)[0]
        return (known, 1 - known) if east else (1 - known, known)
    shown = ", ".join(show(table.titles[index]) for index in chosen[:12])
    if not east or not north:
        found = f"no {'latitude' if east else 'longitude'}"
    else:
        found = f"more than one {'longitude' if len(east) > 1 else 'latitude'}"
    raise CommandError(
        f"--lonlat: got columns {shown}{', ...' if len(chosen) > 12 else ''}, among them {found}; "
        "expected one named lon, long, lng or longitude and one named lat or latitude, "
        "or --columns with the two in this order."
    )


def check_degrees(table: TableFile, columns: list[int], values: list[np.ndarray]) -> None:
    """Raise `CommandError` unless columns of longitudes and of latitudes are in range."""
    for (kind, reach), index, degrees in zip(REACH.items(), columns, values, strict=True):
        wrong = np.flatnonzero(np.abs(degrees) > reach)
        if wrong.size:
            row = int(wrong[0])
            swapped = np.all(np.abs(values[0]) <= 90) and np.all(np.abs(values[1]) <= 180)
            hint = "; perhaps the two columns are swapped" if swapped else ""
            raise CommandError(
                f"--lonlat, {table.where(row)}, column {show(table.titles[index])}: got "
                f"{degrees[row]:g}; expected a {kind} from -{reach:g} to {reach:g}{hint}."
            )
