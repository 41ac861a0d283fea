"""Arguments in, exit code out: the typer layer of the command."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

import mepjax as mj

from ..datasets import four_square
from .capacity import read_shares
from .cluster import Options, long_runs
from .cluster import cluster as solve
from .console import Group, guarded, number, refuse_without_file, say
from .errors import CommandError
from .files import check_folder
from .names import EVERY
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
from .points import Points, read_matrix, read_points
from .progress import with_bar
from .report import summary, write_all
from .route_command import route

_EXAMPLE = "bundled example: four_square(400)"
_DEFAULTS = Options()


def run(arguments: Sequence[str]) -> int:
    """Run the command; the exit code is returned. Only bugs raise, under MEPJAX_DEBUG."""
    return guarded(lambda: typer.main.get_command(app)(list(arguments), standalone_mode=False))


app = typer.Typer(cls=Group, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"mepjax {mj.__version__}")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Optimisation by the maximum-entropy principle."""
    if context.invoked_subcommand is None:
        say(context.get_help())


@app.command()
def cluster(
    points: Annotated[
        Path | None,
        typer.Argument(
            help="One point a row: delimited text (also by gzip), NPY, NPZ or Parquet. Without it "
            "a bundled example runs.",
            show_default=False,
        ),
    ] = None,
    k: Annotated[
        int | None, number("-k", int, help="Number of clusters.", show_default=False)
    ] = None,
    kappa: Annotated[
        float | None,
        number("--kappa", float, help="Probability of an override, 0 to 1.", show_default="0"),
    ] = None,
    temperature: Annotated[
        float | None,
        number(
            "--temperature",
            float,
            help="Softmax autonomy: how far overrides reach, in (scaled) units of the cost.",
            show_default="1",
        ),
    ] = None,
    zeta: Annotated[
        float | None,
        number(
            "--zeta",
            float,
            help="Softmax autonomy: weight of the distance from the prescribed centre.",
            show_default="1",
        ),
    ] = None,
    gamma: Annotated[
        float | None,
        number(
            "--gamma",
            float,
            help="Softmax autonomy: weight of the distance from the point.",
            show_default="0",
        ),
    ] = None,
    autonomy: Annotated[
        str | None,
        typer.Option(
            help="none, uniform or softmax. By default softmax if --temperature, --zeta or "
            "--gamma is given, else uniform if kappa > 0, else none.",
            show_default=False,
        ),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            help="Autonomy given as a file of K x K probabilities: row j, column k is the chance "
            "that a point told to join j ends in k.",
            show_default=False,
        ),
    ] = None,
    capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the share of weight told to join each cluster, such as .5,.5,.2; "
            "after = they are to be met, such as =.5,.3,.2; or equal, for sizes all alike.",
            show_default=False,
        ),
    ] = None,
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
            "each column. Temperature and beta are in scaled units.",
            show_default="unit for softmax autonomy, else none",
        ),
    ] = None,
    restarts: Annotated[
        int | None,
        number(
            "--restarts",
            int,
            help="Random starts, of which the best is kept.",
            show_default="4 for softmax autonomy, else 2",
        ),
    ] = None,
    sample: Annotated[
        int,
        number(
            "--sample",
            int,
            help="Points drawn for all stages but the last, where clusters can grow; 0: all.",
        ),
    ] = _DEFAULTS.sample,
    seed: Seed = _DEFAULTS.seed,
    beta_min: BetaMin = None,
    beta_max: BetaMax = None,
    factor: Factor = _DEFAULTS.factor,
    float64: Float64 = False,
    animate: Annotated[
        bool, typer.Option("--animate", help="Also write anneal.gif, a film of the anneal.")
    ] = False,
    out: Out = Path("mepjax-out"),
    force: Force = False,
) -> None:
    """Cluster points that may override where they are told to go.

    Writes centres.csv, assignments.csv, report.html, report.json and clusters.png, and says what
    ignoring the autonomy would have cost.
    """
    if points is None and k is None:
        k = 4
    example_autonomy = points is None and all(
        value is None for value in (kappa, temperature, zeta, gamma, autonomy, matrix)
    )
    if example_autonomy:
        kappa, temperature = 0.3, 0.1
    if k is None:
        raise CommandError("-k: got none; expected the number of clusters.")
    Options(k=k).check()  # the size of the matrix
    options = Options(
        k=k, autonomy=autonomy, kappa=kappa, temperature=temperature, zeta=zeta, gamma=gamma,
        matrix=None if matrix is None else read_matrix(matrix, k),
        capacity=None if capacity is None else read_shares("--capacity", capacity, k),
        scale=scale, restarts=restarts, sample=sample, seed=seed, beta_min=beta_min,
        beta_max=beta_max, factor=factor, float64=float64, animate=animate,
    )  # fmt: skip
    options.check()
    if points is None:
        refuse_without_file(
            "POINTS", columns=columns, weights=weights, ids=ids, lonlat=lonlat or None, array=array
        )
        data = _example()
    else:
        data = read_points(
            points, columns=columns, weights=weights, ids=ids, lonlat=lonlat, header=header,
            array=array,
        )  # fmt: skip
    if k > len(data.x):
        raise CommandError(f"-k: got {k}; expected at most one cluster a point, {len(data.x)}.")
    check_folder(out, EVERY, force)
    if points is None:
        what = f"-k {k}"
        if example_autonomy:
            what += f" --kappa {kappa} --temperature {temperature}"
        say(f"No file given: running the {_EXAMPLE} with {what}.")
    result = with_bar(
        lambda bar: solve(data.x, options, data.weights, bar, data.lonlat),
        long_runs(options),
    )
    files = write_all(out, result, data, _EXAMPLE if points is None else str(points))
    say(*summary(result, data, out, files))


def _example() -> Points:
    with jax.enable_x64(False):
        x, _ = four_square(400)
    return Points(np.asarray(x, np.float64), ("x", "y"), None)


app.command()(route)
