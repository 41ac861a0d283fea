"""The lines a command ends with."""

from collections.abc import Sequence
from pathlib import Path

from .model import TERMINAL_COLUMNS, TERMINAL_ROWS, Report, Table


def lines(report: Report, files: Sequence[str], folder: Path) -> list[str]:
    """What was asked, small tables, the first numbers, and the files that were written."""
    found = [report.heading.lead]
    for table in report.blocks(Table):
        if table.on_terminal and len(table) <= TERMINAL_ROWS:
            columns = table.shown("terminal")
            if len(columns) <= TERMINAL_COLUMNS:
                head = [column.heading("terminal") for column in columns]
                cells = zip(*(column.cells("terminal") for column in columns), strict=True)
                found += ["", *aligned([head, *cells]), ""]
    found += [
        f"{card.name}: {card.value}{card.detail}"
        for card in report.cards
        if "terminal" in card.where
    ]
    return [*found, f"wrote {', '.join(files)} to {folder}"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells that stand under each other."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
