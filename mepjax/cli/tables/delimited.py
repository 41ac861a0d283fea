"""Tables in delimited text, plain or compressed by gzip."""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..errors import CommandError
from .table import TableFile, show

# In order of preference; None is runs of blanks.
_SEPARATORS = ("\t", ";", ",", "|", None)
_SAMPLE = 50
_GZIP = b"\x1f\x8b"
_SEPARATOR_LINE = re.compile(r'"?sep=([,;|\t ])"?', re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?")
# Thousands parted by commas, points, apostrophes or blanks.
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}([,'\u2019 \u00a0\u202f]\d{3})+([.,]\d+)?")
_COMMA_IN_NUMBER = re.compile(r"(?:^|,)[+-]?\d+,\d+(?:\.\d+)?(?:,|$)")
# A small compressed file may unpack to more than any memory.
LARGEST = 2**32


@dataclass(frozen=True)
class Row:
    """A row of cells, and the line of the file it ends on, from 1."""

    line: int
    cells: list[str]


class TextTable(TableFile):
    """Rows of cells under an optional header."""

    def __init__(
        self, what: str, names: Sequence[str] | None, rows: Sequence[Row], comma: bool = False
    ) -> None:
        super().__init__(what, names, len(rows[0].cells), len(rows))
        self.rows, self.comma = rows, comma

    def where(self, row: int) -> str:
        """The line of the file."""
        return f"line {self.rows[row].line}"

    def words(self, index: int) -> list[str]:
        """The cells as they stand."""
        return [row.cells[index] for row in self.rows]

    def is_numeric(self, index: int) -> bool:
        """Whether all cells can be read as numbers."""
        return all(_is_number(row.cells[index], self.comma) for row in self.rows)

    def raw_numbers(self, index: int, taken: int | None = None) -> np.ndarray:
        """The cells as floats."""
        cells = self.words(index)
        bad = next((i for i, cell in enumerate(cells) if not _is_number(cell, self.comma)), None)
        if bad is not None:
            grouped = _GROUPED.fullmatch(cells[bad])
            is_number = grouped or _DECIMAL_COMMA.fullmatch(cells[bad])
            if not is_number and not any(_is_number(cell, self.comma) for cell in cells):
                raise self.not_numeric(index, show(cells[bad]), taken)
            got = show(cells[bad]) if cells[bad] else "an empty cell"
            hint = ""
            if grouped:
                hint = " without separators of thousands, such as 1200.5"
            elif "," in cells[bad]:
                hint = " with a decimal point"
            raise CommandError(
                f"{self.what}, {self.where(bad)}, column {show(self.titles[index])}: got {got}; "
                f"expected a number{hint}."
            )
        return np.array([_number(cell, self.comma) for cell in cells])


def read_text(raw: bytes, header: bool | None, what: str) -> TextTable:
    """A table from the bytes of a text file; `header` as in `read_points`."""
    rows, comma = read_rows(raw, what)
    names = _names(rows, header, what, comma)
    body = rows[1:] if names else rows
    if not body:
        raise CommandError(f"{what}: got no row of points; expected at least one.")
    return TextTable(what, names, body, comma)


def read_rows(raw: bytes, what: str) -> tuple[list[Row], bool]:
    """All rows that are neither blank nor comments, each as wide as the first.

    **Returns:** the rows, and whether commas in their numbers are decimal points.
    """
    lines = list(io.StringIO(_decode(raw, what), newline=None))
    lines = ["\n" if line.lstrip().startswith("#") else line for line in lines]
    told = _SEPARATOR_LINE.fullmatch(lines[0].strip()) if lines else None
    if told:
        # Excel's own first line; lines keep their numbers.
        lines[0] = "\n"
    separator = told[1] if told else _sniff(lines, what)
    rows = _split(lines, separator, what)
    if not rows:
        raise CommandError(f"{what}: got no rows; expected rows of numbers.")
    width = len(rows[0].cells)
    for row in rows:
        if len(row.cells) != width:
            hint = ""
            if separator == "," and _COMMA_IN_NUMBER.search(",".join(row.cells)):
                hint = " (numbers with commas need quotes, or another separator)"
            raise CommandError(
                f"{what}, line {row.line}: got {len(row.cells)} cells; expected {width}, "
                f"as in line {rows[0].line}{hint}."
            )
    return rows, separator != "," and _has_decimal_commas(rows, what)


def _has_decimal_commas(rows: Sequence[Row], what: str) -> bool:
    """Whether numbers have commas for decimal points, and no cell contradicts that.

    **Raises:** `CommandError` where the commas may as well part thousands.
    """
    decimal = False
    unclear: tuple[int, str] | None = None
    for row in rows:
        for cell in row.cells:
            if _DECIMAL_COMMA.fullmatch(cell):
                if not _GROUPED.fullmatch(cell):
                    decimal = True
                elif unclear is None:
                    unclear = row.line, cell
            elif ("." in cell and _is_number(cell)) or ("," in cell and _GROUPED.fullmatch(cell)):
                return False
    if unclear is not None and not decimal:
        raise CommandError(
            f"{what}, line {unclear[0]}: got {show(unclear[1])}, which may be a decimal or "
            "thousands; expected numbers with a decimal point and without separators of thousands."
        )
    return decimal


def _decode(raw: bytes, what: str) -> str:
    if raw.startswith(_GZIP):
        raw = _unpack(raw, what)
    if not raw.strip():
        raise CommandError(f"{what}: got an empty file; expected rows of numbers.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CommandError(
            f"{what}: got a binary file or another encoding; expected UTF-8 text (or text by "
            "gzip, NPY, NPZ, Parquet)."
        )
    return text


def _unpack(raw: bytes, what: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(raw)) as file:
            unpacked = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error, MemoryError) as error:
        raise CommandError(
            f"{what}: got a broken gzip file ({error}); expected text compressed by gzip."
        ) from None
    if len(unpacked) > LARGEST:
        raise CommandError(
            f"{what}: got a gzip file of more than {LARGEST} bytes of text; expected less."
        )
    return unpacked


def _split(lines: Iterable[str], separator: str | None, what: str) -> list[Row]:
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
                rows.append(Row(line, cells))
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


def _number(cell: str, comma: bool = False) -> float:
    return float(cell.replace(",", ".") if comma else cell)


def _is_number(cell: str, comma: bool = False) -> bool:
    try:
        _number(cell, comma)
    except ValueError:
        return False
    return "_" not in cell  # Python's own digit grouping, no other tool's


def _names(rows: Sequence[Row], header: bool | None, what: str, comma: bool) -> list[str] | None:
    """The cells of the header, or None without one."""
    first = rows[0]
    if header is None:
        numeric = [_is_number(cell, comma) for cell in first.cells]
        if any(numeric) and not all(numeric):
            name = first.cells[numeric.index(False)]
            raise CommandError(
                f"{what}, line {first.line}: got numbers and {show(name)}; expected only names "
                "or only numbers, or --header or --no-header to say which it is."
            )
        header = not any(numeric)
    return first.cells if header else None
