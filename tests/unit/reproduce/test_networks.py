"""Tables 2 to 5 and Figure 5: what needs no training, and the claims of what does."""

from typing import Any

import numpy as np
import pytest

from mepjax.reproduce import NotMeasured, Setting, figure5, run, table2, table3, table4, transfer
from mepjax.reproduce.numbers import TABLE_2, TABLE_4, TABLE_5
from mepjax.reproduce.scenarios import LONDON, Scenario


def test_table_2_has_every_setting_beside_the_published_one(tmp_path):
    found = run(table2.REPRODUCTION, tmp_path, Setting())
    rows = {row["key"]: row for row in found["rows"]}
    assert set(TABLE_2) < set(rows) and all(row["measured"] for row in found["rows"])
    for name in ("width", "feedforward", "blocks", "heads", "batch", "entities", "draws",
                 "learning_rate", "weight_decay", "smoothing", "centre_steps", "beta_min",
                 "factor"):  # fmt: skip
        assert rows[name]["measured"]["paper"] == TABLE_2[name], name
    assert rows["network_steps"]["measured"]["paper"] == TABLE_2["network_steps"][0]
    assert rows["beta_max"]["measured"]["paper"] == TABLE_2["beta_max"][0]
    claims = {claim["text"]: claim for claim in found["claims"]}
    assert claims["parameters of ADEN.paper"]["found"] == "150,914"
    assert claims["parameters of ADEN.released"]["holds"]
    assert sum(text.startswith("what is not theirs") for text in claims) >= 1
    assert len(found["claims"]) == 2 + 7


@pytest.mark.slow
def test_figure_5_a_pass_is_linear_in_entities_and_in_clusters(tmp_path):
    found = run(figure5.REPRODUCTION, tmp_path, Setting())
    assert all(row["measured"] for row in found["rows"])
    assert [claim["holds"] for claim in found["claims"]] == [True, True, True]
    rows = {row["key"]: row["measured"] for row in found["rows"]}
    assert rows["ADEN.paper"]["parameters"] == rows["width 64"]["parameters"] == 150_914
    sizes = [
        np.prod([int(n) for n in line[line.index("(") + 1 : -1].split(",") if n.strip()])
        for line in rows["ADEN.paper"]["tree"]
    ]
    assert sum(sizes) == 150_914
    # At least a multiplication and an addition by every weight that meets all entities.
    assert rows["entities 128"]["operations"] > 2 * 128 * 4 * (64 * 64 * 2 + 64 * 128 * 2)
    assert (tmp_path / "operations.png").stat().st_size > 1000


def test_claims_of_table_3():
    rows: dict[str, Any] = {
        each.key: {"aden": 4.0 + place, "ignored": 8.0, "frozen": 41.0, "kappa": each.kappa}
        for place, each in enumerate(LONDON)
    }
    below, worst, frozen = table3.REPRODUCTION.claims(rows)
    assert below.holds and below.found == "4 of 4" and worst.found == "7"
    assert frozen.found == "41"
    rows[LONDON[0].key]["ignored"] = 1.0
    below, *_ = table3.REPRODUCTION.claims(rows)
    assert below.holds is False and below.found == "3 of 4"
    assert table3.REPRODUCTION.claims({"any": {"ignored": 1.0}}) == []
    # For 50 clusters, of which nothing is printed, other rows are kept.
    many, few = (each.tasks(Setting()) for each in (table3.FIFTY, table3.REPRODUCTION))
    assert [task.key for task in many] == [task.key for task in few]
    assert table3.FIFTY.name == "table3_k50" and not any(task.printed for task in many)


def test_claims_of_tables_4_and_5_are_means_of_rows_and_of_groups():
    """With the published numbers as if measured they are the published means."""
    rows: dict[str, Any] = {}
    for *numbers, aden, ignored in TABLE_4:
        each = Scenario(*numbers)
        rows[each.key] = {
            "kappa": each.kappa, "temperature": each.temperature, "aden_frozen": aden,
            "ignored_frozen": ignored,
        }  # fmt: skip
    assert len(rows) == 40 == len(table4.REPRODUCTION.tasks(Setting()))
    claims = table4.REPRODUCTION.claims(rows)
    assert len(claims) == 2 * (2 + len(TABLE_5))
    for claim in claims:
        printed, found = (float(text.split()[0]) for text in (claim.printed, claim.found))
        # Of numbers with two digits; both are rounded to as many.
        np.testing.assert_allclose(found, printed, rtol=0, atol=0.03, err_msg=claim.text)


def test_claim_of_transfer():
    rows: dict[str, Any] = {
        pair.key: {"transferred": 1.0 + place, "scratch": 8.0}
        for place, pair in enumerate(transfer.SCENARIOS)
    }
    rows[transfer.SIZES[0].key] = {"transferred": 9.0, "scratch": 1.0}
    (claim,) = transfer.REPRODUCTION.claims(rows)
    assert claim.found == "4 of 5" and claim.holds
    rows[transfer.SCENARIOS[0].key]["transferred"] = 4.1
    (claim,) = transfer.REPRODUCTION.claims(rows)
    assert claim.found == "3 of 5" and claim.holds is False


def test_without_flax_tables_say_what_is_missing(monkeypatch):
    for module in (table2, figure5, transfer):
        monkeypatch.setattr(module, "networks_installed", lambda: False)
        for task in module.REPRODUCTION.tasks(Setting())[:1]:
            with pytest.raises(NotMeasured, match="flax or optax is not installed"):
                task.compute()


def test_without_data_nothing_is_trained(tmp_path):
    for module in (table3, table4):
        with pytest.raises(NotMeasured, match="is not in"):
            module.REPRODUCTION.tasks(Setting(data=tmp_path))[0].compute()
