"""The curve of coverage against computation: its slope is the multiplier."""

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mepjax as mj
from mepjax._core.codes import is_failing
from mepjax.select import TradeOff, trade_off

from .test_multipliers import BETA, KEY, SCHEDULE, build

# Close pairs, whose differences are slopes, and a wide range.
MULTIPLIERS = np.array([0.8, 0.8008, 3.0, 3.003])


@functools.cache
def curve() -> TradeOff:
    with jax.enable_x64(True):
        return trade_off(build(), MULTIPLIERS, SCHEDULE, key=KEY)


def test_the_slope_of_the_curve_is_the_multiplier():
    found = curve()
    assert not np.any(is_failing(found.code))
    moved, paid = np.diff(found.remainder)[::2], np.diff(found.parts.computation)[::2]
    # The mean of the two slopes, to the third order in their distance.
    between = (np.asarray(found.slope)[::2] + np.asarray(found.slope)[1::2]) / 2
    np.testing.assert_allclose(moved / paid, between, rtol=1e-5)


def test_each_point_is_the_anneal_of_its_own_problem():
    with jax.enable_x64(True):
        found, problem = curve(), build(computation=3.0)
        params = jax.tree.map(lambda leaf: leaf[2], found.params)
        assert float(jnp.linalg.norm(problem.residual(params, BETA).centres)) < 1e-7
        np.testing.assert_allclose(problem.harden(params).coverage, found.coverage[2], rtol=1e-12)
        energy = problem.free_energy(params, BETA)
        shown = found.remainder[2] - found.slope[2] * found.parts.computation[2]
        np.testing.assert_allclose(shown, energy, rtol=1e-12)


def test_efficient_points_are_those_that_no_other_beats():
    rng = np.random.default_rng(0)
    kept, coverage = rng.integers(5, size=(2, 30)).astype(float)
    coverage[3] = np.nan
    unused = cast(Any, None)
    parts = mj.CostParts(unused, unused, unused, jnp.asarray(kept))
    changed = TradeOff(unused, jnp.asarray(coverage), parts, unused, unused, unused, unused)

    def beaten(i: int) -> bool:
        return any(
            kept[j] <= kept[i] and coverage[j] <= coverage[i]
            and (kept[j] < kept[i] or coverage[j] < coverage[i]) for j in range(30)
        )  # fmt: skip

    expected = [not np.isnan(coverage[i]) and not beaten(i) for i in range(30)]
    assert np.asarray(changed.efficient).tolist() == expected


def test_it_is_drawn_with_beaten_points_apart():
    found = curve()
    axes = mj.plot.trade_off(found)
    efficient = np.asarray(found.efficient)
    assert len(axes.lines[0].get_xdata()) == efficient.sum()  # type: ignore[arg-type]
    assert [text.get_text() for text in axes.texts] == ["0.8", "0.801", "3", "3"]


@pytest.mark.parametrize(
    ("computation", "sentence"),
    [([], "shape"), (0.5, "shape"), ([0.1, -1.0], "`computation` must be >= 0"),
     ([np.nan], "`computation`")],
)  # fmt: skip
def test_bad_multipliers_are_named(computation, sentence):
    with pytest.raises(ValueError, match=sentence):
        trade_off(build(), computation, key=KEY)


def test_another_problem_is_refused():
    with pytest.raises(TypeError, match="ScalableClustering"):
        trade_off(cast(mj.ScalableClustering, mj.Clustering([[0.0], [1.0]], 2)), [0.1], key=KEY)
