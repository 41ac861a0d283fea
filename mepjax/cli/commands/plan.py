"""`mepjax plan`: decisions along the way, and the states that are to be placed with them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import mepjax as mj

from ... import mdp
from ...select.starts import Measured, Run, Watch, best_of_starts, percent_more
from ..console import say
from ..errors import SOLVE, CommandError
from ..options.anneal import AnnealOptions
from ..options.checks import numeric, require
from ..options.output import OutputOptions
from ..progress import interruptible, with_bar
from ..report import facts, folder, planning, sections, terminal
from ..report.model import Card, Heading, Report, change, finite_or_none
from ..solving import best_run
from ..tables.transitions import HELP, STATES_HELP, Decisions, example, read_decisions

EXAMPLE = "bundled example: small_cells()"

_STARTS = 2
# Visits below which a placed state is not used.
_UNUSED = 1e-3


@dataclass(frozen=True)
class Placed:
    """The states that were placed.

    **Fields:** the `problem` and `schedule` as solved; all `runs` and the `best` of them; the
    `baseline_cost` of placing first and deciding afterwards, `None` where it failed.
    """

    problem: mj.ParametricMDP
    schedule: mj.Geometric
    runs: tuple[Run, ...]
    best: Run
    baseline_cost: float | None

    @property
    def percent_dearer(self) -> float | None:
        """How many per cent more placing first costs."""
        cost = self.baseline_cost
        return None if cost is None else percent_more(cost, self.best.cost)


@dataclass(frozen=True)
class Result:
    """The `model` with all its costs, what was `found` of it, and the states `placed`, if any."""

    model: mdp.MDP
    found: mdp.MDPSolution
    placed: Placed | None

    @property
    def cost(self) -> float:
        """The mean over the start distribution."""
        return float(np.asarray(self.model.start) @ np.asarray(self.found.values))

    @property
    def gap(self) -> float:
        """The most by which values can be off, of all states."""
        return float(np.max(np.asarray(self.found.upper) - np.asarray(self.found.lower)))


def plan(
    transitions: Annotated[
        Path | None, typer.Argument(help=HELP, show_default=False)
    ] = None,
    states: Annotated[Path | None, typer.Option(help=STATES_HELP, show_default=False)] = None,
    discount: Annotated[float, numeric("--discount", float, help="In (0, 1].")] = 1.0,
    beta: Annotated[
        float | None,
        numeric(
            "--beta", float, show_default="inf, the policy of least cost",
            help="Inverse temperature of the policy, where no state is to be placed.",
        ),
    ] = None,
    anneal: AnnealOptions = AnnealOptions(),
    output: OutputOptions = OutputOptions(),
) -> None:  # fmt: skip
    """Find the best action in every state, and places of states along the way.

    Where states are to be placed, squared distances between places are added to the costs of
    transitions. Writes policy.csv, places.csv, plan.png, report.html and report.json.
    """
    require(0 < discount <= 1, "--discount", discount, "a number in (0, 1]")
    if beta is not None:
        require(beta > 0, "--beta", beta, "a number > 0, or inf")
    require(
        anneal.scale in (None, "none"), "--scale", anneal.scale,
        "none, as costs of transitions are in the units of squared distances",
    )  # fmt: skip
    if transitions is None:
        require(states is None, "--states", states, "it beside TRANSITIONS only")
        given = example()
    else:
        given = read_decisions(transitions, states)
        if discount == 1:
            given.check_ends()
    is_placing = bool(given.placed.any())
    require(not is_placing or beta is None, "--beta", beta, "none where states are to be placed")
    output.check()
    if transitions is None:
        say(f"No file given: running the {EXAMPLE}.")
    if is_placing:
        starts = anneal.restarts or _STARTS
        result = with_bar(lambda bar: solve(given, discount, None, anneal, bar), starts)
    else:
        result = interruptible(lambda: solve(given, discount, beta, anneal))
    source = EXAMPLE if transitions is None else str(transitions)
    with anneal.computing():
        made = report(result, given, discount, beta, anneal, source)
        files = folder.write(output.out, made)
    say(*terminal.lines(made, files, output.out))


def solve(
    given: Decisions,
    discount: float,
    beta: float | None,
    anneal: AnnealOptions,
    watch: Watch | None = None,
) -> Result:
    """Places by the lowest hard cost of all restarts, and the policy with its bounds.

    **Raises:** `CommandError` for what does not fit, or if the solve failed.
    """
    with anneal.computing():
        try:
            placed = _place(given, discount, anneal, watch) if given.placed.any() else None
            if placed is None:
                model = given.model(anneal.dtype, discount)
            else:
                problem, at = placed.problem, placed.best.solution.params
                model = mdp.MDP(
                    problem.kernel, problem.costs(at), discount=discount,
                    **given.options(anneal.dtype),
                )  # fmt: skip
            found = mdp.solve(model, np.inf if beta is None else beta)
            found.raise_if_failed()
        except ValueError as error:
            raise CommandError(f"TRANSITIONS: {error}") from None
        except mj.SolveError as error:
            raise CommandError(f"the solve failed: {error}", SOLVE) from None
        return Result(model, jax.tree.map(np.asarray, found), placed)


def _place(
    given: Decisions, discount: float, anneal: AnnealOptions, watch: Watch | None
) -> Placed:  # fmt: skip
    problem = given.problem(anneal.dtype, discount)
    schedule = anneal.schedule(problem)
    keys = jax.random.split(jax.random.key(anneal.seed), anneal.restarts or _STARTS)
    first = mj.cluster_then_plan(problem, key=keys[0], schedule=schedule)
    failed = any(mj.Code(int(code)).is_failing for code in (first.code, first.hard.code))
    found = best_of_starts(
        problem, schedule, keys, watch=watch, measure=_measure,
        # Deciding both at once is never dearer than one after the other.
        init=[] if failed else [problem.at(first.places)],
    )  # fmt: skip
    cost = None if failed else float(first.hard.cost)
    return Placed(problem, schedule, found.runs, best_run(found), cost)


def _measure(problem: mj.ParametricMDP, solution: mj.Solution) -> Measured:
    """The cost of hard decisions, and how many placed states are used."""
    visits = np.sum(np.asarray(problem.traffic(solution.params, solution.beta)), axis=1)
    used = int(np.sum(visits[np.asarray(problem.unknowns.state_index)] > _UNUSED))
    return Measured(float(problem.harden(solution.params).cost), used)


def report(
    result: Result,
    given: Decisions,
    discount: float,
    beta: float | None,
    anneal: AnnealOptions,
    source: str,
) -> Report:
    """What the result says; `source` is the name of the input."""
    found, placed = _facts(result, given, discount, beta, source), result.placed
    lead = (
        f"{len(given.states)} states, {len(given.actions)} actions, {given.edges.shape[1]} "
        f"transitions; discount {discount:g}"
    )
    soft = beta is not None and np.isfinite(beta)
    detail = f" at beta {beta:g}" if soft else ""
    cards = [Card("free energy" if soft else "expected cost", f"{result.cost:.6g}", detail)]
    questions = []
    if placed is None:
        cards += [Card("code", mj.Code(int(result.found.code)).name)]
    else:
        restarts = anneal.restarts or _STARTS
        found["options"] |= facts.anneal_options(anneal, placed.schedule, restarts, placed.best)
        found |= planning.course_facts(placed.best, placed.runs)
        words = change(placed.percent_dearer)
        cards += [
            Card("placing first, deciding afterwards", words, " cost"),
            *sections.ending_cards(placed.best, placed.runs),
        ]
        questions = [
            planning.places(placed.problem, placed.best.solution, given),
            planning.sensitivities(placed.problem, placed.best.solution, given),
        ]
    cards += [Card("values are known to", f"{result.gap:.3g}")]
    questions += [planning.decisions(result.model, result.found, given)]
    if placed is not None:
        figure = sections.transitions_figure(placed.problem, placed.best.solution, "places")
        questions += [sections.convergence(found, placed.best, "places", figures=[figure])]
    return Report(Heading("plan", source, lead), cards, questions, found)


def _facts(
    result: Result, given: Decisions, discount: float, beta: float | None, source: str
) -> dict[str, Any]:
    placed = result.placed
    return {
        "versions": {"mepjax": mj.__version__, "jax": jax.__version__, "numpy": np.__version__},
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {
            "file": source,
            "states": len(given.states),
            "actions": len(given.actions),
            "transitions": given.edges.shape[1],
            "placed": [given.states[i] for i in np.flatnonzero(given.placed)],
        },
        "options": {
            "discount": discount,
            "beta": None if beta is None or not np.isfinite(beta) else beta,
        },
        "cost": finite_or_none(result.cost),
        "largest_gap": finite_or_none(result.gap),
        "residual": finite_or_none(result.found.residual),
        "steps": int(result.found.steps),
        "code": mj.Code(int(result.found.code)).name,
        "place_then_decide": None
        if placed is None
        else {"hard_cost": placed.baseline_cost, "percent": placed.percent_dearer},
    }
