"""Floating numbers as words of 32 bits, which no thread rounds on their way to the host or back.

XLA may call the host from a thread of its own, in which JAX's x64 mode is that of the process and
not of a context; where that is off, JAX rounds doubles that go either way to single precision.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


def shape_of_words(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...]:
    """The shape of the words of an array; those of a double are two, along a last axis."""
    return (*shape, 2) if np.dtype(dtype).itemsize == 8 else tuple(shape)


def words_of(values: Array) -> Array:
    """The words of a device's array, float32 or float64."""
    return jax.lax.bitcast_convert_type(values, jnp.uint32)


def from_words(words: Array, dtype: Any) -> Array:
    """A device's array of its words."""
    return jax.lax.bitcast_convert_type(words, dtype)


def host_words(values: np.ndarray) -> np.ndarray:
    """The words of an array on the host."""
    words = np.ascontiguousarray(values).view(np.uint32)
    return words.reshape(shape_of_words(values.shape, values.dtype))


def from_host_words(words: Any, dtype: Any) -> np.ndarray:
    """An array on the host of its words."""
    words = np.asarray(words, order="C")
    more = np.dtype(dtype).itemsize == 8
    return words.view(dtype).reshape(words.shape[:-1] if more else words.shape)
