"""Points that stay on disk, read slab by slab."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._core import bits
from .._core.arrays import PrecisionWarning, default_float
from .._core.checkpoints import replace_file
from .files import AbstractTable, open_table
from .measures import Measures, measure

_SLAB = 65_536
_LARGEST = 2**31 - 2**22


class Source:
    """What is read, and what one pass over it has measured; equal where the data are."""

    def __init__(
        self,
        table: AbstractTable,
        columns: Sequence[int],
        weights: int | None,
        dtype: Any,
        also: Mapping[str, Sequence[int]],
    ) -> None:
        """`also`: columns that are read with those of points, by name; see `parts`."""
        self.table, self.weights = table, weights
        self.columns = (*columns, *(column for more in also.values() for column in more))
        self.also = tuple((name, len(more)) for name, more in also.items())
        self.dtype = np.dtype(dtype)
        self.n, self.d = table.n, len(columns)
        self.measures = self._measured()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Source) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def _identity(self) -> tuple[Any, ...]:
        # A function is known by itself: it may read from anywhere.
        read = self.columns, self.weights, str(self.dtype), self.also
        return self.table.identity, *read, self.fingerprint

    @property
    def fingerprint(self) -> str:
        """A hash of points and weights, made in the one pass at construction."""
        return self.measures.digest

    def parts(self, x: Any) -> tuple[Any, dict[str, Any]]:
        """Points out of what was read, and the other columns by name."""
        ends = np.cumsum([self.d, *(count for _, count in self.also)]).tolist()
        names = [name for name, _ in self.also]
        others = {
            name: x[:, first:last]
            for name, first, last in zip(names, ends[:-1], ends[1:], strict=True)
        }
        return x[:, : self.d], others

    def read(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Points, with other columns, and weights of rows [first, last), in the problem's dtype."""
        raw = self.table.read(first, last)
        with np.errstate(over="ignore"):
            # All columns in their order need no gathering, which takes longer than a sum.
            every = self.columns == tuple(range(raw.shape[1]))
            x = np.ascontiguousarray(raw if every else raw[:, list(self.columns)], self.dtype)
            if self.weights is None:
                return x, np.ones(len(raw), self.dtype)
            return x, np.ascontiguousarray(raw[:, self.weights], self.dtype)

    def slabs(self, rows: int = _SLAB) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """(first row, points, weights) of all slabs, in order."""
        self.table.check_unchanged()
        for first in range(0, self.n, rows):
            yield first, *self.read(first, min(first + rows, self.n))

    def even_slabs(self, rows: int = _SLAB) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
        """(first row, how many, points, weights): the last is filled up, for one program."""
        size = min(rows, self.n)
        for first, x, weights in self.slabs(rows):
            more = [(0, size - len(x)), (0, 0)]
            yield first, len(x), np.pad(x, more), np.pad(weights, more[:1])
        self.table.check_unchanged()

    def _measured(self) -> Measures:
        """As kept beside the file, where that fits it; else of a pass over the data."""
        asked = {
            "stamps": self.table.stamps(), "columns": list(self.columns),
            "weights": self.weights, "dtype": str(self.dtype),
            **({"also": self.also} if self.also else {}),
        }  # fmt: skip
        # As the file will have it, in which tuples are lists.
        asked = json.loads(json.dumps(asked))
        beside = self.table.beside
        if beside is not None and beside.exists():
            try:
                kept = json.loads(beside.read_text("utf-8"))
                if kept.pop("of") == asked:
                    return Measures.from_json(kept)
            except (OSError, ValueError, KeyError, TypeError):
                pass  # Not ours, or damaged: measured again.
        found = measure(self.slabs(), self.n, self.d, self.dtype)
        self.table.check_unchanged()
        if beside is not None:
            text = json.dumps({"of": asked, **found.to_json()})
            try:
                replace_file(beside, text.encode())
            except OSError:
                pass  # A folder that cannot be written costs a pass the next time.
        return found

    def places(self, uniform: np.ndarray) -> np.ndarray:
        """One row from each of as many strips of equal weight, drawn by uniform numbers."""
        draws, count = np.arange(len(uniform)) + uniform, len(uniform)
        if self.weights is None:
            rows = np.floor(draws.astype(np.float64) / count * self.n).astype(np.int64)
            return np.minimum(rows, self.n - 1)
        sums = self.measures.slab_weights
        ends = np.cumsum(sums)
        targets = draws.astype(np.float64) / count * ends[-1]
        of = np.minimum(np.searchsorted(ends, targets, side="right"), len(sums) - 1)
        rows = np.empty(count, np.int64)
        for slab in np.unique(of):
            first = int(slab) * _SLAB
            _, weights = self.read(first, min(first + _SLAB, self.n))
            inner = np.cumsum(weights.astype(np.float64))
            within = targets[of == slab] - (ends[slab] - sums[slab])
            found = np.searchsorted(inner, within, side="right")
            rows[of == slab] = first + np.minimum(found, len(inner) - 1)
        return rows


def _refuse(rows: Any, *others: Any, **options: Any) -> Any:
    """All that needs every row at once."""
    raise TypeError(
        "Rows: points on disk are never in memory at once, so what has a row for each of them "
        "cannot be computed. Use sums over them, `harden_to`, or `problem.subsample(key, n)`. "
        "Points on disk have no derivative."
    )


class Rows(eqx.Module):
    """Points on disk, for `Clustering(rows, k)`: never in memory at once.

    They have no derivative. With costs that are squared, Mahalanobis or Euclidean distances or a
    function, autonomy that has no numbers for each point, and capacities where sums of squared
    distances take them.

    One pass at construction, in float64, finds numbers that are not finite, and measures weights,
    mean and covariance. What it found is kept beside a file, `<file>.measured.json`, and taken
    from there while the file has the same size and time stamp.

    **Arguments:**

    - `where`: an NPY file, which is memory-mapped; a folder of NPY or of Parquet files, whose rows
        follow each other in the order of their names; or a function of (first, last) that returns
        the rows [first, last) as an array (rows, columns), with `shape`.
    - `columns`: features, as numbers or, in Parquet, names; default all but those named below.
    - `weights`: the column that holds weights; default equal ones.
    - `also`: columns of what else a problem has for each row, by its name there, such as
        `{"max_hops": 3, "links.entry": [4, 5]}` of a `FacilityPath`; masks are 0 and 1.
    - `shape`, `dtype`: of the array of a function.

    **Raises:** `TypeError`, `ValueError`, `OSError` naming the file and what is wrong: an empty
    folder, a file that is truncated, columns that differ, rows that are not finite, by number.
    While it is used, a file that has changed raises too.

    **Example:**

    ```python
    >>> import jax, mepjax as mj, numpy as np, pathlib, tempfile
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "points.npy"
    >>> np.save(file, np.array([[-1.1], [-0.9], [0.9], [1.1]], np.float32))
    >>> problem = mj.Clustering(mj.exec.Rows(file), 2)
    >>> sol = mj.anneal(problem, key=jax.random.key(0))
    >>> print(f"{problem.harden(sol.params).cost:.3f}")
    0.010

    ```
    """

    source: Source = eqx.field(static=True)

    def __init__(
        self,
        where: Any,
        *,
        columns: Sequence[int | str] | None = None,
        weights: int | str | None = None,
        also: Mapping[str, int | str | Sequence[int | str]] | None = None,
        shape: tuple[int, int] | None = None,
        dtype: Any = None,
    ) -> None:
        table = open_table(where, shape, dtype)
        if table.n > _LARGEST:
            raise ValueError(f"Rows: at most {_LARGEST} rows are numbered; got {table.n}.")
        of_weights = None if weights is None else table.index("weights", weights)
        more = {
            name: [
                table.index(f"also[{name!r}]", column)
                for column in ([given] if isinstance(given, int | str) else given)
            ]
            for name, given in (also or {}).items()
        }
        taken = {of_weights, *(column for others in more.values() for column in others)}
        if columns is None:
            chosen = [i for i in range(table.columns) if i not in taken]
        else:
            chosen = [table.index("columns", column) for column in columns]
        if not chosen:
            raise ValueError("Rows: `columns` must name at least one column; got none.")
        if len(set(chosen)) < len(chosen) or of_weights in chosen:
            raise ValueError(
                f"Rows: `columns` and `weights` must differ; got {columns}, {weights}."
            )
        self.source = Source(table, chosen, of_weights, _computed_in(table.dtype), more)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, d)."""
        return self.source.n, self.source.d

    @property
    def dtype(self) -> Any:
        """In which everything is computed."""
        return self.source.dtype

    @property
    def ndim(self) -> int:
        """Of the array that the rows would be, two."""
        return 2

    @property
    def width(self) -> int:
        """Numbers read of a row, `also` included."""
        return len(self.source.columns)

    @property
    def numbers_read(self) -> int:
        """Numbers that a pass reads."""
        return self.source.n * self.width

    @property
    def weights(self) -> "RowWeights":
        """The weights of the rows, as the measuring pass and sums read them."""
        return RowWeights(self.source)

    __getitem__ = __add__ = __mul__ = __sub__ = __rsub__ = __array__ = _refuse

    def fetch(self, first: Any, rows: int) -> tuple[Float[Array, "rows d"], Float[Array, " rows"]]:
        """Points and weights of some rows, inside a compiled program."""
        source = self.source

        def read(first: np.ndarray) -> tuple[np.ndarray, ...]:
            start = int(first)
            # Looked at where a pass starts and where it ends.
            if start == 0 or start + rows == source.n:
                source.table.check_unchanged()
            return source.read(start, start + rows)

        first = jax.lax.stop_gradient(jnp.asarray(first, jnp.int32))
        x, weights = _of_host(read, ((rows, self.width), (rows,)), source.dtype, first)
        return x, weights

    def sample(self, key: Any, n: int) -> Float[Array, "n d"]:
        """`n` rows by weight: one from each of n strips of equal weight, in their order."""
        source = self.source

        def read(uniform: np.ndarray) -> tuple[np.ndarray, ...]:
            source.table.check_unchanged()
            rows = source.places(bits.from_host_words(uniform, source.dtype))
            return (np.concatenate([source.read(int(row), int(row) + 1)[0] for row in rows]),)

        uniform = jax.random.uniform(key, (n,), source.dtype)
        words = bits.words_of(uniform)
        return _of_host(read, ((n, self.width),), source.dtype, words)[0]


class RowWeights(eqx.Module):
    """The weights of points on disk."""

    source: Source = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int]:
        """(N,)."""
        return (self.source.n,)

    @property
    def dtype(self) -> Any:
        """That of the points."""
        return self.source.dtype

    __getitem__ = __mul__ = __truediv__ = __array__ = _refuse

    def total(self) -> Float[Array, ""]:
        """Their sum, measured."""
        return jnp.asarray(self.source.measures.total, self.source.dtype)


def _of_host(
    read: Callable[[np.ndarray], tuple[np.ndarray, ...]],
    shapes: tuple[tuple[int, ...], ...],
    dtype: np.dtype,
    operand: Array,
) -> list[Array]:
    """What `read` returns for an operand of integers, inside a compiled program."""

    def words(operand: Any) -> tuple[np.ndarray, ...]:
        found = read(np.asarray(operand, order="C"))
        return tuple(
            bits.host_words(part.reshape(shape)) for part, shape in zip(found, shapes, strict=True)
        )

    asked = tuple(
        jax.ShapeDtypeStruct(bits.shape_of_words(shape, dtype), jnp.uint32) for shape in shapes
    )
    found = jax.pure_callback(words, asked, operand, vmap_method="sequential")
    return [bits.from_words(part, dtype) for part in found]


def own_weights(owner: str, rows: Rows, weights: Any) -> RowWeights:
    """The weights of `rows`; raise `ValueError` where others are given."""
    if weights is not None and not isinstance(weights, RowWeights):
        raise ValueError(
            f"{owner}: `weights` of points on disk are a column of theirs; name it in "
            f"Rows(..., weights=column). Got {type(weights).__name__}."
        )
    return rows.weights


def check_no_others(owner: str, rows: Rows, known: Sequence[str] = ()) -> None:
    """Raise `TypeError` for columns `also` read that a problem does not know."""
    for name, _ in rows.source.also:
        if name not in known:
            expected = f"one of {', '.join(known)}" if known else "none"
            raise TypeError(f"{owner}: `also` of points on disk must be {expected}; got {name!r}.")


def few_rows(rows: Rows, key: Any, n: int) -> tuple[Float[Array, "m d"], Float[Array, " m"]]:
    """`n` points drawn by weight, with equal ones; all of them with their weights if no more."""
    if rows.shape[0] <= n:
        return rows.fetch(0, rows.shape[0])
    return rows.sample(key, n), jnp.ones((n,), rows.dtype)


def _computed_in(dtype: np.dtype) -> np.dtype:
    if dtype == np.float32:
        return dtype
    if dtype == np.float64 and default_float() != np.float64:
        warnings.warn(
            "Rows: the points are float64 but JAX's x64 mode is off: they are read as float32.",
            PrecisionWarning,
            stacklevel=4,
        )
    return default_float()


def total_weight(weights: Any) -> Float[Array, ""]:
    """The sum of weights in memory or on disk."""
    return weights.total() if isinstance(weights, RowWeights) else jnp.sum(weights)
