"""`mepjax cluster`: clusters of points that may override where they are told to go."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ..._core.scaling import Scaling
from ...datasets import four_square
from ...plot.views import ClusterView, cluster_view
from ...select.starts import IGNORED, Run, Watch, best_of_starts, percent_more
from ..console import say
from ..options.anneal import AnnealOptions
from ..options.autonomy import AutonomyOptions
from ..options.clustering import ClusterOptions, Request
from ..options.disk import DiskOptions
from ..options.output import OutputOptions
from ..options.reading import TABLE_HELP, ReadingOptions
from ..progress import with_bar
from ..report import clustering, facts, folder, sections, terminal
from ..report.model import Card, Heading, Report, Section, change, finite_or_none
from ..solving import best_clusters
from ..tables.points import Points
from .cluster_from_disk import cluster_from_disk

EXAMPLE = "bundled example: four_square(400)"

# Numbers kept of each run.
_MOST_RECORDED = 2_000_000


@dataclass(frozen=True)
class Result:
    """The outcome of `solve`.

    **Fields:** `scaling`; `problem` and `schedule` as solved; all `runs`, the `best` of them and,
    if there is autonomy, the best `ignored` without it; of the best run the `centres` (K, d) in
    input units, a `view` at the last beta and, where centres separated on the way, one at the last
    transition, `before`, and its beta.
    """

    scaling: Scaling
    problem: mj.Clustering
    schedule: mj.Geometric
    runs: tuple[Run, ...]
    best: Run
    ignored: Run | None
    centres: np.ndarray
    view: ClusterView
    before: tuple[float, ClusterView] | None

    @property
    def annealed(self) -> mj.Solution:
        """The whole anneal that led to the best, or another if it came of a random start."""
        runs = [*self.best.path, *sorted(self.runs, key=lambda run: run.cost)]
        whole = (run.solution for run in runs if int(run.solution.n_stages) > 1)
        return next(whole, runs[0].solution)


def cluster(
    points: Annotated[
        Path | None, typer.Argument(help=TABLE_HELP.format(what="point"), show_default=False)
    ] = None,
    options: ClusterOptions = ClusterOptions(),
    autonomy: AutonomyOptions = AutonomyOptions(),
    reading: ReadingOptions = ReadingOptions(),
    anneal: AnnealOptions = AnnealOptions(),
    disk: DiskOptions = DiskOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Cluster points that may override where they are told to go.

    Writes centres.csv, assignments.csv, report.html, report.json and clusters.png, and says what
    ignoring the autonomy would have cost.
    """
    if disk.from_disk:
        return cluster_from_disk(points, options, autonomy, reading, anneal, disk, output)
    if points is None and options.k is None:
        options = replace(options, k=4)
    what = f"-k {options.k}"
    if points is None and autonomy.is_default:
        autonomy = AutonomyOptions(kappa=0.3, temperature=0.1)
        what += " --kappa 0.3 --temperature 0.1"
    request = Request.of(options, autonomy, anneal)
    if points is None:
        reading.refuse("POINTS")
    data = _example() if points is None else reading.read(points, "POINTS")
    request.check_size(len(data.x))
    output.check()
    if points is None:
        say(f"No file given: running the {EXAMPLE} with {what}.")
    result = with_bar(lambda bar: solve(data, request, bar), request.long_runs)
    found = report(result, request, data, EXAMPLE if points is None else str(points))
    with anneal.computing():
        files = folder.write(output.out, found)
    say(*terminal.lines(found, files, output.out))


def _example() -> Points:
    with jax.enable_x64(False):
        x, _ = four_square(400)
    return Points(np.asarray(x, np.float64), ("x", "y"), None)


def solve(points: Points, request: Request, watch: Watch | None = None) -> Result:
    """The best of all starts; with autonomy also the best without it.

    **Raises:** `CommandError` for coordinates out of range, or if every run failed.
    """
    autonomy, anneal = request.autonomy, request.anneal
    kind = anneal.scale or ("unit" if autonomy.kind == "softmax" else "none")
    scaling = Scaling.of(kind, points.x, points.weights, points.lonlat)
    with anneal.computing():
        (scaled,) = anneal.scaled(scaling, points.x)
        rows, weights = anneal.padded(scaled, points.weights)
        problem = mj.Clustering(
            rows, request.k, weights=weights,
            autonomy=autonomy.model(request.k, request.matrix, anneal.dtype),
            capacity=None if request.capacity is None else request.capacity.of(anneal.dtype),
        )  # fmt: skip
        schedule = anneal.schedule(problem)
        # The tree and the film are drawn from the params of all stages.
        size = schedule.max_stages * problem.x.shape[1] * problem.k
        found = best_of_starts(
            problem, schedule, jax.random.split(jax.random.key(anneal.seed), request.starts),
            record=mj.Record(params=request.cluster.animate or size <= _MOST_RECORDED),
            watch=watch, sample=request.cluster.sample or None,
        )  # fmt: skip
        best = best_clusters(problem, found)
        betas = np.concatenate([np.asarray(run.solution.transitions) for run in best.path])
        met, n = betas[np.isfinite(betas)], len(points.x)
        view, before = cluster_view(problem, best.solution, rows=n, decisions=best.decisions), None
        if met.size:
            last = float(np.max(met))
            before = last, cluster_view(problem, best.solution, beta=last, rows=n, hard=False)
        return Result(
            scaling, problem, schedule, found.runs, best, found.ignored,
            scaling.invert(view.centres), view, before,
        )  # fmt: skip


def report(result: Result, request: Request, points: Points, source: str) -> Report:
    """What the result says; `source` is the name of the input."""
    problem, scaling, best = result.problem, result.scaling, result.best
    n, asked = len(points.x), f"k = {problem.k}, {request.autonomy.description}"
    found = _facts(result, request, points, source)
    title = f"{best.n_used} of {problem.k} clusters used"
    ends = (
        "A point has the colours of the centres where it ends up after overrides."
        if request.is_aware
        else "A point has the colour of its centre."
    )
    view, annealed = result.view, result.annealed
    with request.anneal.computing():
        course = cluster_view(problem, annealed, rows=n, hard=False)
    largest = [(f"at the last β = {float(best.solution.beta):.4g}", np.max(view.policy, axis=1))]
    if result.before is not None:
        # Near 1 for nearly all at the last beta; so first where the finest are just told apart.
        beta, before = result.before
        name = f"at the last transition, β = {beta:.4g}"
        largest = [(name, np.max(before.policy, axis=1)), *largest]
    return Report(
        Heading("cluster", source, f"{sections.describe(points, 'points')}; {asked}"),
        _cards(result, request),
        [
            clustering.centres(points, result.centres, view),
            Section(
                "Who belongs where?",
                [
                    *clustering.pictures(
                        problem, best.solution, view, points, scaling,
                        f"{title}\n{request.autonomy.description}", ends,
                    ),
                    clustering.assignments(points, view),
                    *([clustering.film(problem, annealed, course, points, scaling)]
                      if request.cluster.animate else []),
                ],
            ),
            sections.sureness(
                largest, view.weights,
                "The probability with which the soft assignment tells a point to join its most "
                "probable cluster.",
            ),
            *([clustering.autonomy(problem, best, result.ignored, view, scaling)]
              if request.is_aware else []),
            sections.convergence(
                found, best, "centres",
                figures=[
                    *clustering.tree(problem, annealed, course, points, scaling),
                    sections.transitions_figure(problem, annealed, "centres"),
                ],
            ),
            sections.settings(found, request.settings(found["options"])),
        ],
        found,
    )  # fmt: skip


def _cards(result: Result, request: Request) -> list[Card]:
    best = result.best
    how = f"{best.name}, restart {best.restart + 1} of {request.starts}"
    cards = [
        Card("clusters used", f"{best.n_used} of {result.problem.k}"),
        sections.cost_card("hard cost", best.cost, result.scaling, how),
    ]
    excess = request.excess(result.view.told)
    if excess is not None:
        cards.append(clustering.sizes_card(result.view.told, excess))
    if request.is_aware:
        ignored, name = result.ignored, "cost of ignoring autonomy"
        if ignored is None:
            cards.append(Card(name, "unknown", f", no run {IGNORED} converged"))
        else:
            cost = f" (hard cost {ignored.cost:.6g} with the centres found without it)"
            cards.append(Card(name, change(percent_more(ignored.cost, best.cost)), cost))
    return [*cards, *sections.ending_cards(best, result.runs)]


def _facts(result: Result, request: Request, points: Points, source: str) -> dict[str, Any]:
    """Everything that is not one number a point, as `report.json` has it."""
    best, ignored, excess = result.best, result.ignored, request.excess(result.view.told)
    chosen = facts.describe_chosen(best, result.scaling, "clusters_used")
    return {
        **facts.heading(points, source),
        "options": {
            **request.facts,
            **facts.anneal_options(request.anneal, result.schedule, request.starts, best),
            "sample": request.cluster.sample or None,
        },
        "scale": facts.scale(result.scaling, "Temperature, beta, costs and free energy", "Centres"),
        "chosen": chosen,
        "sizes": None
        if excess is None
        else {"told": result.view.told.tolist(), "excess": excess.tolist()},
        "cost_of_ignoring_autonomy": {
            "percent": None if ignored is None else percent_more(ignored.cost, best.cost),
            "hard_cost_ignored": None if ignored is None else finite_or_none(ignored.cost),
            "hard_cost_aware": finite_or_none(best.cost),
            "restart_ignored": None if ignored is None else ignored.restart + 1,
        }
        if request.is_aware
        else None,
        **facts.course(best, result.runs, "clusters_used"),
    }
