"""How the table of points or nodes is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..console import say
from ..errors import CommandError
from ..tables.points import Points, read_points

TABLE_HELP = (
    "One {what} a row: delimited text (also by gzip), NPY, NPZ or Parquet. Without it a bundled "
    "example runs."
)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options that say how to read a table of points; fields bear the options' names."""

    columns: Annotated[
        str | None,
        typer.Option(
            help="Coordinates: names or 0-based indices, such as x,y or 2,3.",
            show_default="all but weights and ids",
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "--weight",
            help="Column of weights >= 0, by name or index.",
            show_default="equal",
        ),
    ] = None
    ids: Annotated[
        str | None,
        typer.Option(
            help="Column of names of the rows, by name or index, carried to the results.",
            show_default="none",
        ),
    ] = None
    lonlat: Annotated[
        bool,
        typer.Option(
            "--lonlat",
            help="The coordinates are degrees of longitude and latitude, in columns of such names "
            "or the two --columns in this order. Distances are in km on a flat "
            "map, and results are written as GeoJSON too.",
        ),
    ] = False
    array: Annotated[
        str | None, typer.Option(help="Which array of an NPZ file.", show_default="the only one")
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line holds names.",
            show_default="found from the file",
        ),
    ] = None

    def read(self, path: Path, argument: str) -> Points:
        """The points in the file; `argument` is how messages call it."""
        points = read_points(
            path, columns=self.columns, weights=self.weights, ids=self.ids, lonlat=self.lonlat,
            header=self.header, array=self.array, argument=argument,
        )  # fmt: skip
        if points.note:
            say(points.note)
        return points

    def refuse(self, argument: str) -> None:
        """Raise `CommandError` for an option that says how to read a file that was not given."""
        for name in ("columns", "weights", "ids", "lonlat", "array"):
            value = getattr(self, name)
            if value is not None and value is not False:
                got = "it" if value is True else repr(value)
                raise CommandError(f"--{name}: got {got} without a file; expected {argument}.")
