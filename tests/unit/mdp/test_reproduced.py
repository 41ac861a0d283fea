"""Section 6 of clustered control, the parts of it that take seconds."""

import numpy as np
import pytest

from mepjax.reproduce import Setting, cvi
from mepjax.reproduce.numbers import CVI_FIGURE_5


@pytest.mark.slow
def test_greedy_splitting_looks_at_few_clusterings_and_is_near_the_best():
    found = cvi._greedy(Setting("small"))
    assert found["all"] == [1, 511, 9330, 34105, 42525, 22827, 5880, 750, 45, 1]
    looked = np.array(found["looked"])
    assert looked[1] == 511 and np.all(looked[2:8] < np.array(found["all"])[2:8])
    assert np.all(np.diff(found["value"]) >= -1e-12) and max(found["gap"]) < 0.005


@pytest.mark.slow
def test_channels_of_scenario_1_are_near_figure_5_from_two_clusters_on():
    found = cvi._channels(Setting("small"), "revenue")
    apart = np.abs(np.subtract(found["value"], CVI_FIGURE_5[0]))
    assert np.all(apart[1:] < 0.015) and apart[0] > 0.1  # one cluster: not reproduced
