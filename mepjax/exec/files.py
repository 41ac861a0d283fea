"""Tables on disk, of which some rows are read at a time."""

import abc
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .._core.checkpoints import replacing
from .._core.checks import is_count


class AbstractTable(abc.ABC):
    """`n` rows of `columns` numbers of one dtype.

    `names`: of the columns, or `None`; `files`: those it is read from; `beside`: where measures
    of it may be kept.
    """

    n: int
    columns: int
    dtype: np.dtype
    names: tuple[str, ...] | None = None
    files: tuple[Path, ...] = ()
    beside: Path | None = None

    @abc.abstractmethod
    def read(self, first: int, last: int) -> np.ndarray:
        """Rows [first, last)."""

    def release(self) -> None:
        """Let go of what was read."""
        return

    @property
    def identity(self) -> tuple[Any, ...]:
        """What tells it from other tables, also where a file is gone since."""
        return type(self).__name__, tuple(map(str, self.files)), *self._opened

    def stamps(self) -> list[tuple[str, int, int]]:
        """Name, size and time stamp of every file."""
        return [_stamp(file) for file in self.files]

    def check_unchanged(self) -> None:
        """Raise `OSError` where a file is not what it was."""
        for file, (_, size, _), now in zip(
            self.files, self._opened, map(_stamp, self.files), strict=True
        ):
            if now not in self._opened:
                raise OSError(
                    f"Rows: {file} has changed while it is used: it had {size} bytes and has "
                    f"{now[1]}, or another time stamp. Make the Rows again."
                )

    def _open(self) -> None:
        """Remember size and time stamp."""
        self._opened = self.stamps()

    def index(self, argument: str, column: Any) -> int:
        """The number of a column, given by number or name."""
        if isinstance(column, str):
            if self.names is None:
                raise ValueError(
                    f"Rows: `{argument}` must be numbers, as columns have no names; got {column!r}."
                )
            if column not in self.names:
                known = ", ".join(self.names[:12])
                raise ValueError(f"Rows: `{argument}` must be among {known}; got {column!r}.")
            return self.names.index(column)
        if not is_count(column):
            raise TypeError(f"Rows: `{argument}` must be numbers or names; got {column!r}.")
        if not 0 <= column < self.columns:
            raise ValueError(
                f"Rows: `{argument}` must be columns 0 to {self.columns - 1}; got {column}."
            )
        return int(column)


@contextlib.contextmanager
def writing_rows(path: Any, shape: tuple[int, ...]) -> Iterator[Callable[[Any], None]]:
    """What writes rows of int32 one slab after the other to an NPY file, whole or not at all."""
    with replacing(Path(path)) as stream:
        header = {"descr": "<i4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)

        def write(rows: Any) -> None:
            stream.write(np.ascontiguousarray(rows, "<i4").tobytes())

        yield write


def _stamp(file: Path) -> tuple[str, int, int]:
    state = file.stat()
    return file.name, state.st_size, state.st_mtime_ns


def _check_numbers(file: Any, dtype: Any) -> np.dtype:
    dtype = np.dtype(dtype)
    if dtype.kind not in "iuf" or dtype.itemsize > 8 or dtype == np.float16:
        raise TypeError(f"Rows: {file} must hold integers, float32 or float64; got dtype {dtype}.")
    return dtype


class NpyTable(AbstractTable):
    """A memory-mapped NPY file."""

    def __init__(self, file: Path) -> None:
        self.files = (file,)
        self._open()
        try:
            # Never unpickled.
            self._array = np.load(file, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"Rows: {file} is no NPY file of numbers, or is truncated: {error}."
            ) from error
        if not isinstance(self._array, np.ndarray) or self._array.ndim != 2:
            raise ValueError(
                f"Rows: {file} must hold one array of shape (rows, columns); got "
                f"{getattr(self._array, 'shape', 'an archive')}."
            )
        self.dtype = _check_numbers(file, self._array.dtype)
        self.n, self.columns = self._array.shape
        if self.n == 0 or self.columns == 0:
            raise ValueError(f"Rows: {file} must not be empty; got shape {self._array.shape}.")
        self.beside = file.with_name(f"{file.name}.measured.json")

    def read(self, first: int, last: int) -> np.ndarray:
        """A view."""
        return self._array[first:last]


class ParquetTable(AbstractTable):
    """A Parquet file, of which one row group at a time is in memory."""

    def __init__(self, file: Path) -> None:
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise ImportError(
                "Reading Parquet files needs pyarrow: pip install 'mepjax[files]'."
            ) from error
        self.files = (file,)
        self._open()
        try:
            self._file = parquet.ParquetFile(file)
        except (ValueError, OSError) as error:
            raise ValueError(
                f"Rows: {file} is no Parquet file, or is truncated: {error}."
            ) from error
        schema = self._file.schema_arrow
        kinds = [
            _check_numbers(f"column {f.name!r} of {file}", f.type.to_pandas_dtype()) for f in schema
        ]
        self.names = tuple(schema.names)
        self.columns, self.n = len(kinds), self._file.metadata.num_rows
        if self.n == 0 or not kinds:
            raise ValueError(f"Rows: {file} must not be empty; got {self.n} rows.")
        self.dtype = np.result_type(*kinds)
        groups = range(self._file.metadata.num_row_groups)
        sizes = [self._file.metadata.row_group(group).num_rows for group in groups]
        self._ends = np.cumsum(sizes)
        self._held: tuple[int, np.ndarray] | None = None
        self.beside = file.with_name(f"{file.name}.measured.json")

    def _group(self, group: int) -> np.ndarray:
        if self._held is None or self._held[0] != group:
            table = self._file.read_row_group(group)
            columns = [column.to_numpy() for column in table.columns]
            self._held = group, np.stack([c.astype(self.dtype) for c in columns], axis=1)
        return self._held[1]

    def release(self) -> None:
        """Of the row group."""
        self._held = None

    def read(self, first: int, last: int) -> np.ndarray:
        """Out of the row groups that hold them."""
        return _joined(self._ends, self._group, first, last)


class FolderTable(AbstractTable):
    """Files of one kind, one after the other."""

    def __init__(self, folder: Path) -> None:
        files = sorted(f for f in folder.iterdir() if f.suffix == ".npy")
        kind: Any = NpyTable
        if not files:
            files = sorted(f for f in folder.iterdir() if f.suffix == ".parquet")
            kind = ParquetTable
        if not files:
            raise ValueError(f"Rows: {folder} must hold NPY or Parquet files; got none.")
        self._parts: list[AbstractTable] = [kind(file) for file in files]
        self._latest = self._parts[0]
        one = self._parts[0]
        for part in self._parts[1:]:
            same = (part.columns, part.names, part.dtype) == (one.columns, one.names, one.dtype)
            if not same:
                raise ValueError(
                    f"Rows: {part.files[0]} has other columns than {one.files[0]}: "
                    f"{part.columns} of {part.dtype} {part.names or ''} against {one.columns} of "
                    f"{one.dtype} {one.names or ''}."
                )
        self.files = tuple(files)
        self._open()
        self.columns, self.names, self.dtype = one.columns, one.names, one.dtype
        self._ends = np.cumsum([part.n for part in self._parts])
        self.n = int(self._ends[-1])
        self.beside = folder / "measured.json"

    def read(self, first: int, last: int) -> np.ndarray:
        """Out of the files that hold them."""
        starts = self._ends - [part.n for part in self._parts]

        def rows(index: int, low: int, high: int) -> np.ndarray:
            if self._latest is not self._parts[index]:
                self._latest.release()
                self._latest = self._parts[index]
            return self._parts[index].read(low - int(starts[index]), high - int(starts[index]))

        return _pieces(self._ends, rows, first, last)


def _joined(
    ends: np.ndarray, whole: Callable[[int], np.ndarray], first: int, last: int
) -> np.ndarray:
    starts = np.concatenate([[0], ends[:-1]])

    def rows(index: int, low: int, high: int) -> np.ndarray:
        return whole(index)[low - int(starts[index]) : high - int(starts[index])]

    return _pieces(ends, rows, first, last)


def _pieces(
    ends: np.ndarray, rows: Callable[[int, int, int], np.ndarray], first: int, last: int
) -> np.ndarray:
    """Rows [first, last) of parts that end at `ends`; rows(part, low, high) reads one."""
    index, pieces = int(np.searchsorted(ends, first, side="right")), []
    while first < last:
        high = min(last, int(ends[index]))
        if high > first:
            pieces.append(rows(index, first, high))
        first, index = high, index + 1
    return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)


class FunctionTable(AbstractTable):
    """What a function of (first, last) returns."""

    def __init__(self, function: Callable[[int, int], Any], shape: Any, dtype: Any) -> None:
        if shape is None:
            raise ValueError(
                "Rows: `shape` must be given for a function, (rows, columns); got none."
            )
        if len(shape) != 2 or not all(is_count(size) and size > 0 for size in shape):
            raise ValueError(f"Rows: `shape` must be two positive numbers; got {shape!r}.")
        self.n, self.columns = map(int, shape)
        self.dtype = _check_numbers("the function", np.float32 if dtype is None else dtype)
        self._function = function
        self._open()

    @property
    def identity(self) -> tuple[Any, ...]:
        """The function itself."""
        return type(self).__name__, self._function

    def read(self, first: int, last: int) -> np.ndarray:
        """The function's answer, of the right shape."""
        rows = np.asarray(self._function(first, last))
        if rows.shape != (last - first, self.columns):
            raise ValueError(
                f"Rows: the function must return rows {first} to {last} as an array of shape "
                f"{(last - first, self.columns)}; got {rows.shape}."
            )
        return rows


def open_table(where: Any, shape: Any, dtype: Any) -> AbstractTable:
    """The table at a path, or that of a function."""
    if callable(where):
        return FunctionTable(where, shape, dtype)
    if shape is not None or dtype is not None:
        raise ValueError("Rows: `shape` and `dtype` are those of a function; a file has its own.")
    if not isinstance(where, str | Path):
        raise TypeError(
            f"Rows: `where` must be a file, a folder or a function; got {type(where).__name__}."
        )
    path = Path(where)
    if path.is_dir():
        return FolderTable(path)
    if not path.exists():
        raise FileNotFoundError(f"Rows: there is no {path}.")
    if path.suffix == ".parquet":
        return ParquetTable(path)
    return NpyTable(path)
