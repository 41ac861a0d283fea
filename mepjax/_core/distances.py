"""Squared Euclidean distances that stay accurate in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Up to this many features the difference form is both exact and faster.
_DIFFERENCE_FORM_LIMIT = 4


def squared_euclidean(x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """|x_i - y_k|^2 for all pairs; both sets should be centred near the origin.

    Few features: sum of squared differences. More: |x|^2 + |y|^2 - 2 x.y with the highest matmul
    precision, clipped at zero; without centring that form loses all digits.
    """
    features = x.shape[1]
    if features <= _DIFFERENCE_FORM_LIMIT:
        return sum(
            ((x[:, f, None] - y[None, :, f]) ** 2 for f in range(1, features)),
            (x[:, 0, None] - y[None, :, 0]) ** 2,
        )
    cross = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :] - 2 * cross
    # Clipped in value only: a select would drop the Hessian of coincident pairs.
    return squares + jax.lax.stop_gradient(jnp.maximum(squares, 0.0) - squares)
