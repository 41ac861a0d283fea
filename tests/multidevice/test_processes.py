"""Several processes: what they find together, and what is left when one is lost."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import mepjax as mj
from mepjax.exec.launch import watch

WORKER = Path(__file__).with_name("worker.py")
# Seconds that a test may take on the slowest machine: then its processes are ended and it fails.
LATEST = 300
N, D, K = 203, 3, 3  # no multiple of two


@pytest.fixture(autouse=True)
def never_hangs():
    """An exception in the main thread: `launch` ends its workers on the way out."""

    def late(*_):
        raise TimeoutError(f"The processes of this test have not ended within {LATEST} seconds.")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LATEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Points, weights and places; workers compute in float64, each on one device."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0, 0], [3, 0, 1], [0, 4, -1]])
    x = centres[rng.integers(K, size=N)] + rng.normal(size=(N, D))
    np.save(tmp_path / "points.npy", np.column_stack([x, rng.uniform(0.5, 2.0, N)]))
    np.save(tmp_path / "places.npy", centres + 0.3)
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    flags = os.environ.get("XLA_FLAGS", "")
    one = re.sub(r"--xla_force_host_platform_device_count=\d+", "", flags)
    monkeypatch.setenv("XLA_FLAGS", one)
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return tmp_path


def found(folder, *arguments, processes=2):
    mj.exec.launch(WORKER, str(folder), *arguments, processes=processes)
    with np.load(folder / "found.npz") as kept:
        return dict(kept)


@pytest.mark.slow
def test_two_processes_find_what_one_finds(folder):
    got = found(folder)
    assert got["devices"] == 2
    points = np.load(folder / "points.npy")
    problem = mj.Clustering(points[:, :3], K, weights=points[:, 3])
    energy = problem.free_energy(np.load(folder / "places.npy"), 2.0)
    np.testing.assert_allclose(got["energy"], energy, rtol=1e-12)
    alone = mj.anneal(problem, mj.Geometric(0.05, 30.0, 1.4), key=jax.random.key(0))
    np.testing.assert_allclose(got["params"], alone.params, rtol=1e-6)
    np.testing.assert_allclose(got["free_energy"], alone.free_energy, rtol=1e-9)


@pytest.mark.slow
def test_a_lost_process_is_named_and_its_work_goes_on_to_the_same_bits(folder):
    whole = found(folder)
    path = folder / "anneal.mepjax"
    path.unlink()
    for process, stage in ((1, 4), (0, 12)):
        with pytest.raises(mj.exec.WorkerLost, match=f"Process {process} of 2 was ended by SIGK"):
            mj.exec.launch(WORKER, str(folder), "--die", str(process), str(stage))
        assert path.exists()
    again = found(folder)
    assert again["begun"]
    np.testing.assert_array_equal(again["params"], whole["params"])
    np.testing.assert_array_equal(again["free_energy"], whole["free_energy"])


@pytest.mark.slow
def test_one_process_killed_anywhere_goes_on_to_the_same_bits(folder):
    whole = found(folder, "--every", "1", processes=1)
    path = folder / "anneal.mepjax"
    path.unlink()
    for stage in (1, 9):
        with pytest.raises(mj.exec.WorkerLost, match="Process 0 of 1 was ended by SIGKILL"):
            mj.exec.launch(
                WORKER, str(folder), "--every", "1", "--die", "0", str(stage), processes=1
            )
    np.testing.assert_array_equal(found(folder, processes=1)["params"], whole["params"])


# --- The watcher, with workers that know nothing of JAX. --------------------------------------


def code(text):
    return [
        "-c",
        f"import os, signal, sys, time\nnumber = int(os.environ['MEPJAX_PROCESS'])\n{text}",
    ]


def test_all_that_end_well_end_well(tmp_path):
    text = "open(sys.argv[1] + str(number), 'w').write(os.environ['MEPJAX_PROCESSES'])"
    mj.exec.launch(code(text), f"{tmp_path}/p", processes=3)
    assert [file.read_text() for file in sorted(tmp_path.iterdir())] == ["3", "3", "3"]


@pytest.mark.parametrize(
    ("statuses", "says"),
    [
        # The others are aborted for want of it, or fail by themselves.
        ((-6, -9, 1), "Process 1 of 3 was ended by SIGKILL"),
        ((-6, None, 7), "Process 2 of 3 ended with status 7"),
        ((0, -6, None), "Process 1 of 3 was ended by SIGABRT"),
        ((None, -200, None), "Process 1 of 3 was ended by signal 200"),
    ],
)
def test_the_one_that_the_others_failed_for_is_named(statuses, says):
    workers = [SimpleNamespace(poll=lambda status=status: status) for status in statuses]
    with pytest.raises(mj.exec.WorkerLost, match=f"{says}; the others were ended.") as lost:
        watch(workers)
    assert lost.value.status == statuses[lost.value.process]


def test_others_are_ended(tmp_path):
    text = (
        "open(sys.argv[1] + str(number), 'w').write(str(os.getpid()))\n"
        "while len(os.listdir(os.path.dirname(sys.argv[1]))) < 2: time.sleep(0.01)\n"
        "time.sleep(600 * (1 - number))\nsys.exit(number)"
    )
    with pytest.raises(mj.exec.WorkerLost, match="Process 1 of 2 ended with status 1"):
        mj.exec.launch(code(text), f"{tmp_path}/p")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "p0").read_text()), 0)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="launch: `processes` must be at least 1"):
        mj.exec.launch("work.py", processes=0)
    with socket.socket() as busy:
        busy.bind(("localhost", 0))
        busy.listen()
        port = busy.getsockname()[1]
        with pytest.raises(OSError, match=f"launch: `port` {port} cannot be used"):
            mj.exec.launch("work.py", port=port)
    with pytest.raises(TypeError, match="Sharded: `rows` must be a mepjax.exec.Rows"):
        mj.Sharded().load(np.ones((2, 1)))  # pyright: ignore[reportArgumentType]


def test_rows_are_filled_up_by_some_of_weight_zero(tmp_path):
    points = np.arange(21.0).reshape(7, 3)
    np.save(tmp_path / "x.npy", points)
    x, weights = mj.Sharded().load(mj.exec.Rows(tmp_path / "x.npy", weights=2))
    n = -(-7 // jax.device_count()) * jax.device_count()
    assert x.shape == (n, 2) and weights.shape == (n,)
    np.testing.assert_array_equal(x[:7], points[:, :2])
    np.testing.assert_array_equal(weights, [*points[:, 2], *[0.0] * (n - 7)])


@pytest.mark.slow
@pytest.mark.parametrize("number", ["0", "1"])
def test_one_process_started_alone_says_so(folder, monkeypatch, number):
    with socket.socket() as trial:
        trial.bind(("localhost", 0))
        address = f"localhost:{trial.getsockname()[1]}"
    for name, value in (("COORDINATOR", address), ("PROCESSES", "2"), ("PROCESS", number)):
        monkeypatch.setenv(f"MEPJAX_{name}", value)
    done = subprocess.run(
        [sys.executable, "-c", "import mepjax as mj; mj.exec.join(wait=1)"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    says = f"join: process {number} of 2 has waited 1 seconds for the others at {address}; start"
    assert says in done.stderr


@pytest.mark.slow
def test_a_worker_ends_with_its_parent(folder):
    text = (
        "import mepjax as mj, sys, time\nmj.exec.join()\nprint('here', flush=True)\ntime.sleep(600)"
    )
    parent = f"import mepjax as mj\nmj.exec.launch(['-c', {text!r}], processes=1)"
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.send_signal(signal.SIGKILL)
        # The pipe is the worker's too: it ends when that does.
        assert process.stdout.read() == b""
