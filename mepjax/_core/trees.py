"""Small operations on pytrees of arrays."""

import dataclasses
import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def stop_gradient(tree: Any) -> Any:
    """Stop derivatives through every floating array of a pytree that may hold other things."""
    arrays, rest = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), rest)


def add(a: Any, b: Any) -> Any:
    """Leafwise a + b."""
    return jax.tree.map(jnp.add, a, b)


def subtract(a: Any, b: Any) -> Any:
    """Leafwise a - b."""
    return jax.tree.map(jnp.subtract, a, b)


def axpy(scale: Any, x: Any, y: Any) -> Any:
    """Leafwise scale * x + y."""
    return jax.tree.map(lambda u, v: scale * u + v, x, y)


def dot(a: Any, b: Any) -> Float[Array, ""]:
    """Sum of leafwise inner products."""
    return functools.reduce(
        jnp.add, jax.tree.leaves(jax.tree.map(lambda u, v: jnp.sum(u * v), a, b))
    )


def where(condition: Any, a: Any, b: Any) -> Any:
    """Leafwise select by a scalar condition."""
    return jax.tree.map(lambda u, v: jnp.where(condition, u, v), a, b)


def max_abs(tree: Any) -> Float[Array, ""]:
    """Largest absolute entry over all leaves."""
    return functools.reduce(jnp.maximum, [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)])


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Whether every entry of every leaf is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def dtype_of(tree: Any) -> Any:
    """The floating dtype shared by the leaves."""
    return jnp.result_type(*jax.tree.leaves(tree))


def normal_like(key: Any, tree: Any) -> Any:
    """Independent standard normal entries, shaped like `tree`."""
    leaves, treedef = jax.tree.flatten(tree)
    keys = jax.random.split(key, len(leaves))
    drawn = [jax.random.normal(k, x.shape, x.dtype) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(treedef, drawn)


def replaced(module: Any, **fields: Any) -> Any:
    """A copy of a module with other values of some fields, static ones too; nothing is checked."""
    copy = object.__new__(type(module))
    for field in dataclasses.fields(module):
        value = fields[field.name] if field.name in fields else getattr(module, field.name)
        object.__setattr__(copy, field.name, value)
    return copy
