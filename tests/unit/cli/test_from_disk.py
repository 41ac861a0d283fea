"""`mepjax cluster --from-disk`: the answer of points in memory, and errors in one line."""

import csv
import json

import jax
import numpy as np
import pytest

import mepjax as mj
from mepjax.cli.app import run

from ..exec.test_from_disk import K, points

QUICK = ["-k", str(K), "--restarts", "1", "--factor", "1.5", "--beta-max", "5", "--sample", "500"]


def test_labels_of_a_file_are_those_of_its_centres(tmp_path, capsys):
    np.save(tmp_path / "points.npy", points())
    out = tmp_path / "out"
    command = ["cluster", str(tmp_path / "points.npy"), *QUICK, "--from-disk", "--out", str(out)]
    assert run(command) == 0, capsys.readouterr().err
    with (out / "centres.csv").open() as file:
        rows = list(csv.DictReader(file))
    centres = np.array([[float(row["x0"]), float(row["x1"])] for row in rows])
    with jax.enable_x64(True):
        hard = mj.Clustering(points().astype(float), K).harden(centres)
    with (out / "assignments.csv").open() as file:
        told = list(csv.DictReader(file))
    assert [int(row["row"]) for row in told] == list(range(len(points())))
    np.testing.assert_array_equal([int(row["cluster"]) for row in told], hard.assignments)
    facts = json.loads((out / "report.json").read_text())
    np.testing.assert_allclose(facts["hard_cost"], hard.cost, rtol=1e-5)
    # Three round Gaussians of unit variance.
    assert facts["hard_cost"] < 2.1
    assert run(command) == 2
    assert "--force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--capacity", "equal"], "--capacity: got it beside --from-disk"),
        (["--lonlat"], "--lonlat: got it beside --from-disk"),
        (["--scale", "unit"], "--scale: got unit beside --from-disk; expected none"),
        (["--kappa", "0.2", "--autonomy", "softmax", "--temperature", "1"], "expected none or uni"),
        (["--columns", "0,5"], "POINTS: Rows: `columns` must be columns 0 to 1; got 5"),
        (["-k", "2000"], "-k: got 2000; expected at most one cluster a point"),
    ],
)
def test_what_does_not_go_with_it_is_named(tmp_path, capsys, options, says):
    np.save(tmp_path / "points.npy", points())
    file, out = str(tmp_path / "points.npy"), str(tmp_path / "out")
    assert run(["cluster", file, *QUICK, "--from-disk", "--out", out, *options]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path, capsys):
    assert run(["cluster", str(tmp_path / "no.npy"), *QUICK, "--from-disk"]) == 2
    assert "there is no" in capsys.readouterr().err
    assert run(["cluster", *QUICK, "--from-disk"]) == 2
    assert "--from-disk: got no file" in capsys.readouterr().err
