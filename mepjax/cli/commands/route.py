"""`mepjax route`: facilities, and the routes of nodes through them, both at once."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ..._core.scaling import Scaling
from ...datasets import supply_network
from ...plot.views import path_view
from ...select.starts import Run, Watch, best_of_starts, percent_more
from ..console import say
from ..errors import CommandError
from ..options.anneal import AnnealOptions
from ..options.network import NetworkOptions
from ..options.output import OutputOptions
from ..options.reading import TABLE_HELP, ReadingOptions
from ..progress import with_bar
from ..report import facts, folder, network, sections, terminal
from ..report.model import Card, Heading, Report, finite_or_none
from ..solving import best_run, hard_routes, measure_routes
from ..tables.network import Network
from ..tables.points import Points

EXAMPLE = "bundled example: supply_network(200)"

_FACILITIES = 5
_STARTS = 2


@dataclass(frozen=True)
class Result:
    """The outcome of `solve`.

    **Fields:** `scaling`; `problem` and `schedule` as solved; all `runs` and the `best` of them,
    whose costs are hard, but soft with capacities; the `baseline` that locates first and routes
    afterwards, and its hard `baseline_cost`, `None` where its routes do not keep the capacities;
    `ways`, what the best run is.
    """

    scaling: Scaling
    problem: mj.FacilityPath
    schedule: mj.Geometric
    runs: tuple[Run, ...]
    best: Run
    baseline: mj.LocateThenRoute
    baseline_cost: float | None
    ways: network.Ways

    @property
    def cost(self) -> float:
        """The hard cost, or the soft one where hard routes do not keep the capacities."""
        return self.best.cost if self.ways.unlimited else float(self.ways.hard.cost)

    @property
    def cost_name(self) -> str:
        """Which of the two it is."""
        return "soft cost" if self.ways.unlimited else "hard cost"

    @property
    def percent_dearer(self) -> float | None:
        """How many per cent more locating first costs; `None` if undefined."""
        return None if self.baseline_cost is None else percent_more(self.baseline_cost, self.cost)


def route(
    nodes: Annotated[
        Path | None, typer.Argument(help=TABLE_HELP.format(what="node"), show_default=False)
    ] = None,
    options: NetworkOptions = NetworkOptions(),
    reading: ReadingOptions = ReadingOptions(),
    anneal: AnnealOptions = AnnealOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:
    """Place facilities and route nodes through them to a destination, both at once.

    Writes facilities.csv, routes.csv, report.html, report.json and routes.png, and says what
    locating first and routing afterwards would have cost.
    """
    if nodes is None and options.facilities is None:
        options = replace(options, facilities=_FACILITIES)
    if options.facilities is None:
        raise CommandError("--facilities: got none; expected the number of facilities to place.")
    if nodes is None:
        reading.refuse("NODES")
        points, end = _example()
        options = replace(options, destination=options.destination or [end])
    else:
        points = reading.read(nodes, "NODES")
    asked = options.read(points)
    output.check()
    if nodes is None:
        ends = " ".join(f"--destination {text}" for text in options.destination or [])
        what = f"--facilities {options.facilities} {ends}"
        say(f"No file given: running the {EXAMPLE} with {what}.")
    starts = anneal.restarts or _STARTS
    result = with_bar(lambda bar: solve(points, asked, options, anneal, bar), starts)
    source = EXAMPLE if nodes is None else str(nodes)
    found = report(result, points, asked, options, anneal, source)
    with anneal.computing():
        files = folder.write(output.out, found)
    say(*terminal.lines(found, files, output.out))


def _example() -> tuple[Points, str]:
    with jax.enable_x64(False):
        x, end = supply_network(200)
    text = ",".join(f"{value:g}" for value in np.asarray(end).tolist())
    return Points(np.asarray(x, np.float64), ("x", "y"), None), text


def solve(
    points: Points,
    asked: Network,
    options: NetworkOptions,
    anneal: AnnealOptions,
    watch: Watch | None = None,
) -> Result:
    """The lowest hard cost of all restarts, and the baseline that locates first.

    **Raises:** `CommandError` for options that do not fit, or if every run failed.
    """
    scaling = Scaling.of(anneal.scale or "none", points.x, points.weights, points.lonlat)
    with anneal.computing():
        problem = options.problem(points, asked, anneal, scaling)
        schedule = anneal.schedule(problem)
        keys = jax.random.split(jax.random.key(anneal.seed), anneal.restarts or _STARTS)
        baseline = mj.locate_then_route(problem, key=keys[0])
        found = best_of_starts(
            problem, schedule, keys, watch=watch, measure=measure_routes,
            # Deciding both at once is never dearer than one after the other.
            init=[] if mj.Code(int(baseline.code)).is_failing else [problem.at(baseline.locations)],
        )  # fmt: skip
        best = best_run(found)
        hard, unlimited = hard_routes(problem, best.solution.params, best.solution.beta)
        first = problem.at(baseline.locations)
        sequential, failed = hard_routes(problem, first, best.solution.beta)
        n = len(points.x)
        hard = replace(
            jax.tree.map(np.asarray, hard), routes=hard.routes[:n],
            destinations=hard.destinations[:n], node_costs=hard.node_costs[:n],
        )  # fmt: skip
        view = path_view(problem, best.solution, rows=n)
        return Result(
            scaling, problem, schedule, found.runs, best, baseline,
            None if failed or unlimited else float(sequential.cost),
            network.Ways(scaling.invert(view.facilities), hard, unlimited, view),
        )  # fmt: skip


def report(
    result: Result,
    points: Points,
    asked: Network,
    options: NetworkOptions,
    anneal: AnnealOptions,
    source: str,
) -> Report:
    """What the result says; `source` is the name of the input."""
    problem, scaling, best, ways = result.problem, result.scaling, result.best, result.ways
    found = _facts(result, points, asked, options, anneal, source)
    lead = f"{sections.describe(points, 'nodes')}; {options.describe(asked)}"
    uses = ways.uses(asked)
    used = f"{best.n_used} of {problem.total}"
    restarts = found["options"]["restarts"]
    how = f"{best.name}, restart {best.restart + 1} of {restarts}"
    code, first = mj.Code(int(result.baseline.code)), result.baseline_cost
    card = network.sequential_card(code, first, result.percent_dearer, asked)
    return Report(
        Heading("route", source, lead),
        [
            Card("facilities used", used),
            sections.cost_card(result.cost_name, result.cost, scaling, how),
            card,
            *network.capacity_cards(uses, ways),
            *sections.ending_cards(best, result.runs),
        ],
        [
            network.facilities(problem, best.solution, points, scaling, ways, asked),
            network.routes(points, scaling, ways, asked),
            *([network.capacities(problem, best.solution, uses, ways)] if uses else []),
            network.sequential(card, result.cost, first, scaling, asked),
            sections.convergence(
                found, best, "facilities", cost="soft cost" if uses else "hard cost",
                figures=[sections.transitions_figure(problem, best.solution, "facilities")],
            ),
            sections.settings(found, network.settings(found["options"], asked)),
        ],
        found,
    )  # fmt: skip


def _facts(
    result: Result,
    points: Points,
    asked: Network,
    options: NetworkOptions,
    anneal: AnnealOptions,
    source: str,
) -> dict[str, Any]:
    """Everything that is not one number a node, as `report.json` has it."""
    scaling, ways, baseline = result.scaling, result.ways, result.baseline_cost
    chosen = facts.describe_chosen(result.best, scaling, "facilities_used")
    course = facts.course(result.best, result.runs, "facilities_used")
    if asked.is_limited:
        # Only the routes of the run that was kept are made to meet the capacities.
        for run in course["runs"]:
            run["hard_cost"] = None
        hard = None if ways.unlimited else finite_or_none(result.cost)
        chosen["hard_cost"] = hard
        if scaling.cost_factor is not None:
            unit = scaling.cost_unit.replace(" ", "_")
            chosen[f"hard_cost_in_{unit}"] = None if hard is None else hard * scaling.cost_factor
    return {
        **facts.heading(points, source),
        "options": {
            "facilities": options.facilities,
            **network.facts(asked),
            "stages": result.problem.n_stages,
            "max_hops": options.max_hops,
            "direct": options.direct,
            **facts.anneal_options(
                anneal, result.schedule, anneal.restarts or _STARTS, result.best
            ),
        },
        "scale": facts.scale(scaling, "Beta, costs and free energy", "Places"),
        "chosen": chosen,
        **ways.facts(asked),
        "locate_then_route": {
            "hard_cost": baseline,
            "ratio": None if baseline is None or result.cost <= 0 else baseline / result.cost,
            "percent": result.percent_dearer,
            "code": mj.Code(int(result.baseline.code)).name,
        },
        **course,
    }
