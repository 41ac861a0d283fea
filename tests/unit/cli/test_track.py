"""`mepjax track` as a user meets it."""

import csv
import json
import sys

import numpy as np
import pytest

from mepjax.cli.app import run

START = {"a": (0.0, 0.0), "b": (0.0, 1.0), "c": (1.0, 4.0), "d": (0.5, 4.5), "base": (6.0, 2.0)}
VELOCITY = np.array([0.3, -0.4])
QUICK = ["--rows", "3", "--cold", "0", "--no-film"]


def traces(ids=START, times=(0.0, 1.0, 2.0), names="id,t,x,y"):
    """All move with one velocity, told at times that differ from id to id, in no order."""
    lines = [names]
    for number, (name, place) in enumerate(ids.items()):
        # The first and last time are those of all.
        own = [times[0], *(t + 0.1 * number for t in times[1:-1]), times[-1]]
        for time in reversed(own):
            x, y = place + VELOCITY * time
            lines.append(f"{name},{time:.3f},{x:.9f},{y:.9f}")
    return "\n".join(lines) + "\n"


def written(folder):
    facts = json.loads((folder / "report.json").read_text())
    with (folder / "track.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "track.png").stat().st_size > 1000
    return facts, rows, json.loads((folder / "track.json").read_text())


@pytest.mark.slow
def test_a_scene_that_is_carried_along_is_followed(tmp_path, capsys):
    source, out = tmp_path / "traces.csv", tmp_path / "out"
    source.write_text(traces())
    asked = ["--facilities", "2", "--destination", "base", *QUICK]
    assert run(["track", str(source), *asked, "--out", str(out)]) == 0
    facts, rows, places = written(out)
    assert places["ids"] == ["a", "b", "c", "d"] and places["times"] == [0.0, 1.0, 2.0]
    carried = np.arange(3)[:, None, None] * VELOCITY
    for name in ("nodes", "facilities", "destination"):
        at = np.array(places[name])
        np.testing.assert_allclose(at, at[:1] + carried, atol=1e-6)
    np.testing.assert_allclose(facts["control law"]["largest_speed"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(facts["warm re-solve"]["largest_speed"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(facts["percent_above_warm"], 0, atol=1e-6)
    # Nothing changes but the place.
    costs = [float(row[name]) for row in rows for name in ("distortion", "warm_distortion")]
    np.testing.assert_allclose(costs, costs[0], rtol=1e-7)
    moved = float(rows[2]["facility_1_y"]) - float(rows[0]["facility_1_y"])
    np.testing.assert_allclose(moved, -0.8, atol=1e-6)
    assert not (out / "track.gif").exists() and "cold anneal" not in facts
    assert "largest speed" in capsys.readouterr().out


SCENE = """
facilities = 2
duration = 1.0
nodes = [[0.0, 0.0], [0.0, 1.0], [1.0, 4.0], [0.5, 4.5]]
velocities = [[0.3, 0.0], [0.3, 0.0], [0.3, 0.0], [0.3, 0.0]]
destination = [6.0, 2.0]
destination_velocity = [0.3, 0.0]
"""


@pytest.mark.slow
def test_a_scene_from_toml_with_all_baselines_and_a_film(tmp_path):
    source, out = tmp_path / "scene.toml", tmp_path / "out"
    source.write_text(SCENE)
    asked = ["--rows", "3", "--cold", "2"]
    assert run(["track", str(source), *asked, "--out", str(out)]) == 0
    facts, _, _ = written(out)
    assert (out / "track.gif").read_bytes()[:6] == b"GIF89a"
    np.testing.assert_allclose(facts["control law"]["largest_speed"], 0.3, rtol=1e-5)
    found = [facts[name]["mean_distortion"] for name in ("control law", "cold anneal")]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3)


@pytest.mark.slow
def test_centres_follow_positions_in_degrees(tmp_path):
    source, out = tmp_path / "traces.csv", tmp_path / "out"
    source.write_text(traces(names="id,t,lon,lat"))
    assert run(["track", str(source), "--clusters", "2", *QUICK, "--out", str(out)]) == 0
    facts, rows, places = written(out)
    assert places["columns"] == ["lon", "lat"] and len(places["ids"]) == 5
    moved = np.array(places["facilities"])
    np.testing.assert_allclose(moved, moved[:1] + np.arange(3)[:, None, None] * VELOCITY, atol=1e-6)
    # In km: a degree of latitude is 111.2 of them, one of longitude near the equator nearly so.
    np.testing.assert_allclose(facts["control law"]["largest_speed"], 111.2 * 0.5, rtol=5e-3)
    assert facts["units"] == "square km"


FACILITIES = ["--facilities", "2", "--destination", "base"]


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        (traces(names="id,t,x,x"), ["--facilities", "2"], "--destination: got none beside"),
        (traces(), [], "--clusters: got none; expected the number of centres"),
        (
            traces(),
            ["--facilities", "2", "--destination", "hub"],
            "got 'hub'; expected an id: 'a', 'b'",
        ),
        (traces(), [*FACILITIES, "--law", "fast"], "--law: got 'fast'; expected one of follow"),
        (traces(), [*FACILITIES, "--gain", "0"], "--gain: got 0; expected a finite number > 0"),
        (traces(), [*FACILITIES, "--beta", "-1"], "--beta: got -1; expected a finite number > 0"),
        (traces(), [*FACILITIES, "--rows", "1"], "--rows: got 1; expected at least 2"),
        (traces(), [*FACILITIES, "--cold", "1"], "--cold: got 1; expected 0, or at least 2"),
        (traces(), [*FACILITIES, "--clusters", "2"], "--clusters: got it beside a destination"),
        (traces(names="name,t,x,y"), FACILITIES, "expected id, t and coordinates"),
        (traces() + "e,1.0,0.0,0.0\n", FACILITIES, "got one fix of id 'e'; expected at least two"),
        (traces() + "a,2.0,0.0,0.0\n", FACILITIES, "got the time 2 of id 'a' twice"),
        (
            traces() + "e,5.0,0,0\ne,6.0,0,0\n",
            FACILITIES,
            "got id 'e' from 5 on and id 'a' until 2",
        ),
        (traces() + "a,3.0,nan,0.0\n", FACILITIES, "got nan; expected a finite number"),
        (traces() + "a,late,0.0,0.0\n", FACILITIES, "not numeric"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, capsys, text, arguments, says):
    source, out = tmp_path / "traces.csv", tmp_path / "out"
    source.write_text(text)
    assert run(["track", str(source), *arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("facilities = \n", "is no TOML"),
        ("facilites = 2\n", "has the key 'facilites'; expected only"),
        ("facilities = 0\n[network]\n", "facilities must be an integer >= 1; got 0"),
        (SCENE.replace("1.0\n", "-1.0\n", 1), "duration must be positive and finite; got -1"),
        (SCENE.replace("velocities", "destination_velocities"), "has the key"),
        (SCENE.replace("velocities = [[0.3, 0.0], ", "velocities = ["), "as many as nodes"),
        (SCENE.replace("[6.0, 2.0]", "[6.0]"), "must have 2 coordinates, as nodes have; got 1"),
        ("absent = [[1, 9]]\n" + SCENE, "got the link 1, 9; expected facilities from 1 to 2"),
        ("facilities = 2\n", "lacks 'nodes'"),
        ("facilities = 2\n[network]\nsped = 1\n", "has the key 'sped'"),
    ],
)
def test_a_mistake_in_a_scene_is_named(tmp_path, capsys, text, says):
    source, out = tmp_path / "scene.toml", tmp_path / "out"
    source.write_text(text)
    assert run(["track", str(source), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1
    assert not out.exists()


def test_without_diffrax_it_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    assert run(["track", "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert 'needs diffrax; run: pip install "mepjax[control]"' in said and "bug" not in said
    assert not (tmp_path / "out").exists()
