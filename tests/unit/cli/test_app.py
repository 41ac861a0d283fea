"""The command as a user meets it: exit codes, one line an error, files whole or absent."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mepjax as mj
from mepjax.cli import main
from mepjax.cli.app import app, run
from mepjax.cli.commands import cluster as command
from mepjax.problems.clustering import problem as clustering
from mepjax.problems.clustering.transport import assign
from mepjax.select import starts

FILES = ("centres.csv", "assignments.csv", "report.json", "report.html", "clusters.png")
POINTS = "x,y,w,name\n" + "".join(
    f"{i % 2 + 0.01 * i},{0.1 * (i % 5)},{1 + i % 3},p{i}\n" for i in range(40)
)
# Few, large steps: quick, and enough for clusters this far apart.
COARSE = ["--factor", "1.5", "--restarts", "1"]


def _invoke(*arguments):
    return CliRunner().invoke(app, ["cluster", *map(str, arguments)])


@pytest.fixture
def points(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text(POINTS)
    return path


def _read(path):
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    return header, np.array(rows, float)


# --- What goes wrong: found before anything is solved or written. ------------------------------

XY = ["--columns", "x,y"]
BAD = [
    (["-k", "0", *XY], "-k: got 0; expected at least 1"),
    (["-k", "-3", *XY], "-k: got -3"),
    (["-k", "41", *XY], "-k: got 41; expected at most one cluster a point, 40"),
    (["-k", "two", *XY], "-k: got 'two'; expected an integer"),
    (["-k", "1.5", *XY], "-k: got '1.5'; expected an integer"),
    (["-k", "9" * 5000, *XY], "-k: got '999"),
    ([*XY], "-k: got none; expected the number of clusters"),
    (["-k"], "-k"),
    (["-k", "2"], "column 'name' is not numeric, it has 'p0'; expected numbers, or a choice"),
    (["-k", "2", "--columns", "x,z"], "--columns: got 'z'; expected one of 'x', 'y', 'w', 'name'"),
    (["-k", "2", "--columns", "x,x"], "--columns: got 'x' twice"),
    (["-k", "2", "--columns", "x,w", "--weights", "w"], "also the --weights column"),
    (["-k", "2", *XY, "--weights", "v"], "--weights: got 'v'"),
    (["-k", "2", *XY, "--weights", "name"], "column 'name' is not numeric"),
    (["-k", "2", *XY, "--no-header"], "--columns: got 'x'; expected an index from 0 to 3"),
    (["-k", "2", *XY, "--kappa", "1.5"], "--kappa: got 1.5; expected a number from 0 to 1"),
    (["-k", "2", *XY, "--kappa", "-0.1"], "--kappa: got -0.1"),
    (["-k", "2", *XY, "--kappa", "nan"], "--kappa: got nan"),
    (["-k", "2", *XY, "--kappa", "x"], "--kappa: got 'x'; expected a number"),
    (["-k", "2", *XY, "--kappa", ".3", "--temperature", "0"], "--temperature: got 0; expected a"),
    (["-k", "2", *XY, "--kappa", ".3", "--temperature", "-1"], "--temperature: got -1"),
    (["-k", "2", *XY, "--kappa", ".3", "--temperature", "inf"], "--temperature: got inf"),
    (["-k", "2", *XY, "--kappa", ".3", "--zeta", "nan"], "--zeta: got nan"),
    (["-k", "2", *XY, "--kappa", ".3", "--gamma", "inf"], "--gamma: got inf"),
    (["-k", "2", *XY, "--temperature", "1"], "--kappa: got none; softmax autonomy expects one"),
    (["-k", "2", *XY, "--autonomy", "uniform"], "--kappa: got none; uniform autonomy expects"),
    (["-k", "2", *XY, "--autonomy", "free"], "--autonomy: got 'free'; expected one of none, uni"),
    (["-k", "2", *XY, "--autonomy", "none", "--kappa", ".3"], "--kappa: got 0.3 beside --autonom"),
    (
        ["-k", "2", *XY, "--autonomy", "uniform", "--kappa", ".3", "--temperature", "1"],
        "--temperature: got a value beside --autonomy uniform",
    ),
    (["-k", "2", *XY, "--matrix", "absent"], "--matrix 'absent': got no such file"),
    (["-k", "2", *XY, "--matrix", "MATRIX"], "a row that sums to 0.8; expected rows that sum to"),
    (["-k", "3", *XY, "--matrix", "MATRIX"], "got 2 rows and 2 columns; expected 3 and 3 for -k"),
    (["-k", "2", *XY, "--matrix", "IDENTITY", "--kappa", ".1"], "--matrix: got --kappa too; expe"),
    (["-k", "2", *XY, "--matrix", "IDENTITY", "--temperature", "1"], "--matrix: got --temperature"),
    (["-k", "2", *XY, "--capacity", ".5"], "--capacity: got '.5'; expected 2 numbers >= 0 separat"),
    (["-k", "2", *XY, "--capacity", "even"], "--capacity: got 'even'; expected 2 numbers >= 0"),
    (["-k", "2", *XY, "--capacity", "1.5,-.5"], "--capacity: got '1.5,-.5'; expected 2 numbers"),
    (["-k", "2", *XY, "--capacity", ".5,.4"], "with the sum 0.9; expected bounds with a sum of at"),
    (["-k", "2", *XY, "--capacity", "=.5,.6"], "with the sum 1.1; expected shares with the sum 1"),
    (["-k", "2", *XY, "--restarts", "0"], "--restarts: got 0; expected at least 1"),
    (["-k", "2", *XY, "--sample", "-1"], "--sample: got -1; expected at least 0"),
    (["-k", "2", *XY, "--seed", "-1"], "--seed: got -1"),
    (["-k", "2", *XY, "--scale", "big"], "--scale: got 'big'; expected one of none, unit, zscore"),
    (["-k", "2", *XY, "--beta-max", "0"], "--beta-max: got 0; expected a finite number > 0"),
    (["-k", "2", *XY, "--beta-max", "nan"], "--beta-max: got nan"),
    (["-k", "2", *XY, "--beta-min", "-1"], "--beta-min: got -1"),
    (["-k", "2", *XY, "--beta-min", "2", "--beta-max", "1"], "--beta-max: got 1; expected at lea"),
    (["-k", "2", *XY, "--beta-min", "1e9"], "expected at least --beta-min 1e+09"),
    (["-k", "2", *XY, "--factor", "1"], "--factor: got 1; expected more than 1"),
    (["-k", "2", *XY, "--factor", "nan"], "--factor: got nan"),
    (["-k", "2", *XY, "--factor", "1.0000001"], "--factor: got 1; expected more, as it would ta"),
    (["-k", "2", *XY, "--bogus"], "--bogus"),
    (["-k", "2", *XY, "--out", "points.csv"], "got a file; expected a folder"),
    (["-k", "2", *XY, "--out", "points.csv/deep"], "cannot be written"),
    (["-k", "2", *XY, "--out", "x" * 300], "cannot be written"),
    (["-k", "2", *XY, "--out", "/proc/no"], "cannot be written"),
    (["-k", "2", *XY, "--out", "earlier"], "--force to overwrite"),
]


@pytest.mark.parametrize(("arguments", "says"), BAD, ids=lambda value: str(value)[:40])
def test_mistakes_are_one_line(points, tmp_path, monkeypatch, arguments, says):
    monkeypatch.chdir(tmp_path)
    Path("MATRIX").write_text("0.9,0.1\n0.4,0.4\n")
    Path("IDENTITY").write_text("1,0\n0,1\n")
    Path("earlier").mkdir()
    Path("earlier/report.json").write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    result = _invoke("points.csv", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("mepjax: error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "got no such file"),
        ("folder", "got a folder"),
        (b"", "got an empty file"),
        (b"\x7fELF\x00\x01", "binary file"),
        (b"\xff\xfe\x00", "binary file"),
        (b"1,2\n3\n", "got 1 cells; expected 2"),
        (b"1,2\n3,nan\n", "got nan; expected a finite number"),
        (b"1,2\n3,inf\n", "got inf; expected a finite number"),
        (b"1,2\n3,four\n", "got 'four'; expected a number"),
        (b"a,b\n", "got no row of points"),
        (b"1e300,2\n-1e300,2\n", "expected smaller ones, or --scale unit"),
        (b"1e30,2\n-1e30,2\n", "expected smaller ones, or --scale unit"),
        (b"1e-30,0\n-1e-30,0\n", "expected larger ones, or --scale unit"),
    ],
)
def test_bad_files_are_one_line(tmp_path, monkeypatch, content, says):
    monkeypatch.chdir(tmp_path)
    path = Path("some\nfile.csv")
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    result = _invoke(path, "-k", "1")
    assert result.exit_code == 2
    assert result.stderr.startswith("mepjax: error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr
    assert not Path("mepjax-out").exists()


def test_a_failed_solve_says_why_and_writes_nothing(points, tmp_path, monkeypatch):
    monkeypatch.setattr(command.Run, "code", mj.Code.STALLED)
    monkeypatch.setattr(starts, "anneal", _no_anneal)
    result = _invoke(points, "-k", 2, *XY, *COARSE, "--out", tmp_path / "out")
    assert result.exit_code == 3
    text = "mepjax: error: the solve failed in all 1 runs: [STALLED] No further progress"
    assert result.stderr.startswith(text) and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def _no_anneal(problem, schedule, *, key, init, **options):
    class Solution:
        params = problem.init(key) if init is None else init
        code, beta = mj.Code.STALLED, schedule.beta_max

    return Solution()


def test_a_bug_is_one_line_too(points, tmp_path, monkeypatch, capsys):
    def broken(*arguments, **options):
        raise ZeroDivisionError("oh\nno")

    monkeypatch.setattr(starts, "anneal", broken)
    arguments = ["cluster", str(points), "-k", "2", *XY, "--out", str(tmp_path / "out")]
    assert run(arguments) == 1
    assert capsys.readouterr().err.startswith("mepjax: error: unexpected ZeroDivisionError: oh no")
    monkeypatch.setenv("MEPJAX_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(arguments)
    assert not (tmp_path / "out").exists()


def test_a_sample_and_what_it_cost_are_told(points, tmp_path):
    gaps = {}
    for sample in (0, 20):
        out = tmp_path / str(sample)
        arguments = [points, "-k", 3, *XY, *COARSE, "--sample", sample, "--out", out]
        assert _invoke(*arguments).exit_code == 0
        report = json.loads((out / "report.json").read_text())
        assert report["options"]["sample"] == (sample or None)
        gaps[sample] = report["chosen"]["sampling_gap"]
    assert gaps[0] == 0 < gaps[20]


def test_version_help_and_no_command(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mepjax {mj.__version__}\n"
    assert run([]) == 0
    assert "cluster" in capsys.readouterr().out
    assert run(["cluster", "--help"]) == 0
    assert "--temperature" in capsys.readouterr().out
    assert run(["sing"]) == 2
    assert capsys.readouterr().err.startswith("mepjax: error: No such command")


# --- What goes right. --------------------------------------------------------------------------


def test_plain_clustering_writes_what_it_found(points, tmp_path):
    out = tmp_path / "deep" / "out"
    result = _invoke(points, "-k", 2, *XY, "--weights", "w", *COARSE, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "clusters used: 2 of 2" in result.stdout and "ignoring" not in result.stdout
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)

    data = np.genfromtxt(points, delimiter=",", skip_header=1, usecols=(0, 1, 2))
    x, weights = data[:, :2], data[:, 2]
    header, rows = _read(out / "assignments.csv")
    assert header == ["row", "cluster", "weight", "p_0", "p_1"]
    np.testing.assert_array_equal(rows[:, 2], weights)
    np.testing.assert_array_equal(rows[:, 0], np.arange(40))
    np.testing.assert_allclose(rows[:, 3:].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(rows[:, 1], np.argmax(rows[:, 3:], axis=1))
    np.testing.assert_array_equal(rows[:, 1] == rows[0, 1], np.arange(40) % 2 == 0)

    header, centres = _read(out / "centres.csv")
    assert header == ["cluster", "x", "y", "share_told", "share_ending"]
    for cluster, *centre, told, ends in centres:
        mine = rows[:, 1] == cluster
        expected = np.average(x[mine], axis=0, weights=weights[mine])
        np.testing.assert_allclose(centre, expected, atol=1e-4)
        np.testing.assert_allclose([told, ends], weights[mine].sum() / weights.sum(), atol=1e-4)

    report = json.loads((out / "report.json").read_text())
    assert report["versions"]["mepjax"] == mj.__version__
    assert report["input"] == {
        "file": str(points), "shape": [40, 2], "columns": ["x", "y"], "weighted": True,
        "ids": False, "note": None, "lonlat": None,
    }  # fmt: skip
    assert report["options"]["precision"] == "float32" and report["options"]["seed"] == 0
    assert report["cost_of_ignoring_autonomy"] is None
    chosen = report["chosen"]
    assert chosen["run"] == "exact" and chosen["code"] == "OK" and chosen["clusters_used"] == 2
    nearest = np.min(((x[:, None] - centres[None, :, 1:3]) ** 2).sum(axis=2), axis=1)
    cost = np.average(nearest, weights=weights)
    assert chosen["hard_cost"] == pytest.approx(cost, rel=1e-4)
    assert chosen["hard_cost_in_input_units"] == chosen["hard_cost"]
    assert len(report["beta_path"]) == chosen["stages"] and len(chosen["transitions"]) == 1
    assert report["beta_path"][0] < chosen["transitions"][0] < report["beta_path"][-1]
    _assert_drawn(out / "clusters.png")

    # A second time needs leave to overwrite, and is the same to the bit.
    again = [points, "-k", 2, *XY, "--weights", "w", *COARSE, "--out", out]
    before = {name: (out / name).read_bytes() for name in FILES if name.endswith("csv")}
    assert _invoke(*again).exit_code == 2
    assert _invoke(*again, "--force").exit_code == 0
    assert {name: (out / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("capacity", "sizes"),
    [
        pytest.param("=.7,.3", [28, 12], marks=pytest.mark.slow),
        ("equal", [20, 20]),
        pytest.param(".6,.6", [20, 20], marks=pytest.mark.slow),
    ],
)
def test_sizes_are_those_asked_for(points, tmp_path, monkeypatch, capacity, sizes):
    transports = []

    def counting(*arguments):
        transports.append(arguments)
        return assign(*arguments)

    monkeypatch.setattr(clustering, "assign", counting)
    # Without a capacity halves.
    out = tmp_path / "out"
    options = ["--capacity", capacity, "--kappa", "0.1", *COARSE, "--out", out]
    result = _invoke(points, "-k", 2, *XY, *options)
    assert result.exit_code == 0, result.stderr
    told = ", ".join(f"{100 * size / 40:g}%" for size in sizes)
    assert f"sizes told: {told}; as asked for" in result.stdout
    rows = _read(out / "assignments.csv")[1]
    assert list(np.bincount(rows[:, 1].astype(int))) == sizes
    if capacity != ".6,.6":
        # Of the soft policy too.
        np.testing.assert_allclose(40 * rows[:, 2:].mean(axis=0), sizes, atol=1e-2)
    centres = _read(out / "centres.csv")[1]
    np.testing.assert_allclose(40 * centres[:, 3], sizes, atol=1e-4)
    report = json.loads((out / "report.json").read_text())
    kind = "bounds" if capacity == ".6,.6" else "equal"
    assert report["options"]["capacity"]["kind"] == kind
    assert len(report["options"]["capacity"]["shares"]) == 2
    np.testing.assert_allclose(report["sizes"]["excess"], 0, atol=1e-6)
    assert report["cost_of_ignoring_autonomy"]["percent"] > -1e-3
    # One a run; those without autonomy are compared by what they cost without it too.
    unaware = sum(run["run"] == "without autonomy" for run in report["runs"])
    assert len(transports) == len(report["runs"]) + unaware
    _assert_drawn(out / "clusters.png")


def _assert_drawn(path):
    from matplotlib import image

    pixels = image.imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 500
    colourful = np.ptp(pixels, axis=2) > 0.2
    assert 0.0005 < np.mean(colourful) < 0.5


@pytest.mark.slow
def test_softmax_autonomy_keeps_the_best_and_tells_what_ignoring_costs(points, tmp_path):
    out = tmp_path / "out"
    result = _invoke(
        points, "-k", 3, *XY, "--kappa", ".3", "--temperature", ".1", *COARSE, "--out", out
    )
    assert result.exit_code == 0, result.stderr
    assert "softmax autonomy (kappa 0.3, zeta 1, gamma 0, temperature 0.1)" in result.stdout
    report = json.loads((out / "report.json").read_text())
    assert report["scale"]["kind"] == "unit"
    runs = {run["run"]: run for run in report["runs"]}
    assert {"exact", "frozen", "frozen, then exact", "without autonomy"} <= set(runs)
    chosen = report["chosen"]
    usable = [run for name, run in runs.items() if name not in ("frozen", "without autonomy")]
    assert chosen["hard_cost"] == min(run["hard_cost"] for run in usable)
    ignoring = report["cost_of_ignoring_autonomy"]
    assert ignoring["hard_cost_ignored"] == runs["without autonomy"]["hard_cost"]
    expected = 100 * (ignoring["hard_cost_ignored"] / chosen["hard_cost"] - 1)
    assert ignoring["percent"] == pytest.approx(expected) and f"{expected:+.2f}%" in result.stdout
    # Costs in input units follow from the centres and the assignments that were written.
    factor = report["scale"]["factor"][0]
    problem = mj.Clustering(
        np.genfromtxt(points, delimiter=",", skip_header=1, usecols=(0, 1)), 3,
        autonomy=mj.autonomy.Softmax(0.3, temperature=0.1 * factor**2),
    )  # fmt: skip
    _, centres = _read(out / "centres.csv")
    measured = problem.evaluate(centres[:, 1:3])
    assert chosen["hard_cost_in_input_units"] == pytest.approx(float(measured.cost), rel=1e-4)
    _, rows = _read(out / "assignments.csv")
    np.testing.assert_array_equal(rows[:, 1], measured.assignments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], (4, "softmax", 0.3, 0.1)),
        (["-k", "5"], (5, "softmax", 0.3, 0.1)),
        (["--kappa", "0.2"], (4, "uniform", 0.2, None)),
        (["--autonomy", "none"], (4, "none", None, None)),
    ],
)
def test_without_a_file_an_example_runs(tmp_path, monkeypatch, arguments, expected):
    asked = []
    monkeypatch.setattr(command, "solve", lambda *inputs: asked.append(inputs))
    monkeypatch.setattr(command, "report", lambda *inputs: None)
    monkeypatch.setattr(command.folder, "write", lambda *inputs: ())
    monkeypatch.setattr(command.terminal, "lines", lambda *inputs: ["done"])
    result = _invoke(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    first, last = result.stdout.splitlines()
    assert first.startswith("No file given: running the bundled example") and last == "done"
    ((points, request, _),) = asked
    assert points.x.shape == (400, 2) and points.weights is None and points.lonlat is None
    autonomy = request.autonomy
    assert (request.k, autonomy.kind, autonomy.kappa, autonomy.temperature) == expected
    result = _invoke("--columns", "x", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "--columns: got 'x' without a file" in result.stderr


# --- As a process. -----------------------------------------------------------------------------


def _environment():
    return os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "error"}


def test_importing_the_command_imports_nothing_optional():
    code = (
        "import sys, mepjax.cli; print(*{'typer', 'rich', 'matplotlib'} & set(sys.modules))\n"
        "sys.modules['typer'] = None; mepjax.cli.main(['cluster'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=_environment()
    )
    assert done.stdout == "\n" and done.returncode == 2
    assert done.stderr.startswith("mepjax: error: the command needs typer")
    assert 'pip install "mepjax[cli]"' in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("missing", ["rich", "matplotlib"])
def test_other_missing_packages_are_named_too(monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit) as caught:
        main(["cluster"])
    assert caught.value.code == 2
    assert f"the command needs {missing}" in capsys.readouterr().err


def _start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, "cluster", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(),
    )  # fmt: skip


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_an_interrupt_leaves_nothing(points, tmp_path):
    # A solve that would go on for a minute, deaf to Python's signals.
    code = """
import sys, time
from mepjax.cli.commands import cluster as command

def solve(*arguments):
    print("solving", flush=True)
    time.sleep(60)

command.solve = solve
from mepjax.cli import main
main()
"""
    process = _start(code, points, "-k", 2, *XY, "--out", tmp_path / "out")
    assert process.stdout is not None and process.stdout.readline() == "solving\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert errors == "mepjax: error: interrupted, nothing was written\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.csv"]


def test_a_closed_pipe_does_no_harm(points, tmp_path):
    code = """
from mepjax.cli.commands import cluster as command

command.solve = command.report = lambda *arguments: None
command.folder.write = lambda folder, report: folder.mkdir()
command.terminal.lines = lambda *arguments: ["a line"] * 100_000
from mepjax.cli import main
main()
"""
    process = _start(code, points, "-k", 1, *XY, "--out", tmp_path / "out")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 0
    assert (tmp_path / "out").exists()


# --- London: the published sensors, where the data are. ------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("MEPJAX_DATA_DIR" not in os.environ, reason="needs MEPJAX_DATA_DIR")
def test_a_sample_of_the_london_sensors(tmp_path):
    source = Path(os.environ["MEPJAX_DATA_DIR"]) / "utd19_london" / "sensors_xy.csv"
    lines = source.read_text().splitlines()
    sample = tmp_path / "sample.csv"
    sample.write_text("\n".join([lines[0], *lines[1::20]]))
    arguments = ["-k", 5, "--kappa", ".3", "--temperature", ".1", "--restarts", 1]
    result = _invoke(sample, *arguments, "--factor", "1.2", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["chosen"]["code"] == "OK"
    assert report["cost_of_ignoring_autonomy"]["percent"] > 0
