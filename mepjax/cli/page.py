"""`report.html`: one page that needs nothing else, with the answers a person asks for first."""

from typing import Any

import numpy as np

from .cluster import Result
from .page_parts import convergence, figure, frame, head, number, settings, table, text
from .points import Points
from .words import describe_autonomy, largest_probabilities, shares

_COLUMNS = 12
_SURE = (0.99, 0.9, 0.5)


def render(result: Result, points: Points, facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    """The page as text.

    **Arguments:** `facts`, what `report.json` says; `drawn`, PNG files by name. All that comes
    from the user is escaped.
    """
    options = facts["options"]
    autonomy = ", ".join(f"{k} {v}" for k, v in options["autonomy"].items() if k != "p")
    sections = [
        _head(result, points, facts),
        _centres(result, points),
        _belonging(result, drawn),
        _sure(result, drawn),
        *([_autonomy(result, facts, drawn)] if result.options.is_aware else []),
        convergence(facts, drawn, "centres", "clusters_used"),
        settings(
            facts,
            [
                *([name, value] for name, value in options.items() if name != "autonomy"),
                ["autonomy", autonomy],
            ],
        ),
    ]
    return frame(f"mepjax cluster: {facts['input']['file']}", sections)


def _head(result: Result, points: Points, facts: dict[str, Any]) -> str:
    n, d = points.x.shape
    chosen, ignoring = facts["chosen"], facts["cost_of_ignoring_autonomy"]
    cards = [
        ("clusters used", f"{chosen['clusters_used']} of {result.problem.k}"),
        ("hard cost" + _scaled(result), number(chosen["hard_cost"])),
    ]
    if ignoring is not None:
        cards.append(("ignoring autonomy costs", _percent(ignoring["percent"])))
    cards.append(("converged", f"{'yes' if chosen['code'] == 'OK' else chosen['code']}"))
    weighted = ", weighted" if points.weights is not None else ""
    lead = (
        f"{n} points of {d} {'column' if d == 1 else 'columns'}{weighted}; k = {result.problem.k}, "
        f"{describe_autonomy(result)}."
    )
    return head(facts, lead, cards)


def _scaled(result: Result) -> str:
    return "" if result.scaling.kind == "none" else " (scaled units)"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}%"


def _centres(result: Result, points: Points) -> str:
    names = points.names[:_COLUMNS]
    sizes = np.bincount(result.assignments, minlength=result.problem.k)
    rows = (
        [
            index,
            *(f"{value:.6g}" for value in centre[:_COLUMNS]),
            size,
            f"{100 * told:.1f}%",
            f"{100 * ends:.1f}%",
        ]
        for index, (centre, size, told, ends) in enumerate(
            zip(result.centres, sizes, *shares(result), strict=True)
        )
    )
    more = len(points.names) - len(names)
    note = f" The other {more} columns are in centres.csv." if more else ""
    degrees = (
        " Coordinates are degrees; distances are those of a flat map, in km, true to scale at the "
        "mean latitude."
        if points.lonlat is not None
        else ""
    )
    return (
        "<h2>What are the centres?</h2>\n"
        + table(
            ["cluster", *names, "points told to join", "weight told", "weight ending there"],
            rows, (),
        )
        + f"\n<p>Centres are in the units of the input.{note}{degrees}</p>"
    )  # fmt: skip


def _belonging(result: Result, drawn: dict[str, bytes]) -> str:
    ends = (
        "A point has the colours of the centres where it ends up after overrides."
        if result.options.is_aware
        else "A point has the colour of its centre."
    )
    borders = (
        "Where a new point would be told to go at the last β. Lines are the borders between "
        "clusters; between dashed ones the best cluster has less than 90 %."
    )
    return (
        "<h2>Who belongs where?</h2>\n"
        + figure(drawn, "clusters", ends)
        + figure(drawn, "map", borders)
        + "\n<p>assignments.csv has the cluster of every point.</p>"
    )


def _sure(result: Result, drawn: dict[str, bytes]) -> str:
    weights = np.asarray(result.problem.weights, np.float64)
    weights = weights / np.sum(weights)
    found = largest_probabilities(result)
    rows = [
        [f"at least {limit:g}"]
        + [f"{100 * np.sum(weights[largest >= limit]):.1f}%" for _, largest in found]
        for limit in _SURE
    ]
    return (
        "<h2>How sure is that?</h2>\n"
        "<p>The probability with which the soft assignment tells a point to join its most probable "
        "cluster. Hard assignments are the limit of large β, so near 1 is usual at the last β; at "
        "the last transition the finest clusters are just told apart.</p>\n"
        + table(["largest probability", *(f"weight {name}" for name, _ in found)], rows, (0,))
        + figure(drawn, "sure", "Distribution of the largest soft probability.")
    )


def _autonomy(result: Result, facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    ignoring = facts["cost_of_ignoring_autonomy"]
    if result.ignored is None:
        return (
            "<h2>What did autonomy change?</h2>\n<p>Unknown: no run without autonomy converged.</p>"
        )
    rows = [
        ["found with autonomy known", number(ignoring["hard_cost_aware"]), result.best.n_used],
        ["found without it", number(ignoring["hard_cost_ignored"]), result.ignored.n_used],
    ]
    told, ends = shares(result)
    return (
        "<h2>What did autonomy change?</h2>\n"
        f"<p>Centres found as if nobody strayed cost {text(_percent(ignoring['percent']))} "
        "when points stray as they do. With the centres of this page "
        f"{100 * float(np.sum(np.abs(told - ends))) / 2:.1f}% of the weight shifts between "
        "clusters, net, from where it is told to go to where it ends.</p>\n"
        + table(
            ["centres", "hard cost under autonomy" + _scaled(result), "clusters used"], rows, (0,)
        )
        + figure(drawn, "ignoring", "Hard cost of both, measured under the same autonomy.")
    )
