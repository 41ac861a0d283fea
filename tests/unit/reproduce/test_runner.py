"""Rows on disk: never twice, never half, and the same after kill -9."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mepjax.reproduce import (
    ALIASES,
    REPRODUCTIONS,
    Claim,
    NotMeasured,
    Reproduction,
    Setting,
    Task,
    load,
    run,
)


def _square(rows_done: list[str], n: int = 3, missing: str = "") -> Reproduction:
    """Squares of numbers; `rows_done` collects the keys that are computed."""

    def compute(number: int, setting: Setting) -> dict[str, object]:
        rows_done.append(f"n = {number}")
        if missing == f"n = {number}":
            setting.file("london", "sensors.csv")
        return {"square": np.float32(number**2 + setting.seed), "never": float("nan"), "l": (1, 2)}

    def claims(rows):
        return [Claim("the sum", "5", f"{sum(r['square'] for r in rows.values()):g}", True)]

    def draw(rows, setting):
        return {"squares": lambda f: f.add_subplot().plot([r["square"] for r in rows.values()])}

    return Reproduction(
        "squares", "squares of numbers", "arithmetic, Table 0",
        lambda setting: [
            Task(f"n = {i}", lambda i=i: compute(i, setting), {"square": i**2}) for i in range(n)
        ],
        {"square": "square", "l": "list"}, claims, draw,
        lambda rows, setting: {"words.txt": lambda path: path.write_text("words")},
    )  # fmt: skip


def test_rows_are_computed_once_and_reported(tmp_path):
    done: list[str] = []
    found = run(_square(done), tmp_path, Setting())
    assert done == ["n = 0", "n = 1", "n = 2"]
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["values"] for row in rows] == [
        {"square": float(i**2), "never": None, "l": [1, 2]} for i in range(3)
    ]
    assert rows[0]["scale"] == "small" and rows[0]["seed"] == 0 and rows[0]["versions"]["jax"]
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert found["rows"][2]["printed"] == {"square": 4}
    page = (tmp_path / "report.md").read_text()
    assert "| row | square, paper | square, measured | list | seconds |" in page
    assert "| n = 2 | 4 | 4 | 1, 2 |" in page and "| the sum | 5 | 5 | yes |" in page
    assert (tmp_path / "squares.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "words.txt").read_text() == "words"

    before = (tmp_path / "rows.jsonl").read_bytes()
    told: list[str] = []
    assert run(_square(done), tmp_path, Setting(), tell=told.append) == found
    assert len(done) == 3 and (tmp_path / "rows.jsonl").read_bytes() == before
    assert told[0] == "squares, row 1 of 3, n = 0: done before"
    # Another seed is other rows, of which the first's report says nothing.
    other = run(_square(done), tmp_path, Setting(seed=1))
    assert len(done) == 6 and other["rows"][0]["measured"]["square"] == 1.0
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(before)


def test_half_a_line_is_computed_again(tmp_path):
    done: list[str] = []
    run(_square(done), tmp_path, Setting())
    path = tmp_path / "rows.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(whole[:2]) + whole[2][:20])
    run(_square(done), tmp_path, Setting())
    assert done[3:] == ["n = 2"]
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["key"] for row in rows] == ["n = 0", "n = 1", "n = 2"]


def test_what_lacks_data_is_not_measured_and_tried_again(tmp_path):
    done: list[str] = []
    found = run(_square(done, missing="n = 1"), tmp_path, Setting())
    row = found["rows"][1]
    assert row["measured"] is None
    assert row["not_measured"].endswith("give --data or MEPJAX_DATA_DIR, with london/sensors.csv")
    assert "not measured: no data folder" in (tmp_path / "report.md").read_text()
    assert found["claims"][0]["found"] == "4"
    found = run(_square(done, missing="n = 1"), tmp_path, Setting(data=tmp_path))
    assert "london/sensors.csv is not in" in found["rows"][1]["not_measured"]
    assert run(_square(done), tmp_path, Setting())["rows"][1]["measured"]["square"] == 1
    assert done == ["n = 0", "n = 1", "n = 2", "n = 1", "n = 1"]


def test_an_error_passes_and_finished_rows_stay(tmp_path):
    def broken():
        raise ZeroDivisionError

    bad = Reproduction(
        "squares", "", "", lambda setting: [Task("a", lambda: {"x": 1}), Task("b", broken)], {}
    )
    with pytest.raises(ZeroDivisionError):
        run(bad, tmp_path, Setting())
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 1
    twice = Reproduction("s", "", "", lambda setting: [Task("a", dict), Task("a", dict)], {})
    with pytest.raises(ValueError, match="keys of rows must differ"):
        run(twice, tmp_path, Setting())


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_process_killed_in_the_middle_goes_on(tmp_path):
    code = f"""
    import sys, time
    from pathlib import Path
    import mepjax.reproduce as room

    def compute(i):
        print(i, flush=True)
        if i == 2 and len(sys.argv) > 1:
            time.sleep(60)
        return {{"value": i / 3}}

    room.run(
        room.Reproduction("thirds", "", "", lambda setting: [
            room.Task(f"row {{i}}", lambda i=i: compute(i)) for i in range(4)
        ], {{"value": "value"}}),
        Path({str(tmp_path)!r}), room.Setting(),
    )
    """
    code = textwrap.dedent(code)
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "wait"], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for expected in "012":
        assert process.stdout.readline() == f"{expected}\n"
    # Nobody else may write meanwhile.
    busy = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert busy.returncode == 1 and "another process is at work in" in busy.stderr
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = (tmp_path / "rows.jsonl").read_bytes()
    assert before.count(b"\n") == 2
    again = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert again.stdout == "2\n3\n"
    assert (tmp_path / "rows.jsonl").read_bytes().startswith(before)
    values = [row["measured"]["value"] for row in json.loads(
        (tmp_path / "report.json").read_text())["rows"]]  # fmt: skip
    assert values == [i / 3 for i in range(4)]


def test_every_name_is_a_reproduction():
    for name in REPRODUCTIONS:
        each = load(name)
        tasks = each.tasks(Setting())
        assert each.name == name and each.title and each.source and each.columns
        assert len({task.key for task in tasks}) == len(tasks) > 0
        assert set(each.minutes) == {"small", "medium", "paper"}
    assert not set(ALIASES) & set(REPRODUCTIONS)
    for name, meant in ALIASES.items():
        assert load(name) is load(meant)


def test_a_file_of_the_data_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.csv").write_text("")
    assert Setting(data=tmp_path).file("a", "b.csv") == Path(tmp_path / "a/b.csv")
    with pytest.raises(NotMeasured, match="a/c.csv is not in"):
        Setting(data=tmp_path).file("a", "c.csv")
    assert [Setting(scale).pick(1, 2, 3) for scale in ("small", "medium", "paper")] == [1, 2, 3]


# Table 1 on 40 points with a small network, three of its rows; waits within the second.
_TABLE = """
import dataclasses, sys, time
from pathlib import Path
import mepjax as mj
from mepjax import learn
from mepjax.reproduce import Setting, run, table1
from mepjax.reproduce.gaps import Cell

table1.square = lambda: mj.Clustering(mj.datasets.four_square(40)[0], 4)
training = learn.Training(
    options={"width": 8, "heads": 2, "feedforward": 16, "head": (8,)}, batch=1, entities=8,
    draws=1, cycles=2, prefit=2, network_steps=2, centre_steps=1,
)
begun = []

def row(self, *training_and_setting, **options):
    begun.append(self)
    self.add("aden", lambda: self.aden(training, starts=2))
    if sys.argv[1] == "wait" and len(begun) == 2:
        print("in the middle", flush=True)
        time.sleep(600)
    return self.values()

Cell.row = row
whole = table1.REPRODUCTION
few = dataclasses.replace(
    whole, tasks=lambda s: whole.tasks(s)[:3], claims=lambda rows: (), draw=lambda rows, s: {}
)
for folder in sys.argv[2:]:
    run(few, Path(folder), Setting(), tell=lambda text: print(text, flush=True))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_a_table_killed_in_the_middle_has_the_rows_of_one_that_was_not(tmp_path):
    cut, straight = str(tmp_path / "cut"), str(tmp_path / "straight")
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(
        [sys.executable, "-c", _TABLE, "wait", cut], stdout=subprocess.PIPE, text=True,
        env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    told = [process.stdout.readline() for _ in range(2)]
    assert told[0].startswith("table1, row 1 of 3") and told[1] == "in the middle\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = (tmp_path / "cut/rows.jsonl").read_bytes()
    assert before.count(b"\n") == 1
    again = subprocess.run(
        [sys.executable, "-c", _TABLE, "go on", cut, straight], capture_output=True, text=True,
        env=environment, check=True,
    )  # fmt: skip
    lines = again.stdout.splitlines()
    assert [line.endswith("done before") for line in lines] == [True] + [False] * 5
    after = (tmp_path / "cut/rows.jsonl").read_bytes()
    assert after.startswith(before) and after.count(b"\n") == 3
    rows = [
        [json.loads(line) for line in (tmp_path / name / "rows.jsonl").read_text().splitlines()]
        for name in ("cut", "straight")
    ]
    for one, other in zip(*rows, strict=True):
        assert one["key"] == other["key"]
        # All but how long it took, to the bit.
        values = [
            {name: value for name, value in row["values"].items() if not name.endswith("_seconds")}
            for row in (one, other)
        ]
        assert values[0] == values[1] and values[0]["aden_interactions"] > 0
