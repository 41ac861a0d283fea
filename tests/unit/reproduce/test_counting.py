"""Table 5.1: its points, what is said of rows, and the rows that take seconds."""

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mepjax.reproduce import NotMeasured, Setting, counting_data, table_5_1
from mepjax.reproduce.counting_peers import splitting_peers
from mepjax.reproduce.numbers import FIGURE_5_3_EXACT, TABLE_5_1, TABLE_5_1_METHODS

TASKS = {task.key: task for task in table_5_1.REPRODUCTION.tasks(Setting("paper"))}


def test_rows_are_those_of_the_table_and_the_figures():
    assert all(len(row) == len(TABLE_5_1_METHODS) for row in TABLE_5_1.values())
    shown = {key for key, task in TASKS.items() if "best" in task.printed}
    assert shown == (set(TABLE_5_1) - {"leaves"}) | {f"leaves, {v}" for v in ("Mar", "Sha", "Tex")}
    assert TASKS["leaves, Sha"].printed["pg_means"] == "Error"
    small = table_5_1.REPRODUCTION.tasks(Setting("small"))
    assert [task.key for task in small] == list(TASKS)[: len(small)] and len(small) == 16


def test_points_are_as_said():
    setting = Setting(seed=1)
    nine = counting_data.groups_of_three(60.0)(setting).reshape(9, 50, 2)
    apart = np.linalg.norm(nine.mean(axis=1)[:, None] - nine.mean(axis=1), axis=-1)
    near = apart < 10
    np.testing.assert_array_equal(near, np.kron(np.eye(3), np.ones((3, 3))) > 0)
    np.testing.assert_allclose(apart[near & (apart > 0)], 5 * np.sqrt(3), rtol=0.1)
    discs = counting_data.discs(setting)
    offset = np.linalg.norm(discs - np.repeat([[-2.0, 0.0], [2.0, 0.0]], 2000, axis=0), axis=1)
    assert offset.max() <= 1
    np.testing.assert_allclose(np.mean(offset**2), 0.5, rtol=0.05)
    combo = counting_data.combo(setting)
    assert len(combo) == 2 * (60 + 80 + 100 + 120)
    scaled = counting_data.standardised(np.column_stack([combo, np.ones(len(combo))]))
    np.testing.assert_allclose(scaled.std(axis=0), [1, 1, 0], atol=1e-5)


def test_claims_count_rows():
    def row(known, best, answer="not clear", **more):
        return {"known": known, "best": best, "answer": answer, **more}

    rows: dict[str, dict[str, Any]] = {
        "iris": row(3, 2, "clear"),
        "wine": row(3, 3, "clear"),
        "yeast": row(10, 2),
        "Figure 5.1(a)": row(3, 9),
        "Figure 5.3": row(2, 2, v=[3.5, 0.01, 0.7, 0.0, 0.9]),
    }
    claims = {claim.text: claim for claim in table_5_1.REPRODUCTION.claims(rows)}
    assert claims["sets counted as the table has it, but yeast"].found == "2 of 3"
    assert claims["clear answers that are right"].found == "1 of 2"
    assert claims["Figure 5.1(a)"].holds is False
    assert claims["two discs: v(2) .. v(6); in closed form 3.53, 0, .69, 0, .94"].holds


def test_without_data_rows_are_not_measured(tmp_path):
    for key in ("iris", "R15", "leaves, Mar"):
        with pytest.raises(NotMeasured):
            TASKS[key].compute()


def test_methods_that_split_are_asked_for_by_name(monkeypatch):
    class Method:
        def __init__(self, max_n_clusters, random_state):
            self.n_clusters_ = max_n_clusters + random_state

        def fit(self, x):
            assert x.dtype == np.float64
            return self

    names = ("XMeans", "GMeans", "PGMeans", "DipMeans")
    module = SimpleNamespace(centroid=SimpleNamespace(**dict.fromkeys(names, Method)))
    monkeypatch.setitem(sys.modules, "clustpy", module)
    found = splitting_peers(np.zeros((4, 2), np.float32), 5, 1)
    assert found == dict.fromkeys(("x_means", "g_means", "pg_means", "dip_means"), 11)
    # They are columns of the table, beside what it prints.
    assert set(found) < set(table_5_1.REPRODUCTION.columns)
    monkeypatch.setitem(sys.modules, "clustpy", None)
    with pytest.raises(ImportError):
        splitting_peers(np.zeros((4, 2)), 5, 1)


@pytest.mark.slow
def test_figures_5_1_and_5_3_and_shapes():
    found = {key: TASKS[key].compute() for key in ("Figure 5.1(a)", "Figure 5.1(b)", "Figure 5.3")}
    assert [row["best"] for row in found.values()] == [3, 9, 2]
    np.testing.assert_allclose(found["Figure 5.3"]["v"], FIGURE_5_3_EXACT, atol=0.1)
    assert found["Figure 5.1(b)"]["silhouette"] == 9
    assert [TASKS[key].compute()["best"] for key in ("rings", "spirals")] == [3, 3]
