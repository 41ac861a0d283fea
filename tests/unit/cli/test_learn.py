"""`mepjax learn`: from files of a log to an autonomy and centres."""

# pyright: reportArgumentType=false, reportCallIssue=false
import csv
import json

import jax
import numpy as np
import pytest
from typer.testing import CliRunner

import mepjax as mj
from mepjax.cli.app import app, run

COARSE = ["--factor", "1.5", "--restarts", "1", "-k", "2", "--no-cache"]
FILES = {
    "centres.csv",
    "assignments.csv",
    "report.json",
    "report.html",
    "clusters.png",
    "autonomy.json",
    "coverage.csv",
    "learnt.png",
}


def write(path, names, rows):
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(names)
        writer.writerows(rows)
    return path


@pytest.fixture
def files(tmp_path):
    """Points with names and groups, a log, and the centres of its two rounds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 2)) * 0.1 + (np.arange(20) % 2)[:, None]
    points = write(
        tmp_path / "points.csv",
        ["x", "y", "name", "group"],
        [[*row, f"p{i}", "ab"[i % 2]] for i, row in enumerate(x)],
    )
    sets = rng.uniform(size=(2, 2, 2))
    with jax.enable_x64(True):
        problem = mj.Clustering(x, 2)
        asked = mj.learn.Simulated(mj.autonomy.Uniform(0.3))
        entity, told = rng.integers(0, 20, 200), rng.integers(0, 2, 200)
        place = np.repeat([0, 1], 100)
        went = np.concatenate(
            [
                asked.observe(
                    jax.random.key(r), problem, entity[place == r], told[place == r], sets[r]
                ).realised
                for r in (0, 1)
            ]
        )
    rows = [[f"p{i}", j, k, r + 5] for i, j, k, r in zip(entity, told, went, place, strict=True)]
    log = write(tmp_path / "log.csv", ["entity", "prescribed", "realised", "round"], rows)
    centres = write(
        tmp_path / "centres.csv",
        ["round", "x", "y"],
        [[r + 5, *sets[r, k]] for r in (0, 1) for k in (0, 1)],
    )
    return points, log, centres, np.mean(told != went)


def _invoke(*arguments):
    return CliRunner().invoke(app, ["learn", *map(str, arguments)])


def test_a_log_becomes_an_autonomy_and_centres(files, tmp_path):
    points, log, centres, strayed = files
    out = tmp_path / "out"
    found = _invoke(
        points,
        log,
        "--columns",
        "x,y",
        "--ids",
        "name",
        "--centres",
        centres,
        "--out",
        out,
        *COARSE,
    )
    assert found.exit_code == 0, found.output
    assert {path.name for path in out.iterdir()} == FILES
    learnt = json.loads((out / "autonomy.json").read_text())
    assert learnt["numbers"]["kappa"] == pytest.approx(strayed, abs=1e-5)
    # Two clusters do not tell where overrides go.
    assert learnt["standard_errors"]["zeta"] is None and learnt["model"] == "Softmax"
    assert learnt["in_words"].startswith("Nothing in the interactions speaks against")
    assert json.loads((out / "report.json").read_text())["learnt"] == learnt
    rows = list(csv.DictReader((out / "coverage.csv").read_text().splitlines()))
    assert sum(float(row["interactions"]) for row in rows) == 200
    assert "kappa" in found.output and "What was learnt" in (out / "report.html").read_text()


def test_tables_by_group(files, tmp_path):
    points, log, _, _ = files
    out = tmp_path / "out"
    found = _invoke(
        points, log, "--columns", "x,y", "--ids", "name", "--share", "group", "--out", out, *COARSE
    )
    assert found.exit_code == 0, found.output
    learnt = json.loads((out / "autonomy.json").read_text())
    assert learnt["model"] == "Grouped" and np.shape(learnt["numbers"]["p"]) == (2, 2, 2)


@pytest.mark.slow
def test_costs_alone_become_centres(files, tmp_path):
    points, log, centres, _ = files
    with log.open() as stream:
        rows = list(csv.DictReader(stream))
    x = {row["name"]: row for row in csv.DictReader(points.read_text().splitlines())}
    y = list(csv.DictReader(centres.read_text().splitlines()))

    def cost(row):
        k = next(
            each
            for each in y[int(row["realised"]) :: 2]
            if float(each["round"]) == float(row["round"])
        )
        return sum((float(x[row["entity"]][c]) - float(k[c])) ** 2 for c in "xy")

    paid = write(
        tmp_path / "paid.csv",
        ["entity", "prescribed", "round", "cost"],
        [[row["entity"], row["prescribed"], row["round"], cost(row)] for row in rows],
    )
    out = tmp_path / "out"
    named = ["--columns", "x,y", "--ids", "name", "--centres", centres, "--out", out]
    found = _invoke(points, paid, *named, "--learner", "aden", "--steps", "40", *COARSE)
    assert found.exit_code == 0, found.output
    assert {p.name for p in out.iterdir()} == {
        "centres.csv", "assignments.csv", "report.json", "report.html",
    }  # fmt: skip
    told = json.loads((out / "report.json").read_text())
    assert told["learnt"]["interactions"] == 200 and told["learnt"]["held_out"] == 20
    assert told["learnt"]["error"] > 0 and told["options"]["steps"] == 40
    rows = list(csv.DictReader((out / "assignments.csv").read_text().splitlines()))
    assert len(rows) == 20 and {row["cluster"] for row in rows} <= {"0", "1"}


MISTAKES = {
    "alone": (["POINTS"], "LOG: got POINTS alone"),
    "structured": (
        ["POINTS", "LOG", "--learner", "structured"],
        "got structured without --centres",
    ),
    "learner": (["POINTS", "LOG", "--learner", "deep"], "--learner: got 'deep'"),
    "aden alone": (["--learner", "aden"], "got aden without POINTS and LOG"),
    "aden": (["POINTS", "LOG", "--learner", "aden"], "got aden without --centres"),
    "scale": (
        ["POINTS", "LOG", "--learner", "aden", "--centres", "CENTRES", "--scale", "unit"],
        "--scale: got unit beside --learner aden",
    ),
    "no cost": (
        ["POINTS", "LOG", "--learner", "aden", "--centres", "CENTRES"],
        "got no column cost; expected entity, prescribed, cost",
    ),
    "steps": (["POINTS", "LOG", "--steps", "0"], "--steps: got 0; expected at least 1"),
    "share": (["POINTS", "LOG", "--share", "colour"], "--share"),
    "ids": (["POINTS", "LOG", "--ids", "group"], "expected one of the --ids of POINTS"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_one_sentence(name, files, tmp_path, capsys):
    points, log, centres, _ = files
    arguments, text = MISTAKES[name]
    names = {"POINTS": str(points), "LOG": str(log), "CENTRES": str(centres)}
    given = [
        "learn",
        *(names.get(a, a) for a in arguments),
        "-k",
        "2",
        "--columns",
        "x,y",
        "--out",
        str(tmp_path / "out"),
    ]
    if "--ids" not in given:
        given += ["--ids", "name"]
    assert run(given) == 2
    assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_columns_of_a_log_are_checked(files, tmp_path, capsys):
    points, _, _, _ = files
    bad = write(tmp_path / "bad.csv", ["entity", "prescribed", "realised", "mood"], [[0, 0, 0, 1]])
    options = ["-k", "2", "--columns", "x,y", "--out", str(tmp_path / "out")]
    assert run(["learn", str(points), str(bad), *options]) == 2
    assert "got unknown columns 'mood'; expected entity" in capsys.readouterr().err
    bad = write(tmp_path / "bad.csv", ["entity", "prescribed", "realised"], [[0, 0, 2]])
    assert run(["learn", str(points), str(bad), *options]) == 2
    assert "line 2, column realised: got 2; expected a cluster from 0 to 1" in (
        capsys.readouterr().err
    )
