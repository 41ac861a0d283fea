"""Chapters 6 and 7: their data, what is said of rows, and the rows that take seconds."""

from typing import Any

import numpy as np
import pytest

from mepjax.reproduce import NotMeasured, Setting, figure_7, table_6_1

CHAINS = {task.key: task for task in table_6_1.REPRODUCTION.tasks(Setting())}
DESIGNS = {task.key: task for task in figure_7.REPRODUCTION.tasks(Setting())}
LETTERS = "Figure 6.5(a2), Table 6.1, letters"


def test_chains_are_as_said():
    mixed = table_6_1.nearly_decomposable((1, 2, 3), 0.25)(Setting())
    part = np.repeat([0, 1, 2], [1, 2, 3])
    np.testing.assert_allclose(mixed.sum(axis=1), 1)
    outside = np.sum(np.where(part[:, None] == part, 0.0, mixed), axis=1)
    assert np.all((outside > 0) & (outside < 0.25))
    rows = table_6_1.copies(10, 3, 0.0)(Setting())
    assert len(np.unique(rows, axis=0)) == 3
    np.testing.assert_array_equal(rows[0], rows[9])


def test_designs_are_as_said():
    design, response = figure_7.drawn(100, 20, 4, 1.0, 0.0, 0)(Setting())
    found = np.linalg.lstsq(design, response, rcond=None)[0]
    used = np.abs(found) > 1e-9
    assert used.sum() == 4 and np.all(np.abs(found[used]) > 1 - 1e-9)


def test_claims_count_rows():
    chains: dict[str, dict[str, Any]] = {
        "Figure 6.3(a3), Courtois": {"best": 4},
        LETTERS: {"best": 2, "two": "aeinou", "D": [0.5, 0.3], "D_vowels_y": 0.32},
        "karate club": {"best": 2},
    }
    first, letters = table_6_1.REPRODUCTION.claims(chains)
    assert first.found == "1 of 2" and "Courtois" in first.text and not first.holds
    assert letters.found == "a e i n o u, 0.3000" and letters.holds is False
    columns = {
        "Figure 7.1(a), 6 x 10": {"best": 3, "known": 3, "literal": 2, "ebic": 3},
        "Figure 7.2(a), Pima": {"best": 7, "known": None, "literal": 2, "ebic": 3},
    }
    claims = figure_7.REPRODUCTION.claims(columns)
    assert [claim.found for claim in claims] == ["1 of 2", "1 of 2", "0 of 1", "1 of 1"]


def test_what_is_not_at_hand_is_not_measured(tmp_path):
    for task in (CHAINS["Figure 6.5(a1), emotions"], CHAINS[LETTERS], CHAINS["karate club"],
                 DESIGNS["Figure 7.2(a), Pima"], DESIGNS["Figure 7.2(b), prostate"]):  # fmt: skip
        with pytest.raises(NotMeasured):
            task.compute()


@pytest.mark.slow
def test_copies_and_a_small_design_are_counted():
    assert CHAINS["Figure 6.4(a2), copies, 10 states"].compute()["best"] == 4
    assert DESIGNS["Figure 7.1(a), 6 x 10"].compute()["best"] == 3
