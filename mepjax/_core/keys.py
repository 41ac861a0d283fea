"""Checks on random keys."""

from typing import Any

import jax
import jax.numpy as jnp


def check_key(key: Any) -> Any:
    """Return a typed key, or raise `TypeError` that names the fix.

    New-style keys (`jax.random.key`) and legacy ones (`jax.random.PRNGKey`) are accepted.
    """
    if isinstance(key, jax.Array):
        if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0:
            return key
        if key.dtype == jnp.uint32 and key.ndim == 1:
            return jax.random.wrap_key_data(key)
        got = f"an array of shape {key.shape} and dtype {key.dtype}"
    else:
        got = f"{type(key).__name__} {key!r}"
    hint = f" Write `key=jax.random.key({key})`." if isinstance(key, int) else ""
    raise TypeError(f"`key` must be a JAX random key such as `jax.random.key(0)`; got {got}.{hint}")
