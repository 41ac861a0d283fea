"""Between input units and those of the solve."""

from typing import Any

import numpy as np
import pytest

import mepjax as mj
from mepjax._core.scaling import Scaling

# Around London, longitude first.
PLACES: Any = np.array([[-0.3, 51.3], [0.1, 51.6], [-0.1, 51.5], [0.2, 51.4]])


@pytest.mark.parametrize("kind", ["none", "unit", "zscore"])
@pytest.mark.parametrize("lonlat", [None, (0, 1)])
def test_scaling_is_undone(kind, lonlat):
    scaling = Scaling.of(kind, PLACES, None, lonlat)
    np.testing.assert_allclose(scaling.invert(scaling.apply(PLACES)), PLACES, rtol=1e-14)
    if kind == "unit":
        assert np.max(scaling.apply(PLACES)) == pytest.approx(1)
    if kind == "zscore":
        np.testing.assert_allclose(np.std(scaling.apply(PLACES), axis=0), 1)
        assert scaling.cost_factor is None


@pytest.mark.parametrize("kind", ["none", "unit"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_lengths_on_the_map_are_kilometres(kind, order):
    places = PLACES[:, list(order)]
    scaling = Scaling.of(kind, places, np.array([1.0, 2.0, 0.0, 1.0]), order)
    z = scaling.apply(places)
    factor = scaling.cost_factor
    assert factor is not None and scaling.cost_unit == "square km"
    found = np.sqrt(factor * np.sum((z[:, None] - z[None]) ** 2, axis=2))
    expected = mj.costs.GreatCircle(smoothing=0.0).pairwise(PLACES, PLACES)
    np.testing.assert_allclose(found, expected, rtol=4e-3, atol=1e-3)


def test_a_third_column_has_units_of_its_own():
    places = np.column_stack([PLACES, [1.0, 2.0, 3.0, 4.0]])
    scaling = Scaling.of("none", places, None, (0, 1))
    assert scaling.cost_unit == "mixed units" and scaling.cost_factor == pytest.approx(1)
    plain = Scaling.of("none", places, None)
    assert plain.cost_unit == "input units" and plain.cost_factor == 1
