import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mepjax as mj
from mepjax.reproduce.numbers import TABLE_1

ROOT = Path(__file__).parents[2]


def load_build():
    spec = importlib.util.spec_from_file_location("docs_build", ROOT / "docs" / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_public_name_is_documented():
    pytest.importorskip("sklearn")
    build = load_build()
    assert build.undocumented() == []
    rooms = [name for name in mj.__all__ if hasattr(getattr(mj, name), "__all__")]
    assert {f"mepjax.{name}" for name in rooms} <= set(build.MODULES)


def test_an_undocumented_name_is_found(monkeypatch):
    def nameless():
        pass

    monkeypatch.setattr(mj, "nameless", nameless, raising=False)
    monkeypatch.setattr(mj, "__all__", [*mj.__all__, "nameless"])
    assert load_build().undocumented() == ["mepjax.nameless"]


def test_every_code_has_a_row_with_a_remedy():
    rows = (ROOT / "docs" / "codes.md").read_text().splitlines()
    for code in mj.Code:
        (row,) = (row for row in rows if row.startswith(f"| `{code.name}` | {int(code)} |"))
        remedy = row.split("|")[-2].strip()
        assert remedy or code == mj.Code.OK


@pytest.mark.slow
def test_the_api_page_builds(tmp_path):
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", tmp_path], check=True, cwd=ROOT)
    page = (tmp_path / "mepjax.html").read_text()
    assert "at a rising sequence of beta" in page


def kept_rows(name):
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text())["rows"]


def test_the_figures_of_streams_are_those_of_the_benchmark():
    of = {row["case"]: row for row in kept_rows("streams")}
    least, largest = of["least"], of["largest"]
    whole, half, jumped = "300 batches %", "150 batches %", "300 after a jump %"
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    assert (
        f"ended {-least[whole]:.1f} % below to {largest[whole]:.1f} % above".replace(" 0.", " .")
        in text
    )
    assert f"half as many at most {largest[half]:.1f} % above".replace(" 0.", " .") in text
    assert f"at most {largest[jumped]:.1f} % above" in text


def test_the_figures_of_equal_sizes_are_those_of_the_benchmark():
    *rows, worst = kept_rows("equal_sizes")
    assert len(rows) == 10 and rows[-1]["n"] == 17_000 and rows[-1]["k"] == 8
    text = " ".join((ROOT / "docs/choose.md").read_text().split())

    def short(value):
        return f"{value:.2g}".replace("0.", ".")

    best = min(row["cost over peer's, %"] for row in rows)
    more = short(worst["cost over peer's, %"])
    assert f"at most {more} % more and up to {short(-best)} % less" in text
    kinds = ("seconds / peer's", "seconds, full / peer's")
    for kind, words in zip(
        kinds, ("in {} to {} times their CPU time", "{} to {} with"), strict=True
    ):
        ratios = [row[kind] for row in rows]
        assert words.format(short(min(ratios)), short(max(ratios))) in text
    assert f"that of 17,000 points in {short(rows[-1][kinds[0]])} times it" in text


def test_the_figures_of_processes_are_those_of_the_benchmark():
    (row,) = (row for row in kept_rows("processes") if row["part"] == "times")
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    ratio = f"{row['pass ratio']:.2f}".removeprefix("0")
    assert f"took two processes {ratio} of the time of two host devices" in text
    for name in ("F", "centres", "hard cost"):
        assert row[f"{name} relative"] < 1e-6


def test_the_figures_of_the_learners_are_those_of_the_benchmark():
    rows = kept_rows("learning")
    of = {row["case"]: row for row in rows}

    def gaps(case):
        return [f"{of[case][name]:.2f}".lstrip("0") for name in ("mean gap %", "worst gap %")]

    tabular = [row for row in rows if row["part"] == "tabular"]
    many, few = gaps("structured, 5,000 interactions"), gaps("structured, 1,000 interactions")
    counts = gaps("counts, pooled, 70,000 interactions")
    within, runs = (sum(row[name] for row in tabular) for name in ("within", "runs"))
    millions = max(row["interactions"] for row in tabular) / 1e6
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    structured, pooled, by_entity = (
        of[f"K = 10, d = 10, {name}"] for name in ("structured", "counts", "tabular")
    )
    assert max(structured[f"gap at {m} %"] for m in (1_000, 10_000, 100_000)) < 0.5
    for figures in (
        f"{pooled['gap at 10000 %']:.1f} % above with 10,000 and "
        f"{pooled['gap at 100000 %']:.1f} % with 100,000",
        f"{by_entity['gap at 100000 %']:.1f} % above with 100,000",
        f"`Structured` {many[0]} % in the mean and {many[1]} % at worst with 5,000 interactions, "
        f"{few[0]} and {few[1]} % with 1,000",
        f"`Counts` {counts[0]} and {counts[1]} % with 70,000",
        f"ended within 1 % for {within} of {runs} seeds, with {millions:.1f} million draws",
    ):
        assert figures in text


def test_the_figures_of_networks_are_those_of_the_table_that_was_reproduced():
    rows = kept_rows("reproduce_table1")
    text = " ".join((ROOT / "docs/choose.md").read_text().split())

    def gaps(name, digits=2):
        found = [row[f"{name} gap %"] for row in rows]
        figures = sum(found) / len(found), max(found)
        return [f"{figure:.{digits}f}".removeprefix("0") for figure in figures]

    aden, choice, ignored = gaps("aden"), gaps("choice"), gaps("ignored", 0)
    asked = {row["aden interactions"] / 1e6 for row in rows}
    assert {row["choice interactions"] for row in rows} == {20_000} and len(rows) == 20
    for figures in (
        f"ends {aden[0]} % above the best known in the mean and {aden[1]} % at worst after "
        f"{max(asked):.1f} million interactions",
        f"the paper's own figure is {np.mean([row[0] for row in TABLE_1.values()]):.2f} % in the "
        f"mean of {len(TABLE_1)} combinations",
        f"{choice[0]} and {choice[1]} % with 20,000 interactions",
        f"Ignoring autonomy costs {ignored[0]} % in the mean and {ignored[1]} % at worst",
    ):
        assert figures in text, figures


def test_what_transfer_and_appendix_k_came_to_is_told():
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    rows = kept_rows("reproduce_transfer")
    shares = [row["transferred gap %"] / row["scratch gap %"] for row in rows]
    a, b, c, six = (f"{shares[place]:.2f}".lstrip("0") for place in (0, 1, 4, 5))
    assert f"it left {a}, {b} and {c} of the gap of a start from scratch" in text
    assert f"and {six} with six clusters" in text
    assert f"{shares[2]:.1f} and {shares[3]:.1f} times as large, and {shares[6]:.1f} times" in text
    rows = kept_rows("reproduce_appendix_k")
    runs, again = rows[:16], rows[16:]
    learnt = sum(row["learnt"] for row in runs)
    assert all((max(row["left"]) < 0.1) == row["learnt"] and row["falls"] for row in rows)
    assert f"of {len({row['case'] for row in rows})} runs of four networks" in text
    assert f"{learnt} had learnt more" in text and len(again) == len(runs) - learnt == 3
    assert sum(row["learnt"] for row in again) == 2


def test_the_blocks_of_chains_are_found_as_the_benchmark_found_them():
    rows = [row for row in kept_rows("markov") if "GPCCA right" in row]
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    levels = ", ".join(f"{row['eps']:.1f}".lstrip("0") for row in rows[:-1])
    last = f"{rows[-1]['eps']:.1f}".lstrip("0")
    assert f"100 states at noise of {levels} and {last}" in text
    for row in rows:
        assert row["right"] == row["SVD + k-means right"] == row["GPCCA right"] == 1
        assert row["GPCCA refuses"] == 0


def test_the_figures_of_tracking_are_those_of_the_benchmark():
    of = {row["part"]: row for row in kept_rows("tracking") if "scenes" in row}
    networks, batch = of["network"], of["batch"]
    at_end = networks["range F at the end over warm"]
    cold = networks["range F at the end over cold"]
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    assert batch["that ended early"] == 0 and networks["warm ends worse than law"] == 0
    for figures in (
        f"took {networks['median step over warm']:.2f} of".replace(" 0.", " ."),
        f"1/{networks['median cold over step']:.0f} of a cold",
        f"jumped in {networks['scenes in which warm jumps']},",
        f"at most {networks['speed over warm, range'][1]:.2f} of its".replace(" 0.", " ."),
        f"was {networks['median distortion over warm']:.3f} times",
        f"in {networks['law ends worse than warm']} of {networks['scenes']} scenes",
        f"{100 * (at_end[1] - 1):.1f} % at worst",
        f"between {100 * (1 / cold[0] - 1):.0f} % above and {100 * (1 - 1 / cold[1]):.0f} % below",
        f"at random {batch['that ended early from any places']} stopped early",
    ):
        assert figures in text, figures


def test_the_figures_of_steering_are_those_of_the_benchmark():
    rows = kept_rows("steering")
    of = {row["case"]: row for row in rows}
    text = " ".join((ROOT / "docs/choose.md").read_text().split())

    def ratio(case):
        return f"{of[case]['over CVI']:,.0f} times"

    def apart(rows, name="apart"):
        return f"{min(row[name] for row in rows):.3f}".lstrip("0")

    one, two = (
        [row for row in rows if row["case"].startswith(f"Figure 5, scenario {number}")]
        for number in (1, 2)
    )
    large, local = of["CVI, N = C = 14, float64"], of["6.1 local, separable"]
    assert local["largest share missed"] == 0
    for figures in (
        f"exact sweeps takes {ratio('VI, split sweeps, C = 7')} as long",
        f"as published, {ratio('VI, joint kernel, C = 7')}.",
        f"one exact sweep takes {ratio('one split sweep, N = C = 10')} as long",
        f"{large['steps']} steps and {large['peak MB of the process'] / 1000:.1f} GB",
        f"in none of {local['clusterings in all']} clusterings",
        f"within {apart(one[:1], 'apart from C = 2 on')} from two clusters on at discount .9",
        f"within {apart(one)} for all numbers with the best of {len(one)} choices",
        f"the nearest of {len(two)} choices is {apart(two)} away",
        f"all are within {max(row['apart from C = 2 on'] for row in two):.3f}".replace(" 0.", " ."),
    ):
        assert figures in text


def test_the_figures_of_decision_processes_are_those_of_the_benchmark():
    rows = kept_rows("mdp")
    solved = [row for row in rows if row["part"] == "solve"]
    learnt = [row for row in rows if row["part"] == "learn"]
    text = " ".join((ROOT / "docs/choose.md").read_text().split()).replace(" 0.", " .")

    def told(rows, name, digits):
        all_ = [f"{row[name]:.{digits}f}".removeprefix("0") for row in rows]
        return f"{min(all_, key=float)} to {max(all_, key=float)}"

    large = [row for row in solved if row["states"] == 4_000]
    assert f"it took {told(solved, 'in jit over QuantEcon', 2)} times the time of" in text
    assert f"4,000 states {told(large, 'ours over QuantEcon', 2)} times" in text
    assert max(row["apart"] for row in solved) < 1e-13
    assert max(row["certified width"] for row in solved) < 1e-12
    assert f"took {told(learnt, 'M steps/s', 1)} million steps a second" in text
    beside = {name: [row for row in learnt if row["rule"] == name] for name in ("Q", "soft Q")}
    toolbox = [row for row in rows if row["part"] == "policies"]
    assert {row["states"] for row in toolbox} == {100, 1_000}
    methods = ("PI", "MPI", "VI")
    assert not any(row[f"{name} policies differ"] for row in toolbox for name in methods)
    assert max(row["PI apart"] for row in toolbox) < 1e-14
    off = [row[f"{name} apart"] for row in toolbox for name in ("MPI", "VI")]
    assert f"to 1e-14 by policy iteration, and {min(off):.1f} to {max(off):.1f} away" in text
    (grid,) = (row for row in rows if row["part"] == "grid")
    assert grid["states"] == 10**6 and grid["code"] == 0 and grid["apart, relative"] < 2e-6
    assert f"{grid['MB of edges']:.0f} MB for its edges and {grid['MB in all']:,.0f} MB" in text
    assert grid["MB in all"] - grid["MB to make"] < 1
    peer = "over numba, one stream"
    assert f"{told(beside['soft Q'], peer, 1)} times one stream of numba for soft" in text
    assert f"{told(beside['Q'], peer, 1)} times for plain" in text


def test_the_figures_of_learned_parameters_are_those_of_the_reproductions():
    rows = kept_rows("figures_3")
    of = {row["key"]: row["values"] for row in rows if row["name"] == "figure_3_4"}
    above = sorted(row["values"]["above"] for row in rows if row["name"] == "figure_3_5")
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    slip, towns = of["Algorithm 4, slip"]["ratio"], of["Algorithm 4, towns"]["ratio"]
    near = [values["ratio"] for key, values in of.items() if "the model's places" in key]
    assert f"`learn.learn_parameters` cost {slip:.3f} times".replace("0.", ".") in text
    assert f"slips, {towns:.3f} times without" in text
    assert f"within {100 * (max(near) - 1):.2f} % of it".replace("0.", ".") in text
    both = [of[f"one after the other, {name}"]["ratio"] for name in ("towns", "slip")]
    assert f"at once cost {both[0]:.2f} times what".replace("0.", ".") in text
    assert f"does, {both[1]:.2f} where packets slip".replace("0.", ".") in text
    over = [100 * (of[f"without annealing, {name}"]["best"] - 1) for name in ("towns", "slip")]
    assert f"ended {over[0]:.1f} % above".replace("0.", ".") in text
    assert f"starts, {over[1]:.1f} % where packets slip" in text
    assert f"ended {above[0]:.1f} to {above[2]:.1f} % above the model in three of five" in text
    assert f"layouts and {above[3]:.1f} to {above[4]:.1f} % above, in a local" in text
    assert f"others: {sum(above) / 5:.1f} % in the mean" in text


def test_the_counts_of_clusters_are_those_of_the_benchmark():
    rows = kept_rows("table_5_1")
    of = {row["set"]: row for row in rows}
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    (convex,) = (row for row in rows if row["set"].endswith("sets of convex clusters"))
    (shapes,) = (row for row in rows if row["set"].endswith(" shapes"))
    n, m = (int(row["set"].split()[1]) for row in (convex, shapes))
    right = round(convex["clear"] * convex["clear and right"])
    assert f"Of {n} planar sets of convex clusters {convex['clear']} were clear and {right}" in text
    assert abs(convex["right, clear or not"] - 0.5) < 0.05
    none = of["all without groups"]
    assert f"Of {none['draws']} draws without groups {none['clear']} was clear" in text
    assert f"counts {round(m * shapes['right'])} of {m} sets of rings" in text
    for name, known in (("sipu/s3", 15), ("sipu/a1", 20)):
        assert of[name]["best"] == 2 and of[name]["against references"] == known
    assert "says 2 for the 15 of S3 and for the 20 of A1" in text
    for name in ("yeast", "glass"):
        assert not of[name]["is right"] and of[name]["against references"] not in of[name]["known"]
    assert all(row["right"] == 1 for row in rows if row["part"] == "seeds")


def test_the_figures_of_points_on_disk_are_those_of_the_benchmark():
    rows = kept_rows("from_disk")
    (large,) = (row for row in rows if row["part"] == "large")
    text = " ".join((ROOT / "docs/choose.md").read_text().split())
    assert large["points"] == 1e8 and large["own MiB"] < 1024
    assert f"of 1e8 points {large['pass s']:.1f} s, and {large['own MiB']:.0f} MiB for" in text
