"""What `mepjax route` is asked for."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

import mepjax as mj

from ..._core.scaling import Scaling
from ..errors import CommandError
from ..tables.network import (
    Network,
    read_destinations,
    read_fixed,
    read_link_capacity,
    read_links,
)
from ..tables.points import Points
from ..tables.table import show
from .anneal import AnnealOptions
from .capacity import read_capacity
from .checks import numeric, option_of, require

# Numbers held at once by the tables of the recursion.
_MOST_HELD = 300_000_000
_ARGUMENTS = {"nodes": "NODES", "destinations": "--destination", "n_stages": "--stages"}


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Facilities, destinations and what lies between; fields bear the options' names."""

    facilities: Annotated[
        int | None,
        numeric("--facilities", int, help="Number of facilities to place.", show_default=False),
    ] = None
    destination: Annotated[
        list[str] | None,
        typer.Option(
            help="Where routes end, such as 4,7, in the order of the coordinates. May be repeated: "
            "a route ends at the best.",
            show_default=False,
        ),
    ] = None
    links: Annotated[
        Path | None,
        typer.Option(
            help="File of M x M zeros and ones: row a, column b is 1 where one may travel from "
            "facility a to b. L more columns say from where each destination can be reached.",
            show_default="all permitted",
        ),
    ] = None
    max_hops: Annotated[
        int | None,
        numeric("--max-hops", int, help="Most facilities on a route.", show_default="stages"),
    ] = None
    stages: Annotated[
        int | None,
        numeric("--stages", int, help="Stages of the model.", show_default="one a facility"),
    ] = None
    fixed: Annotated[
        Path | None,
        typer.Option(
            help="File of facilities that stand already, one a row; they are numbered after those "
            "to place.",
            show_default=False,
        ),
    ] = None
    entry_capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the share of weight that enters at each facility, such as "
            ".5,.5,.2; after = they are to be met, such as =.4,.4,.2.",
            show_default=False,
        ),
    ] = None
    facility_capacity: Annotated[
        str | None,
        typer.Option(
            help="Bounds on the visits of each facility per unit weight; after = to be met.",
            show_default=False,
        ),
    ] = None
    link_capacity: Annotated[
        str | None,
        typer.Option(
            help="File of M x M bounds on the traffic between facilities, inf for none; after = "
            "it is to be met.",
            show_default=False,
        ),
    ] = None
    direct: Annotated[
        bool, typer.Option("--direct", help="Nodes may go straight to a destination.")
    ] = False

    def __post_init__(self) -> None:
        if self.facilities is not None:
            require(self.facilities >= 1, "--facilities", self.facilities, "at least 1")
        if self.stages is not None:
            require(self.stages >= 1, "--stages", self.stages, "at least 1")
        if self.max_hops is not None:
            least = 0 if self.direct else 1
            expected = "at least 0" if self.direct else "at least 1, or 0 with --direct"
            require(self.max_hops >= least, "--max-hops", self.max_hops, expected)

    def read(self, points: Points) -> Network:
        """The network, with the files that the options name.

        **Raises:** `CommandError` for a file that does not fit, or a table too large to hold.
        """
        assert self.facilities is not None
        places = read_destinations(self.destination or [], points)
        standing = None if self.fixed is None else read_fixed(self.fixed, points)
        m = self.facilities + (0 if standing is None else len(standing))
        self._check_size(len(points.x), m)
        between, exits = (
            (None, None) if self.links is None else read_links(self.links, m, len(places))
        )
        entry, facility, link = self.entry_capacity, self.facility_capacity, self.link_capacity
        return Network(
            places, standing, between, exits,
            None if entry is None else read_capacity("--entry-capacity", entry, m),
            None if facility is None else read_capacity("--facility-capacity", facility, m),
            None if link is None else read_link_capacity(link, m),
        )  # fmt: skip

    def _check_size(self, n: int, m: int) -> None:
        """Raise `CommandError` for more facilities or stages than memory would hold."""
        stages = m if self.stages is None else self.stages
        if self.max_hops is not None:
            expected = f"at most {stages}, the number of stages"
            require(max(self.max_hops, 1) <= stages, "--max-hops", max(self.max_hops, 1), expected)
        held = m * (n + stages * m)
        option, got = "--facilities", self.facilities
        if self.stages is not None and stages > m:
            option, got = "--stages", self.stages
        require(held <= _MOST_HELD, option, got, f"less, as tables would hold {held:.0e} numbers")

    def problem(
        self, points: Points, network: Network, anneal: AnnealOptions, scaling: Scaling
    ) -> mj.FacilityPath:
        """What is to be solved, in scaled units.

        **Raises:** `CommandError`, in words of the command, for what the problem refuses.
        """
        standing = [] if network.fixed is None else [network.fixed]
        x, ends, *fixed = anneal.scaled(scaling, points.x, network.destinations, *standing)
        weights = anneal.shares(points.weights)
        if not network.is_limited:
            # Whole nodes that have to meet capacities are counted.
            x, weights = anneal.padded(x, points.weights)
        known: dict[str, Any] = {
            f"{name}_capacity": capacity.of(anneal.dtype)
            for name, capacity in network.capacities.items()
        }
        assert self.facilities is not None
        known["weights"] = weights
        build: Any = mj.FacilityPath
        try:
            return build(
                x, ends, self.facilities, fixed=fixed[0] if fixed else None, n_stages=self.stages,
                links=mj.paths.Links(between=network.between, exit=network.exit),
                max_hops=self.max_hops, direct=self.direct, **known,
            )  # fmt: skip
        except ValueError as error:
            raise CommandError(_in_words_of_the_command(str(error), points)) from None

    def describe(self, network: Network) -> str:
        """Such as `5 facilities, 1 destination, at most 3 hops`."""
        assert self.facilities is not None
        words = [_count(self.facilities, "facility", "facilities")]
        if network.standing:
            words[0] += f" and {network.standing} that stand already"
        words.append(_count(len(network.destinations), "destination", "destinations"))
        if self.max_hops is not None:
            words.append(f"at most {_count(self.max_hops, 'hop', 'hops')}")
        elif self.stages is not None:
            words.append(f"at most {_count(self.stages, 'stage', 'stages')}")
        if network.between is not None:
            words.append("links as permitted")
        words += [f"{name} capacities" for name in network.capacities]
        if self.direct:
            words.append("direct legs")
        return ", ".join(words)


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _in_words_of_the_command(text: str, points: Points) -> str:
    """What the problem complains of, with the options' names and the node's own."""

    def name(match: re.Match[str]) -> str:
        field = match[1].partition(".")[0]
        return _ARGUMENTS.get(field, option_of(field))

    def row(match: re.Match[str]) -> str:
        number = int(float(match[1]))
        known = "" if points.ids is None else f", id {show(points.ids[number])},"
        return f"the node of row {number}{known}"

    text = text.removeprefix("FacilityPath: ").replace("given as Equal", "after =")
    text = re.sub(r"`([\w.]+)`", name, text)
    return re.sub(r"\bnode (\d+(?:\.0)?)\b", row, text)
