"""The typer layer of `mepjax route`."""

from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from ..datasets import supply_network
from .capacity import read_capacity
from .console import number, refuse_without_file, say
from .errors import CommandError
from .files import check_folder
from .names import EVERY
from .network import (
    Network,
    read_destinations,
    read_fixed,
    read_link_capacity,
    read_links,
)
from .options import (
    ArrayName,
    BetaMax,
    BetaMin,
    Columns,
    Factor,
    Float64,
    Force,
    Header,
    Ids,
    Lonlat,
    Out,
    Seed,
    Weights,
)
from .points import Points, read_points
from .progress import with_bar
from .route import Options, long_runs
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
        str | None,
        typer.Option(
            help="File of M x M bounds on the traffic between facilities, inf for none; after = "
            "it is to be met.",
            show_default=False,
        ),
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="Nodes may go straight to a destination.")
    ] = False,
    columns: Columns = None,
    weights: Weights = None,
    ids: Ids = None,
    lonlat: Lonlat = False,
    array: ArrayName = None,
    header: Header = None,
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
    seed: Seed = _DEFAULTS.seed,
    beta_min: BetaMin = None,
    beta_max: BetaMax = None,
    factor: Factor = _DEFAULTS.factor,
    float64: Float64 = False,
    out: Out = Path("mepjax-out"),
    force: Force = False,
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
    result = with_bar(lambda bar: solve(points, network, options, bar), long_runs(options))
    files = write_all(out, result, points, _EXAMPLE if nodes is None else str(nodes))
    say(*summary(result, points, out, files))


def _example(destination: list[str] | None) -> tuple[Points, list[str]]:
    with jax.enable_x64(False):
        x, end = supply_network(200)
    text = ",".join(f"{value:g}" for value in np.asarray(end).tolist())
    return Points(np.asarray(x, np.float64), ("x", "y"), None), destination or [text]
