"""`mepjax.plot.track` and films of scenes that are followed."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import mepjax as mj
from mepjax import plot
from mepjax._core import checks
from mepjax.control.moving import ByVelocity
from mepjax.control.trajectory import Track

TIMES = np.array([0.0, 1.0, 2.0], np.float32)


def _track(problem: Any, values: Any, moved: dict[str, Any], **rows: Any) -> Track:
    """A track by hand: figures are tested without an integration."""
    plain = np.ones(3, np.float32)
    rows = {
        "free_energy": plain, "distortion": plain, "free_energy_rate": plain, "curvature": plain,
        "lag": plain, "speed": np.array([0.5, 1.0, 2.0], np.float32), "jump": 0 * plain,
        "saturated": plain > 2, "fall": 0 * plain, "code": np.zeros(3, np.int32), **rows,
    }  # fmt: skip
    rows = jax.tree.map(jnp.asarray, rows)
    scene = ByVelocity(problem, None, tuple(sorted(moved)))
    return Track(
        times=jnp.asarray(TIMES), beta=jnp.asarray(1.0), values=jnp.asarray(values),
        n_steps=jnp.asarray(3), scene=scene, moved=jax.tree.map(jnp.asarray, moved),
        input_report=checks.report(()), **rows,
    )  # fmt: skip


NODES = np.array([[0.0, 0.0], [0.0, 4.0], [1.0, 1.0]], np.float32)
END = np.array([[8.0, 2.0]], np.float32)
PLACES = np.array([[2.0, 1.0], [5.0, 2.0]], np.float32)


def _network(**rows: Any) -> tuple[Any, Track]:
    problem = mj.FacilityPath(NODES, END, 2)
    along = TIMES[:, None, None] * np.array([0.0, 1.0], np.float32)
    moved = {"nodes": NODES + along, "destinations": END - along}
    return problem, _track(problem, PLACES + along, moved, **rows)


def _clusters() -> tuple[Any, Track]:
    problem = mj.Clustering(NODES, 2)
    along = TIMES[:, None, None] * np.array([2.0, 0.0], np.float32)
    return problem, _track(problem, PLACES + along, {"x": NODES + along})


def _axes(count: int) -> Any:
    return Figure().subplots(1, count)


def test_ways_are_drawn_from_where_things_started_to_where_they_came():
    _, track = _network()
    ways, energy, speed = plot.track(track, axes=_axes(3))
    first, second = (line.get_xydata() for line in ways.lines[0:4:2])
    np.testing.assert_allclose(first, PLACES[0] + TIMES[:, None] * [0.0, 1.0])
    np.testing.assert_allclose(second, PLACES[1] + TIMES[:, None] * [0.0, 1.0])
    # Rings at the start; colours and line styles tell facilities apart.
    np.testing.assert_allclose(ways.lines[1].get_xydata(), PLACES[:1])
    assert ways.lines[0].get_linestyle() != ways.lines[2].get_linestyle()
    assert [text.get_text() for text in ways.texts] == ["0", "1", "D"]
    grey = ways.collections[0].get_segments()
    np.testing.assert_allclose(grey[1], NODES[1] + TIMES[:, None] * [0.0, 1.0])
    np.testing.assert_allclose(speed.lines[0].get_ydata(), [0.5, 1.0, 2.0])
    assert (energy.get_ylabel(), speed.get_yscale()) == ("free energy", "log")


def test_rows_that_were_not_reached_are_not_drawn():
    nan = np.array([1.0, 1.0, np.nan], np.float32)
    _, track = _network(code=np.array([0, 0, 6], np.int32), free_energy=nan)
    ways = plot.track(track, axes=_axes(3))[0]
    assert len(np.asarray(ways.lines[0].get_xydata())) == 2
    with pytest.raises(ValueError, match="has no row that was reached"):
        plot.track(_network(code=np.full(3, 9, np.int32))[1])


def test_others_and_events_are_marked():
    rows = {
        "fall": np.array([0.0, 0.2, 0.0], np.float32),
        "jump": np.array([0, 1.0, 0], np.float32),
    }
    _, track = _network(**rows)
    other: Any = SimpleNamespace(times=TIMES, free_energy=2 + TIMES, speed=TIMES)
    _, energy, speed = plot.track(track, others={"solved anew": other}, axes=_axes(3))
    names = [text.get_text() for text in energy.get_legend().get_texts()]
    assert names == ["control law", "solved anew"]
    np.testing.assert_allclose(energy.lines[1].get_ydata(), 2 + TIMES)
    # Rest has no logarithm.
    assert np.isnan(speed.lines[1].get_ydata()[0])
    assert list(energy.lines[2].get_xdata()) == [1.0, 1.0]


def test_what_cannot_be_drawn_is_refused():
    _, track = _network()
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), track)
    with pytest.raises(ValueError, match=r"one scene; got lanes of shape \(2,\)"):
        plot.track(lanes)
    with pytest.raises(ValueError, match="must be 3 axes; got 2"):
        plot.track(track, axes=_axes(2))


@pytest.mark.parametrize("scene", [_network, _clusters], ids=["network", "clusters"])
def test_a_film_of_a_track(scene, tmp_path):
    problem, track = scene()
    path = plot.animate(problem, track, tmp_path / "track.gif", frames=2, fps=2, dpi=30)
    assert [entry.name for entry in tmp_path.iterdir()] == ["track.gif"]
    with Image.open(path) as film:
        assert film.size == (210, 210)
        first = np.asarray(film.convert("RGB"), float)
        film.seek(getattr(film, "n_frames", 1) - 1)
        changed = np.abs(np.asarray(film.convert("RGB"), float) - first).max(axis=2) > 60
        # Two discs of about 40 pixels have left their places and come to others.
        assert np.sum(changed) > 100
