"""Figures 3.3 and 3.4: what is said of rows."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import mepjax as mj
from mepjax import mdp
from mepjax.datasets import gridworld
from mepjax.reproduce import Setting, figure_3_3, figure_3_4, figure_3_5, load


def test_rows_are_named_once_and_claims_follow_from_them():
    for name, module in (("figure_3_3", figure_3_3), ("figure_3_4", figure_3_4)):
        assert load(name) is module.REPRODUCTION
        keys = [task.key for task in module.REPRODUCTION.tasks(Setting())]
        assert len(set(keys)) == len(keys) > 5
    counts = {"MEP(sigma)": 100, "soft Q(sigma)": 150, "soft Q(sigma/discount)": 100}
    rows: dict[str, dict[str, Any]] = {
        figure_3_3._key("a", 0.65, name): {"episodes": n} for name, n in counts.items()
    }
    rows[figure_3_3._key("a", 0.65, "soft Q(prior)")] = {"episodes": 50}
    rows[figure_3_3._key("b", 0.65, "Q")] = {"policy_worst": 1e-6}
    claims = figure_3_3.REPRODUCTION.claims(rows)
    assert [claim.holds for claim in claims] == [True, True, True, True]
    assert [claim.found[:4] for claim in claims[:3]] == ["1.50", "1.00", "3.00"]
    # A level that is never reached says nothing.
    rows[figure_3_3._key("a", 0.65, "MEP(sigma)")]["episodes"] = None
    assert len(figure_3_3.REPRODUCTION.claims(rows)) == 2
    row = {"ratio": 0.5, "least": 0.4, "most": 0.6, "best": 1.01}
    claims = figure_3_4.REPRODUCTION.claims(
        {figure_3_4._key(kind, "towns"): row for kind in figure_3_4._KINDS}
    )
    assert [claim.holds for claim in claims] == [True, True, True, True, False]
    drawn = figure_3_4.REPRODUCTION.draw(
        {figure_3_4._key(kind, "towns"): row for kind in figure_3_4._KINDS}, Setting()
    )
    figure = Figure()
    drawn["ratios"](figure)
    # A range and a mean for each, what was printed for four, and the line at one.
    assert len(figure.axes[0].lines) == 2 * 5 + 4 + 1
    assert load("figure_3_5") is figure_3_5.REPRODUCTION
    assert len(figure_3_5.REPRODUCTION.tasks(Setting())) == 2
    for above, holds in ((1.0, True), (4.0, False)):
        rows = {"layout 0": {"above": 0.5}, "layout 1": {"above": above}}
        (claim,) = figure_3_5.REPRODUCTION.claims(rows)
        assert claim.holds == holds


def test_the_cheapest_run_is_one_that_ended_well():
    assert figure_3_4.cheapest([5, 0, 0], [1.0, 3.0, 2.0]) == 2
    with pytest.raises(mj.SolveError, match="all 2 runs failed"):
        figure_3_4.cheapest([5, 9], [1.0, 2.0])


def test_without_an_end_every_policy_earns_the_same():
    model = figure_3_3._model("b", 0.65)
    rng = np.random.default_rng(0)
    for _ in range(2):
        policy = rng.dirichlet(np.ones(9), size=model.n_states)
        np.testing.assert_allclose(mdp.evaluate(model, policy), -1 / 0.35, rtol=1e-5)


def test_noise_may_differ_by_action():
    model = gridworld(discount=0.65)
    env = mdp.Environment(model, noise=figure_3_3._NOISE)
    assert float(env.noise_of(3, 1)) == 1.0 and float(env.noise_of(3, 5)) == 0.5
    assert float(mdp.Environment(model, noise=0.3).noise_of(0, 0)) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="`noise` must be a number or broadcast"):
        mdp.Environment(model, noise=np.ones(4))
