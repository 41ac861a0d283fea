"""What every kind of input file is read as: named columns of numbers or words."""

import abc
import csv
import re
from collections.abc import Sequence

import numpy as np

from ..errors import CommandError

_SHOWN = 40


def show(value: object) -> str:
    """A name or cell as it is quoted in a message, long ones cut in the middle."""
    text = str(value)
    return repr(text if len(text) <= 2 * _SHOWN else text[:_SHOWN] + "..." + text[-_SHOWN:])


class TableFile(abc.ABC):
    """Columns of equal length.

    **Fields:** `what`, how messages call the file; `names` of the columns, or `None` where the
    file has none; `titles`, names or substitutes for them; `n` rows.
    """

    def __init__(self, what: str, names: Sequence[str] | None, width: int, n: int) -> None:
        self.what, self.n, self.width = what, n, width
        self.names = None if names is None else list(names)
        self.titles = self.names or [f"column_{index}" for index in range(width)]

    @abc.abstractmethod
    def where(self, row: int) -> str:
        """Where a row is, such as `line 3`."""

    @abc.abstractmethod
    def is_numeric(self, index: int) -> bool:
        """Whether all of a column are numbers."""

    @abc.abstractmethod
    def raw_numbers(self, index: int, taken: int | None = None) -> np.ndarray:
        """A column as floats, finite or not; `taken` is no use as another choice.

        **Raises:** `CommandError` where one is not a number.
        """

    @abc.abstractmethod
    def words(self, index: int) -> list[str]:
        """A column as text."""

    def numbers(self, index: int, taken: int | None = None) -> np.ndarray:
        """A column as finite floats; `taken` as in `raw_numbers`.

        **Raises:** `CommandError` where one is not such a number.
        """
        values = self.raw_numbers(index, taken)
        wrong = np.flatnonzero(~np.isfinite(values))
        if wrong.size:
            row = int(wrong[0])
            raise CommandError(
                f"{self.what}, {self.where(row)}, column {show(self.titles[index])}: got "
                f"{self.words(index)[row]}; expected a finite number."
            )
        return values

    def counts_rows(self, index: int) -> bool:
        """Whether a column without a name beside ones with names holds a number for each row."""
        if self.names is None or not any(self.names):
            return False
        if not re.fullmatch(r"(Unnamed: \d+)?", self.names[index].strip()):
            return False
        if not self.is_numeric(index):
            return False
        values = self.raw_numbers(index)
        return bool(np.all(values == np.round(values))) and len(np.unique(values)) == self.n

    def not_numeric(self, index: int, example: str, taken: int | None = None) -> CommandError:
        """The complaint about a column without numbers, which names the columns that have some."""
        usable = [
            self.titles[column]
            for column in range(self.width)
            if column not in (index, taken) and self.is_numeric(column)
        ]
        fix = f", for instance --columns {','.join(usable[:8])}" if usable else ""
        return CommandError(
            f"{self.what}: column {show(self.titles[index])} is not numeric, it has {example}; "
            f"expected numbers, or a choice with --columns{fix}."
        )

    def find(self, wanted: str, option: str) -> int:
        """The column of a name or 0-based index; a name in the header wins over an index."""
        wanted = wanted.strip()
        if self.names and (count := self.names.count(wanted)):
            if count > 1:
                raise CommandError(
                    f"{option}: got {show(wanted)}, the name of {count} columns; expected an index "
                    f"from 0 to {self.width - 1}."
                )
            return self.names.index(wanted)
        if wanted.isascii() and wanted.isdigit() and int(wanted[:9]) < self.width:
            return int(wanted[:9])
        expected = f"an index from 0 to {self.width - 1}"
        if self.names:
            shown = ", ".join(show(name) for name in self.names[:12])
            expected = f"one of {shown}{', ...' if len(self.names) > 12 else ''}, or {expected}"
        raise CommandError(f"{option}: got {show(wanted)}; expected {expected}.")

    def find_all(self, columns: str) -> list[int]:
        """The columns of a comma-separated list of names or indices, all different."""
        try:
            (wanted,) = csv.reader([columns], skipinitialspace=True)
        except (csv.Error, ValueError):
            wanted = []
        if not wanted or not all(name.strip() for name in wanted):
            raise CommandError(
                f"--columns: got {show(columns)}; expected names or indices separated by commas."
            )
        chosen = [self.find(name, "--columns") for name in wanted]
        for place, index in enumerate(chosen):
            if index in chosen[:place]:
                raise CommandError(
                    f"--columns: got {show(wanted[place])} twice; expected different columns."
                )
        return chosen
