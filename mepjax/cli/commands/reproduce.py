"""`mepjax reproduce`: published tables and figures, computed again."""

import difflib
import os
from pathlib import Path
from typing import Annotated, Any

import jax
import typer

from ... import reproduce as room
from ...reproduce.reproduction import SCALES
from ..console import say
from ..errors import CommandError
from ..options.checks import numeric, require
from ..progress import interruptible
from ..report.terminal import aligned


def reproduce(
    names: Annotated[
        list[str],
        typer.Argument(help="What to reproduce, or list, which shows what there is."),
    ],
    scale: Annotated[
        str, typer.Option(help="small, medium or paper: how much is computed.")
    ] = "small",
    out: Annotated[
        Path, typer.Option(help="Folder for the results, of which each name has one of its own.")
    ] = Path("mepjax-reproduced"),
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of public data sets.", show_default="$MEPJAX_DATA_DIR"),
    ] = None,
    seed: Annotated[int, numeric("--seed", int, help="Of the random numbers.")] = 0,
    yes: Annotated[
        bool, typer.Option("--yes", help="Compute what takes hours without a GPU too.")
    ] = False,
) -> None:
    """Compute published tables and figures again, and put paper and measured side by side.

    Each finished row is kept in rows.jsonl, so that the same command goes on where it stopped; then
    report.md, report.json and pictures are written.
    """
    if names == ["list"]:
        say(*_listed())
        return
    require(scale in SCALES, "--scale", repr(scale), "one of " + ", ".join(SCALES))
    require(0 <= seed < 2**32, "--seed", seed, "an integer from 0 to 2^32 - 1")
    # Two names may be of one computation.
    chosen = list({each.name: each for each in map(_load, names)}.values())
    if data is None and "MEPJAX_DATA_DIR" in os.environ:
        data = Path(os.environ["MEPJAX_DATA_DIR"])
    if data is not None and not data.is_dir():
        raise CommandError(f"--data: got {str(data)!r}, which is no folder; expected one.")
    setting = room.Setting(scale, seed, data)
    if not yes:
        _refuse_hours(chosen, scale)
    for each in chosen:
        folder = out / each.name
        try:
            found = interruptible(lambda: room.run(each, folder, setting, tell=say))  # noqa: B023
        except OSError as error:
            reason = error.strerror or str(error)
            raise CommandError(
                f"--out {str(folder)!r}: cannot be written ({reason}); expected a writable folder."
            ) from None
        say(*_summary(found), f"wrote report.md and report.json to {folder}")


def _load(name: str) -> room.Reproduction:
    known = [*room.REPRODUCTIONS, *room.ALIASES]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"perhaps {near[0]}; " if near else ""
        raise CommandError(
            f"NAMES: got {name!r}; expected {hint}one of {', '.join(room.REPRODUCTIONS)}, or list."
        )
    return room.load(name)


def _listed() -> list[str]:
    rows = []
    for name in room.REPRODUCTIONS:
        each = room.load(name)
        times = ", ".join(
            f"{scale} {'needs a GPU' if minutes is None else f'{minutes:g} min'}"
            for scale, minutes in each.minutes.items()
        )
        others = [other for other, meant in room.ALIASES.items() if meant == name]
        also = f"; also called {', '.join(others)}" if others else ""
        rows.append(f"{name}: {each.title} ({each.source}); {times}{also}")
    return rows


def _refuse_hours(chosen: list[room.Reproduction], scale: str) -> None:
    """Raise `CommandError` for what takes hours on the device there is."""
    if jax.devices()[0].platform != "cpu":
        return
    for each in chosen:
        minutes = each.minutes.get(scale, 0)
        if minutes is None or minutes > 180:
            took = "more than a day" if minutes is None else f"about {minutes / 60:.0f} hours"
            raise CommandError(
                f"--scale: got {scale} without a GPU, where {each.name} takes {took}; expected "
                "another scale, or --yes."
            )


def _summary(found: dict[str, Any]) -> list[str]:
    measured = sum(row["measured"] is not None for row in found["rows"])
    lines = [f"{found['name']}: {found['title']}; {measured} of {len(found['rows'])} rows"]
    if found["claims"]:
        held = {None: "", True: "yes", False: "no"}
        rows = [
            [claim["text"], claim["printed"], claim["found"], held[claim["holds"]]]
            for claim in found["claims"]
        ]
        lines += aligned([["claim", "paper", "measured", "holds"], *rows])
    return lines
