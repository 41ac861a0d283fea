"""`mepjax cluster --from-disk` in several processes, killed on the way and gone on from there."""

import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mepjax as mj
from mepjax.cli import processes
from mepjax.cli.app import run
from mepjax.cli.commands import cluster_from_disk as command_of_disk
from mepjax.cli.errors import CommandError
from mepjax.cli.on_disk import Checkpoints, Found, Job
from mepjax.cli.options.anneal import AnnealOptions
from mepjax.cli.options.autonomy import AutonomyOptions
from mepjax.cli.options.clustering import ClusterOptions, Request
from mepjax.cli.options.reading import ReadingOptions
from mepjax.exec import WorkerLost

from ..exec.test_from_disk import K, points

ANNEAL = AnnealOptions(restarts=1, factor=1.3, beta_max=5.0, float64=True, cache=False)
COMMAND = ["-k", str(K), "--restarts", "1", "--factor", "1.3", "--beta-max", "5", "--float64",
           "--no-cache", "--from-disk", "--checkpoint-every", "2"]  # fmt: skip
# A process that ends itself, as nothing could catch, after a stage that all have behind them.
DIES = """
import os, signal, sys
from pathlib import Path
import mepjax as mj
from mepjax.cli import processes

save = mj.save

def save_and_die(path, problem, state):
    save(path, problem, state)
    if os.environ["MEPJAX_PROCESS"] == "1" and int(state.n_stages) >= 6:
        os.kill(os.getpid(), signal.SIGKILL)

mj.save = save_and_die
processes.main(Path(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def workers_find_the_package(monkeypatch):
    root = str(Path(mj.__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))


@pytest.fixture
def file(tmp_path):
    # In float64, in which answers can be told apart.
    np.save(tmp_path / "points.npy", points().astype(np.float64))
    return tmp_path / "points.npy"


def job_of(file: Path, **of_checkpoints) -> Job:
    request = Request.of(ClusterOptions(k=K), AutonomyOptions(), ANNEAL)
    kept = Checkpoints(**{"start": None, "folder": file.parent, "every": None} | of_checkpoints)
    return Job(file, ReadingOptions(), request, kept)


def assert_alike(found, expected):
    np.testing.assert_allclose(found.centres, expected.centres, rtol=1e-6)
    np.testing.assert_allclose(found.cost, expected.cost, rtol=1e-6)
    assert (found.beta, found.code, found.restart) == (expected.beta, expected.code, 0)


@pytest.mark.slow
def test_a_lost_process_is_named_and_the_command_goes_on(file, monkeypatch, capsys):
    out, copied = file.with_name("out"), file.with_name("copied")
    command = ["cluster", str(file), *COMMAND, "--out", str(out), "--processes", "2"]
    job = job_of(file)
    alone = job.solve(job.rows())
    together = processes.solve_together(job, 2)
    assert_alike(together, alone)

    with monkeypatch.context() as patched:
        patched.setattr(processes, "WORKER", ("-c", DIES))
        assert run(command) == 3
    lines = capsys.readouterr().err.splitlines()
    kept = out / "anneal-1.mepjax"
    assert lines == [
        "mepjax: error: Process 1 of 2 was ended by SIGKILL; the others were ended. "
        f"{kept} stands: --resume goes on from there."
    ]
    assert run(command) == 2
    assert "has anneal-1.mepjax; expected --resume" in capsys.readouterr().err
    assert run([*command, "--resume", "--processes", "1", "--seed", "1"]) == 2
    assert "anneal-1.mepjax belongs to another anneal: `key`" in capsys.readouterr().err
    shutil.copytree(out, copied)

    assert run([*command, "--resume"]) == 0
    assert f"Going on from {kept}" in capsys.readouterr().out
    facts = json.loads((out / "report.json").read_text())
    # To the bit what was never stopped.
    assert facts["hard_cost"] == together.cost and facts["options"]["processes"] == 2
    assert not list(out.glob("*.mepjax")) and not list(out.glob(".*"))
    # One process goes on from what two have saved.
    job = job_of(file, start=copied)
    assert_alike(job.solve(job.rows()), alone)

    # A file that changes on the way, which a pass inside of a program sees.
    rows = job.rows()
    monkeypatch.setattr(mj, "finish", lambda *given, now=mj.finish: os.utime(file) or now(*given))
    with pytest.raises(CommandError, match="^POINTS: Rows: .*points.npy has changed while it is"):
        job.solve(rows)


def _written(file: Path) -> int:
    """When, 0 where there is none."""
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


@pytest.mark.slow
def test_killed_again_and_again_it_ends_in_the_same_bits(file, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(file.with_name("programs")))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    command = [sys.executable, "-c", "from mepjax.cli import main; main()", "cluster", str(file),
               *COMMAND, "--checkpoint-every", "1"]  # fmt: skip
    whole, out = file.with_name("whole"), file.with_name("out")
    subprocess.run([*command, "--out", str(whole)], check=True, stdout=subprocess.DEVNULL)
    # A kill while results are moved leaves some of them.
    resume = [*command, "--out", str(out), "--resume", "--force"]
    draw, kept, seen = random.Random(0), out / "anneal-1.mepjax", 0
    for _ in range(3):
        with subprocess.Popen(resume, stdout=subprocess.DEVNULL) as process:
            # Some moment after it has come further. Where it was quicker it has ended, as it may.
            while process.poll() is None and _written(kept) <= seen:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 0.2))
            process.kill()
        seen = max(seen, _written(kept))
    subprocess.run(resume, check=True, stdout=subprocess.DEVNULL)
    costs = [json.loads((at / "report.json").read_text())["hard_cost"] for at in (whole, out)]
    assert costs[0] == costs[1]
    for name in ("centres.csv", "assignments.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()


# --- What takes no process. ---------------------------------------------------------------------


def test_errors_of_processes_are_told_in_one_line(file, monkeypatch):
    lost = "Process 0 of 2 ended with status 1; the others were ended."
    for error, says, code in (
        (CommandError("--resume: another anneal"), "^--resume: another anneal$", 2),
        ("OSError: no", f"{lost} OSError: no$", 3),
        (None, f"{lost}$", 3),
    ):

        def lose(what, folder, *, processes, error=error):
            if error is not None:
                (Path(folder) / "error-0").write_bytes(pickle.dumps(error))
            raise WorkerLost(0, processes, 1)

        monkeypatch.setattr(processes, "launch", lose)
        with pytest.raises(CommandError, match=says) as told:
            processes.solve_together(job_of(file), 2)
        assert told.value.code == code


def test_no_space_left_while_labels_are_written_leaves_nothing(file, monkeypatch, capsys):
    found = Found(points()[:K].astype(np.float64), 1.0, mj.Code.OK, 2.0, 0)
    monkeypatch.setattr(Job, "solve", lambda job, rows: found)

    def slabs(problem, params):
        yield 0, np.zeros(5, int), None, None
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command_of_disk, "hard_slabs", slabs)
    out = file.with_name("out")
    assert run(["cluster", str(file), *COMMAND, "--out", str(out)]) == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--processes", "2"], "--processes: got it without --from-disk; expected both"),
        (["--checkpoint-every", "2"], "--checkpoint-every: got it without --from-disk"),
        (["--resume"], "--resume: got it without --from-disk"),
        (["--from-disk", "--processes", "0"], "--processes: got 0; expected at least 1"),
        (["--from-disk", "--checkpoint-every", "0"], "--checkpoint-every: got 0; expected at"),
    ],
)
def test_bad_options_are_named(file, capsys, options, says):
    assert run(["cluster", str(file), "-k", "2", *options]) == 2
    assert says in capsys.readouterr().err
