"""A network whose parameters are known by their shapes alone, and a pass through it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
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


def perceptron(widths: Sequence[int], dtype: Any, rngs: Any) -> nnx.Sequential:
    """Layers from each width to the next with SiLU in between."""
    layers = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [
            nnx.Linear(before, after, rngs=rngs, dtype=dtype, param_dtype=dtype),
            jax.nn.silu,
        ]
    return nnx.Sequential(*layers[:-1])
