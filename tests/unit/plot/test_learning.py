"""Pictures of what was learnt say what they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import mepjax as mj


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_numbers_have_their_intervals_and_those_that_are_not_told_have_none():
    ax = mj.plot.learnt_numbers(
        ["kappa", "zeta", "gamma"], [0.31, 2.0, 0.5], [0.01, np.inf, None], truth={"kappa": 0.3}
    )
    (bars,) = ax.containers
    points, _, (spread,) = bars
    np.testing.assert_allclose(points.get_xydata(), [[0.31, 2.0]])
    (segment,) = spread.get_segments()
    np.testing.assert_allclose(segment[:, 0], [0.31 - 0.0196, 0.31 + 0.0196])
    labels = {line.get_label(): line.get_xydata() for line in ax.lines}
    np.testing.assert_allclose(labels["not told by the data"], [[2.0, 1.0], [0.5, 0.0]])
    np.testing.assert_allclose(labels["true"], [[0.3, 2.0]])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["kappa", "zeta", "gamma"]


def test_gaps_are_on_two_logarithmic_axes_and_none_is_lost():
    _, given = plt.subplots()
    gaps = {"structured": [2.0, 0.0], "counts": [30.0, 3.0]}
    ax = mj.plot.gap_against_interactions([100, 1000], gaps, ax=given)
    assert ax is given and ax.get_xscale() == ax.get_yscale() == "log"
    for line, (name, values) in zip(ax.lines, gaps.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_allclose(line.get_xdata(), [100, 1000])
        np.testing.assert_allclose(line.get_ydata(), np.maximum(values, 1e-4))


def test_coverage_is_a_table_of_who_went_where():
    problem = mj.Clustering(np.array([[-1.0], [1.0]]), 2)
    log = mj.learn.Interactions([0, 1, 1, 1], [0, 1, 1, 1], [0, 0, 1, 1])
    for groups in (None, [0, 1]):
        ax = mj.plot.log_coverage(log.coverage(problem, groups=groups))
        assert [text.get_text() for text in ax.texts] == ["1", "0", "1", "2"]
        np.testing.assert_allclose(ax.images[0].get_array(), np.log10([[1, 0.5], [1, 2]]))
        assert ax.get_xlabel() == "went to" and ax.get_ylabel() == "told"
    costs = mj.learn.Interactions([0, 1], [0, 1], cost=[1.0, 2.0])
    with pytest.raises(ValueError, match="must know where entities went; got costs alone"):
        mj.plot.log_coverage(costs.coverage(problem))
