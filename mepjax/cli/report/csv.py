"""Tables as CSV."""

import csv
from pathlib import Path

from .model import Table


def write(path: Path, table: Table) -> None:
    """Write a table, with a header."""
    columns = table.shown("csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.heading("csv") for column in columns)
        writer.writerows(zip(*(column.cells("csv") for column in columns), strict=True))
