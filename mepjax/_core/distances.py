"""Squared Euclidean distances that stay accurate in float32."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Up to this many features the difference form is both exact and faster.
DIFFERENCE_FORM_LIMIT = 4


def squared_euclidean(x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
    """|x_i - y_k|^2 for all pairs; both sets should be centred near the origin.

    Few features: sum of squared differences. More: |x|^2 + |y|^2 - 2 x.y with the highest matmul
    precision, clipped at zero; without centring that form loses all digits.
    """
    if x.shape[1] <= DIFFERENCE_FORM_LIMIT:
        return _differences(x, y)
    cross = jnp.matmul(x, y.T, precision=jax.lax.Precision.HIGHEST)
    squares = jnp.sum(x * x, axis=1)[:, None] + jnp.sum(y * y, axis=1)[None, :] - 2 * cross
    # Clipped in value only: a select would drop the Hessian of coincident pairs.
    return squares + jax.lax.stop_gradient(jnp.maximum(squares, 0.0) - squares)


def relative_squared_euclidean(
    y: Float[Array, "k d"], x: Float[Array, "n d"]
) -> tuple[Float[Array, "k n"], Float[Array, " n"] | None]:
    """|x_i - y_k|^2 in two parts: by centre and entity, and what to add for each entity, if any.

    Centres come first, which vectorises, and the second part saves passes where only differences
    between centres matter. Many features: one product, [|y|^2, -2 y] [1, x]^T, and |x|^2.
    """
    if x.shape[1] <= DIFFERENCE_FORM_LIMIT:
        return _differences(y, x), None
    left = jnp.concatenate([-2 * y, jnp.sum(y * y, axis=1, keepdims=True)], axis=1)
    right = jnp.concatenate([x, jnp.ones((x.shape[0], 1), x.dtype)], axis=1)
    products = jnp.matmul(left, right.T, precision=jax.lax.Precision.HIGHEST)
    return products, jnp.sum(x * x, axis=1)


def _differences(x: Float[Array, "n d"], y: Float[Array, "k d"]) -> Float[Array, "n k"]:
    return sum(
        ((x[:, f, None] - y[None, :, f]) ** 2 for f in range(1, x.shape[1])),
        (x[:, 0, None] - y[None, :, 0]) ** 2,
    )
