"""The figures of a result, as PNG."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import mepjax as mj

from .cluster import Result
from .png import name_axes, png
from .points import Points
from .words import describe_autonomy, largest_probabilities


def draw_all(result: Result, points: Points) -> dict[str, bytes]:
    """PNG files by name: clusters, sure, transitions; map, tree and ignoring where they apply."""
    drawn: dict[str, Callable[[Any], None]] = {
        "clusters": lambda figure: _clusters(figure, result, points),
        "sure": lambda figure: _sure(figure, result),
        "transitions": lambda figure: _transitions(figure, result),
    }
    if points.x.shape[1] == 2 and result.problem.k > 1:
        drawn["map"] = lambda figure: _map(figure, result, points)
    if annealed(result).trace.params is not None:
        drawn["tree"] = lambda figure: _tree(figure, result, points)
    if result.ignored is not None:
        drawn["ignoring"] = lambda figure: _ignoring(figure, result)
    sizes = {"clusters": (8, 7), "map": (8, 7), "sure": (7, 3.2), "ignoring": (4.5, 4)}
    with jax.enable_x64(result.options.float64):
        return {name: png(draw, sizes.get(name, (8, 5.5))) for name, draw in drawn.items()}


def annealed(result: Result) -> mj.Solution:
    """The whole anneal that led to the result, or the best one if it came of a random start."""
    runs = [*result.best.path, *sorted(result.runs, key=lambda run: run.cost)]
    return next((run.solution for run in runs if int(run.solution.n_stages) > 1), runs[0].solution)


def write_film(path: Path, result: Result, points: Points) -> None:
    """Write the film of the anneal."""
    from ..plot import animate

    with jax.enable_x64(result.options.float64):
        animate(result.problem, annealed(result), path, units=_units(result, points))


def _units(result: Result, points: Points) -> Any:
    """Input units; but principal components are those of the scaled points."""
    return result.scaling.invert if points.x.shape[1] <= 2 else None


def _clusters(figure: Any, result: Result, points: Points) -> None:
    from ..plot import clusters

    axes = clusters(
        result.problem, result.best.solution, ax=figure.add_subplot(), units=_units(result, points)
    )
    name_axes(axes, points, result.scaling)
    used = f"{result.best.n_used} of {result.problem.k} clusters used"
    axes.set_title(f"{used}\n{describe_autonomy(result)}", fontsize=10)


def _map(figure: Any, result: Result, points: Points) -> None:
    from ..plot import assignment_map

    axes = assignment_map(
        result.problem, result.best.solution, ax=figure.add_subplot(), units=_units(result, points)
    )
    name_axes(axes, points, result.scaling)


def _sure(figure: Any, result: Result) -> None:
    from ..plot.style import PALETTE

    weights = np.asarray(result.problem.weights, np.float64)
    k = result.problem.k
    bins = np.linspace(1 / k if k > 1 else 0, 1, 26)
    axes = figure.add_subplot()
    found = largest_probabilities(result)
    axes.hist(
        [np.clip(largest, bins[0], 1) for _, largest in found], bins=bins,
        weights=[100 * weights / np.sum(weights)] * len(found), label=[name for name, _ in found],
        color=PALETTE[[1, 0][-len(found) :]], edgecolor="black", linewidth=0.6,
        hatch=["///", ""][-len(found) :],
    )  # fmt: skip
    axes.set_xlabel("largest soft probability of a point")
    axes.set_ylabel("% of weight")
    axes.legend(loc="upper left", frameon=False, fontsize=9)


def _transitions(figure: Any, result: Result) -> None:
    from ..plot import transitions

    transitions(result.problem, annealed(result), ax=figure.subplots(2, sharex=True))


def _tree(figure: Any, result: Result, points: Points) -> None:
    from ..plot import bifurcation

    axes = bifurcation(
        result.problem, annealed(result), ax=figure.add_subplot(), units=_units(result, points)
    )
    if points.x.shape[1] == 1:
        axes.set_ylabel(points.names[0], parse_math=False)


def _ignoring(figure: Any, result: Result) -> None:
    from ..plot import cost_of_ignoring

    assert result.ignored is not None
    axes = cost_of_ignoring(
        result.problem, result.best.solution, result.ignored.solution, ax=figure.add_subplot()
    )
    if result.scaling.kind != "none":
        axes.set_ylabel("hard cost under autonomy (scaled units)")
