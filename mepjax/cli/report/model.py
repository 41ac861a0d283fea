"""The report of every command: what its page, terminal, JSON, CSV and maps are written from."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

# How a cell is written: a format, or a function of its value.
Form = str | Callable[[Any], str]
Where = Literal["csv", "page", "terminal", "map"]
EVERYWHERE: tuple[Where, ...] = ("csv", "page", "terminal", "map")
FILES: tuple[Where, ...] = ("csv", "map")
SHOWN: tuple[Where, ...] = ("page", "terminal")

_PAGE_ROWS = 200
TERMINAL_ROWS, TERMINAL_COLUMNS = 12, 10


@dataclass(frozen=True)
class Column:
    """One column of a table.

    **Fields:**

    - `name`: its header in CSV, its property in GeoJSON.
    - `values`: one a row; `None` is an empty cell.
    - `form`: how CSV writes a value; default as many digits as tell the rows apart.
    - `title`, `shown`: header and form on page and terminal; default `name` and `form`.
    - `where`: in which of `"csv"`, `"page"`, `"terminal"` and `"map"` it stands.
    - `is_text`: whether the page aligns it as words.
    """

    name: str
    values: Sequence[Any] | np.ndarray
    form: Form | None = None
    title: str | None = None
    shown: Form | None = None
    where: tuple[Where, ...] = EVERYWHERE
    is_text: bool = False

    def __len__(self) -> int:
        return len(self.values)

    def heading(self, where: Where) -> str:
        """Its header there."""
        return self.name if where in FILES or self.title is None else self.title

    def cells(self, where: Where, most: int | None = None) -> list[str]:
        """The first `most` values as they are written there."""
        values = self.values[:most]
        values = values.tolist() if isinstance(values, np.ndarray) else list(values)
        form = self.form if where in FILES or self.shown is None else self.shown
        if form is None:
            form = telling_apart(self.values, 9 if where in FILES else 6)
        if isinstance(form, str):
            pattern = form
            return ["" if value is None else format(value, pattern) for value in values]
        return ["" if value is None else form(value) for value in values]


@dataclass(frozen=True)
class Table:
    """Columns of equal length, which become `NAME.csv`, part of the page, and maybe more.

    **Fields:**

    - `name`: its files are called by it.
    - `columns`: of N values each.
    - `places`: for maps, N positions (longitude, latitude), or N sequences of such for lines:
        then there is `NAME.geojson` too.
    - `map`: the map it is part of, where several tables make one; default `name`.
    - `is_file`: whether there is a CSV.
    - `page_rows`: how many rows the page shows at most; it says where the others are.
    - `on_terminal`: whether the terminal shows it, as long as it is small.
    - `note`: a sentence below it on the page.
    """

    name: str
    columns: Sequence[Column]
    places: Sequence[Any] | np.ndarray | None = None
    map: str | None = None
    is_file: bool = True
    page_rows: int = _PAGE_ROWS
    on_terminal: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        lengths = {column.name: len(column) for column in self.columns}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Table {self.name}: columns must be of equal length; got {lengths}.")

    def __len__(self) -> int:
        return len(self.columns[0])

    def shown(self, where: Where) -> list[Column]:
        """Its columns there."""
        return [column for column in self.columns if where in column.where]


@dataclass(frozen=True)
class Figure:
    """A picture of the page.

    **Fields:** `name`; `draw`, called with a figure of matplotlib; `caption`; `size` in inches;
    `is_file`, whether there is a `NAME.png` too; `is_plain`, whether nothing but labels and a title
    is outside the axes, so that no layout has to be computed.
    """

    name: str
    draw: Callable[[Any], None]
    caption: str
    size: tuple[float, float] = (8, 5.5)
    is_file: bool = False
    is_plain: bool = False


@dataclass(frozen=True)
class Text:
    """A paragraph of the page; `is_warning` makes it stand out. A plain `str` is one too."""

    sentence: str
    is_warning: bool = False


@dataclass(frozen=True)
class Extra:
    """A file of another kind, such as a film: its `name`, and what writes it to a path."""

    name: str
    write: Callable[[Path], Any]


Block = str | Text | Table | Figure | Extra


@dataclass(frozen=True)
class Section:
    """A question a person has, and the blocks that answer it."""

    question: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Card:
    """A first number: its `name`, its `value`, and `detail` that the terminal says after it.

    `where`: `"page"`, `"terminal"` or both.
    """

    name: str
    value: str
    detail: str = ""
    where: tuple[Where, ...] = SHOWN


@dataclass(frozen=True)
class Heading:
    """What was asked: the `command`, the name of its input, and a sentence on both."""

    command: str
    source: str
    lead: str


@dataclass(frozen=True)
class Report:
    """All that a command says.

    **Fields:** the `heading`; `cards`, the first numbers; `sections`; `facts`, which become
    `report.json` as they are: dicts, lists, words and finite numbers.
    """

    heading: Heading
    cards: Sequence[Card]
    sections: Sequence[Section]
    facts: dict[str, Any]

    def blocks(self, kind: Any) -> list[Any]:
        """All blocks of a kind, in order."""
        return [
            block
            for section in self.sections
            for block in section.blocks
            if isinstance(block, kind)
        ]


# Cells and numbers.


def telling_apart(values: Sequence[Any] | np.ndarray, least: int = 6) -> Callable[[Any], str]:
    """A form for numbers with `least` digits of what differs between them, at most 15 in all.

    **Example:**

    ```python
    >>> from mepjax.cli.report.model import telling_apart
    >>> [telling_apart([5400040.25, 5400043.5])(v) for v in (5400040.25, 5400043.5)]
    ['5400040.25', '5400043.5']
    >>> telling_apart([1 / 3, 2 / 3])(1 / 3), telling_apart([1, 2])(1), telling_apart(["a"])("a")
    ('0.333333', '1', 'a')

    ```
    """
    numbers = [v for v in values if isinstance(v, float | np.floating) and math.isfinite(v)]
    largest = max((abs(v) for v in numbers), default=0.0)
    span = max(numbers, default=0.0) - min(numbers, default=0.0)
    digits = least
    if largest > 0:
        # Whole numbers are never cut, nor is what a single row has before the point.
        digits = max(digits, math.floor(math.log10(largest)) + 1)
        if span > 0:
            digits = max(digits, least + math.floor(math.log10(largest / span)))
    digits = min(digits, 15)

    def form(value: Any) -> str:
        return f"{value:.{digits}g}" if isinstance(value, float | np.floating) else str(value)

    return form


def percent(digits: int = 1) -> Callable[[Any], str]:
    """A form for shares."""
    return lambda share: f"{100 * share:.{digits}f}%"


def or_unknown(value: float | None, form: str = ".6g") -> str:
    """A number, or what to say where there is none."""
    return "unknown" if value is None else format(value, form)


def change(percent_more: float | None) -> str:
    """By how many per cent something is more, such as `+3.10%`."""
    return "undefined" if percent_more is None else f"{percent_more:+.2f}%"


def finite_or_none(value: Any) -> float | None:
    """A finite number, or `None`, since JSON has no NaN and no Inf."""
    value = float(value)
    return value if math.isfinite(value) else None
