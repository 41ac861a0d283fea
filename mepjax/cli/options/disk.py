"""Options of points that stay on disk: in how many processes, and what a kill may not cost."""

from dataclasses import dataclass
from typing import Annotated

import typer

from ..errors import CommandError
from .checks import Checked, numeric, option_of, require


@dataclass(frozen=True, kw_only=True)
class DiskOptions(Checked):
    """Where points are, and who computes; fields bear the options' names."""

    from_disk: Annotated[
        bool,
        typer.Option(
            "--from-disk",
            help="Leave the points on disk: an NPY or Parquet file, or a folder of such files. "
            "Memory then does not grow with their number.",
        ),
    ] = False
    processes: Annotated[
        int,
        numeric(
            "--processes",
            int,
            help="With --from-disk: processes that compute together. From 2 on each holds its part "
            "of the points in memory. Where one is lost the others are ended, and the exit code "
            "is 3.",
        ),
    ] = 1
    checkpoint_every: Annotated[
        int | None,
        numeric(
            "--checkpoint-every",
            int,
            help="With --from-disk: stages after each of which the anneal is saved in --out, from "
            "where --resume goes on.",
            show_default="nothing is saved",
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="With --from-disk: go on from what the same command saved in --out, if anything. "
            "With as many processes as before the answer is that of a run never stopped, to the "
            "bit; with another number to 1e-6.",
        ),
    ] = False

    def __post_init__(self) -> None:
        require(self.processes >= 1, "--processes", self.processes, "at least 1")
        if self.checkpoint_every is not None:
            every = self.checkpoint_every
            require(every >= 1, "--checkpoint-every", every, "at least 1")
        for name, given in (
            ("processes", self.processes > 1),
            ("checkpoint_every", self.checkpoint_every is not None),
            ("resume", self.resume),
        ):
            if given and not self.from_disk:
                raise CommandError(f"{option_of(name)}: got it without --from-disk; expected both.")
