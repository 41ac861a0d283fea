"""The figures of an anneal: what is drawn is what was solved."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from PIL import Image

import mepjax as mj
from mepjax import plot
from mepjax.datasets import four_square

SCHEDULE = mj.Geometric(0.5, 200.0, 1.4)
KAPPA = 0.2


@pytest.fixture(scope="module")
def annealed():
    """Four clusters under autonomy, with the centres of every stage."""
    with jax.enable_x64(True):
        x = four_square(80)[0] * jnp.array([1.0, 1.3])
        problem = mj.Clustering(x, 4, autonomy=mj.autonomy.Uniform(KAPPA))
        record = mj.Record(params=True)
        solution = mj.anneal(
            problem, SCHEDULE, key=jax.random.key(1), record=record, detector=mj.Detector()
        )
        return problem, jax.block_until_ready(solution.raise_if_failed())


def _axes(count: int = 1) -> Any:
    axes = Figure().subplots(count, squeeze=False)[:, 0]
    return axes[0] if count == 1 else axes


def _met(solution: mj.Solution) -> np.ndarray:
    met = np.asarray(solution.transitions)[: int(solution.n_transitions)]
    assert 2 <= len(met) < 4 and np.all(np.isfinite(met))
    return met


def _replace(solution: mj.Solution, **trace: Any) -> mj.Solution:
    return eqx.tree_at(lambda s: s.trace, solution, dataclasses.replace(solution.trace, **trace))


# --- The tree. ---------------------------------------------------------------------------------


def _steps(line: Any) -> dict[tuple[float, float], tuple[float, float]]:
    """Betas at both ends of each step that a line draws, and the heights there."""
    x, y = (np.asarray(values, float) for values in line.get_data())
    return {
        (x[i], x[i + 1]): (y[i], y[i + 1])
        for i in range(len(x) - 1)
        if np.all(np.isfinite(x[i : i + 2]))
    }


def _ends(ax: Any) -> np.ndarray:
    """The height of every branch at the last stage."""
    return np.array([line.get_ydata()[-1] for line in ax.lines[0:8:2]], float)


def _assert_tree(ax: Any, betas: np.ndarray, heights: np.ndarray) -> None:
    """Every step of every centre is drawn once, by its branch or by the trunk."""
    for centre in range(4):
        branch, trunk = (_steps(line) for line in ax.lines[2 * centre : 2 * centre + 2])
        assert not set(branch) & set(trunk)
        own = heights[:, centre]
        expected = {(betas[s], betas[s + 1]): (own[s], own[s + 1]) for s in range(len(betas) - 1)}
        assert branch | trunk == expected


def test_the_tree_is_that_of_the_recorded_centres(annealed):
    problem, solution = annealed
    stages = int(solution.n_stages)
    axes = plot.bifurcation(problem, solution, coordinates=[0, 1], ax=_axes(2))
    assert axes.shape == (2,)
    betas = np.asarray(solution.trace.beta)[:stages]
    params = np.asarray(solution.trace.params)[:stages]
    for coordinate, ax in enumerate(axes):
        _assert_tree(ax, betas, params[:, :, coordinate])
        # All together at first, all apart at the end.
        for centre in range(4):
            branch, trunk = (_steps(line) for line in ax.lines[2 * centre : 2 * centre + 2])
            assert (betas[0], betas[1]) in trunk and (betas[-2], betas[-1]) in branch
        marks = [line.get_xdata()[0] for line in ax.lines[8:]]
        np.testing.assert_array_equal(marks, _met(solution))
        assert ax.get_ylabel() == f"centre, coordinate {coordinate}"
        colours = np.stack([np.asarray(line.get_color()) for line in ax.lines[0:8:2]])
        assert len(np.unique(colours, axis=0)) == 4
    legend = axes[0].get_legend()
    assert legend is not None
    assert legend.get_texts()[0].get_text() == f"{len(_met(solution))} transitions"
    for ax in axes:
        numbers = ", ".join(text.get_text() for text in ax.texts)
        assert sorted(numbers.split(", ")) == ["0", "1", "2", "3"]


def test_centres_that_part_and_join_again_are_drawn_throughout(annealed):
    problem, solution = annealed
    stages = int(solution.n_stages)
    params = solution.trace.params
    # Apart at stage 1, and then together again.
    params = params.at[1].set(solution.params)
    params = params.at[2:4].set(params[0])
    ax = plot.bifurcation(problem, _replace(solution, params=params), coordinates=0, ax=_axes())
    betas = np.asarray(solution.trace.beta)[:stages]
    _assert_tree(ax, betas, np.asarray(params)[:stages, :, 0])


def test_one_stage_is_a_dot(annealed):
    problem, solution = annealed
    one = eqx.tree_at(lambda s: s.n_stages, solution, jnp.array(1))
    ax = plot.bifurcation(problem, one, coordinates=0, ax=_axes())
    assert all(line.get_marker() == "o" for line in ax.lines[:8])


def test_the_tree_of_many_features_is_drawn_along_the_first_component(annealed):
    problem, solution = annealed
    ax = plot.bifurcation(problem, solution, ax=_axes())
    x, params = np.asarray(problem.x), np.asarray(solution.params)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    axis = vectors[:, 1] * np.sign(vectors[np.argmax(np.abs(vectors[:, 1])), 1])
    np.testing.assert_allclose(_ends(ax), (params - x.mean(axis=0)) @ axis, atol=1e-12)
    share = f"({100 * values[1] / values.sum():.0f}% of the variance)"
    assert share in ax.get_ylabel()


def test_the_tree_is_drawn_in_the_units_asked_for(annealed):
    problem, solution = annealed

    def only_rows(places: np.ndarray) -> np.ndarray:
        assert places.ndim == 2  # as scikit-learn's scalers insist
        return 100 * places + 7

    ax = plot.bifurcation(problem, solution, coordinates=1, units=only_rows, ax=_axes())
    np.testing.assert_allclose(_ends(ax), 100 * np.asarray(solution.params)[:, 1] + 7)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"coordinates": 2}, "`coordinates` must be from 0 to 1; got 2"),
        ({"coordinates": [0, -1]}, "`coordinates` must be from 0 to 1; got -1"),
        ({"coordinates": []}, "must name at least one"),
        ({"coordinates": [0, 1], "ax": [None]}, "`ax` must hold 2 axes"),
    ],
)
def test_coordinates_that_are_not_there(annealed, options, says):
    with pytest.raises(ValueError, match=says):
        plot.bifurcation(*annealed, **options)


@pytest.mark.parametrize("draw", ["bifurcation", "animate"])
def test_a_trace_without_params_is_named(annealed, tmp_path, draw):
    problem, solution = annealed
    bare = _replace(solution, params=None)
    more = (tmp_path / "film.gif",) if draw == "animate" else ()
    with pytest.raises(ValueError, match=r"record=mepjax\.Record\(params=True\)"):
        getattr(plot, draw)(problem, bare, *more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("draw", ["clusters", "bifurcation", "transitions", "assignment_map"])
def test_lanes_are_refused(annealed, draw):
    problem, solution = annealed
    lanes = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), solution)
    with pytest.raises(ValueError, match=r"got lanes of shape \(2,\)"):
        getattr(plot, draw)(problem, lanes)


# --- Transitions. ------------------------------------------------------------------------------


def test_displacement_and_curvature_are_those_of_the_trace(annealed):
    problem, solution = annealed
    axes = plot.transitions(problem, solution, ax=_axes(2))
    stages = int(solution.n_stages)
    for ax, values in zip(
        axes, (solution.trace.displacement, solution.trace.curvature), strict=True
    ):
        np.testing.assert_array_equal(ax.lines[0].get_xdata(), solution.trace.beta[:stages])
        np.testing.assert_array_equal(ax.lines[0].get_ydata(), np.asarray(values)[:stages])
        marks = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        np.testing.assert_array_equal(marks, _met(solution))
        assert ax.get_xscale() == "log"


def test_stages_that_failed_and_transitions_without_a_place_are_told(annealed):
    problem, solution = annealed
    code = solution.trace.code.at[3].set(int(mj.Code.MAX_STEPS))
    failed = eqx.tree_at(lambda s: s.n_transitions, _replace(solution, code=code), jnp.array(9))
    axes = plot.transitions(problem, failed, ax=_axes(2))
    crosses = [line for line in axes[0].lines if line.get_marker() == "x"]
    np.testing.assert_array_equal(crosses[0].get_xdata(), solution.trace.beta[3:4])
    texts = [text.get_text() for text in axes[0].get_legend().get_texts()]
    words = f"9 transitions, the first {len(_met(solution))} marked"
    assert texts == [words, "1 stage not converged"]
    with pytest.raises(ValueError, match="`ax` must hold two axes; got 1"):
        plot.transitions(problem, solution, ax=[_axes()])


# --- The map. ----------------------------------------------------------------------------------


def test_the_map_is_the_policy_of_new_points(annealed):
    problem, solution = annealed
    ax = plot.assignment_map(problem, solution, beta=8.0, resolution=21, ax=_axes())
    image = np.asarray(ax.images[0].get_array())
    left, right, low, high = ax.images[0].get_extent()
    rows, columns = image.shape[:2]
    assert max(rows, columns) == 21
    row, column = 4, 9
    place = np.array(
        [
            [
                left + (column + 0.5) * (right - left) / columns,
                low + (row + 0.5) * (high - low) / rows,
            ]
        ]
    )
    fresh = mj.Clustering(place, 4, autonomy=mj.autonomy.Uniform(KAPPA))
    policy = np.exp(np.asarray(fresh.policy(solution.params, 8.0)))[0]
    centres: Any = ax.collections[-1]
    colours = np.asarray(centres.get_facecolors())[:, :3]
    pale = 1 - 0.55 * (1 - colours)
    np.testing.assert_allclose(image[row, column], policy @ pale, atol=1e-6)


def test_borders_lie_where_two_clusters_are_as_good():
    x = np.array([[0.0, 0.0], [4.0, 1.0], [0.0, 2.0], [4.0, 2.0]])
    problem = mj.Clustering(x, 2)
    solution: Any = _found(np.array([[0.0, 1.0], [4.0, 1.0]]))
    ax = plot.assignment_map(problem, solution, resolution=40, ax=_axes())
    borders = [c for c in ax.collections if isinstance(c, ContourSet)]
    vertices = np.concatenate([np.asarray(p.vertices) for c in borders for p in c.get_paths()])
    assert len(vertices) > 10
    # The border half way; and 90 % where the log odds, 3 (16 - 8 x) there, are log 9.
    off = np.abs(vertices[:, 0] - 2.0)
    expected = np.where(off < 1e-3, 0, np.log(9) / 24)
    np.testing.assert_allclose(off, expected, atol=5e-3)
    assert set(np.round(expected, 3)) == {0.0, 0.092}


def _found(params: np.ndarray, beta: float = 3.0) -> Any:
    """What the map needs of a solution."""
    return SimpleNamespace(params=jnp.asarray(params), beta=jnp.asarray(beta))


@pytest.mark.parametrize("factor", [[10.0, 10.0], [1.0, 5000.0]])
def test_the_map_is_drawn_in_the_units_asked_for(annealed, factor):
    problem, solution = annealed
    plain = plot.assignment_map(problem, solution, resolution=20, ax=_axes()).images[0]
    scaled = plot.assignment_map(
        problem, solution, resolution=20, ax=_axes(), units=lambda p: p * factor + 5
    )
    expected = np.asarray(plain.get_extent()) * np.repeat(factor, 2) + 5
    np.testing.assert_allclose(scaled.images[0].get_extent(), expected)
    assert (scaled.get_aspect() == "auto") == (factor[1] > 10)


def test_what_the_map_cannot_show_is_named():
    line = mj.Clustering(np.array([[0.0], [1.0]]), 2)
    with pytest.raises(ValueError, match="two features; got 1"):
        plot.assignment_map(line, _found(np.array([[0.0], [1.0]])))
    x = np.array([[0.0, 0.0], [1.0, 0.0]])
    for autonomy in (
        mj.autonomy.Dense(np.tile(np.eye(2), (2, 1, 1))), mj.autonomy.Uniform([0.1, 0.2]),
        mj.autonomy.Softmax(np.array([0.1, 0.2])),
    ):  # fmt: skip
        problem = mj.Clustering(x, 2, autonomy=autonomy)
        with pytest.raises(ValueError, match="given point by point"):
            plot.assignment_map(problem, _found(x))
    with pytest.raises(ValueError, match="`resolution` must be at least 2; got 1"):
        plot.assignment_map(mj.Clustering(x, 2), _found(x), resolution=1)


@pytest.mark.parametrize("k", [1, 3])
def test_the_map_of_points_on_one_place_or_line(k):
    for x in (np.zeros((5, 2)), np.stack([np.arange(5.0), np.zeros(5)], axis=1)):
        ax = plot.assignment_map(
            mj.Clustering(x, k),
            _found(x[:k]),
            resolution=10,
            ax=_axes(),
        )
        assert np.all(np.isfinite(np.asarray(ax.images[0].get_array())))


# --- Bars. -------------------------------------------------------------------------------------


def test_bars_are_the_costs_under_autonomy(annealed):
    problem, solution = annealed
    other: Any = eqx.tree_at(lambda s: s.params, solution, solution.params + 0.3)
    ax: Any = plot.cost_of_ignoring(problem, solution, other, ax=_axes())
    heights = [bar.get_height() for bar in ax.patches]
    expected = [float(problem.evaluate(s.params).cost) for s in (solution, other)]
    np.testing.assert_allclose(heights, expected)
    assert ax.texts[0].get_text() == f"{100 * (expected[1] / expected[0] - 1):+.1f}%"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["κ = 0.2"]
    known, ignored = ax.patches
    assert not known.get_hatch() and ignored.get_hatch()
    several = plot.cost_of_ignoring(
        [problem] * 3, [solution] * 3, other, labels=["a", "$b", "c"], ax=_axes()
    )
    assert len(several.patches) == 6
    several.figure.canvas.draw()  # a dollar is no mathematics
    with pytest.raises(ValueError, match="got 2 problems, 1 solutions"):
        plot.cost_of_ignoring([problem] * 2, [solution], other)


def test_without_cost_the_percentage_is_undefined(annealed):
    problem, solution = annealed
    still = mj.Clustering(jnp.zeros((4, 2)), 4)
    nowhere = eqx.tree_at(lambda s: s.params, solution, jnp.zeros((4, 2)))
    ax = plot.cost_of_ignoring(still, nowhere, nowhere, ax=_axes())
    assert ax.texts[0].get_text() == "undefined"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["NoAutonomy"]


# --- The film. ---------------------------------------------------------------------------------


def test_a_film_of_an_anneal(annealed, tmp_path):
    problem, solution = annealed
    path = plot.animate(problem, solution, tmp_path / "film.gif", frames=5, fps=2, dpi=40)
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.gif"]
    with Image.open(path) as film:
        assert film.format == "GIF" and film.size == (280, 240)
        count = getattr(film, "n_frames", 1)
        assert 3 <= count <= 7
        first = np.asarray(film.convert("RGB"), float)
        film.seek(count - 1)
        assert np.mean(np.abs(np.asarray(film.convert("RGB"), float) - first)) > 1


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("film.avi", {}, "must end with .gif or .mp4; got 'film.avi'"),
        ("film", {}, "must end with .gif or .mp4"),
        ("film.gif", {"frames": 0}, "must be positive; got 0"),
        ("film.gif", {"fps": float("nan")}, "must be positive"),
        ("film.gif", {"mixture": "hard"}, "`mixture` must be one of"),
    ],
)
def test_films_that_cannot_be_made(annealed, tmp_path, name, options, says):
    with pytest.raises(ValueError, match=says):
        plot.animate(annealed[0], annealed[1], tmp_path / name, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_film_of_an_anneal_of_paths_is_refused_by_name(annealed, tmp_path):
    network = mj.FacilityPath(*mj.datasets.supply_network(4), 1)
    with pytest.raises(TypeError, match="one of a Clustering; got FacilityPath"):
        plot.animate(network, annealed[1], tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


def test_a_film_without_ffmpeg_is_refused_by_name(annealed, tmp_path, monkeypatch):
    from matplotlib import animation

    monkeypatch.setattr(animation.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    with pytest.raises(RuntimeError, match="film.mp4' needs ffmpeg, which was not found"):
        plot.animate(annealed[0], annealed[1], tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_fails_half_way_leaves_nothing(annealed, tmp_path, monkeypatch):
    from matplotlib import animation

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(animation.PillowWriter, "grab_frame", full)
    with pytest.raises(OSError, match="No space left"):
        plot.animate(annealed[0], annealed[1], tmp_path / "film.gif", frames=2)
    assert list(tmp_path.iterdir()) == []


def test_frames_are_spent_where_centres_move():
    from mepjax.plot.animation import _pick

    displacement = np.zeros(400)
    displacement[100:110] = 1.0
    picked = _pick(np.arange(400.0), displacement, 40)
    assert len(picked) <= 40 and picked[0] == 0 and picked[-1] == 399
    assert set(range(101, 110)) <= set(picked.tolist())
    np.testing.assert_array_equal(_pick(np.arange(3.0), np.zeros(3), 40), [0, 1, 2])
    assert len(_pick(np.arange(400.0), np.full(400, np.nan), 40)) <= 41
