"""A network whose parameters are known by their shapes alone, and a pass through it."""

from collections.abc import Callable
from typing import Any

from flax import nnx
from jaxtyping import Array


def abstract(build: Callable[[], Any]) -> tuple[Any, Callable[[Any, Array, Array], Array]]:
    """Shapes of the parameters of `build()`, and a pass of `(parameters, x, centres)`.

    No parameter is made.
    """
    graph, shapes = nnx.split(nnx.eval_shape(build))

    def apply(parameters: Any, x: Array, centres: Array) -> Array:
        return nnx.merge(graph, parameters)(x, centres)

    return shapes, apply
