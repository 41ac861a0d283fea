"""`mepjax how-many`, `aggregate` and `regress` as a user meets them."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mepjax.cli.app import app


def _invoke(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def points(tmp_path):
    rng = np.random.default_rng(0)
    x = np.concatenate([0.3 * rng.normal(size=(20, 2)) + c for c in ([0, 0], [4, 0], [0, 400])])
    x[:, 1] += 100 * rng.normal(size=60)
    path = tmp_path / "points.csv"
    np.savetxt(path, x, delimiter=",", header="a,b", comments="")
    return path


def test_how_many_writes_all_and_says_whether_units_decide(points, tmp_path):
    out = tmp_path / "out"
    result = _invoke("how-many", points, "--max-size", 5, "--references", 2, "--out", out)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "report.json").read_text())
    assert facts["order"]["sizes"] == [1, 2, 3, 4, 5]
    assert facts["other_scale"]["agrees"] == (
        facts["other_scale"]["best"] == facts["order"]["best"]
    )
    labels = [row["cluster"] for row in _rows(out / "assignments.csv")]
    assert len(labels) == 60 and len(set(labels)) == facts["order"]["best"]
    assert len(_rows(out / "sizes.csv")) == 5
    assert {"returns.png", "report.html"} <= {path.name for path in out.iterdir()}


def blocks():
    rng = np.random.default_rng(0)
    return np.kron(np.eye(3), np.ones((3, 3))) * rng.uniform(0.5, 1, (9, 9)) + 0.02


def test_aggregate_a_matrix_and_a_list_alike(tmp_path):
    counts, names = blocks(), [f"s{i}" for i in range(9)]
    square, edges = tmp_path / "square.csv", tmp_path / "edges.csv"
    np.savetxt(square, counts, delimiter=",", header=",".join(names), comments="")
    edges.write_text(
        "from,to,n\n" + "".join(f"s{i},s{j},{counts[i, j]}\n" for i in range(9) for j in range(9))
    )
    found = []
    for path, more in ((square, []), (edges, ["--edges"])):
        out = tmp_path / path.stem
        result = _invoke("aggregate", path, "--counts", *more, "--out", out)
        assert result.exit_code == 0, result.output
        facts = json.loads((out / "report.json").read_text())
        assert facts["superstates"] == facts["order"]["best"] == 3
        rows = _rows(out / "superstates.csv")
        assert [row["state"] for row in rows] == names
        found.append([row["superstate"] for row in rows])
        assert len(_rows(out / "transitions.csv")) == 3
    assert found[0] == found[1]
    assert len({tuple(found[0][i : i + 3]) for i in (0, 3, 6)}) == 3


def test_regress_in_units_of_the_table(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)) * [1, 10, 1, 1, 0.1, 1, 1, 1] + 5
    y = 3 * x[:, 1] - 20 * x[:, 4] + 7 + 0.1 * rng.normal(size=60)
    table = tmp_path / "table.csv"
    np.savetxt(table, np.c_[x, y], delimiter=",", header="a,b,c,d,e,f,g,h,y", comments="")
    out = tmp_path / "out"
    result = _invoke("regress", table, "--target", "y", "--out", out)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "report.json").read_text())
    assert facts["support"] == ["b", "e"]
    np.testing.assert_allclose(facts["coefficients"], [3, -20], rtol=0.02)
    np.testing.assert_allclose(facts["intercept"], 7, atol=2)
    assert len(_rows(out / "path.csv")) == 8
    for way, size in (("return", 2), ("3", 3)):
        result = _invoke(
            "regress", table, "--target", "y", "--select", way, "--out", out, "--force"
        )
        assert json.loads((out / "report.json").read_text())["columns_used"] == size


def test_regress_names_columns_that_are_the_same_but_for_their_scale(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 8))
    x[:, 6] = 5 - 3 * x[:, 2]
    y = 2 * x[:, 2] + x[:, 4] + 0.01 * rng.normal(size=60)
    table, out = tmp_path / "table.csv", tmp_path / "out"
    np.savetxt(table, np.c_[x, y], delimiter=",", header="a,b,c,d,e,f,g,h,y", comments="")
    result = _invoke("regress", table, "--target", "y", "--out", out)
    assert result.exit_code == 0, result.output
    facts = json.loads((out / "report.json").read_text())
    assert len(facts["support"]) == 2 and facts["union"] == ["c", "e", "g"]
    (other,) = set("cg") - set(facts["support"])
    page = (out / "report.html").read_text()
    assert f"{other}: the same as a column that is named, but for its scale" in page


@pytest.mark.parametrize(
    ("text", "arguments", "message"),
    [
        ("0.5,0.4\n0.5,0.5\n", ["aggregate"], "row of '0' sums to 0.9"),
        ("0.5,0.5\n1.5,-0.5\n", ["aggregate"], "got -0.5 from '1' to '1'"),
        ("1,2\n0,0\n", ["aggregate", "--counts"], "no way on from '1'"),
        ("1,0\n0,1\n", ["aggregate"], "2 different closed|one closed class"),
        ("0.5,0.5,0\n0.5,0.5,0\n", ["aggregate"], "expected a square matrix"),
        ("0.5,0.5\n0.5,0.5\n", ["aggregate", "-k", "3"], "at most the number of states, 2"),
        ("0.5,0.5\n0.5,0.5\n", ["aggregate", "-k", "many"], "expected auto or an integer"),
        ("a,y\n1,1\n1,2\n1,3\n1,4\n", ["regress", "--target", "y"], "column 'a' is constant"),
        ("a,y\n1,1\n2,1\n3,1\n4,1\n", ["regress", "--target", "y"], "'y' is constant"),
        ("a,y\n1,1\n2,2\n3,1\n4,1\n", ["regress", "--target", "z"], "--target: got 'z'"),
        ("a,y\n1,1\n2,2\n3,1\n4,1\n", ["regress"], "--target: got none"),
        ("a,b\n1,1\n2,2\n3,1\n", ["how-many", "--max-size", "9"], "number of different points, 3"),
        ("a,b\n1,1\n1,1\n3,1\n", ["how-many"], "got 2 different points"),
        ("a,b\n1,1\n2,2\n3,1\n", ["how-many", "--kind", "x"], "--kind: got 'x'"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_written(tmp_path, text, arguments, message):
    path, out = tmp_path / "file.csv", tmp_path / "out"
    path.write_text(text)
    result = _invoke(arguments[0], path, *arguments[1:], "--out", out)
    assert result.exit_code == 2
    said = result.output + str(result.exception)
    assert any(part in said for part in message.split("|")), said
    assert not out.exists()
