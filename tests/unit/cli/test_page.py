"""What a run with everything asked for writes: the page, the map files and the film."""

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from jax import monitoring
from PIL import Image

from mepjax import plot
from mepjax.cli.app import run
from mepjax.cli.commands import cluster as command

from .test_app import FILES

ALL_FILES = (*FILES, "centres.geojson", "assignments.geojson", "anneal.gif")
HOSTILE = '<script>alert("$x$ & 1")</script>'
COARSE = ["--factor", "1.6", "--restarts", "1"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One run over places with hostile names, under uniform autonomy."""
    folder = tmp_path_factory.mktemp("run")
    rows = [
        [f"{HOSTILE}{i}", 51.5 + 0.1 * (i % 2) + 0.001 * i, -0.1 + 0.4 * (i % 3), 1 + i % 2]
        for i in range(36)
    ]
    source = folder / "a<b>&c.csv"
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([[HOSTILE, "lat", "lon", "$w$"], *rows])
    out = folder / "out"
    compiled = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        compiled.append(event.endswith("backend_compile_duration"))

    monitoring.register_event_duration_secs_listener(listen)
    code = run(
        ["cluster", str(source), "-k", "6", "--kappa", "0.2", "--lonlat", "--ids", "0", "--weights",
         "$w$", "--animate", *COARSE, "--out", str(out)]
    )  # fmt: skip
    assert code == 0
    # Every figure has its own small programs no longer: one reads all that is shown.
    assert 0 < sum(compiled) <= 40
    return rows, out, source


class Page(HTMLParser):
    """Tags, their attributes and the visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_all_files_are_there(results):
    _, out, _ = results
    assert sorted(entry.name for entry in out.iterdir()) == sorted(ALL_FILES)


def test_the_page_needs_nothing_else_and_runs_nothing(results):
    _, out, source = results
    text = (out / "report.html").read_text("utf-8")
    page = Page(text)
    assert page.open == []
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "a", "form", "b"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        assert attributes.get("src") is None or str(attributes["src"]).startswith("data:image/png")
    assert not re.search(r"https?://|url\(|@import", text)
    assert source.name in "".join(page.text)


def test_the_page_answers_the_first_questions(results):
    _, out, _ = results
    text = " ".join(Page((out / "report.html").read_text("utf-8")).text)
    report = json.loads((out / "report.json").read_text())
    for question in ("What are the centres?", "Who belongs where?", "How sure is that?",
                     "What did autonomy change?", "Did it converge?"):  # fmt: skip
        assert question in text
    assert f"{report['chosen']['hard_cost']:.6g}" in text
    assert f"{report['cost_of_ignoring_autonomy']['percent']:+.2f}%" in text
    numbers = np.array([float(number) for number in re.findall(r"-?\d+\.\d+", text)])
    with (out / "centres.csv").open() as file:
        for row in csv.DictReader(file):
            for name in ("lon", "lat"):
                assert np.min(np.abs(numbers - float(row[name]))) < 1e-5
    for beta in report["chosen"]["transitions"]:
        assert f"{beta:.4g}" in text
    for run_ in report["runs"]:
        assert run_["run"] in text and run_["code"] in text


def test_the_figures_of_the_page_are_pictures(results):
    _, out, _ = results
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(str(attributes["src"]).partition(",")[2])))
        for tag, attributes in Page((out / "report.html").read_text("utf-8")).tags
        if tag == "img"
    ]
    assert len(pictures) == 6
    for picture in pictures:
        assert picture.format == "PNG" and min(picture.size) >= 450
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10


def test_ids_and_weights_are_carried_through(results):
    rows, out, _ = results
    with (out / "assignments.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header[:4] == ["row", "id", "cluster", "weight"] and len(header) == 10
    assert [line[1] for line in lines] == [row[0] for row in rows]
    assert [float(line[3]) for line in lines] == [row[3] for row in rows]


def test_geojson_has_longitude_first(results):
    rows, out, _ = results
    with (out / "assignments.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    collection = json.loads((out / "assignments.geojson").read_text())
    assert collection["type"] == "FeatureCollection" and len(collection["features"]) == len(rows)
    for feature, row, line in zip(collection["features"], rows, lines, strict=True):
        assert feature["type"] == "Feature" and feature["geometry"]["type"] == "Point"
        np.testing.assert_allclose(feature["geometry"]["coordinates"], [row[2], row[1]], atol=1e-7)
        properties = feature["properties"]
        assert properties["id"] == row[0] and properties["cluster"] == int(line["cluster"])
        soft = [float(line[f"p_{index}"]) for index in range(6)]
        np.testing.assert_allclose(properties["probabilities"], soft)
        assert properties["probability"] == max(soft)
    with (out / "centres.csv").open(newline="") as file:
        centres = list(csv.DictReader(file))
    features = json.loads((out / "centres.geojson").read_text())["features"]
    for feature, centre in zip(features, centres, strict=True):
        position = [float(centre["lon"]), float(centre["lat"])]
        np.testing.assert_allclose(feature["geometry"]["coordinates"], position, atol=1e-6)
        assert feature["properties"]["cluster"] == int(centre["cluster"])
        np.testing.assert_allclose(
            feature["properties"]["share_told"], float(centre["share_told"]), atol=1e-6
        )


def test_the_film_moves(results):
    _, out, _ = results
    with Image.open(out / "anneal.gif") as film:
        assert film.format == "GIF" and getattr(film, "n_frames", 1) > 5


def test_what_is_not_asked_for_again_goes(results, tmp_path, capsys):
    """A second run in the same folder leaves nothing of the first beside its own results."""
    _, out, source = results
    copy = tmp_path / "out"
    copy.mkdir()
    for name in ALL_FILES:
        (copy / name).write_bytes((out / name).read_bytes())
    (copy / "mine.txt").write_text("mine")
    arguments = ["cluster", str(source), "-k", "1", "--columns", "lat", *COARSE, "--out", str(copy)]
    assert run(arguments) == 2
    assert "--force" in capsys.readouterr().err
    assert run([*arguments, "--force"]) == 0
    assert sorted(entry.name for entry in copy.iterdir()) == sorted([*FILES, "mine.txt"])
    assert "autonomy change" not in (copy / "report.html").read_text("utf-8")


@pytest.mark.parametrize(("most", "pictures"), [(0, 3), (10**6, 4)])
def test_a_tree_too_large_to_record_is_left_out(results, tmp_path, monkeypatch, most, pictures):
    _, _, source = results
    monkeypatch.setattr(command, "_MOST_RECORDED", most)
    out = tmp_path / "out"
    arguments = ["-k", "1", "--columns", "lat", *COARSE, "--out", str(out)]
    assert run(["cluster", str(source), *arguments]) == 0
    tags = [tag for tag, _ in Page((out / "report.html").read_text("utf-8")).tags]
    assert tags.count("img") == pictures


def test_a_film_that_fails_leaves_no_results(results, tmp_path, monkeypatch, capsys):
    _, _, source = results

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plot, "animate", full)
    out = tmp_path / "deep" / "out"
    code = run(
        ["cluster", str(source), "-k", "1", "--columns", "lat", *COARSE, "--animate", "--out",
         str(out)]
    )  # fmt: skip
    assert code == 2
    assert "cannot be written (No space left on device)" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
