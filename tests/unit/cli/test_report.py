"""The report model: one report by hand, and what each writer makes of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mepjax.cli import commands as command_room
from mepjax.cli.errors import CommandError
from mepjax.cli.report import folder, terminal
from mepjax.cli.report.model import (
    Card,
    Column,
    Extra,
    Figure,
    Heading,
    Report,
    Section,
    Table,
    Text,
    percent,
    telling_apart,
)

from .test_page import Page

FACTS = {"versions": {"mepjax": "0"}, "written": "today", "answer": 42}


def _report(*blocks, cards=()):
    heading = Heading("cluster", "<b>points</b>.csv", "2 points")
    return Report(heading, cards, [Section("Where?", blocks)], FACTS)


def _table(**options):
    columns = [
        Column("cluster", np.arange(2)),
        Column("x", np.array([540004.25, 540011.5])),
        Column("share", [0.25, None], ".7g", "weight", percent()),
        Column("name", ["<i>a</i>", "b"], where=("csv", "page"), is_text=True),
        Column("both", [[1, 2.00000001], [3, 4]], where=("map",)),
    ]
    return Table("centres", columns, [[-0.123456789, 51.5], [0, 52]], **options)


def test_a_table_becomes_csv_a_map_part_of_the_page_and_lines(tmp_path):
    report = _report(_table(on_terminal=True, note="In metres."))
    files = folder.write(tmp_path / "out", report)
    assert files == ("centres.csv", "centres.geojson", "report.json", "report.html")
    with (tmp_path / "out/centres.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [
            ["cluster", "x", "share", "name"],
            ["0", "540004.25", "0.25", "<i>a</i>"],
            ["1", "540011.5", "", "b"],
        ]
    features = json.loads((tmp_path / "out/centres.geojson").read_text())["features"]
    assert features[0] == {
        "type": "Feature",
        "geometry": {"type": "Point", "coordinates": [-0.1234568, 51.5]},
        "properties": {"cluster": 0, "x": 540004.2, "share": 0.25, "both": [1, 2.0]},
    }
    assert features[1]["properties"]["share"] is None
    text = (tmp_path / "out/report.html").read_text()
    page = Page(text)
    words = " ".join(page.text)
    assert page.open == [] and "<i>" not in text and "<b>" not in text
    for word in ("Where?", "weight", "25.0%", "540004.25", "<i>a</i>", "In metres.", "points"):
        assert word in words
    assert json.loads((tmp_path / "out/report.json").read_text()) == FACTS
    assert terminal.lines(report, files, tmp_path) == [
        "2 points",
        "",
        "cluster          x  weight",
        "      0  540004.25   25.0%",
        "      1   540011.5        ",
        "",
        f"wrote {', '.join(files)} to {tmp_path}",
    ]


def test_rows_that_the_page_leaves_out_are_told(tmp_path):
    for rows, says in ((1, "The other 1 is in centres.csv."), (0, "The 2 rows are in centres.csv")):
        folder.write(tmp_path / str(rows), _report(_table(page_rows=rows)))
        text = (tmp_path / str(rows) / "report.html").read_text()
        assert says in text and ("<table>" in text) == (rows > 0)


def test_figures_cards_and_other_files(tmp_path):
    figure = Figure("clusters", lambda f: f.add_subplot().plot([1, 2]), "A line.", is_file=True)
    extra = Extra("anneal.gif", lambda path: path.write_bytes(b"GIF"))
    cards = [Card("cost", "3", " metres"), Card("code", "OK", where=("terminal",))]
    report = _report(figure, extra, Text("Bad!", is_warning=True), cards=cards)
    files = folder.write(tmp_path, report)
    assert files == ("report.json", "clusters.png", "report.html", "anneal.gif")
    text = (tmp_path / "report.html").read_text()
    assert text.count("<img") == 1 and "class=bad>Bad!" in text and "<dt>cost</dt>" in text
    assert "<dt>code</dt>" not in text
    assert terminal.lines(report, files, tmp_path)[1:3] == ["cost: 3 metres", "code: OK"]


def test_nothing_is_written_where_one_file_fails(tmp_path):
    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(CommandError, match="No space left"):
        folder.write(tmp_path / "out", _report(_table(), Extra("anneal.gif", full)))
    assert list(tmp_path.iterdir()) == []


def test_what_a_command_must_not_do(tmp_path):
    with pytest.raises(ValueError, match="columns must be of equal length; got {'a': 1, 'b': 2}"):
        Table("runs", [Column("a", [1]), Column("b", [1, 2])])
    with pytest.raises(ValueError, match="new.csv is missing in RESULTS"):
        folder.write(tmp_path, _report(Table("new", [Column("a", [1])])))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([5400040.25, 5400043.5], ["5400040.25", "5400043.5"]),
        ([1e-9, 2e-9], ["1e-09", "2e-09"]),
        ([0.0, 1 / 3], ["0", "0.333333"]),
        ([1e9 + 0.001, 1e9], ["1000000000.001", "1000000000"]),
        ([123456789.0], ["123456789"]),
        ([7.0, None, float("nan")], ["7", "None", "nan"]),
        ([3, "a"], ["3", "a"]),
    ],
)
def test_digits_are_those_that_tell_rows_apart(values, shown):
    assert [telling_apart(values)(value) for value in values] == shown


def test_commands_are_short_and_all_they_show_is_in_the_model():
    folder_of_commands = Path(command_room.__file__).parent
    for path in folder_of_commands.glob("*.py"):
        text = path.read_text("utf-8")
        assert len(text.splitlines()) <= 250, path.name
        assert "<p" not in text and "savefig" not in text and "json.dump" not in text, path.name
