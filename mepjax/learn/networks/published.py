"""Networks with the head that was published, which is random at the start: for comparisons."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from .aden import ADEN, Base

# Where the centre of the unit square is.
_MIDDLE = 0.5


class RandomHeadADEN(ADEN):
    """`ADEN` whose last layer is random at the start, not zero.

    **Arguments:** as of `ADEN`.
    """

    def __init__(
        self,
        features: int,
        *,
        head: Sequence[int] = (128,),
        dtype: Any = jnp.float32,
        rngs: Any,
        **options: Any,
    ) -> None:
        rngs = rngs if isinstance(rngs, nnx.Rngs) else nnx.Rngs(rngs)
        super().__init__(features, head=head, dtype=dtype, rngs=rngs, **options)
        xavier = nnx.initializers.xavier_uniform()
        self.head.last.kernel = nnx.Param(xavier(rngs.params(), (head[-1], 1), dtype))


class PublishedADEN(RandomHeadADEN):
    """`ADEN` with a random head, a plain ReLU at its end, and data as they are. It dies.

    **Arguments:** as of `ADEN`, and `unit`: how long one spacing is on the unit square, as the
    published network sees coordinates of the square where others see spacings; `zero_head`: the
    last layer is zero as in `ADEN`, which is the cure.
    """

    def __init__(
        self, features: int, *, unit: float, zero_head: bool = False, rngs: Any, **options: Any
    ) -> None:
        super().__init__(features, rngs=rngs, **options)
        self.unit = unit
        if zero_head:
            last = self.head.last.kernel
            last[...] = jnp.zeros_like(last[...])

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
