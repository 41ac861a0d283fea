"""The `mepjax` command. `main` can be imported without the packages the command needs."""

import os
import sys
import warnings
from collections.abc import Sequence

_NEEDS = {"typer", "click", "rich", "matplotlib"}
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit: 0 done, 2 bad usage or input, 3 the solve failed, 130 interrupted.

    **Arguments:** `arguments`: those of the command line; default `sys.argv[1:]`.

    **Raises:** `SystemExit`, always.
    """
    for stream in (sys.stdout, sys.stderr):
        # File and column names may hold what the terminal's encoding lacks.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    if not sys.warnoptions:
        # For programmers, such as a character that the figure's font lacks.
        warnings.simplefilter("ignore")
    try:
        import matplotlib  # noqa: F401  so that it is missed now, not after the solve
        import rich  # noqa: F401

        from .app import run
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDS:
            raise
        print(
            f"mepjax: error: the command needs {error.name}, which is not installed; "
            'run: pip install "mepjax[cli]"',
            file=sys.stderr,
        )
        sys.exit(2)
    code = run(sys.argv[1:] if arguments is None else list(arguments))
    if code == _INTERRUPTED:
        # A compiled solve cannot be stopped, and the interpreter would wait for it.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
