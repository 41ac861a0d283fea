"""Between typer and the user: exit codes, errors as one line, and lines that may go unread."""

import os
import sys
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperGroup

from .errors import CommandError

_BUG = 1
_INTERRUPTED = 130


def guarded(call: Callable[[], Any]) -> int:
    """The exit code of `call`, after one line on standard error for whatever it raised."""
    try:
        outcome = call()
        code = outcome if isinstance(outcome, int) else 0
        # New versions of typer turn the exception into this number themselves.
        return _interrupted() if code == _INTERRUPTED else code
    except CommandError as error:
        return _complain(str(error), error.code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except typer.Exit as error:
        return error.exit_code
    except Exception as error:
        # Bad usage, known by this method: its class has moved between versions of typer.
        describe = getattr(error, "format_message", None)
        if describe is not None:
            return _complain(describe(), getattr(error, "exit_code", 2))
        if os.environ.get("MEPJAX_DEBUG"):
            raise
        text = f"unexpected {type(error).__name__}: {error} (a bug; MEPJAX_DEBUG=1 shows where)"
        return _complain(text, _BUG)


def _interrupted() -> int:
    return _complain("interrupted, nothing was written", _INTERRUPTED)


def _complain(text: str, code: int) -> int:
    try:
        print("mepjax: error:", " ".join(text.split()), file=sys.stderr, flush=True)
    except OSError:
        pass
    return code


def say(*lines: str) -> None:
    """Print, and go on if nobody listens any more."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        # Else the interpreter would try again, and complain, when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Group(TyperGroup):
    """Errors as one line, however the command is called."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """As typer's own, but what goes wrong is said in one line."""
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **kwargs)
        sys.exit(guarded(lambda: super(Group, self).main(*args, standalone_mode=False, **kwargs)))
