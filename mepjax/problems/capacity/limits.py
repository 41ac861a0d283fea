"""How much may be used, as bounds or as equalities."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._core import arrays


class Equal(eqx.Module):
    """A capacity that has to be met exactly, where a bare array is an upper bound.

    For `Clustering` and `FacilityPath`. In the latter equalities can force negative prices, which
    reward paths for visiting a facility again: prefer bounds, and look at `FacilityPath.revisits`.

    **Arguments:** `values`: the capacity, an array.

    **Example:**

    ```python
    >>> import jax.numpy as jnp, mepjax as mj
    >>> mj.Equal(jnp.array([0.75, 0.25])).values.shape
    (2,)

    ```
    """

    values: Any


class Capacity(eqx.Module):
    """Limits, +inf where there is none, and whether they are equalities."""

    limit: Float[Array, "..."]
    equality: bool = eqx.field(static=True)


def no_room(limit: Float[Array, "..."]) -> Any:
    """Whether shares that sum to at least one can only be met exactly."""
    return jnp.sum(limit) <= 1 + 64 * float(jnp.finfo(limit.dtype).eps)


def as_capacity(owner: str, name: str, value: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """A `Capacity` of the right shape from an array (a bound) or an `Equal`; `None` for none."""
    if value is None:
        return None
    equality = isinstance(value, Equal)
    raw = value.values if isinstance(value, Equal) else value
    limit = arrays.as_data_like(name, raw, dtype)
    if limit.shape != shape:
        raise ValueError(f"{owner}: `{name}` must have shape {shape}; got {limit.shape}.")
    return Capacity(limit, equality)
