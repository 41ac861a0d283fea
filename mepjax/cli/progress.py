"""Progress on a terminal, and solves that Ctrl-C can leave."""

import math
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, TypeVar

import rich.progress
from rich.console import Console

import mepjax as mj

T = TypeVar("T")


def interruptible(function: Callable[[], T]) -> T:
    """Call `function` in another thread, so that Ctrl-C need not wait for compiled code to end."""
    outcome: dict[str, Any] = {}

    def work() -> None:
        try:
            outcome["value"] = function()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


class Bar:
    """A progress bar on standard error over `total` anneals, to be used in a `with` block."""

    def __init__(self, total: int) -> None:
        self.text, self.started, self.first = "starting", 0, math.nan
        self.bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.task = self.bar.add_task(self.text, total=total)

    def __enter__(self) -> "Bar":
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()

    def run(self, name: str, restart: int) -> None:
        """A new anneal: it may have to be compiled first, without a sign of life."""
        self.text = f"{name}, restart {restart + 1}"
        self.bar.update(self.task, description=f"{self.text}, compiling", completed=self.started)
        self.started, self.first = self.started + 1, math.nan

    def stage(self, progress: mj.Progress) -> None:
        """A stage has ended; progress is measured in log beta. A polish is a start's last part."""
        if math.isnan(self.first):
            self.first = progress.beta
        span = math.log(progress.beta_max / self.first)
        share = math.log(progress.beta / self.first) / span if span > 0 else 1.0
        self.bar.update(
            self.task, description=self.text, completed=self.started - 1 + min(share, 1)
        )


def on_terminal() -> bool:
    """Whether anybody would see a bar."""
    return sys.stderr.isatty()


def with_bar(solve: Callable[[Bar | None], T], total: int) -> T:
    """`solve` with a bar over `total` anneals if anybody would see one, open to Ctrl-C."""
    if not on_terminal():
        return interruptible(lambda: solve(None))
    with Bar(total) as bar:
        return interruptible(lambda: solve(bar))
