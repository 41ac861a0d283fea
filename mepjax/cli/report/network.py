"""Sections about facilities and the routes through them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import mepjax as mj

from ..._core.scaling import Scaling
from ...plot.views import PathView
from ..tables.network import Network
from ..tables.points import Points
from .figures import name_axes
from .model import Card, Column, Figure, Section, Table, change, or_unknown, percent
from .sections import DEGREES, coordinates, names_of_rows, scaled_units

_SHOWN_ROUTES = 20


@dataclass(frozen=True)
class Use:
    """How much of one kind of capacity is used at the last beta, per unit weight.

    **Fields:** `name`, `entry`, `facility` or `link`; whether limits are to be met (`equality`) or
    bounds; `used` and `limit`, shaped like the capacity, +inf for none.
    """

    name: str
    equality: bool
    used: np.ndarray
    limit: np.ndarray

    @property
    def worst(self) -> float:
        """How far use exceeds its limit at most, or misses it where it is to be met."""
        gap = self.used - self.limit
        return float(np.max(np.abs(gap) if self.equality else gap))


@dataclass(frozen=True)
class Ways:
    """Facilities and how N nodes travel through them.

    **Fields:** `facilities` (M, d) in input units; the `hard` routes, whose costs are in scaled
    units, and why they are `unlimited`, `None` if they keep all capacities; the `view` of soft
    choices at the last beta.
    """

    facilities: np.ndarray
    hard: mj.HardPaths
    unlimited: str | None
    view: PathView

    @property
    def entries(self) -> list[int | None]:
        """The most probable first facility of each node, `None` for straight to a destination."""
        choice = np.argmax(self.view.policy, axis=1).tolist()
        return [index if index < len(self.facilities) else None for index in choice]

    @property
    def through(self) -> Iterator[tuple[int, ...]]:
        """The facilities of each hard route, in order."""
        for states in self.hard.routes.tolist():
            yield tuple(state for state in states if state >= 0)

    def uses(self, asked: Network) -> list[Use]:
        """Use of all capacities there are."""
        used = {
            "entry": self.view.entry,
            "facility": self.view.usage,
            "link": self.view.links,
        }
        return [
            Use(name, capacity.equal, used[name], capacity.values)
            for name, capacity in asked.capacities.items()
        ]

    def facts(self, asked: Network) -> dict[str, Any]:
        """Facilities, use of capacities and revisits for `report.json`."""
        rows = zip(
            self.facilities.tolist(),
            self.view.usage.tolist(),
            self.view.entry.tolist(),
            strict=True,
        )
        return {
            "facilities": [
                {"facility": index, "place": place, "visits": visits, "entry_share": share}
                for index, (place, visits, share) in enumerate(rows)
            ],
            "capacities": {
                use.name: {
                    "equality": use.equality,
                    "limit": np.where(np.isfinite(use.limit), use.limit, None).tolist(),  # type: ignore
                    "used": use.used.tolist(),
                    "largest_violation": use.worst if np.isfinite(use.worst) else None,
                }
                for use in self.uses(asked)
            },
            "routes_ignore_capacities": self.unlimited,
            "revisits": None if self.view.revisits is None else self.view.revisits.tolist(),
        }


def facts(asked: Network) -> dict[str, Any]:
    """What was asked for, as `report.json` has it."""
    masks = {"links": asked.between, "exits": asked.exit}
    return {
        "destinations": asked.destinations.tolist(),
        "fixed": None if asked.fixed is None else asked.fixed.tolist(),
        **{
            name: None if mask is None else mask.astype(int).tolist()
            for name, mask in masks.items()
        },
    }


def settings(options: dict[str, Any], asked: Network) -> dict[str, Any]:
    """The options of a report, as the page has them."""
    mask = asked.between
    closed = 0 if mask is None else int(np.sum(~mask & ~np.eye(len(mask), dtype=bool)))
    places = asked.destinations[:20, :12]
    return {
        **{
            name: "no limit" if value is None else value
            for name, value in options.items()
            if name not in ("links", "exits", "fixed", "destinations")
        },
        "destinations": "; ".join(", ".join(f"{v:.6g}" for v in place) for place in places),
        "links between facilities": f"{closed} closed" if closed else "all permitted",
    }


def facilities(
    problem: mj.FacilityPath,
    solution: mj.Solution,
    points: Points,
    scaling: Scaling,
    ways: Ways,
    asked: Network,
) -> Section:
    """Where facilities are, how much passes through each, and a picture."""

    def draw(figure: Any) -> None:
        from ...plot import routes

        # Principal components are those of the scaled nodes.
        units = scaling.unroll if points.x.shape[1] <= 2 else None
        axes = routes(problem, solution, ax=figure.add_subplot(), units=units, view=ways.view)
        name_axes(axes, points, scaling)

    m = len(ways.facilities)
    stands = np.arange(m) >= m - asked.standing
    columns = [
        Column("kind", ["fixed facility" if s else "facility" for s in stands], where=("map",)),
        Column("facility", np.arange(m)),
        *coordinates(points.names, ways.facilities),
        Column("fixed", stands.astype(int), where=("csv",)),
        Column("visits", ways.view.usage, ".7g", shown=".3f"),
        Column("entry_share", ways.view.entry, ".7g", "weight entering here", percent()),
        Column("how", ["stands already" if s else "placed" for s in stands], title="",
               where=("page",), is_text=True),
    ]  # fmt: skip
    note = "Places are in the units of the input; visits are per unit of weight, at the last β."
    note += f" {DEGREES}" if points.lonlat is not None else ""
    ends = asked.destinations
    at = (None, None)
    if points.lonlat is not None:
        at = (ways.facilities[:, points.lonlat], ends[:, points.lonlat])
    caption = (
        "Nodes have the colours of the facilities they enter, arrows are as wide as their traffic."
    )
    return Section(
        "Where are the facilities?",
        [
            Figure("routes", draw, caption, (8, 7), is_file=True),
            Table("facilities", columns, at[0], on_terminal=True, note=note),
            *([] if at[1] is None else [Table(
                "destinations",
                [Column("kind", ["destination"] * len(ends)),
                 Column("destination", np.arange(len(ends)))],
                at[1], map="facilities", is_file=False,
            )]),
        ],
    )  # fmt: skip


def routes(points: Points, scaling: Scaling, ways: Ways, asked: Network) -> Section:
    """The route of every node, and how much takes each."""
    factor = scaling.cost_factor or 1.0
    through, ends = list(ways.through), np.asarray(ways.hard.destinations)
    costs = factor * np.asarray(ways.hard.node_costs, np.float64)
    columns = [
        *names_of_rows(points.ids, len(points.x)),
        *([] if points.weights is None else [Column("weight", points.weights, ".9g",
                                                    where=("csv",))]),
        Column("entry", ways.entries),
        Column("entry_probability", np.max(ways.view.policy, axis=1), ".7g", where=("csv",)),
        Column("route", through, lambda route: " ".join(map(str, route))),
        Column("destination", ends),
        Column("cost" if scaling.cost_factor else "scaled_cost", costs, ".7g", where=("csv",)),
        Column("cost", costs, where=("map",)),
    ]  # fmt: skip
    lines = None
    if points.lonlat is not None:
        lonlat = list(points.lonlat)
        places, last, first = (
            p[:, lonlat] for p in (ways.facilities, asked.destinations, points.x)
        )
        lines = [
            np.stack([start, *places[list(route)], last[end]])
            for start, route, end in zip(first, through, ends.tolist(), strict=True)
        ]
    return Section(
        "Which way do nodes travel?",
        [_ways_taken(points, scaling, through, ends, costs),
         Table("routes", columns, lines, page_rows=0)],
    )  # fmt: skip


def _ways_taken(
    points: Points,
    scaling: Scaling,
    through: Sequence[tuple[int, ...]],
    ends: np.ndarray,
    costs: np.ndarray,
) -> Table:
    """The routes, those that carry most first."""
    weights = np.ones(len(points.x)) if points.weights is None else points.weights
    totals: dict[tuple[tuple[int, ...], int], np.ndarray] = {}
    rows = zip(through, ends.tolist(), weights.tolist(), costs.tolist(), strict=True)
    for route, end, weight, cost in rows:
        mine = totals.setdefault((route, end), np.zeros(3))
        mine += [1, weight, weight * cost]
    ordered = sorted(totals.items(), key=lambda item: -item[1][1])
    units = "" if scaling.cost_factor else " (scaled units)"
    columns = [
        Column("facilities in order", [" → ".join(map(str, way)) or "straight"
                                       for (way, _), _ in ordered], is_text=True),
        Column("destination", [end for (_, end), _ in ordered]),
        Column("nodes", [int(count) for _, (count, _, _) in ordered]),
        Column("weight", [float(w / np.sum(weights)) for _, (_, w, _) in ordered],
               shown=percent()),
        Column("mean cost" + units, [float(c / w) if w > 0 else None
                                     for _, (_, w, c) in ordered], or_unknown),
    ]  # fmt: skip
    more = len(ordered) - _SHOWN_ROUTES
    note = "Each node's cheapest route." + (f" {more} routes that carry less are not shown."
                                            if more > 0 else "")  # fmt: skip
    columns = [
        Column(c.name, c.values[:_SHOWN_ROUTES], c.form, c.title, c.shown, c.where, c.is_text)
        for c in columns
    ]
    return Table("ways", columns, is_file=False, note=note)


def capacity_cards(uses: Sequence[Use], ways: Ways) -> list[Card]:
    """By how much capacities are exceeded or missed, and whether single routes keep them."""
    cards = [
        Card(
            f"{use.name} capacities",
            f"{'missed' if use.equality else 'exceeded'} by at most {max(use.worst, 0):.2g}",
            " per unit weight", where=("terminal",),
        )
        for use in uses
    ]  # fmt: skip
    if ways.unlimited:
        words = f"ignore the capacities: {ways.unlimited}"
        cards.append(Card("routes of single nodes", words, where=("terminal",)))
    return cards


def capacities(
    problem: mj.FacilityPath, solution: mj.Solution, uses: Sequence[Use], ways: Ways
) -> Section:
    """Whether they are kept."""

    def draw(figure: Any) -> None:
        from ...plot import capacity_usage

        capacity_usage(problem, solution, ax=figure.add_subplot(), view=ways.view)

    columns = [
        Column("capacity", [f"{use.name} {'(to be met)' if use.equality else '(at most)'}"
                            for use in uses], is_text=True),
        Column("largest violation, per unit of weight", [max(use.worst, 0) for use in uses],
               shown=".2g"),
    ]  # fmt: skip
    again = 0.0 if ways.view.revisits is None else float(np.max(ways.view.revisits))
    note = f"At most {100 * again:.2g}% of the weight visits some facility more than once."
    if ways.unlimited:
        note += f" Routes of single nodes ignore the capacities: {ways.unlimited}."
    caption = (
        "Use at the last β, and capacities as lines: solid ones are bounds, dashed ones to be met."
    )
    return Section(
        "Are the capacities kept?",
        [
            Table("capacities", columns, is_file=False, note=note),
            Figure("usage", draw, caption, (8, 4.5)),
        ],
    )


def sequential_card(
    code: mj.Code, cost: float | None, dearer: float | None, asked: Network
) -> Card:
    """What locating first and routing afterwards would have cost."""
    name = "locating first, then routing"
    if code.is_failing:
        return Card(name, "unknown", ", its anneal did not converge")
    if cost is None:
        return Card(name, "unknown", ", its routes cannot keep the capacities")
    # Nothing in it says which facility is to have which capacity.
    order = "; capacities in the order found" if asked.is_limited else ""
    return Card(name, change(dearer), f" (hard cost {cost:.6g}{order})")


def sequential(
    card: Card, cost: float, baseline: float | None, scaling: Scaling, asked: Network
) -> Section:
    """What deciding both at once is worth."""
    question = "What is deciding both at once worth?"
    if baseline is None:
        return Section(question, [f"{card.name.capitalize()}: {card.value}{card.detail}."])
    order = (
        " Locating first cannot know which facility is to have which capacity; they are dealt in "
        "the order found."
        if asked.is_limited
        else ""
    )
    ways = ["places and routes at once", "places near the nodes first, then routes"]
    columns = [
        Column("decided", ways, is_text=True),
        Column("hard cost" + scaled_units(scaling), [cost, baseline]),
    ]
    return Section(
        question,
        [
            "Locating facilities near the nodes first, and routing through them afterwards, "
            f"changes the hard cost by {card.value}.{order}",
            Table("sequential", columns, is_file=False),
        ],
    )
