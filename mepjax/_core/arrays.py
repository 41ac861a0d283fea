"""Turning what users pass into arrays of one floating dtype."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .types import Tracer


class PrecisionWarning(UserWarning):
    """float64 input was cast to float32 because JAX's x64 mode is off."""


def default_float() -> Any:
    """float64 when x64 is enabled, else float32."""
    return np.dtype(jnp.result_type(float))


# Floating types that JAX solvers do not compute in, each with the one that holds its values.
_NARROW = ("float16", "bfloat16")


def refuse_masked(name: str, value: Any) -> None:
    """Raise `ValueError` for a NumPy masked array with masked entries, which would be read as data.

    What lies under a mask has no meaning.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"`{name}` must not have masked entries; got {np.ma.count_masked(value)}. Leave their "
            "rows out, or fill them."
        )


def _as_raw_array(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array):
        return value
    refuse_masked(name, value)
    try:
        array = np.asarray(value)
    except Exception as error:
        raise TypeError(
            f"`{name}` must be an array of numbers; got {type(value).__name__}."
        ) from error
    if array.dtype.kind not in "biuf" and array.dtype.name not in _NARROW:
        raise TypeError(f"`{name}` must be an array of real numbers; got dtype {array.dtype}.")
    return array


def as_float_array(name: str, value: Any, dtype: Any = None) -> Float[Array, "..."]:
    """Convert to a JAX array of a floating dtype.

    Integers and booleans are cast to the default float, and so with one warning are half and
    extended precision. float64 is cast to float32 with one warning when x64 is off. With `dtype`
    given, scalars adapt to it and arrays of another
    floating dtype raise `TypeError`.
    """
    array = _as_raw_array(name, value)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise TypeError(f"`{name}` must be an array of real numbers; got dtype {array.dtype}.")
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    if floating and array.dtype not in (np.float32, np.float64):
        if array.ndim > 0:
            warnings.warn(
                f"`{name}` is {array.dtype}, in which nothing is computed: cast to "
                f"{dtype or default_float()}.",
                PrecisionWarning,
                stacklevel=4,
            )
        array, floating = array.astype(default_float()), False
    target = default_float() if not floating else array.dtype
    if target == np.float64 and default_float() != np.float64:
        target = np.dtype(np.float32)
        if array.ndim > 0:
            warnings.warn(
                f"`{name}` is float64 but JAX's x64 mode is off: cast to float32. Enable it with "
                '`jax.config.update("jax_enable_x64", True)` or pass float32.',
                PrecisionWarning,
                stacklevel=4,
            )
    if dtype is not None:
        if floating and array.ndim > 0 and target != dtype:
            raise TypeError(
                f"`{name}` has dtype {target} but the data have {np.dtype(dtype)}; "
                "cast one of them so that they agree."
            )
        target = dtype
    if isinstance(array, Tracer):
        return array.astype(target)
    # Under an outer trace plain `jnp.asarray` would stage the constant and hide its values.
    with jax.ensure_compile_time_eval():
        return jnp.asarray(array, target)


def weighted_points(
    owner: str, x: Any, weights: Any
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Points, shape (n, d), and weights of the same dtype, shape (n,); all ones for `None`."""
    points = as_float_array("x", x)
    if points.ndim != 2:
        raise ValueError(
            f"{owner}: `x` must be 2-D, (entities, features); got shape {points.shape}."
        )
    n, d = points.shape
    if n == 0 or d == 0:
        raise ValueError(f"{owner}: `x` must not be empty; got shape {points.shape}.")
    if weights is None:
        weights = np.ones(n, points.dtype)
    weights = as_data_like("weights", weights, points.dtype)
    if weights.shape != (n,):
        raise ValueError(
            f"{owner}: `weights` must have shape ({n},) for {n} entities; got {weights.shape}."
        )
    return points, weights


def as_scalar(owner: str, name: str, value: Any, dtype: Any) -> Float[Array, ""]:
    """One number of the data's dtype."""
    scalar = as_data_like(name, value, dtype)
    if scalar.ndim != 0:
        raise ValueError(f"{owner}: `{name}` must be one number; got shape {scalar.shape}.")
    return scalar


def as_data_like(name: str, value: Any, dtype: Any) -> Float[Array, "..."]:
    """Convert to a JAX array of the data's dtype, to which lists adapt."""
    if not isinstance(value, jax.Array | np.ndarray):
        value = _as_raw_array(name, value).astype(dtype)
    return as_float_array(name, value, dtype)


def as_parameter(name: str, value: Any) -> Any:
    """A model parameter before its data are known: JAX arrays stay, all else is NumPy float64.

    `cast_floats` gives it the data's dtype later, without a loss of precision in between.
    """
    array = _as_raw_array(name, value)
    if isinstance(array, jax.Array):
        return as_float_array(name, array)
    return np.asarray(array, np.float64)


def cast_floats(tree: Any, dtype: Any) -> Any:
    """Cast every parameter of a pytree to `dtype`; JAX arrays of another dtype raise.

    Integers stay: they count or point at something.
    """

    def cast(path: Any, leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic):
            return leaf
        if jnp.issubdtype(leaf.dtype, jnp.integer):
            return leaf
        if not isinstance(leaf, jax.Array) and np.issubdtype(leaf.dtype, np.floating):
            leaf = np.asarray(leaf, dtype)
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return as_float_array(name, leaf, dtype)

    return jax.tree_util.tree_map_with_path(cast, tree)
