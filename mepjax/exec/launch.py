"""Several processes on this machine: started, watched and ended together."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from .._core.checks import check_count

_ADDRESS, _COUNT, NUMBER, _PARENT = (
    f"MEPJAX_{name}" for name in ("COORDINATOR", "PROCESSES", "PROCESS", "PARENT")
)
_LOOK = 0.05  # seconds
# How long the others may take to end.
_PATIENCE = 5.0
# JAX waits longer than `join`: it would abort the process.
_PATIENCE_OF_JAX = 60


class WorkerLost(RuntimeError):
    """A worker ended before its work was done; the others were ended too.

    **Fields:** `process`, its number; `status`, its exit status, negative for a signal.
    """

    def __init__(self, process: int, processes: int, status: int) -> None:
        super().__init__(f"Process {process} of {processes} {_how(status)}; the others were ended.")
        self.process, self.status = process, status


def launch(
    script: str | os.PathLike[str] | Sequence[str],
    *arguments: str,
    processes: int = 2,
    port: int | None = None,
) -> None:
    """Run a script in several processes that share one computation, and wait for them.

    Each runs `script` from its beginning and calls `mepjax.exec.join()` before anything of JAX's.
    All must then do the same calls in the same order; `Sharded().load(rows)` gives each a part of
    the data. Where one is lost the others could only wait, so they are ended. What process 0 has
    saved stands, and the same script goes on from it with as many processes, to the same bits.

    **Arguments:**

    - `script`: a Python file, or a sequence of arguments of the interpreter such as `["-m",
        "module"]`; `arguments`: those of the script.
    - `processes`: how many, at least 1, each with its own devices.
    - `port`: of this machine, by which they meet; default one that is free.

    **Raises:** `WorkerLost`, with the number of the first process that failed and its signal or
    exit status; `TypeError`, `ValueError` for arguments of the wrong kind; `OSError` for a port in
    use.

    **Example:**

    ```python
    >>> import mepjax as mj, pathlib, tempfile
    >>> script = pathlib.Path(tempfile.mkdtemp()) / "work.py"
    >>> _ = script.write_text("raise SystemExit(7)")
    >>> mj.exec.launch(script, processes=1)
    Traceback (most recent call last):
    ...
    mepjax.exec.launch.WorkerLost: Process 0 of 1 ended with status 7; the others were ended.

    ```
    """
    check_count("launch", "processes", processes)
    with contextlib.ExitStack() as stack:
        meeting = stack.enter_context(_port(port))
        workers: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, workers)
        what = [os.fspath(script)] if isinstance(script, str | os.PathLike) else [*script]
        for number in range(processes):
            # Closed when this process ends, however that may be: then the worker ends itself.
            mine, _ = stack.enter_context(_pipe())
            environment = os.environ | {
                _ADDRESS: f"localhost:{meeting}", _COUNT: str(processes), NUMBER: str(number),
                _PARENT: str(mine),
            }  # fmt: skip
            command = [sys.executable, *what, *arguments]
            workers.append(subprocess.Popen(command, env=environment, pass_fds=(mine,)))
        watch(workers)


def join(*, heartbeat: int = 10, wait: int = 60) -> int:
    """Join the processes that `launch` has started, before anything else of JAX's.

    **Arguments:** `heartbeat`: seconds after which a process that does not answer is lost to the
    others; `wait`: seconds until all must have come.

    **Returns:** the number of this process; 0 where it was not started by `launch`, and nothing is
    then done.

    **Raises:** `TypeError`, `ValueError` for arguments of the wrong kind; `RuntimeError` where
    JAX has computed already. Where the others do not come the process says so and ends with status
    1. Those that are left when one is lost are aborted by JAX, in words of its own.

    **Example:**

    ```python
    >>> import mepjax as mj
    >>> mj.exec.join()
    0

    ```
    """
    check_count("join", "heartbeat", heartbeat)
    check_count("join", "wait", wait)
    if _ADDRESS not in os.environ:
        return 0
    count, number = int(os.environ[_COUNT]), int(os.environ[NUMBER])
    if _PARENT in os.environ:
        _end_with_parent(int(os.environ[_PARENT]))
    if count > 1:
        address = os.environ[_ADDRESS]
        alone = threading.Timer(wait, _end_alone, (number, count, address, wait))
        alone.daemon = True
        alone.start()
        jax.distributed.initialize(
            address, count, number,
            heartbeat_timeout_seconds=heartbeat, initialization_timeout=wait + _PATIENCE_OF_JAX,
        )  # fmt: skip
        alone.cancel()
    return number


def _end_alone(number: int, count: int, address: str, wait: int) -> None:
    print(
        f"join: process {number} of {count} has waited {wait} seconds for the others at {address}; "
        "start all of them, as `mepjax.exec.launch` does.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def watch(workers: Sequence[Any]) -> None:
    """Wait until all have ended well, or raise for the first that has not."""
    while True:
        statuses = [worker.poll() for worker in workers]
        if any(statuses):
            # Others fail for want of the first, and JAX aborts them, maybe before we look; but
            # whichever is seen first, the one it failed for has ended by now.
            statuses = [worker.poll() for worker in workers]
            failed = [number for number, status in enumerate(statuses) if status]
            first = min(failed, key=lambda number: _rank(statuses[number]))
            raise WorkerLost(first, len(workers), statuses[first] or 0)
        if all(status == 0 for status in statuses):
            return
        time.sleep(_LOOK)


def _rank(status: int | None) -> int:
    """Signals from outside before errors, and these before JAX's own aborts."""
    if status == -signal.SIGABRT:
        return 2
    return 0 if status is not None and status < 0 else 1


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _end(workers: list[subprocess.Popen[bytes]]) -> None:
    """End those that still run, by force where asking does not help."""
    running = [worker for worker in workers if worker.poll() is None]
    for worker in running:
        worker.terminate()
    late = time.monotonic() + _PATIENCE
    for worker in running:
        try:
            worker.wait(max(0.0, late - time.monotonic()))
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@contextlib.contextmanager
def _port(port: int | None) -> Iterator[int]:
    """A port nobody listens at."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("localhost", port or 0))
        except OSError as error:
            raise OSError(
                error.errno, f"launch: `port` {port} cannot be used ({error.strerror})."
            ) from None
        found = trial.getsockname()[1]
    yield found


@contextlib.contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    try:
        yield ends
    finally:
        for end in ends:
            os.close(end)


def _end_with_parent(end: int) -> None:
    def wait() -> None:
        # Nothing is ever written: reading ends when the parent does.
        with contextlib.suppress(OSError):
            os.read(end, 1)
        os._exit(1)

    watcher: Any = threading.Thread(target=wait, daemon=True)
    watcher.start()
