"""Routes and words that the files, the page and the terminal have in common."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .route import Result

_SEQUENTIAL = "locating first, then routing: "


@dataclass(frozen=True)
class Route:
    """The way of one node.

    **Fields:** its soft most probable `entry`, `None` for straight to a destination, and its
    `probability`; the `facilities` of its hard route in order, the `destination`, and the `cost`,
    in input units where there are such.
    """

    entry: int | None
    probability: float
    facilities: tuple[int, ...]
    destination: int
    cost: float


def routes_of(result: Result) -> Iterator[Route]:
    """The routes of all nodes, in their order."""
    factor = result.scaling.cost_factor or 1.0
    rows = zip(
        result.entries.tolist(), np.max(result.policy, axis=1).tolist(),
        result.hard.routes.tolist(), result.hard.destinations.tolist(),
        result.hard.node_costs.tolist(), strict=True,
    )  # fmt: skip
    for entry, probability, states, destination, cost in rows:
        yield Route(
            None if entry < 0 else entry, probability,
            tuple(state for state in states if state >= 0), destination, factor * cost,
        )  # fmt: skip


def describe_sequential(result: Result) -> str:
    """What locating first and routing afterwards would have cost."""
    if result.baseline_code.is_failing:
        return f"{_SEQUENTIAL}unknown, its anneal did not converge"
    if result.baseline_cost is None:
        return f"{_SEQUENTIAL}unknown, its routes cannot keep the capacities"
    percent = result.percent_dearer
    more = "undefined" if percent is None else f"{percent:+.2f}%"
    words = f"{_SEQUENTIAL}{more} (hard cost {result.baseline_cost:.6g}"
    # Nothing in it says which facility is to have which capacity.
    words += "; capacities in the order found" if result.network.is_limited else ""
    return words + ")"


def describe_unlimited(result: Result) -> str:
    """Why hard routes do not keep the capacities."""
    return f"routes of single nodes ignore the capacities: {result.unlimited}"


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


def uses_of(result: Result) -> list[Use]:
    """Use of all capacities there are."""
    network = result.network
    return [
        Use(name, capacity.equal, used, capacity.values)
        for name, capacity, used in (
            ("entry", network.entry_capacity, result.entry_shares),
            ("facility", network.facility_capacity, result.usage),
            ("link", network.link_capacity, np.asarray(result.traffic.links)),
        )
        if capacity is not None
    ]


def describe_network(result: Result) -> str:
    """What was asked for, in words: `5 facilities, 1 destination, at most 3 hops`."""
    options, network = result.options, result.network
    ends = len(network.destinations)
    words = [_count(options.facilities, "facility", "facilities")]
    if network.standing:
        words[0] += f" and {network.standing} that stand already"
    words.append(_count(ends, "destination", "destinations"))
    if options.max_hops is not None:
        words.append(f"at most {_count(options.max_hops, 'hop', 'hops')}")
    elif options.stages is not None:
        words.append(f"at most {_count(options.stages, 'stage', 'stages')}")
    if network.between is not None:
        words.append("links as permitted")
    for name in ("entry", "facility", "link"):
        if getattr(network, f"{name}_capacity") is not None:
            words.append(f"{name} capacities")
    if options.direct:
        words.append("direct legs")
    return ", ".join(words)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
