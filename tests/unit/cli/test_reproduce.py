"""`mepjax reproduce` as a user meets it."""

import json

import pytest

from mepjax.cli.app import run
from mepjax.reproduce import REPRODUCTIONS


def test_the_list_has_every_name(capsys):
    assert run(["reproduce", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(REPRODUCTIONS)
    assert sum("; also called table5" in line for line in lines) == 1


def test_two_names_of_one_table_compute_it_once(tmp_path, capsys, monkeypatch):
    """Without data no row of Tables 4 and 5 is measured, which takes no time."""
    monkeypatch.delenv("MEPJAX_DATA_DIR", raising=False)
    assert run(["reproduce", "table4", "table5", "--out", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["table4"]
    assert capsys.readouterr().out.count("0 of 40 rows") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing argument"),
        (["figrue4"], "NAMES: got 'figrue4'; expected perhaps figure4; one of "),
        (["figure4", "list"], "NAMES: got 'list'; expected"),
        (["figure4", "--scale", "big"], "--scale: got 'big'; expected one of small, medium, paper"),
        (["figure4", "--seed", "-1"], "--seed: got -1"),
        (["figure4", "--data", "absent"], "--data: got 'absent', which is no folder"),
        (["figure4", "--out", "/proc/none"], "cannot be written"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, monkeypatch, capsys, arguments, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MEPJAX_DEBUG", "1")
    assert run(["reproduce", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("mepjax: error: ") and err.count("\n") == 1 and says in err
    assert list(tmp_path.iterdir()) == []


def test_figure_1_of_autonomy_aware_clustering(tmp_path, capsys):
    """Centres draw together by 1 - K p, the closed form for groups far apart."""
    assert run(["reproduce", "figure1", "--out", str(tmp_path)]) == 0
    assert "3 of 3 rows" in capsys.readouterr().out
    found = json.loads((tmp_path / "figure1" / "report.json").read_text())
    shrink = [row["measured"]["shrink"] for row in found["rows"]]
    assert shrink == pytest.approx([1, 0, 1 - 4 * 0.083], abs=1e-3)
    assert all(claim["holds"] for claim in found["claims"]) and len(found["claims"]) == 3


@pytest.mark.slow
def test_figure_4_of_autonomy_aware_clustering(tmp_path):
    assert run(["reproduce", "figure4", "--out", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "figure4" / "report.json").read_text())
    (row,) = found["rows"]
    assert row["measured"]["plateaus"] == [1, 4, 8, 16] and row["measured"]["code"] == "OK"
    assert all(claim["holds"] for claim in found["claims"]) and len(found["claims"]) == 2
    for name in ("data.png", "transitions.png", "anneal.gif"):
        assert (tmp_path / "figure4" / name).stat().st_size > 1000
