"""Names for the types that signatures share."""

from jax.core import Tracer
from jaxtyping import Array, Float

# A number or a scalar array; beta may be either.
Scalar = Float[Array, ""] | float

__all__ = ["Scalar", "Tracer"]
