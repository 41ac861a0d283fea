"""The largest principal scatter in any group of a partition."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._core.linear import for_each, power_iteration

# Up to this many features, and numbers in all products of pairs of them, scatters are formed.
_DENSE_FEATURES = 200
_DENSE_NUMBERS = 50_000_000
_HIGHEST = jax.lax.Precision.HIGHEST


def largest_scatters(
    x: Float[Array, "n d"],
    shares: Float[Array, " n"],
    labels: Int[Array, " n"],
    k: int,
    *,
    dense: bool | None = None,
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """lambda_max of S_j = sum_{i in j} shares_i (x_i - c_j)(x_i - c_j)^T, and each group's share.

    All scatters by one sum over the groups where there are few features; above 200, or where
    products of pairs of features would not fit, by power iteration and never d x d. Differentiable
    in x and shares where the eigenvalue is simple.
    """
    n, d = x.shape
    mass = jax.ops.segment_sum(shares, labels, k)
    safe = jnp.where(mass > 0, mass, 1.0)
    means = jax.ops.segment_sum(shares[:, None] * x, labels, k) / safe[:, None]
    offsets = (x - means[labels]) * jnp.sqrt(shares)[:, None]
    if dense is None:
        dense = d <= _DENSE_FEATURES and n * d * d <= _DENSE_NUMBERS
    if dense:
        outer = (offsets[:, :, None] * offsets[:, None, :]).reshape(n, d * d)
        scatters = jax.ops.segment_sum(outer, labels, k).reshape(k, d, d)
        return for_each(lambda s: jnp.linalg.eigvalsh(s)[-1], scatters), mass

    def apply(v: Array) -> Array:
        along = jnp.sum(offsets * v[labels], axis=1)
        return jax.ops.segment_sum(offsets * along[:, None], labels, k)

    # The group's own farthest direction is not orthogonal to the eigenvector but by accident.
    start = jax.random.normal(jax.random.key(0), (k, d), x.dtype)
    return power_iteration(apply, start), mass


def largest_of_kernel(
    gram: Float[Array, "n n"],
    shares: Float[Array, " n"],
    labels: Int[Array, " n"],
    k: int,
) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
    """The same in the space of a kernel: lambda_max of the doubly centred blocks of its matrix.

    With J_j the centring of group j by shares, S_j has the eigenvalues of
    W^(1/2) J_j K_jj J_j^T W^(1/2). Only products with K are formed.
    """
    mass = jax.ops.segment_sum(shares, labels, k)
    safe = jnp.where(mass > 0, mass, 1.0)
    root = jnp.sqrt(shares)
    same = labels[:, None] == labels[None, :]
    within = jnp.where(same, gram, 0.0)

    def centred(v: Array) -> Array:
        """Less its mean over each group."""
        return v - (jax.ops.segment_sum(shares * v, labels, k) / safe)[labels]

    def spread(v: Array) -> Array:
        """The transpose of `centred`."""
        return v - shares * (jax.ops.segment_sum(v, labels, k) / safe)[labels]

    def apply(v: Array) -> Array:
        return root * centred(jnp.matmul(within, spread(root * v), precision=_HIGHEST))

    start = jax.random.normal(jax.random.key(0), labels.shape, gram.dtype)
    # One vector holds those of all groups, which do not interact.
    return power_iteration(apply, start, groups=(labels, k)), mass
