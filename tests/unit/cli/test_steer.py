"""`mepjax steer` as a user meets it."""

import csv
import json

import numpy as np
import pytest

from mepjax.cli.app import run

GAME = """
discount = 0.5
sizes = [2, 2]
signals = 2
[[agents]]  # goes where its signal says, and wants to be in state 1
local = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
reward = [[0.0, 0.0], [1.0, 1.0]]
[[agents]]  # wants to be in state 0
local = [[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]
reward = [[3.0, 3.0], [0.0, 0.0]]
"""


def written(folder):
    facts = json.loads((folder / "report.json").read_text())
    with (folder / "policy.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert "<html" in (folder / "report.html").read_text()
    assert (folder / "steered.png").stat().st_size > 1000
    return facts, rows


def test_a_game_from_a_file_with_labels(tmp_path, capsys):
    game = tmp_path / "game.toml"
    game.write_text(GAME)
    assert run(["steer", str(game), "--labels", "0,1", "--out", str(tmp_path / "out")]) == 0
    facts, rows = written(tmp_path / "out")
    # Both get what they want from the next step on: V = r(x) + .5 (4 / (1 - .5)).
    earned = np.array([3, 0, 4, 1])
    np.testing.assert_allclose([float(row["value"]) for row in rows], earned + 4, rtol=1e-6)
    assert {(row["signal_0"], row["signal_1"]) for row in rows} == {("1", "0")}
    assert facts["certified"] and facts["code"] == "OK" and facts["splits"] is None
    assert "mean value" in capsys.readouterr().out


def test_clusters_are_split_where_none_are_given(tmp_path):
    game = tmp_path / "game.toml"
    game.write_text(GAME)
    out = tmp_path / "out"
    assert run(["steer", str(game), "--clusters", "2", "--method", "cvi", "--out", str(out)]) == 0
    facts, _ = written(out)
    # Together they can only do what agent 1 wants: mean r + .5 * 3 / .5 = 2 + 3, apart 2 + 4.
    np.testing.assert_allclose(facts["splits"]["mean_values"], [5, 6], rtol=1e-6)
    assert facts["labels"] == [0, 1] and (out / "splits.csv").exists()


@pytest.mark.slow
def test_without_a_file_the_channel_game_is_run(tmp_path, capsys):
    assert run(["steer", "--out", str(tmp_path / "out")]) == 0
    assert "channel_game" in capsys.readouterr().out
    facts, rows = written(tmp_path / "out")
    assert len(rows) == 729 and facts["certified"] and facts["splits"]["looked_at"] == [1, 31]


@pytest.mark.parametrize(
    ("text", "arguments", "says"),
    [
        ("discount = \n", [], "is no TOML: Invalid value (at line 1, column 12)"),
        ("\n[chanels]\n", [], "line 2: the file has the key 'chanels'; expected only"),
        (
            GAME.replace("reward = [[3", "rewards = [[3"),
            [],
            "line 10: agent 1 has the key 'rewards'; expected only",
        ),
        (
            GAME.replace(
                "[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]]\nreward = [[3",
                "[0.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]]]\nreward = [[3",
            ),
            [],
            "line 8: FactoredMDP: rows of `p of agent 1` must sum to one; got a row that sums to "
            "0.5 (state 0, signal 1)",
        ),
        ("[channels]\nplayers = 0\n", [], "`n` must be at least 1; got 0"),
        (GAME.replace("0.5", "1.5", 1), [], "`discount` must be in (0, 1); got 1.5"),
        (GAME.replace("sizes = [2, 2]", ""), [], "lacks 'sizes'"),
        (GAME, ["--labels", "0,1,1"], "--labels: steer: `labels` must be 2 integers"),
        (GAME, ["--labels", "a"], "--labels: got 'a'; expected integers separated by commas"),
        (GAME, ["--clusters", "5"], "--clusters: split: `clusters` must be an integer in 1..2"),
        (GAME, ["--clusters", "1", "--labels", "0,0"], "--labels: got --clusters too"),
        (GAME, ["--method", "guess"], "--method: got 'guess'; expected one of hybrid"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    tmp_path, monkeypatch, capsys, text, arguments, says
):
    monkeypatch.setenv("MEPJAX_DEBUG", "1")
    game = tmp_path / "game.toml"
    game.write_text(text)
    assert run(["steer", str(game), "--out", str(tmp_path / "out"), *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("mepjax: error: ") and err.count("\n") == 1 and says in err
    assert not (tmp_path / "out").exists()
