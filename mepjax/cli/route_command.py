"""The typer layer of `mepjax route`."""

from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from ..datasets import supply_network
from .console import number, refuse_without_file, say
from .errors import CommandError
from .files import check_folder
from .names import EVERY
from .network import (
    Network,
    read_capacity,
    read_destinations,
    read_fixed,
    read_link_capacity,
    read_links,
)
from .points import Points, read_points
from .progress import Bar, interruptible, on_terminal
from .route import Options, Result, long_runs
from .route import route as solve
from .route_report import summary, write_all

_EXAMPLE = "bundled example: supply_network(200)"
_DEFAULTS = Options()


def route(
    nodes: Annotated[
        Path | None,
        typer.Argument(
            help="One node a row: delimited text (also by gzip), NPY, NPZ or Parquet. Without it "
            "a bundled example runs.",
            show_default=False,
        ),
    ] = None,
    facilities: Annotated[
        int | None,
        number("--facilities", int, help="Number of facilities to place.", show_default=False),
    ] = None,
    destination: Annotated[
        list[str] | None,
        typer.Option(
            help="Where routes end, such as 4,7, in the order of the coordinates. May be repeated: "
            "a route ends at the best.",
            show_default=False,
        ),
    ] = None,
    links: Annotated[
        Path | None,
        typer.Option(
            help="File of M x M zeros and ones: row a, column b is 1 where one may travel from "
            "facility a to b. L more columns say from where each destination can be reached.",
            show_default="all permitted",
        ),
    ] = None,
    max_hops: Annotated[
        int | None,
        number("--max-hops", int, help="Most facilities on a route.", show_default="stages"),
    ] = None,
    stages: Annotated[
        int | None,
        number("--stages", int, help="Stages of the model.", show_default="one a facility"),
    ] = None,
    fixed: Annotated[
        Path | None,
        typer.Option(
            help="File of facilities that stand already, one a row; they are numbered after those "
            "to place.",
            show_default=False,
        ),
    ] = None,
    entry_capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the share of weight that enters at each facility, such as "
            ".5,.5,.2; after = they are to be met, such as =.4,.4,.2.",
            show_default=False,
        ),
    ] = None,
    facility_capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the visits of each facility per unit weight; after = to be met.",
            show_default=False,
        ),
    ] = None,
    link_capacity: Annotated[
        Path | None,
        typer.Option(
            help="File of M x M bounds on the traffic between facilities; inf for none.",
            show_default=False,
        ),
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Nodes may go straight to a destination.")
    ] = False,
    columns: Annotated[
        str | None,
        typer.Option(
            help="Coordinates: names or 0-based indices, such as x,y or 2,3.",
            show_default="all but weights and ids",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "--weight",
            help="Column of weights >= 0, by name or index.",
            show_default="equal",
        ),
    ] = None,
    ids: Annotated[
        str | None,
        typer.Option(
            help="Column of names of the nodes, by name or index, carried to the results.",
            show_default="none",
        ),
    ] = None,
    lonlat: Annotated[
        bool,
        typer.Option(
            "--lonlat",
            help="The coordinates are degrees of longitude and latitude, in columns of such names "
            "or the two --columns in this order. Results are written as GeoJSON too.",
        ),
    ] = False,
    array: Annotated[
        str | None,
        typer.Option(help="Which array of an NPZ file.", show_default="the only one"),
    ] = None,
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line holds names.",
            show_default="found from the file",
        ),
    ] = None,
    scale: Annotated[
        str | None,
        typer.Option(
            help="none; unit: longest side of the bounding box 1; zscore: standard deviation 1 in "
            "each column. Beta and costs are in scaled units.",
            show_default="none",
        ),
    ] = None,
    restarts: Annotated[
        int | None,
        number(
            "--restarts",
            int,
            help="Random starts, of which the best is kept.",
            show_default=str(_DEFAULTS.starts),
        ),
    ] = None,
    seed: Annotated[int, number("--seed", int, help="Of the random numbers.")] = _DEFAULTS.seed,
    beta_min: Annotated[
        float | None,
        number("--beta-min", float, help="First beta.", show_default="half the first transition"),
    ] = None,
    beta_max: Annotated[
        float | None,
        number(
            "--beta-max", float, help="Last beta.", show_default="10000 times the first transition"
        ),
    ] = None,
    factor: Annotated[
        float, number("--factor", float, help="Growth of beta from stage to stage.")
    ] = _DEFAULTS.factor,
    float64: Annotated[
        bool, typer.Option("--float64", help="Compute in double precision.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("mepjax-out"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier results.")] = False,
) -> None:
    """Place facilities and route nodes through them to a destination, both at once.

    Writes facilities.csv, routes.csv, report.html, report.json and routes.png, and says what
    locating first and routing afterwards would have cost.
    """
    if nodes is None and facilities is None:
        facilities = _DEFAULTS.facilities
    if facilities is None:
        raise CommandError("--facilities: got none; expected the number of facilities to place.")
    options = Options(
        facilities=facilities, stages=stages, max_hops=max_hops, direct=direct, scale=scale,
        restarts=restarts, seed=seed, beta_min=beta_min, beta_max=beta_max, factor=factor,
        float64=float64,
    )  # fmt: skip
    options.check()
    if nodes is None:
        refuse_without_file(
            "NODES", columns=columns, weights=weights, ids=ids, lonlat=lonlat or None, array=array
        )
        points, destination = _example(destination)
    else:
        points = read_points(
            nodes, columns=columns, weights=weights, ids=ids, lonlat=lonlat, header=header,
            array=array, argument="NODES",
        )  # fmt: skip
    places = read_destinations(destination or [], points)
    standing = None if fixed is None else read_fixed(fixed, points)
    m = facilities + (0 if standing is None else len(standing))
    options.check_size(len(points.x), m - facilities)
    between, exits = (None, None) if links is None else read_links(links, m, len(places))
    network = Network(
        places, standing, between, exits,
        None if entry_capacity is None else read_capacity("--entry-capacity", entry_capacity, m),
        None
        if facility_capacity is None
        else read_capacity("--facility-capacity", facility_capacity, m),
        None if link_capacity is None else read_link_capacity(link_capacity, m),
    )  # fmt: skip
    check_folder(out, EVERY, force)
    if nodes is None:
        ends = " ".join(f"--destination {text}" for text in destination or [])
        say(f"No file given: running the {_EXAMPLE} with --facilities {facilities} {ends}.")
    result = _solve(points, network, options)
    files = write_all(out, result, points, _EXAMPLE if nodes is None else str(nodes))
    say(*summary(result, points, out, files))


def _example(destination: list[str] | None) -> tuple[Points, list[str]]:
    with jax.enable_x64(False):
        x, end = supply_network(200)
    text = ",".join(f"{value:g}" for value in np.asarray(end).tolist())
    return Points(np.asarray(x, np.float64), ("x", "y"), None), destination or [text]


def _solve(points: Points, network: Network, options: Options) -> Result:
    if not on_terminal():
        return interruptible(lambda: solve(points, network, options))
    with Bar(long_runs(options)) as bar:
        return interruptible(lambda: solve(points, network, options, bar))
