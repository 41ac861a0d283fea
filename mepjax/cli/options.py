"""Options that commands have in common."""

from pathlib import Path
from typing import Annotated

import typer

from .console import number

Columns = Annotated[
    str | None,
    typer.Option(
        help="Coordinates: names or 0-based indices, such as x,y or 2,3.",
        show_default="all but weights and ids",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        "--weight",
        help="Column of weights >= 0, by name or index.",
        show_default="equal",
    ),
]
Ids = Annotated[
    str | None,
    typer.Option(
        help="Column of names of the rows, by name or index, carried to the results.",
        show_default="none",
    ),
]
Lonlat = Annotated[
    bool,
    typer.Option(
        "--lonlat",
        help="The coordinates are degrees of longitude and latitude, in columns of such names "
        "or the two --columns in this order. Distances are in km on a flat "
        "map, and results are written as GeoJSON too.",
    ),
]
ArrayName = Annotated[
    str | None, typer.Option(help="Which array of an NPZ file.", show_default="the only one")
]
Header = Annotated[
    bool | None,
    typer.Option(
        "--header/--no-header",
        help="Whether the first line holds names.",
        show_default="found from the file",
    ),
]
Seed = Annotated[int, number("--seed", int, help="Of the random numbers.")]
BetaMin = Annotated[
    float | None,
    number("--beta-min", float, help="First beta.", show_default="half the first transition"),
]
BetaMax = Annotated[
    float | None,
    number("--beta-max", float, help="Last beta.", show_default="10000 times the first transition"),
]
Factor = Annotated[float, number("--factor", float, help="Growth of beta from stage to stage.")]
Float64 = Annotated[bool, typer.Option("--float64", help="Compute in double precision.")]
Out = Annotated[Path, typer.Option(help="Folder for the results.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite earlier results.")]
