"""Cells of the tables: gaps as defined, references, claims, and what is missing told."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax.reproduce import NotMeasured, Setting, figure2, figure6, references, table1
from mepjax.reproduce.gaps import Cell
from mepjax.reproduce.numbers import TABLE_1, TABLE_3, TABLE_4, TABLE_5
from mepjax.reproduce.scenarios import LONDON, SQUARE, Scenario, aware, london, movielens


def _small() -> mj.Clustering:
    return mj.Clustering(mj.datasets.four_square(40)[0], 4)


def _by_hand(x, y, scenario):
    """The hard cost under equation (72), in NumPy."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    d = ((x[:, None] - y) ** 2).sum(axis=2)
    pull = ((y[:, None] - y) ** 2).sum(axis=2)
    logits = -(scenario.zeta * pull[None] + scenario.gamma * d[:, None, :]) / scenario.temperature
    logits[:, np.arange(4), np.arange(4)] = -np.inf
    away = np.exp(logits - logits.max(axis=2, keepdims=True))
    away /= away.sum(axis=2, keepdims=True)
    average = (1 - scenario.kappa) * d + scenario.kappa * (away * d[:, None, :]).sum(axis=2)
    return average.min(axis=1).mean()


@pytest.mark.parametrize("gamma", [0, 0.5])
def test_gaps_are_those_of_the_hard_cost_under_the_autonomy_that_holds(gamma):
    base, scenario = _small(), Scenario(0.5, gamma, 1, 0.01)
    cell = Cell("nothing", base, scenario, 0)
    corners = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    inner = 0.2 + 0.6 * corners
    cell.add("frozen", lambda: (inner, 0))
    cell.add("counts", lambda: (corners, 12))
    found = cell.values()
    costs = [_by_hand(base.x, y, scenario) for y in (inner, corners)]
    gap = 100 * (costs[1] / costs[0] - 1)
    np.testing.assert_allclose(found["counts"], 100 * (costs[1] / min(costs) - 1), rtol=1e-4)
    np.testing.assert_allclose(found["counts_frozen"], gap, rtol=1e-4)
    np.testing.assert_allclose(found["best"], min(costs), rtol=1e-5)
    assert found["counts_interactions"] == 12 and found["reference"].startswith("none kept")
    # A reference that is higher than what a row finds is lowered, never raised.
    cell.reference = 2 * found["best"]
    assert cell.values()["best"] == found["best"]
    assert cell.values()["reference"] == "lowered by this row"
    cell.reference = found["best"] / 2
    np.testing.assert_allclose(cell.values()["counts"], 200 * costs[1] / min(costs) - 100, 1e-4)


def test_the_combinations_are_the_published_ones():
    keys = {(s.kappa, s.gamma, s.temperature) for s in SQUARE}
    assert len(SQUARE) == 20 and len(TABLE_1) == 18 and set(TABLE_1) < keys
    assert keys - set(TABLE_1) == {(0.1, 0.5, 100), (0.5, 0, 0.01)}
    assert {(s.kappa, s.temperature) for s in LONDON} == set(TABLE_3)
    assert len({row[:4] for row in TABLE_4}) == 40
    np.testing.assert_allclose(np.mean([row[4] for row in TABLE_4]), 2.58, atol=0.01)
    # The text's averages are those of the six groups, not of the forty rows.
    np.testing.assert_allclose(np.mean([pair[0] for pair in TABLE_5.values()]), 2.81, atol=0.01)
    for (kappas, heat), printed in TABLE_5.items():
        group = [row for row in TABLE_4 if row[0] in kappas and row[3] == heat]
        for place, mean in enumerate(printed):
            np.testing.assert_allclose(np.mean([row[4 + place] for row in group]), mean, atol=0.02)


def test_one_structure_serves_all_scenarios():
    base = _small()
    structures = {jax.tree.structure(aware(base, scenario)) for scenario in SQUARE}
    assert len(structures) == 1


def test_references_are_kept_by_row():
    for scenario in SQUARE:
        known = references.reference("table1", scenario)
        assert known is None or 0.05 < known < 0.5
    assert references.reference("no such table", SQUARE[0]) is None


def test_claims_are_numbers_of_the_rows():
    rows: dict[str, dict] = {
        s.key: {"kappa": s.kappa, "ignored": 100 * s.kappa, "structured": 0.1, "aden": 0.5}
        for s in SQUARE
    }
    rows["odd"] = {"kappa": 0.3, "ignored": 30.0, "structured": 0.2, "aden": None}
    claims = {claim.text: claim for claim in table1.REPRODUCTION.claims(rows)}
    assert claims["ignored: correlation of the gap with kappa"].holds
    assert "20 rows" in next(text for text in claims if text.startswith("aden: mean"))
    assert "21 rows" in next(text for text in claims if text.startswith("structured: mean"))
    drawn = figure6.REPRODUCTION.claims(
        {s.key: {"kappa": s.kappa, "elsewhere": int(s.kappa == 0.9)} for s in figure6._PANELS}
    )
    assert [claim.holds for claim in drawn] == [True, True] and drawn[0].found == "4 of 4"


def test_without_data_rows_are_not_measured(tmp_path):
    for setting in (Setting(), Setting(data=tmp_path)):
        for load in (london, movielens):
            with pytest.raises(NotMeasured):
                load(setting)
        with pytest.raises(NotMeasured, match="utd19_london/sensors_xy.csv"):
            figure2.REPRODUCTION.tasks(setting)[0].compute()


@pytest.mark.skipif("MEPJAX_DATA_DIR" not in os.environ, reason="needs MEPJAX_DATA_DIR")
def test_published_data_have_the_published_shapes():
    setting = Setting(data=Path(os.environ["MEPJAX_DATA_DIR"]))
    base = london(setting)
    assert base.x.shape == (5719, 2) and base.k == 25
    np.testing.assert_allclose([base.x.min(), base.x.max()], [0, 1])
    assert movielens(setting).x.shape == (6040, 10)
