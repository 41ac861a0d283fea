"""Tables in NumPy's own files and in Parquet."""

import io
import math
import re
import warnings
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import CommandError
from .delimited import LARGEST
from .table import TableFile, show

NPY = b"\x93NUMPY"
NPZ = (b"PK\x03\x04", b"PK\x05\x06")
PARQUET = b"PAR1"
# Columns in which pandas keeps a data frame's index.
_INDEX = re.compile(r"__index_level_\d+__")
_NOT_NUMBERS = {
    "b": "true and false",
    "c": "complex numbers",
    "m": "durations",
    "M": "dates",
    "O": "Python objects, which are never unpickled",
    "S": "bytes",
    "U": "words",
    "V": "records",
}


class ArrayTable(TableFile):
    """A two-dimensional array of real numbers; its columns have no names."""

    def __init__(self, what: str, values: np.ndarray) -> None:
        super().__init__(what, None, values.shape[1], len(values))
        self.values = values

    def where(self, row: int) -> str:
        """The row, from 0."""
        return f"row {row}"

    def is_numeric(self, index: int) -> bool:
        """Whether all of a column are numbers, as in every array that is read."""
        return True

    def raw_numbers(self, index: int, taken: int | None = None) -> np.ndarray:
        """The column as floats."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self.values[:, index].astype(np.float64)

    def words(self, index: int) -> list[str]:
        """Whole numbers without a decimal point, others to 15 digits."""
        values = self.values[:, index].tolist()
        return [f"{v:.15g}" if isinstance(v, float) else str(v) for v in values]


def read_npy(raw: bytes, what: str) -> ArrayTable:
    """A table from the bytes of an NPY file. Nothing is ever unpickled."""
    return ArrayTable(what, _as_table(_array(raw, what), what))


def read_npz(raw: bytes, name: str | None, what: str) -> ArrayTable:
    """A table from an NPZ file: its only array, or the named one."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            members = [i for i in file.infolist() if i.filename.endswith(".npy")]
            names = [member.filename.removesuffix(".npy") for member in members]
            shown = ", ".join(show(n) for n in names[:12]) + (", ..." if len(names) > 12 else "")
            if not names:
                raise CommandError(f"{what}: got an archive without an array; expected NPZ.")
            if name is None and len(names) > 1:
                raise CommandError(
                    f"{what}: got {len(names)} arrays, {shown}; expected one, or a choice with "
                    "--array."
                )
            if name is not None and names.count(name) != 1:
                raise CommandError(f"--array: got {show(name)}; expected one of {shown}.")
            member = members[0 if name is None else names.index(name)]
            with file.open(member) as stream:
                content = stream.read(LARGEST + 1)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        # RuntimeError: encrypted; its subclass NotImplementedError: an unknown compression.
        raise _broken("NPZ", what, error) from None
    except MemoryError as error:
        raise _broken("NPZ", what, error) from None
    if len(content) > LARGEST:
        raise CommandError(f"{what}: got an array of more than {LARGEST} bytes; expected less.")
    return ArrayTable(what, _as_table(_array(content, what), what))


def _broken(kind: str, what: str, error: Exception) -> CommandError:
    reason = str(error) or type(error).__name__
    return CommandError(f"{what}: got a broken {kind} file ({reason:.200}); expected a whole one.")


def _array(raw: bytes, what: str) -> np.ndarray:
    """The array of an NPY file, read without trusting its header."""
    stream = io.BytesIO(raw)
    headers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with warnings.catch_warnings():
            # Headers written by Python 2 are read, with a warning for programmers.
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            if version not in headers:
                # Version 3 exists for names of fields, and records are no table of numbers.
                raise ValueError(f"format version {version[0]}.{version[1]}")
            shape, by_columns, dtype = headers[version](stream)
    except Exception as error:  # whatever a wild header makes of the parser
        raise _broken("NPY", what, error) from None
    if dtype.kind not in "iuf":
        raise CommandError(
            f"{what}: got an array of {_NOT_NUMBERS.get(dtype.kind, dtype)}; expected real numbers."
        )
    start, count = stream.tell(), math.prod(shape)
    if any(size < 0 for size in shape) or len(raw) - start < count * dtype.itemsize:
        raise _broken("NPY", what, ValueError(f"it ends before {_shape(shape)} numbers"))
    values = np.frombuffer(raw, dtype, count, start)
    return values.reshape(shape, order="F" if by_columns else "C")


def _shape(shape: Sequence[int]) -> str:
    return " x ".join(str(size) for size in shape)[:80] or "1"


def _as_table(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim != 2:
        hint = f"; for one feature reshape it to {len(values)} x 1" if values.ndim == 1 else ""
        raise CommandError(
            f"{what}: got an array of {values.ndim} dimensions ({_shape(values.shape)}); expected "
            f"2, one point a row{hint}."
        )
    if 0 in values.shape:
        raise CommandError(
            f"{what}: got an array of {_shape(values.shape)}; expected at least one row of points."
        )
    return values


class ParquetTable(TableFile):
    """Columns of a Parquet file."""

    def __init__(self, what: str, names: Sequence[str], columns: Sequence[Any], n: int) -> None:
        super().__init__(what, names, len(columns), n)
        self.columns = columns

    def where(self, row: int) -> str:
        """The row, from 0."""
        return f"row {row}"

    def is_numeric(self, index: int) -> bool:
        """Whether the column's type is one of numbers and no cell is empty."""
        return self._has_numbers(index) and not self.columns[index].null_count

    def _has_numbers(self, index: int) -> bool:
        import pyarrow.types as types

        kind = self.columns[index].type
        return types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)

    def raw_numbers(self, index: int, taken: int | None = None) -> np.ndarray:
        """The column as floats."""
        column = self.columns[index]
        if not self._has_numbers(index):
            raise self.not_numeric(index, f"the type {column.type}", taken)
        if column.null_count:
            empty = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise CommandError(
                f"{self.what}, {self.where(empty)}, column {show(self.titles[index])}: got an "
                "empty cell; expected a number."
            )
        return np.asarray(column.to_numpy(), np.float64)

    def words(self, index: int) -> list[str]:
        """The cells as text, empty ones as empty text."""
        try:
            cells = self.columns[index].to_pylist()
        except (ValueError, OverflowError) as error:
            raise CommandError(
                f"{self.what}, column {show(self.titles[index])}: cannot be read ({error}); "
                "expected numbers or words."
            ) from None
        return ["" if cell is None else str(cell) for cell in cells]


def read_parquet(raw: bytes, what: str) -> ParquetTable:
    """A table from the bytes of a Parquet file, without the columns of a data frame's index."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise CommandError(
            f"{what}: got a Parquet file, and reading it needs pyarrow, which is not installed; "
            'run: pip install "mepjax[files]"'
        ) from None
    try:
        file = parquet.ParquetFile(pa.BufferReader(raw))
        cells = file.metadata.num_rows * file.metadata.num_columns
        if 8 * cells > LARGEST:
            raise CommandError(f"{what}: got {cells} cells; expected at most {LARGEST // 8}.")
        table = file.read()
        kept = [i for i, name in enumerate(table.column_names) if not _INDEX.fullmatch(name)]
        names = [table.column_names[index] for index in kept]
        columns = [_plain(table.column(index)) for index in kept]
    except (pa.ArrowException, OSError, ValueError, MemoryError, NotImplementedError) as error:
        raise _broken("Parquet", what, error) from None
    if not columns or not table.num_rows:
        raise CommandError(
            f"{what}: got {table.num_rows} rows and {len(columns)} columns; expected at least one "
            "row of points."
        )
    return ParquetTable(what, names, columns, table.num_rows)


def _plain(column: Any) -> Any:
    """A column itself, where the file has codes and a dictionary of their meaning."""
    import pyarrow.types as types

    return column.cast(column.type.value_type) if types.is_dictionary(column.type) else column
