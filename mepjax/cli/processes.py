"""Several processes for one command; `python -m mepjax.cli.processes FOLDER` is one of them."""

import os
import pickle
import shutil
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path

import mepjax as mj

from ..exec.launch import NUMBER, WorkerLost, launch
from .errors import SOLVE, CommandError
from .on_disk import Checkpoints, Found, Job

# How processes are started; each gets the folder after it.
WORKER = ("-m", "mepjax.cli.processes")
_JOB, _OUTCOME, _ERROR, _OUTPUT = "job", "outcome", "error-{}", "output-{}"


def solve_together(job: Job, processes: int) -> Found:
    """What `job.solve` returns, computed by several processes that this one watches.

    **Raises:** `CommandError` if every restart failed, or a process was lost: the message names it
    and tells from where the command can go on.
    """
    kept = job.checkpoints
    with tempfile.TemporaryDirectory(prefix="mepjax-") as name:
        folder = Path(name)
        if kept.start is not None:
            # Process 0 may save before the others have read.
            for file in Checkpoints.of(kept.start):
                shutil.copy(file, folder)
            job = replace(job, checkpoints=replace(kept, start=folder))
        (folder / _JOB).write_bytes(pickle.dumps(job))
        try:
            launch(WORKER, name, processes=processes)
        except WorkerLost as lost:
            raise _told(lost, folder, kept.folder) from None
        return pickle.loads((folder / _OUTCOME).read_bytes())


def _told(lost: WorkerLost, folder: Path, checkpoints: Path) -> CommandError:
    """What the lost process said itself, or which it was and what stands."""
    file, says = folder / _ERROR.format(lost.process), str(lost)
    if file.exists():
        error = pickle.loads(file.read_bytes())
        if isinstance(error, CommandError):
            return error
        says = f"{says} {error}"
    kept = Checkpoints.of(checkpoints)
    if kept:
        says = f"{says} {kept[-1]} stands: --resume goes on from there."
    return CommandError(says, SOLVE)


def main(folder: Path) -> None:
    """Join the others, solve, and have process 0 write the outcome."""
    number = int(os.environ.get(NUMBER, 0))
    warnings.simplefilter("ignore")
    # What JAX says of a lost process is no line for the user.
    with (folder / _OUTPUT.format(number)).open("wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    try:
        # The parent looks after the processes; one that is busy is not lost.
        mj.exec.join(heartbeat=100, wait=300)
        job: Job = pickle.loads((folder / _JOB).read_bytes())
        with job.request.anneal.computing():
            found = job.solve(job.rows(), mj.Sharded())
    except Exception as error:
        # Errors of others may not travel.
        says = error if isinstance(error, CommandError) else f"{type(error).__name__}: {error}"
        (folder / _ERROR.format(number)).write_bytes(pickle.dumps(says))
        raise
    if number == 0:
        (folder / _OUTCOME).write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
