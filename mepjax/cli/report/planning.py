"""What the report of `mepjax plan` says of places, policies and what they depend on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

import mepjax as mj

from ... import mdp
from ...select.starts import Run
from ..tables.transitions import Decisions
from . import facts
from .model import Block, Column, Figure, Section, Table, finite_or_none

# States that pictures show.
_DRAWN = 300
# Actions less likely than this have no row.
_RARE = 1e-6
_RANKED = 15


def course_facts(best: Run, runs: Sequence[Run]) -> dict[str, Any]:
    """The run that was kept and all others, as `report.json` has them."""
    chosen = facts.describe(best, "places_used")
    chosen["beta"] = float(best.solution.beta)
    return {"chosen": chosen, **facts.course(best, runs, "places_used")}


def places(problem: mj.ParametricMDP, solution: mj.Solution, given: Decisions) -> Section:
    """Where states were placed, with how often each is visited."""
    found = np.asarray(problem.parameters(solution.params)[0])
    visits = np.asarray(problem.traffic(solution.params, solution.beta)).sum(axis=1)
    rows = np.flatnonzero(given.placed)
    table = Table(
        "places",
        [
            Column("state", [given.states[row] for row in rows], is_text=True),
            *(Column(name, found[rows, i]) for i, name in enumerate(given.coordinates)),
            Column("visits", visits[rows]),
        ],
        on_terminal=True,
        note="Visits are expected, discounted, from the start distribution on.",
    )
    blocks: list[Block] = [table]
    if found.shape[1] == 2 and len(found) <= _DRAWN:

        def draw(figure: Any) -> None:
            from ...plot import small_cells

            small_cells(problem, solution, ax=figure.add_subplot())

        caption = "Places of states, and lines between them as wide as their traffic is large."
        blocks.append(Figure("plan", draw, caption, (7, 6), is_file=True, is_plain=True))
    return Section("Where should states be?", blocks)


def sensitivities(problem: mj.ParametricMDP, solution: mj.Solution, given: Decisions) -> Section:
    """On which known places the cost depends most."""
    found = problem.sensitivities(solution.params, solution.beta)
    values, order = np.asarray(found.states), found.ranked("states")[:_RANKED]

    def draw(figure: Any) -> None:
        from ...plot import sensitivity

        sensitivity(found, names=given.states, most=_RANKED, ax=figure.add_subplot())

    table = Table(
        "sensitivities",
        [
            Column("state", [given.states[row] for row in order], is_text=True),
            *(
                Column(f"d_{name}", values[order, i], title=f"dF / d {name}")
                for i, name in enumerate(given.coordinates)
            ),
        ],
        note=f"dF / d discount: {finite_or_none(found.discount)}.",
    )
    caption = "The known places on which the free energy depends most."
    picture = Figure("sensitivity", draw, caption, (7, 4), is_plain=True)
    return Section("What does it depend on?", [table, picture])


def decisions(model: mdp.MDP, found: mdp.MDPSolution, given: Decisions) -> Section:
    """The policy, with values and their bounds."""
    likely = np.exp(np.asarray(found.log_policy))
    likely[np.asarray(model.terminal)] = 0
    state, action = np.nonzero(likely > _RARE)
    values, lower, upper = (np.asarray(v) for v in (found.values, found.lower, found.upper))
    table = Table(
        "policy",
        [
            Column("state", [given.states[s] for s in state], is_text=True),
            Column("action", [given.actions[a] for a in action], is_text=True),
            Column("probability", likely[state, action]),
            Column("value", values[state]),
            Column("lower", [finite_or_none(v) for v in lower[state]], _bound),
            Column("upper", [finite_or_none(v) for v in upper[state]], _bound),
        ],
        page_rows=60,
        on_terminal=True,
        note="Values are expected costs from the state on; bounds hold for the exact ones.",
    )
    blocks: list[Block] = [table]
    where = given.places if given.places is not None and given.places.shape[1] == 2 else None
    if not given.placed.any() and len(given.states) <= _DRAWN:

        def draw(figure: Any) -> None:
            from ...plot import policy_map

            policy_map(model, found, places=where, ax=figure.add_subplot())

        caption = "Expected cost to go of every state, and where its action leads."
        blocks.append(Figure("plan", draw, caption, (7, 5), is_file=True, is_plain=True))
    return Section("Which action, in which state?", blocks)


def _bound(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
