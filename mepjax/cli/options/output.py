"""Where results go."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..report.folder import check_folder


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """The folder for results; fields bear the options' names."""

    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("mepjax-out")
    force: Annotated[bool, typer.Option("--force", help="Overwrite earlier results.")] = False

    def check(self) -> None:
        """Raise `CommandError` unless results can be written; leaves nothing behind."""
        check_folder(self.out, self.force)
