"""The network with the head and the output that were published, which dies: for appendix K."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from .aden import ADEN, Base

# Where the centre of the unit square is.
_MIDDLE = 0.5


class PublishedADEN(ADEN):
    """`ADEN` with a plain ReLU at its end, a random head, and data as they are.

    **Arguments:** as of `ADEN`, and `unit`: how long one spacing is on the unit square, as the
    published network sees coordinates of the square where others see spacings; `zero_head`: the
    last layer is zero as in `ADEN`, which is the cure.
    """

    def __init__(
        self,
        features: int,
        *,
        unit: float,
        zero_head: bool = False,
        head: Sequence[int] = (128,),
        dtype: Any = jnp.float32,
        rngs: Any,
        **options: Any,
    ) -> None:
        rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
        super().__init__(features, head=head, dtype=dtype, rngs=rngs, **options)
        self.unit = unit
        if not zero_head:
            shape = (head[-1], 1)
            xavier = nnx.initializers.xavier_uniform()
            self.head.last.kernel = nnx.Param(xavier(rngs.params(), shape, dtype))

    def __call__(self, x: Array, centres: Array, *, key: Any = None, clipped: bool = True) -> Array:
        """Costs in squared spacings, from a pass on the unit square."""
        at = lambda a: self.unit * a + _MIDDLE  # noqa: E731
        found = super().__call__(at(x), at(centres), key=key, clipped=clipped)
        return found / self.unit**2

    def _finish(
        self, deviation: Array, x: Array, centres: Array, clipped: bool, base: str | Base | None
    ) -> Array:
        """No slope below zero, not while learning either."""
        found = super()._finish(deviation, x, centres, True, base)
        return jax.nn.relu(found) if base is None else found
