"""Reading points and matrices from delimited text."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .errors import CommandError

# In order of preference; None is runs of blanks.
_SEPARATORS = ("\t", ";", ",", "|", None)
_SAMPLE = 50
_SHOWN = 40


@dataclass(frozen=True)
class Points:
    """Points read from a file: `x` (N, d), the `names` of its columns, `weights` (N,) or `None`."""

    x: np.ndarray
    names: tuple[str, ...]
    weights: np.ndarray | None


@dataclass(frozen=True)
class _Row:
    line: int
    cells: list[str]


def read_points(
    path: Path,
    *,
    columns: str | None = None,
    weights: str | None = None,
    header: bool | None = None,
) -> Points:
    """Read one point a row from comma, semicolon, tab, bar or blank separated text.

    **Arguments:**

    - `path`: a UTF-8 file. Blank lines and lines that start with # are skipped.
    - `columns`: names or 0-based indices, separated by commas; default all but the weights. A
        name in the header wins over an index.
    - `weights`: name or index of a column of weights >= 0.
    - `header`: whether the first line holds names; default: it does if none of its cells is a
        number.

    **Raises:** `CommandError` for anything that is not such a table of finite numbers.
    """
    what = f"POINTS {_show(path)}"
    rows = _read_rows(path, what)
    names = _names(rows, header, what)
    body = rows[1:] if names else rows
    if not body:
        raise CommandError(f"{what}: got no row of points; expected at least one.")
    width = len(rows[0].cells)
    titles = names or [f"column_{index}" for index in range(width)]
    place = None if weights is None else _find_column(weights, names, width, "--weights")
    if columns is None:
        chosen = [index for index in range(width) if index != place]
        if not chosen:
            raise CommandError(f"{what}: got no column but the weights; expected coordinates.")
    else:
        chosen = _find_columns(columns, names, width)
        if place in chosen:
            raise CommandError(
                f"--columns: got {_show(titles[place])}, which is also the --weights column; "
                "expected different columns."
            )
    parsed = [_numbers(body, index, titles, what, place) for index in chosen]
    shares = None
    if place is not None:
        shares = _numbers(body, place, titles, what, place)
        _check_weights(shares, body)
    return Points(np.stack(parsed, axis=1), tuple(titles[index] for index in chosen), shares)


def read_matrix(path: Path, k: int) -> np.ndarray:
    """Read a (k, k) matrix of override probabilities, without a header.

    **Raises:** `CommandError` unless its rows are probabilities that sum to one.
    """
    what = f"--matrix {_show(path)}"
    rows = _read_rows(path, what)
    width = len(rows[0].cells)
    if (len(rows), width) != (k, k):
        raise CommandError(
            f"{what}: got {len(rows)} rows and {width} columns; expected {k} and {k} for -k {k}."
        )
    titles = [f"column_{index}" for index in range(width)]
    columns = [_numbers(rows, index, titles, what, None) for index in range(width)]
    matrix = np.stack(columns, axis=1)
    for row, values in zip(rows, matrix, strict=True):
        if np.min(values) < 0:
            raise CommandError(
                f"{what}, line {row.line}: got {np.min(values):g}; expected probabilities >= 0."
            )
        if abs(np.sum(values) - 1) > 1e-6:
            raise CommandError(
                f"{what}, line {row.line}: got a row that sums to {np.sum(values):.7g}; "
                "expected rows that sum to one."
            )
    return matrix / np.sum(matrix, axis=1, keepdims=True)


def _show(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 2 * _SHOWN else text[:_SHOWN] + "..." + text[-_SHOWN:])


def _read_text(path: Path, what: str) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise CommandError(f"{what}: got no such file; expected a text file.") from None
    except IsADirectoryError:
        raise CommandError(f"{what}: got a folder; expected a text file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise CommandError(f"{what}: cannot be read ({reason}); expected a text file.") from None
    if not raw.strip():
        raise CommandError(f"{what}: got an empty file; expected rows of numbers.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CommandError(f"{what}: got a binary file or another encoding; expected UTF-8 text.")
    return text


def _read_rows(path: Path, what: str) -> list[_Row]:
    """All rows that are neither blank nor comments, each as wide as the first."""
    lines = list(io.StringIO(_read_text(path, what), newline=None))
    lines = ["\n" if line.lstrip().startswith("#") else line for line in lines]
    rows = _split(lines, _sniff(lines, what), what)
    if not rows:
        raise CommandError(f"{what}: got no rows; expected rows of numbers.")
    width = len(rows[0].cells)
    for row in rows:
        if len(row.cells) != width:
            raise CommandError(
                f"{what}, line {row.line}: got {len(row.cells)} cells; expected {width}, "
                f"as in line {rows[0].line}."
            )
    return rows


def _split(lines: Iterable[str], separator: str | None, what: str) -> list[_Row]:
    rows = []
    if separator is None:
        cells_of = ((number, line.split()) for number, line in enumerate(lines, 1))
    else:
        reader = csv.reader(lines, delimiter=separator, skipinitialspace=separator != "\t")
        cells_of = ((reader.line_num, cells) for cells in reader)
    try:
        for line, cells in cells_of:
            cells = [cell.strip() for cell in cells]
            if any(cells):
                rows.append(_Row(line, cells))
    except csv.Error as error:
        raise CommandError(f"{what}: got broken quoting ({error}); expected a CSV file.") from None
    return rows


def _sniff(lines: Sequence[str], what: str) -> str | None:
    """The separator under which most of the first rows have the same number of cells, > 1."""
    sample = [line for line in lines if line.strip()][:_SAMPLE]
    best, best_share = ",", 0.0
    for separator in _SEPARATORS:
        widths = [len(row.cells) for row in _split(sample, separator, what)]
        common = max(widths, key=lambda width: (widths.count(width), width), default=0)
        share = widths.count(common) / len(widths) if common > 1 else 0.0
        # Blanks often follow another separator, so they win only where no other fits.
        if share > best_share and (separator is not None or best_share < 0.5):
            best, best_share = separator, share
    return best


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # Python's own digit grouping, no other tool's


def _names(rows: Sequence[_Row], header: bool | None, what: str) -> list[str] | None:
    """The cells of the header, or None without one."""
    first = rows[0]
    if header is None:
        numeric = [_is_number(cell) for cell in first.cells]
        if any(numeric) and not all(numeric):
            name = first.cells[numeric.index(False)]
            raise CommandError(
                f"{what}, line {first.line}: got numbers and {_show(name)}; expected only names "
                "or only numbers, or --header or --no-header to say which it is."
            )
        header = not any(numeric)
    return first.cells if header else None


def _find_column(wanted: str, names: list[str] | None, width: int, option: str) -> int:
    wanted = wanted.strip()
    if names and (count := names.count(wanted)):
        if count > 1:
            raise CommandError(
                f"{option}: got {_show(wanted)}, the name of {count} columns; expected an index "
                f"from 0 to {width - 1}."
            )
        return names.index(wanted)
    if wanted.isascii() and wanted.isdigit() and int(wanted[:9]) < width:
        return int(wanted[:9])
    expected = f"an index from 0 to {width - 1}"
    if names:
        shown = ", ".join(_show(name) for name in names[:12])
        expected = f"one of {shown}{', ...' if len(names) > 12 else ''}, or {expected}"
    raise CommandError(f"{option}: got {_show(wanted)}; expected {expected}.")


def _find_columns(columns: str, names: list[str] | None, width: int) -> list[int]:
    try:
        (wanted,) = csv.reader([columns], skipinitialspace=True)
    except (csv.Error, ValueError):
        wanted = []
    if not wanted or not all(name.strip() for name in wanted):
        raise CommandError(
            f"--columns: got {_show(columns)}; expected names or indices separated by commas."
        )
    chosen = [_find_column(name, names, width, "--columns") for name in wanted]
    for place, index in enumerate(chosen):
        if index in chosen[:place]:
            raise CommandError(
                f"--columns: got {_show(wanted[place])} twice; expected different columns."
            )
    return chosen


def _numbers(
    rows: Sequence[_Row], index: int, titles: Sequence[str], what: str, place: int | None
) -> np.ndarray:
    """One column as finite floats."""
    cells = [row.cells[index] for row in rows]
    bad = next((i for i, cell in enumerate(cells) if not _is_number(cell)), None)
    if bad is not None:
        title = _show(titles[index])
        if not any(_is_number(cell) for cell in cells):
            usable = [
                titles[column]
                for column in range(len(titles))
                if column != place and all(_is_number(row.cells[column]) for row in rows)
            ]
            fix = f", for instance --columns {','.join(usable[:8])}" if usable else ""
            raise CommandError(
                f"{what}: column {title} is not numeric, it has {_show(cells[bad])}; expected "
                f"numbers, or a choice with --columns{fix}."
            )
        got = _show(cells[bad]) if cells[bad] else "an empty cell"
        hint = " with a decimal point" if "," in cells[bad] else ""
        raise CommandError(
            f"{what}, line {rows[bad].line}, column {title}: got {got}; expected a number{hint}."
        )
    values = np.array([float(cell) for cell in cells])
    if not np.all(np.isfinite(values)):
        worst = int(np.flatnonzero(~np.isfinite(values))[0])
        raise CommandError(
            f"{what}, line {rows[worst].line}, column {_show(titles[index])}: got "
            f"{cells[worst]}; expected a finite number."
        )
    return values


def _check_weights(weights: np.ndarray, rows: Sequence[_Row]) -> None:
    if np.min(weights) < 0:
        worst = int(np.argmin(weights))
        raise CommandError(
            f"--weights, line {rows[worst].line}: got {weights[worst]:g}; expected >= 0."
        )
    total = math.fsum(weights) if np.max(weights) < 1e300 else math.inf
    if not 0 < total < math.inf:
        raise CommandError(
            f"--weights: got weights that sum to {total:g}; expected a positive finite sum."
        )
