"""`mepjax route` as a user meets it: what it writes, and one line for every mistake."""

import csv
import io
import json
import re

import jax
import numpy as np
import pytest
from PIL import Image

import mepjax as mj
from mepjax.cli.app import run
from mepjax.cli.commands import route as command
from mepjax.cli.options.anneal import AnnealOptions
from mepjax.cli.options.network import NetworkOptions
from mepjax.cli.tables import network
from mepjax.cli.tables.network import Network
from mepjax.cli.tables.points import Points
from mepjax.datasets import supply_network

from .test_formats import npy
from .test_page import Page

COARSE = ["--factor", "1.5", "--restarts", "1"]
WRITTEN = (
    "facilities.csv", "routes.csv", "report.json", "report.html", "routes.png",
    "facilities.geojson", "routes.geojson",
)  # fmt: skip
HOSTILE = '<script>alert("$x$ & 1")</script>'


# --- Mistakes: one line, exit code 2, nothing solved and nothing written. ----------------------

FILES = {
    "nodes.csv": b"x,y,w,name\n1,2,1,a\n3,4,2,b\n5,7,1,c\n",
    "map.csv": b"lon,lat,name\n-0.1,51.5,a\n0.1,51.6,b\n",
    "line.csv": b"x\n1\n2\n3\n",
    "bad.csv": b"x,y\n1,nan\n",
    "far.csv": b"x,y\n1e30,2\n-1e30,3\n",
    "empty": b"",
    "binary": b"\x7fELF\x00\x01",
    "standing.csv": b"x,y\n2,2\n",
    "standing3.csv": b"1,2,3\n",
    "standing_words.csv": b"x,y\n2,two\n",
    "standing_nan.csv": b"x,y\n2,nan\n",
    "standing_map.csv": b"lon,lat\n0,95\n",
    "links2.csv": b"1,1\n1,1\n",
    "links3.csv": b"1,1,1\n1,1,1\n1,1,1\n",
    "half.csv": b"1,0.5\n1,1\n",
    "words.csv": b"yes,no\nno,yes\n",
    "ragged.csv": b"1,1\n1\n",
    "no_exit.csv": b"0,1,0\n1,0,0\n",
    "exits.csv": b"0,1,1,1,1\n1,0,1,1,1\n",
    "negative.csv": b"1,-1\n1,1\n",
    "nan.csv": b"1,nan\n1,1\n",
    "cube.npy": npy(np.zeros((2, 2, 2))),
    "short.npy": npy(np.zeros((2, 2)))[:-1],
}
XY = ["--columns", "x,y"]
TO = ["--destination", "4,7"]
OK = [*XY, *TO, "--facilities", "2"]
TABLE = [
    # Facilities and stages.
    ("nodes.csv", [*XY, *TO], "--facilities: got none; expected the number of facilities"),
    ("nodes.csv", [*XY, *TO, "--facilities", "0"], "--facilities: got 0; expected at least 1"),
    ("nodes.csv", [*XY, *TO, "--facilities", "-2"], "--facilities: got -2"),
    ("nodes.csv", [*XY, *TO, "--facilities", "two"], "--facilities: got 'two'; expected an int"),
    ("nodes.csv", [*XY, *TO, "--facilities", "2.5"], "--facilities: got '2.5'"),
    ("nodes.csv", [*XY, *TO, "--facilities", "9" * 5000], "--facilities: got '999"),
    ("nodes.csv", [*XY, *TO, "--facilities", "1000000"], "expected less, as tables would hold"),
    ("nodes.csv", [*XY, *TO, "--facilities"], "--facilities"),
    ("nodes.csv", [*OK, "--stages", "0"], "--stages: got 0; expected at least 1"),
    ("nodes.csv", [*OK, "--stages", "x"], "--stages: got 'x'"),
    ("nodes.csv", [*OK, "--stages", "1000000000"], "--stages: got 1000000000; expected less"),
    ("nodes.csv", [*OK, "--max-hops", "0"], "--max-hops: got 0; expected at least 1, or 0 with"),
    ("nodes.csv", [*OK, "--max-hops", "-1", "--direct"], "--max-hops: got -1; expected at least 0"),
    ("nodes.csv", [*OK, "--max-hops", "3"], "--max-hops: got 3; expected at most 2, the number"),
    ("nodes.csv", [*OK, "--max-hops", "1.5"], "--max-hops: got '1.5'"),
    # Destinations.
    ("nodes.csv", [*XY, "--facilities", "2"], "--destination: got none; expected 2 numbers"),
    ("nodes.csv", [*OK, "--destination", "4"], "--destination: got '4'; expected 2 numbers"),
    ("nodes.csv", [*OK, "--destination", "4,7,1"], "--destination: got '4,7,1'; expected 2 num"),
    ("nodes.csv", [*OK, "--destination", ""], "--destination: got ''"),
    ("nodes.csv", [*OK, "--destination", "4;7"], "--destination: got '4;7'"),
    ("nodes.csv", [*OK, "--destination", "4,"], "--destination: got '4,'"),
    ("nodes.csv", [*OK, "--destination", "here"], "--destination: got 'here'"),
    ("nodes.csv", [*OK, "--destination", "4,nan"], "--destination: got '4,nan'"),
    ("nodes.csv", [*OK, "--destination", "inf,1"], "--destination: got 'inf,1'"),
    ("nodes.csv", [*OK, "--destination", "1_0,1"], "--destination: got '1_0,1'"),
    ("nodes.csv", [*OK, "--destination", "1e999,1"], "--destination: got '1e999,1'"),
    ("nodes.csv", [*OK, "--destination", "1e300,1"], "expected smaller ones, or --scale unit"),
    ("line.csv", ["--facilities", "1", *TO], "got '4,7'; expected 1 number, for the column x"),
    ("map.csv", ["--lonlat", "--ids", "name", "--facilities", "1", "--destination", "51,95"],
     "--destination: got '51,95'; expected 2 numbers .* latitude from -90 to 90"),
    ("map.csv", ["--lonlat", "--ids", "name", "--facilities", "1", "--destination", "-190,5"],
     "with a longitude from -180 to 180"),
    # Nodes.
    ("absent.csv", OK, "NODES 'absent.csv': got no such file"),
    (".", OK, "NODES '.': got a folder"),
    ("empty", OK, "NODES 'empty': got an empty file"),
    ("binary", OK, "binary file"),
    ("bad.csv", OK, "NODES 'bad.csv'.*: got nan; expected a finite number"),
    ("far.csv", OK, "expected smaller ones, or --scale unit"),
    ("nodes.csv", [*TO, "--facilities", "2"], "column 'name' is not numeric"),
    ("nodes.csv", [*TO, "--facilities", "2", "--columns", "x,z"], "--columns: got 'z'"),
    ("nodes.csv", [*OK, "--weight", "v"], "--weights: got 'v'"),
    ("nodes.csv", [*OK, "--ids", "id"], "--ids: got 'id'"),
    ("nodes.csv", [*OK, "--array", "a"], "--array: got 'a' beside a file of another kind"),
    ("nodes.csv", ["--lonlat", "--columns", "x", *TO, "--facilities", "2"], "no longitude"),
    # Facilities that stand already.
    ("nodes.csv", [*OK, "--fixed", "absent"], "--fixed 'absent': got no such file"),
    ("nodes.csv", [*OK, "--fixed", "empty"], "--fixed 'empty': got an empty file"),
    ("nodes.csv", [*OK, "--fixed", "binary"], "--fixed 'binary': got a binary file"),
    ("nodes.csv", [*OK, "--fixed", "standing3.csv"], "got 3 columns; expected those of the nodes"),
    ("nodes.csv", [*OK, "--fixed", "line.csv"], "got 1 columns; expected those of the nodes, 'x'"),
    ("nodes.csv", [*OK, "--fixed", "standing_words.csv"], "column 'y' is not numeric"),
    ("nodes.csv", [*OK, "--fixed", "standing_nan.csv"], "got nan; expected a finite number"),
    ("map.csv", ["--lonlat", "--ids", "name", "--facilities", "1", "--destination", "0,50",
                 "--fixed", "standing_map.csv"], "got 95; expected a latitude"),
    # Links.
    ("nodes.csv", [*OK, "--links", "absent"], "--links 'absent': got no such file"),
    ("nodes.csv", [*OK, "--links", "."], "--links '.': got a folder"),
    ("nodes.csv", [*OK, "--links", "binary"], "binary file"),
    ("nodes.csv", [*OK, "--links", "links3.csv"], "got 3 rows and 3 columns; expected 2 and 2"),
    ("nodes.csv", [*OK, "--links", "links2.csv", "--fixed", "standing.csv"],
     "got 2 rows and 2 columns; expected 3 and 3 for 3 facilities, or 4 columns"),
    ("nodes.csv", [*OK, "--links", "exits.csv"], "2 rows and 5 columns; expected 2 and 2"),
    ("nodes.csv", [*OK, "--links", "half.csv"], "line 1: got 0.5; expected 1 where one may travel"),
    ("nodes.csv", [*OK, "--links", "words.csv"], "column_0.* is not numeric"),
    ("nodes.csv", [*OK, "--links", "ragged.csv"], "line 2: got 1 cells; expected 2"),
    ("nodes.csv", [*OK, "--links", "cube.npy"], "3 dimensions"),
    ("nodes.csv", [*OK, "--links", "short.npy"], "broken NPY"),
    ("nodes.csv", [*OK, "--links", "no_exit.csv"], "the node of row 0 cannot reach a destination"),
    ("nodes.csv", [*OK, "--links", "no_exit.csv", "--ids", "name"], "row 0, id 'a', cannot reach"),
    # Capacities.
    ("nodes.csv", [*OK, "--entry-capacity", ".5"], "--entry-capacity: got '.5'; expected 2 numb"),
    ("nodes.csv", [*OK, "--entry-capacity", ".5,.5,.5"], "--entry-capacity: got '.5,.5,.5'"),
    ("nodes.csv", [*OK, "--entry-capacity", ".5,half"], "--entry-capacity: got '.5,half'"),
    ("nodes.csv", [*OK, "--entry-capacity", "-1,2"], "--entry-capacity: got '-1,2'"),
    ("nodes.csv", [*OK, "--entry-capacity", "=.5,inf"], "--entry-capacity: got '=.5,inf'"),
    ("nodes.csv", [*OK, "--entry-capacity", "=.5,.4"], "--entry-capacity .* a sum 1; got 0.9"),
    ("nodes.csv", [*OK, "--entry-capacity", ".5,.4"], "--entry-capacity .* at least 1; got 0.9"),
    ("nodes.csv", [*OK, "--facility-capacity", "nan,1"], "--facility-capacity: got 'nan,1'"),
    ("nodes.csv", [*OK, "--facility-capacity", ".3,.3"], "--facility-capacity .* at least 1; got"),
    ("nodes.csv", [*OK, "--facility-capacity", "=9,9"], "--facility-capacity .* in .1, 2.; got 18"),
    ("nodes.csv", [*OK, "--link-capacity", "absent"], "--link-capacity 'absent': got no such file"),
    ("nodes.csv", [*OK, "--link-capacity", "links3.csv"], "got 3 rows and 3 columns; expected 2"),
    ("nodes.csv", [*OK, "--link-capacity", "negative.csv"], "line 1: got -1; expected a number >="),
    ("nodes.csv", [*OK, "--link-capacity", "nan.csv"], "line 1: got nan; expected a number >= 0"),
    # The anneal, and where results go.
    ("nodes.csv", [*OK, "--restarts", "0"], "--restarts: got 0; expected at least 1"),
    ("nodes.csv", [*OK, "--seed", "-1"], "--seed: got -1"),
    ("nodes.csv", [*OK, "--scale", "big"], "--scale: got 'big'; expected one of none, unit"),
    ("nodes.csv", [*OK, "--beta-max", "0"], "--beta-max: got 0; expected a finite number > 0"),
    ("nodes.csv", [*OK, "--beta-min", "2", "--beta-max", "1"], "--beta-max: got 1; expected at"),
    ("nodes.csv", [*OK, "--beta-min", "1e9"], "expected at least --beta-min 1e.09"),
    ("nodes.csv", [*OK, "--factor", "1"], "--factor: got 1; expected more than 1"),
    ("nodes.csv", [*OK, "--factor", "1.0000001"], "--factor: got 1; expected more, as it would"),
    ("nodes.csv", [*OK, "--bogus"], "--bogus"),
    ("nodes.csv", [*OK, "extra.csv"], "extra"),
    ("nodes.csv", [*OK, "--out", "nodes.csv"], "got a file; expected a folder"),
    ("nodes.csv", [*OK, "--out", "/proc/no"], "cannot be written"),
    ("nodes.csv", [*OK, "--out", "earlier"], "--force to overwrite"),
    ("nodes.csv", [*OK, "--out", "clusters"], "has centres.csv; .* --force to overwrite"),
    (None, ["--columns", "x"], "--columns: got 'x' without a file; expected NODES"),
    (None, ["--lonlat"], "--lonlat: got it without a file"),
    (None, ["--facilities", "0"], "--facilities: got 0"),
    (None, ["--destination", "4"], "--destination: got '4'; expected 2 numbers"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "arguments", "says"), TABLE, ids=[str(i) for i in range(len(TABLE))]
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, name, arguments, says
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEPJAX_DEBUG", "1")  # a bug would raise
    monkeypatch.setattr(command.mj, "anneal", lambda *a, **k: pytest.fail("came to a solve"))
    for file, content in FILES.items():
        (tmp_path / file).write_bytes(content)
    for folder, file in (("earlier", "routes.csv"), ("clusters", "centres.csv")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / file).write_text("old")
    before = sorted(tmp_path.rglob("*"))
    code = run(["route", *([] if name is None else [name]), *arguments])
    captured = capsys.readouterr()
    assert code == 2, captured.out
    assert captured.err.startswith("mepjax: error: ") and captured.err.count("\n") == 1
    assert len(captured.err) < 700
    assert re.search(says, captured.err), captured.err
    assert sorted(tmp_path.rglob("*")) == before


def test_link_capacities_are_bounds_or_after_an_equals_sign_to_be_met(tmp_path):
    file = tmp_path / "links.csv"
    file.write_text("inf,0.5\n1,inf\n")
    bounds = network.read_link_capacity(str(file), 2)
    targets = network.read_link_capacity(f"={file}", 2)
    assert (bounds.equal, targets.equal) == (False, True)
    np.testing.assert_array_equal(targets.values, [[np.inf, 0.5], [1, np.inf]])


@pytest.mark.slow
def test_a_failed_solve_says_why_and_writes_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "nodes.csv").write_bytes(FILES["nodes.csv"])
    monkeypatch.setattr(command.Run, "code", mj.Code.STALLED)
    out = tmp_path / "out"
    arguments = ["route", str(tmp_path / "nodes.csv"), *OK, "--beta-max", "0.02", *COARSE]
    assert run([*arguments, "--out", str(out)]) == 3
    text = capsys.readouterr().err
    assert text.startswith("mepjax: error: the solve failed in all 2 runs: [STALLED] No further")
    assert text.count("\n") == 1 and not out.exists()


# --- What it writes. ---------------------------------------------------------------------------


def _read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One run over places with hostile names, weights, a facility that stands and closed links."""
    folder = tmp_path_factory.mktemp("run")
    with jax.enable_x64(False):
        x, _ = supply_network(40)
    rows = [
        [f"{HOSTILE}{i}", 50 + float(y) / 10, float(x) / 10, 1 + i % 3]
        for i, (x, y) in enumerate(np.asarray(x))
    ]
    source = folder / "a<b>&c.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["name", "lat", "lon", "w"], *rows])
    (folder / "fixed.csv").write_text("lat,lon\n50.6,0.5\n")
    # From the placed facilities only through the one that stands.
    (folder / "links.csv").write_text("0,1,1,0,0\n1,0,1,0,1\n1,1,0,1,1\n")
    out = folder / "out"
    code = run(
        ["route", str(source), "--lonlat", "--ids", "name", "--weight", "w", "--facilities", "2",
         "--destination", "0.4,50.7", "--destination", "-0.1,50.1", "--fixed",
         str(folder / "fixed.csv"), "--links", str(folder / "links.csv"), "--scale", "unit",
         *COARSE, "--out", str(out)]
    )  # fmt: skip
    assert code == 0
    return rows, out, source


PLACED, ENDS = 2, np.array([[0.4, 50.7], [-0.1, 50.1]])


def _places(out):
    found = _read(out / "facilities.csv")
    return np.array([[float(row["lon"]), float(row["lat"])] for row in found])


def test_all_files_are_there(results):
    _, out, _ = results
    expected = sorted(WRITTEN)
    assert sorted(entry.name for entry in out.iterdir()) == expected


def test_routes_are_the_cheapest_and_say_what_they_cost(results):
    rows, out, _ = results
    found = _read(out / "routes.csv")
    assert list(found[0]) == [
        "row", "id", "weight", "entry", "entry_probability", "route", "destination", "cost",
    ]  # fmt: skip
    assert [row["id"] for row in found] == [row[0] for row in rows]
    x, weights = np.array([[row[2], row[1]] for row in rows]), np.array([row[3] for row in rows])
    links = mj.paths.Links(
        between=np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]], bool),
        exit=np.array([[0, 0], [0, 1], [1, 1]], bool),
    )
    places = _places(out)
    np.testing.assert_allclose(places[PLACED], [0.5, 50.6])
    # Kilometres on a map that is true at the mean latitude.
    middle = np.radians(np.average(x[:, 1], weights=weights))
    km = 6371.0088 * np.pi / 180 * np.array([np.cos(middle), 1])
    problem = mj.FacilityPath(
        x * km, ENDS * km, 2, fixed=places[2:] * km, weights=weights, links=links
    )
    hard = problem.harden(places[:2] * km)
    for row, route, end, cost in zip(
        found, hard.routes, hard.destinations, hard.node_costs, strict=True
    ):
        assert row["route"] == " ".join(str(j) for j in route.tolist() if j >= 0)
        assert int(row["destination"]) == int(end)
        assert float(row["cost"]) == pytest.approx(float(cost), rel=1e-3)
        assert row["entry"] == row["route"].split()[0] and float(row["entry_probability"]) > 0.5
    report = json.loads((out / "report.json").read_text())
    expected = np.average([float(row["cost"]) for row in found], weights=weights)
    chosen = report["chosen"]
    assert chosen["hard_cost_in_square_km"] == pytest.approx(expected, rel=1e-5)
    assert chosen["code"] == "OK" and chosen["facilities_used"] == 3
    factor = report["scale"]["cost_factor"]
    assert chosen["hard_cost"] * factor == pytest.approx(expected, rel=1e-5)
    first = report["locate_then_route"]
    assert first["hard_cost"] >= chosen["hard_cost"] and first["code"] == "OK"
    assert first["ratio"] == pytest.approx(first["hard_cost"] / chosen["hard_cost"])
    assert first["percent"] == pytest.approx(100 * (first["ratio"] - 1))
    assert len(report["beta_path"]) == chosen["stages"]


def test_facilities_are_those_of_the_routes(results):
    _, out, _ = results
    routes, found = _read(out / "routes.csv"), _read(out / "facilities.csv")
    assert [row["fixed"] for row in found] == ["0", "0", "1"]
    weights = np.array([float(row["weight"]) for row in routes])
    # At the last beta soft and hard are as good as the same.
    for row in found:
        enter = [route["entry"] == row["facility"] for route in routes]
        visit = [row["facility"] in route["route"].split() for route in routes]
        share = np.sum(weights[enter]) / np.sum(weights)
        assert float(row["entry_share"]) == pytest.approx(share, abs=0.01)
        visits = np.sum(weights[visit]) / np.sum(weights)
        assert float(row["visits"]) == pytest.approx(visits, abs=0.01)


def test_maps_have_longitude_first(results):
    rows, out, _ = results
    routes, places = _read(out / "routes.csv"), _places(out)
    features = json.loads((out / "routes.geojson").read_text())["features"]
    for feature, row, line in zip(features, rows, routes, strict=True):
        through = places[[int(j) for j in line["route"].split()]]
        expected = [[row[2], row[1]], *through, ENDS[int(line["destination"])]]
        assert feature["geometry"]["type"] == "LineString"
        np.testing.assert_allclose(feature["geometry"]["coordinates"], expected, atol=1e-6)
        assert feature["properties"]["id"] == row[0]
    features = json.loads((out / "facilities.geojson").read_text())["features"]
    kinds = ["facility", "facility", "fixed facility", "destination", "destination"]
    assert [feature["properties"]["kind"] for feature in features] == kinds
    shown = [feature["geometry"]["coordinates"] for feature in features]
    np.testing.assert_allclose(shown, [*places, *ENDS], atol=1e-6)


def test_the_page_needs_nothing_else_and_answers_the_first_questions(results):
    _, out, source = results
    text = (out / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == [] and not re.search(r"https?://|url\(|@import", text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "a", "b"}
    assert [tag for tag, _ in page.tags].count("img") == 2
    words = " ".join(page.text)
    assert source.name in words
    for question in (
        "Where are the facilities?", "Which way do nodes travel?",
        "What is deciding both at once worth?", "Did it converge?",
    ):  # fmt: skip
        assert question in words
    report = json.loads((out / "report.json").read_text())
    assert f"{report['chosen']['hard_cost']:.6g}" in words
    assert f"{report['locate_then_route']['percent']:+.2f}%" in words
    for row in _read(out / "routes.csv"):
        assert " → ".join(row["route"].split()) in words


def test_the_figure_is_a_picture(results):
    _, out, _ = results
    with Image.open(io.BytesIO((out / "routes.png").read_bytes())) as picture:
        assert picture.format == "PNG" and min(picture.size) > 500
        colours = np.ptp(np.asarray(picture.convert("RGB"), int), axis=2) > 50
    assert 0.0005 < np.mean(colours) < 0.5


def test_the_same_again_is_the_same_to_the_bit_and_needs_leave(results, tmp_path, capsys):
    _, out, source = results
    copy = tmp_path / "out"
    copy.mkdir()
    (copy / "centres.csv").write_text("of another command")
    (copy / "mine.txt").write_text("mine")
    arguments = [
        "route", str(source), "--lonlat", "--ids", "name", "--weight", "w", "--facilities", "2",
        "--destination", "0.4,50.7", "--destination", "-0.1,50.1", "--fixed",
        str(source.parent / "fixed.csv"), "--links", str(source.parent / "links.csv"), "--scale",
        "unit", *COARSE, "--out", str(copy),
    ]  # fmt: skip
    assert run(arguments) == 2
    assert "has centres.csv" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0
    expected = sorted([*WRITTEN, "mine.txt"])
    assert sorted(entry.name for entry in copy.iterdir()) == expected
    for name in ("facilities.csv", "routes.csv", "routes.png", "routes.geojson"):
        assert (copy / name).read_bytes() == (out / name).read_bytes()


def test_without_a_file_an_example_runs(tmp_path, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(command, "solve", lambda *inputs: asked.append(inputs))
    monkeypatch.setattr(command, "report", lambda *inputs: None)
    monkeypatch.setattr(command.folder, "write", lambda *inputs: ())
    monkeypatch.setattr(command.terminal, "lines", lambda *inputs: ["done"])
    assert run(["route", "--max-hops", "3", "--out", str(tmp_path / "out")]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == (
        "No file given: running the bundled example: supply_network(200) with --facilities 5 "
        "--destination 4,7."
    )
    assert last == "done"
    ((points, wanted, options, _, _),) = asked
    assert points.x.shape == (200, 2) and points.names == ("x", "y")
    np.testing.assert_array_equal(wanted.destinations, [[4, 7]])
    assert (options.facilities, options.max_hops) == (5, 3)


@pytest.mark.slow
def test_hops_direct_legs_and_columns_without_units(tmp_path):
    """One coordinate, z-scores, no hop at all allowed to a node: it goes straight."""
    nodes = tmp_path / "nodes.npy"
    nodes.write_bytes(npy(np.array([[0.0, 5.0], [1.0, 9.0], [2.0, 1.0]])))
    out = tmp_path / "out"
    arguments = ["--facilities", "1", "--destination", "8,4", "--direct", "--max-hops", "0"]
    assert (
        run(["route", str(nodes), *arguments, "--scale", "zscore", *COARSE, "--out", str(out)]) == 0
    )
    for row in _read(out / "routes.csv"):
        assert row["entry"] == row["route"] == "" and row["destination"] == "0"
        assert "scaled_cost" in row
    report = json.loads((out / "report.json").read_text())
    assert report["chosen"]["facilities_used"] == 0 and report["scale"]["cost_factor"] is None


@pytest.mark.slow
def test_restarts_keep_the_lowest_hard_cost():
    with jax.enable_x64(False):
        x, end = (np.asarray(a, np.float64) for a in supply_network(30))
    network = Network(end[None])
    points = Points(x, ("x", "y"), None)
    options, anneal = NetworkOptions(facilities=2), AnnealOptions(restarts=2, factor=1.5)
    result = command.solve(points, network, options, anneal)
    assert len(result.runs) == 3  # and from where locating first ends
    assert result.best.cost == min(run.cost for run in result.runs)
    np.testing.assert_allclose(result.ways.view.entry.sum(), 1, atol=1e-5)


@pytest.mark.slow
def test_entry_shares_are_met_by_soft_and_by_hard_routes(tmp_path):
    nodes, out = tmp_path / "nodes.npy", tmp_path / "out"
    with jax.enable_x64(False):
        nodes.write_bytes(npy(np.asarray(supply_network(20)[0])))
    arguments = ["--facilities", "2", "--destination", "4,7", "--entry-capacity", "=.75,.25"]
    assert run(["route", str(nodes), *arguments, *COARSE, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    entry = report["capacities"]["entry"]
    assert entry["equality"] and entry["limit"] == [0.75, 0.25]
    np.testing.assert_allclose(entry["used"], [0.75, 0.25], atol=1e-4)
    assert entry["largest_violation"] < 1e-4 and report["routes_ignore_capacities"] is None
    routes = _read(out / "routes.csv")
    first = [row["route"].split()[0] for row in routes]
    assert (first.count("0"), first.count("1")) == (15, 5)
    mean = np.mean([float(row["cost"]) for row in routes])
    assert report["chosen"]["hard_cost"] == pytest.approx(mean, rel=1e-5)
    text = (out / "report.html").read_text("utf-8")
    assert "Are the capacities kept?" in text and text.count("<img") == 3
