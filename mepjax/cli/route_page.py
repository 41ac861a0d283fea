"""`report.html` of `mepjax route`: one page, with the answers a person asks for first."""

from typing import Any

import numpy as np

from .page_parts import convergence, figure, frame, head, number, settings, table, text
from .points import Points
from .route import Result
from .route_words import (
    describe_network,
    describe_sequential,
    describe_unlimited,
    routes_of,
    uses_of,
)

_COLUMNS = 12
_SHOWN_ROUTES = 20
_SHOWN_FACILITIES = 200


def render(result: Result, points: Points, facts: dict[str, Any], drawn: dict[str, bytes]) -> str:
    """The page as text.

    **Arguments:** `facts`, what `report.json` says; `drawn`, PNG files by name. All that comes
    from the user is escaped.
    """
    sections = [
        _head(result, points, facts),
        _facilities(result, points, drawn),
        _routes(result, points),
        *([_capacities(result, drawn)] if result.network.is_limited else []),
        _sequential(result),
        convergence(
            facts,
            drawn,
            "facilities",
            "facilities_used",
            "soft_cost" if result.network.is_limited else "hard_cost",
        ),
        settings(facts, _options(result, facts)),
    ]
    return frame(f"mepjax route: {facts['input']['file']}", sections)


def _scaled(result: Result) -> str:
    return "" if result.scaling.kind == "none" else " (scaled units)"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{value:+.2f}%"


def _head(result: Result, points: Points, facts: dict[str, Any]) -> str:
    n, d = points.x.shape
    chosen = facts["chosen"]
    cards = [
        ("facilities used", f"{chosen['facilities_used']} of {result.problem.total}"),
        (result.cost_name + _scaled(result), number(result.cost)),
        ("locating first costs", _percent(facts["locate_then_route"]["percent"])),
        ("converged", "yes" if chosen["code"] == "OK" else chosen["code"]),
    ]
    weighted = ", weighted" if points.weights is not None else ""
    lead = (
        f"{n} nodes of {d} {'column' if d == 1 else 'columns'}{weighted}; "
        f"{describe_network(result)}."
    )
    return head(facts, lead, cards)


def _facilities(result: Result, points: Points, drawn: dict[str, bytes]) -> str:
    names = points.names[:_COLUMNS]
    shown = zip(result.facilities, result.usage, result.entry_shares, strict=True)
    rows = [
        [
            index,
            *(f"{value:.6g}" for value in place[:_COLUMNS]),
            f"{visits:.3f}",
            f"{100 * share:.1f}%",
            "stands already" if index >= result.options.facilities else "placed",
        ]
        for index, (place, visits, share) in enumerate(shown)
    ]
    more = len(rows) - _SHOWN_FACILITIES
    note = f" The other {more} are in facilities.csv." if more > 0 else ""
    degrees = (
        " Coordinates are degrees; distances are those of a flat map, in km, true to scale at the "
        "mean latitude."
        if points.lonlat is not None
        else ""
    )
    header = ["facility", *names, "visits", "weight entering here", ""]
    return (
        "<h2>Where are the facilities?</h2>\n"
        + figure(
            drawn, "routes",
            "Nodes have the colours of the facilities they enter, arrows are as wide as their "
            "traffic.",
        )
        + table(header, rows[:_SHOWN_FACILITIES], (len(header) - 1,))
        + f"\n<p>Places are in the units of the input; visits are per unit of weight, at the last "
        f"β.{note}{degrees}</p>"
    )  # fmt: skip


def _routes(result: Result, points: Points) -> str:
    weights = np.ones(len(points.x)) if points.weights is None else points.weights
    totals: dict[tuple[tuple[int, ...], int], list[float]] = {}
    for weight, found in zip(weights.tolist(), routes_of(result), strict=True):
        total = totals.setdefault((found.facilities, found.destination), [0, 0.0, 0.0])
        total[0] += 1
        total[1] += weight
        total[2] += weight * found.cost
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    rows = [
        [
            " → ".join(str(index) for index in facilities) or "straight",
            destination,
            int(count),
            f"{100 * weight / float(np.sum(weights)):.1f}%",
            number(cost / weight if weight > 0 else None),
        ]
        for (facilities, destination), (count, weight, cost) in ordered
    ]
    more = len(rows) - _SHOWN_ROUTES
    note = f" The other {more} carry less." if more > 0 else ""
    units = "" if result.scaling.cost_factor else " (scaled units)"
    return (
        "<h2>Which way do nodes travel?</h2>\n"
        + table(
            ["facilities in order", "destination", "nodes", "weight", "mean cost" + units],
            rows[:_SHOWN_ROUTES],
            (0,),
        )
        + f"\n<p>Each node's cheapest route.{note} routes.csv has that of every node.</p>"
    )


def _capacities(result: Result, drawn: dict[str, bytes]) -> str:
    assert result.revisits is not None
    rows = [
        [
            f"{use.name} {'(to be met)' if use.equality else '(at most)'}",
            f"{max(use.worst, 0):.2g}",
        ]
        for use in uses_of(result)
    ]
    again = float(np.max(result.revisits))
    single = f" {describe_unlimited(result).capitalize()}." if result.unlimited else ""
    return (
        "<h2>Are the capacities kept?</h2>\n"
        + table(["capacity", "largest violation, per unit of weight"], rows, (0,))
        + figure(
            drawn, "usage",
            "Use at the last β, and capacities as lines: solid ones are bounds, dashed ones to "
            "be met.",
        )
        + f"\n<p>At most {100 * again:.2g}% of the weight visits some facility more than once."
        f"{text(single)}</p>"
    )  # fmt: skip


def _sequential(result: Result) -> str:
    title = "<h2>What is deciding both at once worth?</h2>\n"
    if result.baseline_code.is_failing or result.baseline_cost is None:
        return f"{title}<p>{text(describe_sequential(result).capitalize())}.</p>"
    order = (
        " Locating first cannot know which facility is to have which capacity; they are dealt in "
        "the order found."
        if result.network.is_limited
        else ""
    )
    rows = [
        ["places and routes at once", number(result.cost)],
        ["places near the nodes first, then routes", number(result.baseline_cost)],
    ]
    return (
        f"{title}<p>Locating facilities near the nodes first, and routing through them afterwards, "
        f"changes the hard cost by {text(_percent(result.percent_dearer))}.{order}</p>\n"
        + table(["decided", "hard cost" + _scaled(result)], rows, (0,))
    )


def _options(result: Result, facts: dict[str, Any]) -> list[list[object]]:
    hidden = ("links", "exits", "fixed", "destinations")
    rows: list[list[object]] = [
        [name, "no limit" if value is None else value]
        for name, value in facts["options"].items()
        if name not in hidden
    ]
    ends = "; ".join(
        ", ".join(f"{value:.6g}" for value in place[:_COLUMNS])
        for place in result.network.destinations[:20]
    )
    mask = result.network.between
    closed = 0 if mask is None else int(np.sum(~mask & ~np.eye(len(mask), dtype=bool)))
    rows.append(["destinations", ends])
    rows.append(["links between facilities", f"{closed} closed" if closed else "all permitted"])
    return rows
