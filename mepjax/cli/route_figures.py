"""The figures of `mepjax route`, as PNG."""

from collections.abc import Callable
from typing import Any

import jax

from .png import name_axes, png
from .points import Points
from .route import Result


def draw_all(result: Result, points: Points) -> dict[str, bytes]:
    """PNG files by name: routes and transitions; usage where there are capacities."""
    drawn: dict[str, Callable[[Any], None]] = {
        "routes": lambda figure: _routes(figure, result, points),
        "transitions": lambda figure: _transitions(figure, result),
    }
    if result.network.is_limited:
        drawn["usage"] = lambda figure: _usage(figure, result)
    sizes = {"routes": (8, 7), "usage": (8, 4.5)}
    with jax.enable_x64(result.options.float64):
        return {name: png(draw, sizes.get(name, (8, 5.5))) for name, draw in drawn.items()}


def _routes(figure: Any, result: Result, points: Points) -> None:
    from ..plot import routes

    # Principal components are those of the scaled nodes.
    units = result.scaling.invert if points.x.shape[1] <= 2 else None
    axes = routes(result.problem, result.best.solution, ax=figure.add_subplot(), units=units)
    name_axes(axes, points, result.scaling)


def _usage(figure: Any, result: Result) -> None:
    from ..plot import capacity_usage

    capacity_usage(result.problem, result.best.solution, ax=figure.add_subplot())


def _transitions(figure: Any, result: Result) -> None:
    from ..plot import transitions

    transitions(result.problem, result.best.solution, ax=figure.subplots(2, sharex=True))
