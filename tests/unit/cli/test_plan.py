"""`mepjax plan` as a user meets it."""

import csv
import json

import numpy as np
import pytest

from mepjax.cli.app import run

# From a, a sure step of cost 1 to b, which costs 2 more; or tries of cost 1.4 that succeed half of
# the time, and cost 2.8 in all.
CHOICE = """state,action,next,probability,cost
a,slow,b,1,1
a,fast,goal,0.5,1.4
a,fast,a,0.5,1.4
b,slow,goal,1,2
"""
RELAY = "state,action,next,cost\nu0,send,relay,0\nu1,send,relay,0\nrelay,send,base,1\n"
STATES = "state,x,y,start\nu0,0,1,1\nu1,0,-1,1\nrelay,,,0\nbase,6,0,0\n"


def rows_of(path):
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_a_process_with_a_known_answer(tmp_path, capsys):
    file, out = tmp_path / "t.csv", tmp_path / "out"
    file.write_text(CHOICE)
    assert run(["plan", str(file), "--out", str(out)]) == 0
    policy = {row["state"]: row for row in rows_of(out / "policy.csv")}
    assert policy["a"]["action"] == "fast" and policy["b"]["action"] == "slow"
    np.testing.assert_allclose([float(policy[s]["value"]) for s in "ab"], [2.8, 2], rtol=1e-5)
    for row in policy.values():
        assert float(row["lower"]) - 1e-5 <= float(row["value"]) <= float(row["upper"]) + 1e-5
    facts = json.loads((out / "report.json").read_text())
    # Starts are uniform over a and b.
    np.testing.assert_allclose(facts["cost"], 2.4, rtol=1e-5)
    assert facts["code"] == "OK" and facts["place_then_decide"] is None
    assert "<html" in (out / "report.html").read_text()
    assert (out / "plan.png").stat().st_size > 1000
    assert "expected cost" in capsys.readouterr().out


@pytest.mark.slow
def test_a_state_is_placed_on_the_way(tmp_path):
    file, states, out = tmp_path / "t.csv", tmp_path / "s.csv", tmp_path / "out"
    file.write_text(RELAY)
    states.write_text(STATES)
    options = ["--states", str(states), "--out", str(out), "--restarts", "1", "--factor", "3"]
    assert run(["plan", str(file), *options]) == 0
    # Nothing is to be decided: half-way from (0, +-1) to (6, 0), at 9 + 1 + 9 and the price of 1.
    (relay,) = rows_of(out / "places.csv")
    np.testing.assert_allclose([float(relay["x"]), float(relay["y"])], [3, 0], atol=1e-4)
    facts = json.loads((out / "report.json").read_text())
    np.testing.assert_allclose(facts["cost"], 20, rtol=1e-5)
    # Where users are is (0, 0): 1 + 36 + 1.
    np.testing.assert_allclose(facts["place_then_decide"]["hard_cost"], 38, rtol=1e-4)
    assert facts["chosen"]["code"] == "OK" and facts["input"]["placed"] == ["relay"]
    # dF / d base = 2 (base - relay), and half of it for each user, who starts half of the time.
    by_state = {row["state"]: float(row["d_x"]) for row in rows_of(out / "sensitivities.csv")}
    np.testing.assert_allclose([by_state["base"], by_state["u0"]], [6, -3], rtol=1e-3)
    assert (out / "plan.png").stat().st_size > 1000


@pytest.mark.slow
def test_without_a_file_the_bundled_network_is_planned(tmp_path, capsys):
    out = tmp_path / "out"
    assert run(["plan", "--restarts", "1", "--factor", "1.2", "--out", str(out)]) == 0
    assert "small_cells" in capsys.readouterr().out
    facts = json.loads((out / "report.json").read_text())
    assert len(rows_of(out / "places.csv")) == 5
    assert facts["place_then_decide"]["percent"] > 40


def test_earning_without_end_is_a_failed_solve(tmp_path, capsys):
    file, out = tmp_path / "t.csv", tmp_path / "out"
    file.write_text(
        "state,action,next,probability,cost\na,wait,b,0.5,-1\na,wait,a,0.5,-1\nb,back,a,1,-1\n"
        "a,go,goal,1,1\nb,go,goal,1,1\n"
    )
    assert run(["plan", str(file), "--discount", "1", "--out", str(out)]) == 3
    err = capsys.readouterr().err
    assert err.startswith("mepjax: error: the solve failed: ") and "costs are negative" in err
    assert err.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("edges", "states", "arguments", "says"),
    [
        (CHOICE.replace("a,0.5", "a,0.4"), None, [], "line 3: got probabilities of sum 0.9 for"),
        (CHOICE.replace("1,1", "1.5,1", 1), None, [], "line 2, column probability: got 1.5"),
        (CHOICE.replace("1,1", "1,nan", 1), None, [], "line 2, column 'cost': got nan"),
        (CHOICE.replace("next", "then"), None, [], "got the column 'then'; expected state, action"),
        ("state,action\na,b\n", None, [], "got no column next"),
        (CHOICE, None, ["--discount", "1.5"], "--discount: got 1.5; expected a number in (0, 1]"),
        (CHOICE, None, ["--beta", "0"], "--beta: got 0; expected a number > 0"),
        (CHOICE.replace("b,slow,goal", "b,slow,b"), None, [], "got state 'b', from which"),
        (
            RELAY,
            STATES.replace(",1\n", ",0\n").replace("6,0,0", "6,0,1"),
            [],
            "got no state to start",
        ),
        ("state,action,next\na,x,b\nb,x,a\nc,x,d\n", None, [], "got state 'a', from which"),
        (RELAY, STATES.replace("relay", "rely"), [], "expected a state of --states"),
        (RELAY, STATES.replace("u1", "u0"), [], "got 'u0' twice"),
        (RELAY, STATES.replace("relay,,", "relay,1,"), [], "got some of the coordinates"),
        (RELAY, STATES.replace("0,1,1", "0,one,1"), [], "column 'y': got 'one'"),
        (RELAY, STATES.replace("0,1,1", "0,1,-1"), [], "column start: got weights"),
        (RELAY, STATES, ["--beta", "2"], "--beta: got 2; expected none where states are"),
        (RELAY, STATES, ["--scale", "unit"], "--scale: got unit; expected none"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, edges, states, arguments, says
):
    monkeypatch.setenv("MEPJAX_DEBUG", "1")
    file, out = tmp_path / "t.csv", tmp_path / "out"
    file.write_text(edges)
    if states is not None:
        (tmp_path / "s.csv").write_text(states)
        arguments = [*arguments, "--states", str(tmp_path / "s.csv")]
    assert run(["plan", str(file), "--out", str(out), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("mepjax: error: ") and err.count("\n") == 1 and says in err
    assert not out.exists()
