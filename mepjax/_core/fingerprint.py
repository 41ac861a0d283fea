"""What a value is, in words that another process would use for the same value."""

import dataclasses
import enum
import functools
import hashlib
import types
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .checks import is_elsewhere


def describe(value: Any, name: str) -> dict[str, str]:
    """One entry per part of a pytree, static fields included, named like Python would reach it.

    Arrays are told by dtype, shape and a hash of their bytes; functions by their name, code and
    what they enclose or bind, but not by the globals they use.
    """
    parts: dict[str, str] = {}
    _describe(value, name, parts, set())
    return parts


def _describe(value: Any, name: str, parts: dict[str, str], above: set[int]) -> None:
    if id(value) in above:
        # A function may enclose itself.
        parts[name] = "itself"
        return
    above = above | {id(value)}

    def within(children: Mapping[str, Any]) -> None:
        for suffix, child in children.items():
            _describe(child, name + suffix, parts, above)

    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(value)
        parts[name] = f"{jax.random.key_impl(value)} key {_array(np.asarray(data))}"
    elif is_elsewhere(value):
        parts[name] = _parts_of_all(value)
    elif eqx.is_array(value) or isinstance(value, np.ndarray | np.generic):
        parts[name] = _array(np.asarray(value))
    elif isinstance(known := getattr(value, "fingerprint", None), str):
        # Data that are not in memory, known by a hash of their own.
        parts[name] = f"{_qualified(type(value))} {known}"
    elif isinstance(value, enum.Enum):
        parts[name] = str(value)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes):
        parts[name] = repr(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts[name] = _qualified(type(value))
        fields = (field.name for field in dataclasses.fields(value))
        within({f".{field}": getattr(value, field) for field in fields if hasattr(value, field)})
    elif isinstance(value, tuple | list):
        parts[name] = f"{_qualified(type(value))} of {len(value)}"
        within({f"[{index}]": child for index, child in enumerate(value)})
    elif isinstance(value, dict):
        parts[name] = f"dict of {len(value)}"
        within({f"[{key!r}]": child for key, child in value.items()})
    elif isinstance(value, functools.partial):
        parts[name] = "partial"
        within({".func": value.func, ".args": value.args, ".keywords": value.keywords})
    elif isinstance(value, types.MethodType):
        parts[name] = "method"
        within({".__func__": value.__func__, ".__self__": value.__self__})
    elif isinstance(value, types.FunctionType):
        parts[name] = f"{_qualified(value)} {_code(value.__code__)}"
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        within({f".{variable}": _contents(cell) for variable, cell in cells})
        within({".__defaults__": value.__defaults__, ".__kwdefaults__": value.__kwdefaults__})
    elif callable(value) and hasattr(value, "__wrapped__"):
        # Such as a function under `jax.jit`.
        parts[name] = _qualified(type(value))
        within({".__wrapped__": getattr(value, "__wrapped__", None)})
    elif callable(value):
        parts[name] = _qualified(value if hasattr(value, "__qualname__") else type(value))
    else:
        text = repr(value)
        # What has no words of its own shows its address, which another process would not know.
        known = "" if " at 0x" in text else f" {text}"
        parts[name] = f"{_qualified(type(value))}{known}"


def _array(array: np.ndarray) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype}{list(array.shape)} {digest}"


def _parts_of_all(array: jax.Array) -> str:
    """A hash of what each process holds, which all must ask for together."""
    # It takes long to import, and one process never needs it.
    from jax.experimental.multihost_utils import process_allgather

    digest = hashlib.sha256()
    for shard in sorted(array.addressable_shards, key=lambda shard: shard.device.id):
        digest.update(f"{shard.index}".encode())
        digest.update(np.ascontiguousarray(np.asarray(shard.data)).tobytes())
    own = np.frombuffer(digest.digest(), np.uint32)
    everyone = np.asarray(process_allgather(own), np.uint32)
    whole = hashlib.sha256(everyone.tobytes()).hexdigest()[:16]
    return f"{array.dtype}{list(array.shape)} in {len(everyone)} processes {whole}"


def _qualified(thing: Any) -> str:
    module = getattr(thing, "__module__", None) or "builtins"
    return f"{module}.{thing.__qualname__}"


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"


def _code(code: types.CodeType) -> str:
    """A hash of what a function does, the same in every process of one version of Python."""
    digest = hashlib.sha256(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        inner = isinstance(constant, types.CodeType)
        text = _code(constant) if inner else _constant(constant)
        digest.update(text.encode())
    return digest.hexdigest()[:16]


def _constant(constant: Any) -> str:
    # The order of a set differs between processes.
    return repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
