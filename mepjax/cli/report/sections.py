"""Sections and cards that the reports of several commands have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import mepjax as mj

from ..._core.scaling import Scaling
from ...select.starts import Run
from ..tables.points import Points
from .model import Block, Card, Column, Figure, Section, Table, Text, or_unknown, percent

DEGREES = (
    "Coordinates are degrees; distances are those of a flat map, in km, true to scale at the mean "
    "latitude."
)


def describe(points: Points, what: str) -> str:
    """The table that was read, such as `points: 300 x 2 (x, y), weighted`."""
    n, d = points.x.shape
    names = ", ".join(points.names[:6]) + (", ..." if d > 6 else "")
    return f"{what}: {n} x {d} ({names})" + ("" if points.weights is None else ", weighted")


def cost_card(name: str, cost: float, scaling: Scaling, how: str) -> Card:
    """A cost, with its units where they are not those of the input, and `how` it was found."""
    detail = ""
    if scaling.kind != "none":
        factor = scaling.cost_factor
        detail = f" at scale {scaling.kind}"
        detail += f", {cost * factor:.6g} in {scaling.cost_unit}" if factor else ""
    elif scaling.is_map:
        detail = f" in {scaling.cost_unit}"
    return Card(name + scaled_units(scaling), f"{cost:.6g}", f"{detail}; found by: {how}")


def scaled_units(scaling: Scaling) -> str:
    """What a heading says of units that are not those of the input."""
    return "" if scaling.kind == "none" else " (scaled units)"


def ending_cards(best: Run, runs: Sequence[Run]) -> list[Card]:
    """How the run that was kept ended, and how many others failed."""
    code = "yes" if best.code is mj.Code.OK else best.code.name
    cards = [
        Card("converged", code, where=("page",)),
        Card("code", best.code.name, f": {best.code.message}", where=("terminal",)),
    ]
    failed = sum(run.code.is_failing for run in runs)
    if failed:
        words = f"{failed} of {len(runs)} did not converge and were not chosen; see report.json"
        cards.append(Card("runs", words, where=("terminal",)))
    return cards


def names_of_rows(ids: Sequence[str] | None, n: int) -> list[Column]:
    """The number of each row of the input, from 0, and its name where it has one."""
    return [
        Column("row", np.arange(n)),
        *([] if ids is None else [Column("id", ids, is_text=True)]),
    ]


def coordinates(names: Sequence[str], places: np.ndarray) -> list[Column]:
    """A column a coordinate, in the units of the input; of many the page shows the first."""
    return [
        Column(
            name, places[:, index],
            where=("csv", "page", "terminal") if index < 12 else ("csv",),
        )
        for index, name in enumerate(names)
    ]  # fmt: skip


def convergence(
    facts: dict[str, Any],
    best: Run,
    places: str,
    *,
    cost: str = "hard cost",
    figures: Iterable[Figure] = (),
) -> Section:
    """How the solves ended, from the facts of `facts.describe_chosen` and `facts.course`.

    **Arguments:** `best`: the run that was kept; `places`: centres or facilities; `cost`: by what
    it was chosen; `figures`: of the anneal.
    """
    chosen, runs = facts["chosen"], facts["runs"]
    codes = ", ".join(f"{name} {count}" for name, count in chosen["stage_codes"].items())
    betas = ", ".join(f"{beta:.4g}" for beta in chosen["transitions"]) or "none"
    unplaced = chosen["transitions_met"] - len(chosen["transitions"])
    more = f" and {unplaced} more" if unplaced else ""
    blocks: list[Block] = [
        f"{chosen['code']}: {best.code.message} Chosen: {best.name}, restart {best.restart + 1}, "
        f"the lowest {cost}. Stages by code: {codes}. {places.capitalize()} separated at "
        f"β = {betas}{more}."
    ]
    failed = sum(mj.Code[run["code"]].is_failing for run in runs)
    if failed:
        words = f"{failed} of {len(runs)} runs did not converge and were not chosen."
        blocks.append(Text(words, is_warning=True))
    key, used = cost.replace(" ", "_"), next(name for name in chosen if name.endswith("_used"))
    columns = [
        Column("run", [run["run"] for run in runs], is_text=True),
        Column("restart", [run["restart"] for run in runs]),
        Column("code", [run["code"] for run in runs], is_text=True),
        Column(cost, [run[key] for run in runs], or_unknown),
        Column(used.replace("_", " "), [run[used] for run in runs]),
        Column("stages", [run["stages"] for run in runs]),
        Column("steps", [run["steps"] for run in runs]),
        Column("transitions", [run["transitions_met"] for run in runs]),
        Column("seconds", [run["seconds"] for run in runs], ".1f"),
    ]
    return Section("Did it converge?", [*blocks, *figures, Table("runs", columns, is_file=False)])


def transitions_figure(problem: mj.Problem, solution: mj.Solution, places: str) -> Figure:
    """How far places move from stage to stage, and how stable they are."""

    def draw(figure: Any) -> None:
        from ...plot import transitions

        transitions(problem, solution, ax=figure.subplots(2, sharex=True))

    caption = (
        f"How far {places} move from stage to stage, and the curvature, which is zero where they "
        "lose stability."
    )
    return Figure("transitions", draw, caption, is_plain=True)


def settings(facts: dict[str, Any], options: dict[str, Any]) -> Section:
    """Options with their values, between the columns that were read and the versions."""
    scale = facts["scale"]
    values = {
        "columns": ", ".join(facts["input"]["columns"][:40]),
        **options,
        "scale": scale["kind"],
        "units": scale["units"],
        **{f"version of {name}": version for name, version in facts["versions"].items()},
    }
    columns = [
        Column("setting", list(values), is_text=True),
        Column("value", [str(value) for value in values.values()], is_text=True),
    ]
    return Section("Settings", [Table("settings", columns, is_file=False)])


def sureness(found: Sequence[tuple[str, np.ndarray]], weights: np.ndarray, what: str) -> Section:
    """How hard soft choices are.

    **Arguments:** `found`: the largest probability of each entity (N,), with the name of the beta
    at which it is that; `weights` (N,); `what` the choice is, in words.
    """
    weights = weights / np.sum(weights)
    limits = (0.99, 0.9, 0.5)
    columns = [
        Column("limit", [f"at least {limit:g}" for limit in limits], is_text=True,
               title="largest probability"),
        *(
            Column(name, [np.sum(weights[largest >= limit]) for limit in limits],
                   title=f"weight {name}", shown=percent())
            for name, largest in found
        ),
    ]  # fmt: skip

    def draw(figure: Any) -> None:
        from ...plot.style import PALETTE

        lowest = min(float(np.min(largest)) for _, largest in found)
        bins = np.linspace(min(lowest, 0.95), 1, 26)
        axes = figure.add_subplot()
        axes.hist(
            [np.clip(largest, bins[0], 1) for _, largest in found], bins=bins,
            weights=[100 * weights] * len(found), label=[name for name, _ in found],
            color=PALETTE[[1, 0][-len(found) :]], edgecolor="black", linewidth=0.6,
            hatch=["///", ""][-len(found) :],
        )  # fmt: skip
        axes.set_xlabel("largest soft probability")
        axes.set_ylabel("% of weight")
        axes.legend(loc="upper left", frameon=False, fontsize=9)

    return Section(
        "How sure is that?",
        [
            f"{what} Hard choices are the limit of large β, so near 1 is usual at the last β; at "
            "the last transition the finest places are just told apart.",
            Table("sureness", columns, is_file=False),
            Figure(
                "sure",
                draw,
                "Distribution of the largest soft probability.",
                (7, 3.2),
                is_plain=True,
            ),  # fmt: skip
        ],
    )
