"""`mepjax learn`: from a log of who strayed where to an autonomy model and centres."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ..._core.scaling import Scaling
from ...datasets import four_square
from ...select.starts import Watch
from ..console import say
from ..errors import CommandError
from ..options.anneal import AnnealOptions
from ..options.autonomy import AutonomyOptions
from ..options.clustering import ClusterOptions, Request
from ..options.learning import LearningOptions, Learnt
from ..options.output import OutputOptions
from ..options.reading import ReadingOptions
from ..progress import with_bar
from ..report import folder, terminal
from ..report.learning import with_learning
from ..tables.interactions import read_centres, read_groups, read_log
from ..tables.points import Points
from . import cluster as clustering
from .learn_costs import learn_costs

EXAMPLE = "simulated example: four_square(400), 5,000 interactions"


def learn(
    points: Annotated[
        Path | None,
        typer.Argument(
            help="One point a row. Without it an example is simulated.", show_default=False
        ),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Argument(
            help="One interaction a row: entity (a row of POINTS, or one of its --ids), "
            "prescribed, realised, and where known cost, round, propensity.",
            show_default=False,
        ),
    ] = None,
    options: ClusterOptions = ClusterOptions(),
    learning: LearningOptions = LearningOptions(),
    reading: ReadingOptions = ReadingOptions(),
    anneal: AnnealOptions = AnnealOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Learn from a log where points stray, and place the centres with that.

    Writes what `cluster` writes, autonomy.json, coverage.csv and learnt.png; with --learner aden
    centres.csv, assignments.csv, report.html and report.json.
    """
    truth = None
    if (points is None) != (log is None):
        raise CommandError("LOG: got POINTS alone; expected a log of interactions too.")
    if points is None and options.k is None:
        options = replace(options, k=4)
    anneal = replace(anneal, scale=anneal.scale or "none")
    request = Request.of(options, AutonomyOptions(), anneal)
    if learning.kind == "aden":
        return learn_costs(points, log, request, learning, reading, output)
    if points is None or log is None:
        reading.refuse("POINTS")
        data, rows, sets, truth = _example(request.k, anneal)
        source = EXAMPLE
        say(f"No files given: running the {EXAMPLE}.")
        learning = replace(learning, learner=learning.learner or "structured")
    else:
        data, source = reading.read(points, "POINTS"), str(points)
        sets, rounds = None, None
        if learning.centres is not None:
            sets, rounds = read_centres(learning.centres, data, request.k)
        rows = read_log(log, data, request.k, rounds)
    request.check_size(len(data.x))
    output.check()
    learner = _learner(learning, points, sets)
    fitted = _fit(data, rows, sets, learner, request)
    learnt = Learnt(fitted, truth)
    request = replace(request, autonomy=learnt)  # type: ignore
    if bool(fitted.test.rejects):
        say(str(fitted.test))
    result = with_bar(lambda bar: _solved(data, request, bar), request.long_runs)
    found = clustering.report(result, request, data, source)
    found = with_learning(found, learnt)
    with anneal.computing():
        files = folder.write(output.out, found)
    say(*terminal.lines(found, files, output.out))


def _solved(data: Points, request: Request, watch: Watch | None) -> clustering.Result:
    return clustering.solve(data, request, watch)


def _learner(options: LearningOptions, points: Path | None, sets: Any) -> Any:
    share: Any = options.share
    if share not in ("pooled", "none"):
        if points is None:
            raise CommandError(f"--share: got {share!r} without POINTS; expected pooled or none.")
        share = read_groups(points, share)
    if options.kind == "counts":
        return mj.learn.Counts(share)
    if sets is None:
        raise CommandError(
            "--learner: got structured without --centres; expected the centres in force, or "
            "--learner counts."
        )
    if isinstance(share, str) and share == "none":
        raise CommandError(
            "--share: got none beside the structured learner; expected pooled or a column."
        )
    return mj.learn.Structured("shared" if isinstance(share, str) else share)


def _fit(
    data: Points, rows: dict[str, Any], sets: np.ndarray | None, learner: Any, request: Request
) -> mj.learn.Fitted:
    anneal = request.anneal
    scaling = Scaling.of(anneal.scale or "none", data.x, data.weights, data.lonlat)
    with anneal.computing():
        (x,) = anneal.scaled(scaling, data.x)
        centres = None
        if sets is not None:
            flat = sets.reshape(-1, sets.shape[-1])
            centres = anneal.scaled(scaling, flat)[0].reshape(sets.shape)
        columns = dict(rows)
        for name in ("cost", "propensity"):
            if name in columns:
                columns[name] = columns[name].astype(anneal.dtype)
        try:
            log = mj.learn.Interactions(**columns, centres=centres)
            problem = mj.Clustering(x, request.k, weights=anneal.shares(data.weights))
            key = jax.random.key(anneal.seed)
            return mj.learn.fit(problem, log, learner, key=key).raise_if_failed()
        except ValueError as error:
            raise CommandError(f"LOG: {error}") from None


def _example(k: int, anneal: AnnealOptions) -> Any:
    numbers = {"kappa": 0.3, "zeta": 1.0, "gamma": 0.5}
    with jax.enable_x64(False):
        x, _ = four_square(400)
        problem = mj.Clustering(x, k)
        asked = mj.learn.Simulated(mj.autonomy.Softmax(0.3, 1.0, 0.5))
        log = mj.learn.collect(problem, asked, key=jax.random.key(anneal.seed))
    rows = {
        name: np.asarray(getattr(log, name))
        for name in ("entity", "prescribed", "realised", "round", "propensity")
    }
    data = Points(np.asarray(x, np.float64), ("x", "y"), None)
    return data, rows, np.asarray(log.centres, np.float64), numbers
