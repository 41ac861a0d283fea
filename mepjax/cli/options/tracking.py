"""How `mepjax track` is to follow."""

import math
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import typer

import mepjax as mj

from ...control import AbstractLaw, Follow, Lyapunov, Newton, Reanneal
from ..errors import CommandError
from ..tables.scene import Scene
from .checks import Checked, numeric, require

_LAWS = ("follow", "newton", "lyapunov")
# Beta as a multiple of the first transition.
_BETA = 30.0


@dataclass(frozen=True, kw_only=True)
class TrackingOptions(Checked):
    """Law, beta, times; fields bear the options' names."""

    facilities: Annotated[
        int | None,
        numeric("--facilities", int, help="Number of facilities to place, with a destination.",
                show_default=False),
    ] = None  # fmt: skip
    clusters: Annotated[
        int | None,
        numeric("--clusters", int, help="Number of centres, without a destination.",
                show_default=False),
    ] = None  # fmt: skip
    destination: Annotated[
        str | None,
        typer.Option(help="The id, in traces, of the destination.", show_default=False),
    ] = None
    law: Annotated[str, typer.Option(help="follow, newton or lyapunov.")] = "follow"
    gain: Annotated[
        float,
        numeric("--gain", float, help="Errors die as exp(-gain t); K0 of lyapunov."),
    ] = 5.0
    beta: Annotated[
        float | None,
        numeric("--beta", float, help="Inverse temperature.",
                show_default="30 times the first transition"),
    ] = None  # fmt: skip
    speed_limit: Annotated[
        float | None,
        numeric("--speed-limit", float, help="Largest speed of a facility.", show_default="none"),
    ] = None
    reanneal: Annotated[
        bool, typer.Option("--reanneal", help="Solve anew, with a jump, at transitions.")
    ] = False
    rows: Annotated[int, numeric("--rows", int, help="Times that are told.")] = 101
    cold: Annotated[
        int, numeric("--cold", int, help="Frames that are also annealed cold; 0 for none.")
    ] = 11
    film: Annotated[bool, typer.Option("--film/--no-film", help="Write track.gif.")] = True
    seed: Annotated[int, numeric("--seed", int, help="Seed of the anneals.")] = 0

    def check(self) -> None:
        """Raise `CommandError` for numbers out of range."""
        self.check_choice("law", _LAWS)
        self.check_positive("gain", "beta", "speed_limit")
        for name in ("facilities", "clusters"):
            value = getattr(self, name)
            if value is not None:
                require(value >= 1, f"--{name}", value, "at least 1")
        require(self.rows >= 2, "--rows", self.rows, "at least 2")
        require(self.cold == 0 or self.cold >= 2, "--cold", self.cold, "0, or at least 2")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "from 0 to 4294967295")

    def problem(self, scene: Scene) -> Any:
        """The problem at the first time.

        **Raises:** `CommandError` for numbers that do not fit the scene.
        """
        if scene.destination is None:
            if self.facilities is not None or scene.facilities is not None:
                raise CommandError(
                    "--destination: got none beside --facilities; expected the id of the "
                    "destination, or --clusters."
                )
            if self.clusters is None:
                raise CommandError("--clusters: got none; expected the number of centres.")
            return mj.Clustering(scene.nodes, self.clusters)
        count = self.facilities if self.facilities is not None else scene.facilities
        if self.clusters is not None:
            raise CommandError("--clusters: got it beside a destination; expected --facilities.")
        if count is None:
            raise CommandError("--facilities: got none; expected the number to place.")
        links = np.ones((count, count), bool)
        for a, b in scene.absent:
            if not (1 <= a <= count and 1 <= b <= count):
                raise CommandError(
                    f"absent: got the link {a}, {b}; expected facilities from 1 to {count}."
                )
            links[a - 1, b - 1] = False
        np.fill_diagonal(links, False)
        mask = links if scene.absent else None
        return mj.FacilityPath(scene.nodes, scene.destination, count, links=mask)

    def chosen_law(self) -> AbstractLaw:
        """The law."""
        if self.law == "lyapunov":
            return Lyapunov(self.gain)
        return Newton(self.gain) if self.law == "newton" else Follow(self.gain)

    def chosen_beta(self, problem: Any) -> float:
        """Beta, by default well above the first transition."""
        beta = self.beta if self.beta is not None else _BETA * float(problem.beta_scale())
        return beta if math.isfinite(beta) else 1.0

    def chosen_reanneal(self) -> Reanneal | None:
        """Whether to solve anew at transitions."""
        return Reanneal() if self.reanneal else None
