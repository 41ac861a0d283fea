"""The ablation: its variants, equal work, and claims."""

from typing import Any

import jax.numpy as jnp
import pytest

import mepjax as mj
from mepjax import learn
from mepjax.reproduce import NotMeasured, Setting, ablation, run
from mepjax.reproduce.ablation import EQUAL, OURS, PUBLISHED, SCENARIOS, VARIANTS

# Interactions of ours at the small scale: steps, starts, sets, entities, draws.
DRAWS = (400 + 100 * 30) * 4 * 2 * 64 * 4


def test_every_variant_differs_from_ours_in_what_it_says():
    for text in ("no centre block", "4 blocks", "perturbation .01 of the square", "smoothing .95",
                 "head random at the start", "no warm-up", "no clipping",
                 "MLP: no attention"):  # fmt: skip
        variant = VARIANTS[text]
        assert variant.options or variant.settings or variant.network != "aden"
    tasks = [task.key for task in ablation.REPRODUCTION.tasks(Setting())]
    assert len(set(tasks)) == len(tasks) == 2 * len(VARIANTS) + len(PUBLISHED)
    assert len(ablation.REPRODUCTION.tasks(Setting("medium"))) == 4 * len(VARIANTS) + 2


def test_the_published_recipe_has_as_many_draws_as_ours():
    for preset in (learn.Training.paper(**EQUAL), learn.Training.released(**EQUAL)):
        schedule: Any = preset.schedule(
            jnp.asarray(1.0), mj.Clustering(mj.datasets.four_square(8)[0], 4)
        )
        asked = schedule.max_stages * preset.pace[1]
        assert asked == pytest.approx(DRAWS, rel=0.03)


def test_claims_are_means_beside_ours_and_the_recipe_on_the_hard_row():
    rows: dict[str, Any] = {}
    for place, text in enumerate(VARIANTS):
        for number, each in enumerate(SCENARIOS[:2]):
            rows[f"{text}; {each.key}"] = {
                "variant": text, "aden": place + number, "aden_interactions": 7e6,
            }  # fmt: skip
    rows[f"recipe as printed; {SCENARIOS[0].key}"] = {
        "variant": "recipe as printed", "aden": 30.0, "aden_interactions": 6.8e6,
    }  # fmt: skip
    claims = ablation.REPRODUCTION.claims(rows)
    assert len(claims) == len(VARIANTS) + 1
    assert claims[0].found == "0.5" and claims[1].found == "1.5, ours 0.5"
    assert claims[-1].found == "30 (6.8e+06 draws), ours 0 (7e+06 draws)"
    assert set(ablation.REPRODUCTION.draw(rows, Setting())) == {"gaps"}


def test_without_flax_it_says_what_is_missing(monkeypatch):
    monkeypatch.setattr(ablation, "networks_installed", lambda: False)
    with pytest.raises(NotMeasured, match="flax or optax is not installed"):
        ablation.REPRODUCTION.tasks(Setting())[0].compute()


@pytest.mark.slow
def test_rows_are_run_with_about_as_many_operations(tmp_path, monkeypatch):
    whole = ablation.operations(VARIANTS[OURS])
    for text in (OURS, "4 blocks", "MLP: no attention"):
        work = ablation.cycles(VARIANTS[text], 100) * ablation.operations(VARIANTS[text])
        assert work == pytest.approx(100 * whole, rel=0.02), text
    assert ablation.operations(VARIANTS["4 blocks"]) > 1.5 * whole
    asked: list[tuple[Any, int]] = []

    def aden(self, training, starts=4):
        asked.append((training, starts))
        return self.base.x[:4], 12

    monkeypatch.setattr(ablation.Cell, "aden", aden)
    monkeypatch.setattr(ablation, "SCENARIOS", SCENARIOS[:1])
    found = run(ablation.REPRODUCTION, tmp_path, Setting())
    assert all(row["measured"]["aden"] > 0 for row in found["rows"])
    assert [starts for _, starts in asked] == [4] * len(VARIANTS) + [1] * len(PUBLISHED)
    ours, paper = asked[0][0], asked[-2][0]
    assert ours.cycles == 100 and dict(ours.options) == {"blocks": 1, "centre_blocks": 1}
    assert paper.recipe.plain_descent and paper.network_steps == EQUAL["network_steps"]
