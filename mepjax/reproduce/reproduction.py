"""What a reproduction is: rows to compute, what was printed of them, and what follows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCALES = ("small", "medium", "paper")


@dataclass(frozen=True)
class Setting:
    """How much to compute, and from what.

    **Fields:** `scale`, one of `SCALES`; `seed` of all random numbers; `data`, the folder of public
    data sets, or `None`.
    """

    scale: str = "small"
    seed: int = 0
    data: Path | None = None

    def pick(self, small: Any, medium: Any, paper: Any) -> Any:
        """What belongs to the scale."""
        return {"small": small, "medium": medium, "paper": paper}[self.scale]

    def file(self, *parts: str) -> Path:
        """A file of the data folder.

        **Raises:** `NotMeasured` where it is missing, with what to fetch.
        """
        name = "/".join(parts)
        if self.data is None:
            raise NotMeasured(f"no data folder; give --data or MEPJAX_DATA_DIR, with {name}")
        path = self.data.joinpath(*parts)
        if not path.exists():
            raise NotMeasured(f"{name} is not in {self.data}")
        return path


class NotMeasured(Exception):
    """Why a row cannot be computed here: data, time or a device that is lacking."""


@dataclass(frozen=True)
class Task:
    """One row to compute.

    **Fields:**

    - `key`: names the row, and is the same whenever the row is; words, for people.
    - `compute`: its values by name: numbers, words or lists, as JSON has them. What it takes should
        be in `key`, the setting and constants, so that an interrupted table goes on as it began.
    - `printed`: what the paper prints, by the names of values; `None` where it prints nothing.
    """

    key: str
    compute: Callable[[], dict[str, Any]]
    printed: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper as a number: what was `printed` or is known, and what was `found`."""

    text: str
    printed: str
    found: str
    holds: bool | None = None


@dataclass(frozen=True)
class Reproduction:
    """A published table or figure.

    **Fields:**

    - `name`: on the command line; `title` and `source`: what it is, and of which paper.
    - `tasks(setting)`: its rows, in order.
    - `columns`: the values that the report shows, with their headers.
    - `claims(rows)`: what the paper says, from the values of finished rows by key, in which those
        that are not measured are missing; it is not called without any, nor are the others.
    - `draw(rows, setting)`: functions of a matplotlib figure by the name of their PNG.
    - `extras(rows, setting)`: functions of a path by the name of another file, such as a film.
    - `minutes`: about how long each scale takes on two cores; `None`: it needs a GPU.
    """

    name: str
    title: str
    source: str
    tasks: Callable[[Setting], Sequence[Task]]
    columns: dict[str, str]
    claims: Callable[[dict[str, dict[str, Any]]], Sequence[Claim]] = lambda rows: ()
    draw: Callable[[dict[str, Any], Setting], dict[str, Callable[[Any], None]]] = (
        lambda rows, setting: {}
    )
    extras: Callable[[dict[str, Any], Setting], dict[str, Callable[[Path], Any]]] = (
        lambda rows, setting: {}
    )
    minutes: dict[str, float | None] = field(default_factory=dict)
