"""Checkpoints: an anneal under way, on disk."""

import io
import json
import os
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from .._core import checks
from .._core.checkpoints import (
    check_format,
    checksum,
    compare,
    replace_file,
    versions,
    warn_of_versions,
)
from .._core.fingerprint import describe
from .problem import Problem
from .state import AnnealState, check_problem, check_state

# A file is this line, the SHA-256 of all that follows, a line of JSON, and the arrays.
_MAGIC = b"mepjax anneal state\n"
_FORMAT = 1


def save(path: str | os.PathLike[str], problem: Problem, state: AnnealState) -> None:
    """Write an anneal under way to a file, whole or not at all.

    The data of `problem` are not written, only hashes by which `load` knows the problem again.
    Where several processes share the data all of them call this, and process 0 writes.

    **Arguments:**

    - `path`: the file, replaced if there is one; its folder must exist.
    - `problem`: the problem of the anneal.
    - `state`: what `begin` or `advance` returned.

    **Raises:** `TypeError` inside `jit`, `grad` or `vmap`; `OSError` where the file cannot be
    written, an older one then being as it was.

    **Example:** a run that may be ended at any time, and started again by the same lines.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "anneal.mepjax"
    >>> problem = mj.Clustering(jnp.array([[-1.1], [-0.9], [0.9], [1.1]]), k=2)
    >>> state = mj.begin(problem, mj.Geometric(0.1, 100.0, 1.2), key=jax.random.key(0))
    >>> if path.exists():
    ...     state = mj.load(path, problem, state)
    >>> while not state.done:
    ...     state = mj.advance(problem, state, 20)
    ...     mj.save(path, problem, state)
    >>> print(mj.finish(problem, state).n_stages, mj.load(path, problem, state).n_stages)
    39 39

    ```
    """
    _check(problem, state, "save")
    header = {"format": _FORMAT, "versions": versions(), "parts": _parts(problem, state)}
    arrays = io.BytesIO()
    eqx.tree_serialise_leaves(arrays, _kept(state))
    content = json.dumps(header).encode() + b"\n" + arrays.getvalue()
    # Of several processes, all of which have the same state, one writes.
    if jax.process_index() == 0:
        replace_file(Path(path), _MAGIC + checksum(content) + content)


def load(path: str | os.PathLike[str], problem: Problem, like: AnnealState) -> AnnealState:
    """Read an anneal under way from a file that `save` has written.

    **Arguments:**

    - `path`: the file.
    - `problem`: the problem of the anneal.
    - `like`: what `begin` returns for the same arguments. Those on which stages depend (problem,
        schedule, key, solver, detector, record) must be what they were; monitor, repair and
        adjoint are those of `like`. Functions are compared by name, code and what they enclose.

    **Returns:** the `AnnealState`. Going on from it gives the bits that going on at once would
    have given, on the same machine with the same versions.

    **Raises:** `ValueError` for a file that is no checkpoint, is damaged, or belongs to another
    anneal, naming what differs; `OSError` where it cannot be read. **Warns:** `CheckpointWarning`
    where versions or the kind of device differ.

    **Example:** see `save`.
    """
    _check(problem, like, "load")
    file = Path(path)
    content = file.read_bytes()
    if not content.startswith(_MAGIC):
        raise ValueError(f"load: {file} is not a checkpoint of an anneal by mepjax.")
    content = content[len(_MAGIC) :]
    size = len(checksum(b""))
    if content[:size] != checksum(content[size:]):
        raise ValueError(f"load: {file} is damaged, so it cannot be resumed from; begin again.")
    line, _, arrays = content[size:].partition(b"\n")
    header = json.loads(line)
    check_format("load", file, header, _FORMAT)
    compare("load", file, "another anneal", header["parts"], _parts(problem, like))
    warn_of_versions("load", file, header)
    try:
        kept = eqx.tree_deserialise_leaves(io.BytesIO(arrays), _kept(like))
    except (RuntimeError, ValueError, EOFError) as error:
        raise ValueError(
            f"load: {file} does not hold the arrays of this anneal; it was written by mepjax "
            f"{header['versions']['mepjax']}."
        ) from error
    return eqx.tree_at(_kept, like, kept)


def _check(problem: Problem, state: Any, owner: str) -> None:
    check_problem(problem)
    if checks.is_traced(problem, state):
        raise TypeError(
            f"`{owner}` looks at numbers, so it must be called outside `jit`, `grad` and `vmap`."
        )
    check_state(problem, state)


def _kept(state: AnnealState) -> Any:
    """What a file holds; all else of a state is the user's own."""
    return state.scale, state.start, state.carry, state.rows


def _parts(problem: Problem, state: AnnealState) -> dict[str, str]:
    options = state.options
    asked = {
        "problem": problem,
        "schedule": options.schedule,
        "key": options.key,
        "solver": options.solver,
        "detector": options.branching,
        "record": options.record,
        "relaxation": options.relaxation,
    }
    parts: dict[str, str] = {}
    for name, value in asked.items():
        parts |= describe(value, name)
    return parts
