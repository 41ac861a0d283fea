"""Learning under way, or done, in a folder on disk."""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from .._core import checks
from .._core.checkpoints import check_format, compare, versions, warn_of_versions
from .._core.fingerprint import describe
from ..problems.clustering import Clustering
from .learned import Learned, LearningTrace, Starts
from .learner import AbstractLearner
from .state import LearningState

_FORMAT = 1
_KEPT = 2
_HEADER = "checkpoint.json"
_ARRAYS = "arrays"
_PREFIX = "checkpoint-"


def save(
    path: str | os.PathLike[str], problem: Clustering, learnt: LearningState | Learned
) -> None:
    """Write learning under way, or what it ended with, whole or not at all.

    Into a folder of checkpoints, of which the last two are kept. Arrays are written by orbax, which
    does not notice a flipped bit when it reads them: so a hash of each stands beside them. The
    data of `problem` are not written, only hashes by which `load` knows the problem again.

    **Arguments:**

    - `path`: the folder; it is made where there is none.
    - `problem`: the problem of the learning.
    - `learnt`: what `begin` or `advance` returned, or `finish`, `interact` or `update`.

    **Raises:** `TypeError` inside `jit` or `vmap`; `OSError` where the folder cannot be written;
    `ImportError` without orbax.

    **Example:** see `load`.
    """
    _check("save", problem, learnt)
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(_kept(learnt))]
    header = {
        "format": _FORMAT,
        "kind": type(learnt).__name__,
        "versions": versions(),
        "parts": _parts(problem, learnt),
        "leaves": [_described(leaf) for leaf in leaves],
        "message": learnt.message if isinstance(learnt, Learned) else None,
    }
    found = _checkpoints(folder)
    number = 1 + (int(found[-1].name.removeprefix(_PREFIX)) if found else 0)
    part = folder / f".{secrets.token_hex(4)}.part"
    try:
        part.mkdir()
        _write(part / _ARRAYS, leaves)
        text = json.dumps(header, indent=1)
        (part / _HEADER).write_text(json.dumps({"sha256": _hash(text), "header": text}), "utf-8")
        os.replace(part, folder / f"{_PREFIX}{number:06d}")
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for old in _checkpoints(folder)[:-_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


def load(path: str | os.PathLike[str], problem: Clustering, like: Any) -> Any:
    """Read the last checkpoint of a folder that `save` has written.

    **Arguments:**

    - `path`: the folder, or one of the checkpoints in it.
    - `problem`: the problem of the learning.
    - `like`: for learning under way what `begin` returns for the same arguments; for what it
        ended with the learner. They must be what they were; the monitor is that of `like`.

    **Returns:** a `LearningState` or a `Learned`. Going on from the former gives the bits that
    going on at once would have given, on the same machine with the same versions.

    **Raises:** `ValueError` for what is no checkpoint, is damaged, or belongs to other learning,
    naming what differs; `OSError` where it cannot be read. **Warns:** `CheckpointWarning` where
    versions or the kind of device differ.

    **Example:** learning that may be ended at any time, and started again by the same lines.

    ```python
    >>> import jax, mepjax as mj, pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> problem = mj.Clustering(mj.datasets.four_square(40)[0], 4)
    >>> environment = mj.learn.Simulated(mj.autonomy.Uniform(0.2))
    >>> state = mj.learn.begin(
    ...     problem, environment, mj.learn.Counts(), mj.Geometric(1.0, 1e3, 1.5),
    ...     each=100, starts=2, key=jax.random.key(0),
    ... )
    >>> if any(folder.iterdir()):
    ...     state = mj.learn.load(folder, problem, state)
    >>> while not state.done:
    ...     state = mj.learn.advance(problem, environment, state, 10)
    ...     mj.learn.save(folder, problem, state)
    >>> print(state.n_stages, mj.learn.load(folder, problem, state).n_stages)
    19 19

    ```
    """
    _check("load", problem, like)
    where = Path(path)
    if not (where / _HEADER).exists():
        found = _checkpoints(where)
        if not found:
            raise ValueError(f"load: {where} has no checkpoint of learning by mepjax.")
        where = found[-1]
    header = _header(where)
    check_format("load", where, header, _FORMAT)
    whole = isinstance(like, AbstractLearner)
    kind = (Learned if whole else LearningState).__name__
    if header["kind"] != kind:
        raise ValueError(
            f"load: {where} holds a {header['kind']}, which `like` is read for: give the learner "
            f"for a Learned and what `begin` returns for a LearningState; got the one for {kind}."
        )
    compare("load", where, "other learning", header["parts"], _parts(problem, like))
    warn_of_versions("load", where, header)
    arrays = _read(where, header["leaves"])
    skeleton = _skeleton(problem, like) if whole else _kept(like)
    structure = jax.tree.structure(skeleton)
    if structure.num_leaves != len(arrays):
        raise ValueError(f"load: {where} does not hold the arrays of this learning.")
    kept = jax.tree.unflatten(structure, [jnp.asarray(array) for array in arrays])
    if whole:
        return _learned(like, kept, problem, header["message"])
    shapes = [
        (jnp.shape(a), jnp.result_type(a)) == (jnp.shape(b), jnp.result_type(b))
        for a, b in zip(jax.tree.leaves(kept), jax.tree.leaves(skeleton), strict=True)
    ]
    if not all(shapes):
        raise ValueError(f"load: {where} does not hold the arrays of this learning.")
    return eqx.tree_at(_kept, like, kept)


def _check(owner: str, problem: Any, learnt: Any) -> None:
    if not isinstance(problem, Clustering):
        raise TypeError(
            f"learn.{owner}: `problem` must be a mepjax.Clustering; got {type(problem).__name__}."
        )
    kinds = (LearningState, Learned) if owner == "save" else (LearningState, AbstractLearner)
    if not isinstance(learnt, kinds):
        expected = " or ".join(kind.__name__.removeprefix("Abstract") for kind in kinds)
        name = "learnt" if owner == "save" else "like"
        raise TypeError(
            f"learn.{owner}: `{name}` must be a {expected}; got {type(learnt).__name__}."
        )
    if not checks.is_concrete(problem, learnt):
        raise TypeError(
            f"`learn.{owner}` looks at numbers, so it must be called outside `jit` and `vmap`."
        )


def _kept(learnt: Any) -> Any:
    """What a folder holds; all else is the user's own, or follows from it."""
    if isinstance(learnt, LearningState):
        return learnt.scale, learnt.carry, learnt.rows
    names = ("params", "state", "starts", "code", "n_interactions", "trace", "beta")
    return tuple(getattr(learnt, name) for name in names)


def _skeleton(problem: Clustering, learner: AbstractLearner) -> Any:
    """The structure of what a `Learned` keeps; sizes are those of the file."""
    state = eqx.filter_eval_shape(learner.init, jax.random.key(0), problem)
    one: Any = jax.ShapeDtypeStruct((), problem.x.dtype)
    return one, state, Starts(one, one, one), one, one, LearningTrace(*([one] * 6)), one


def _learned(learner: AbstractLearner, kept: Any, problem: Clustering, message: Any) -> Learned:
    params, state, starts, code, n_interactions, trace, beta = kept
    return Learned(
        params=params,
        autonomy=learner.autonomy(state),
        state=state,
        starts=starts,
        code=code,
        n_interactions=n_interactions,
        trace=trace,
        beta=beta,
        learner=learner,
        input_report=checks.report(problem.checks()),
        message=message,
    )


def _parts(problem: Clustering, learnt: Any) -> dict[str, str]:
    asked: dict[str, Any] = {"problem": problem}
    if isinstance(learnt, LearningState):
        names = ("learner", "schedule", "explore", "key", "rounds", "each", "fresh")
        asked |= {name: getattr(learnt, name) for name in names}
    else:
        asked["learner"] = learnt if isinstance(learnt, AbstractLearner) else learnt.learner
    parts: dict[str, str] = {}
    for name, value in asked.items():
        parts |= describe(value, name)
    return parts


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{_PREFIX}[0-9]*")) if folder.is_dir() else []


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _described(leaf: np.ndarray) -> dict[str, Any]:
    digest = hashlib.sha256(np.ascontiguousarray(leaf).tobytes()).hexdigest()
    return {"dtype": str(leaf.dtype), "shape": list(leaf.shape), "sha256": digest}


def _header(where: Path) -> dict[str, Any]:
    try:
        outer = json.loads((where / _HEADER).read_text("utf-8"))
        text = outer["header"]
        if outer["sha256"] != _hash(text):
            raise ValueError("its hash differs")
        return json.loads(text)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(where, f"{_HEADER}: {error}") from error


def _damaged(where: Path, why: str) -> ValueError:
    others = [path.name for path in _checkpoints(where.parent) if path != where]
    hint = f"; {others[-1]} beside it may be whole" if others else ""
    return ValueError(f"load: {where} is damaged ({why}), so it is not used{hint}.")


def _orbax() -> Any:
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            "checkpoints of learning need orbax, which is not installed; "
            'run: pip install "mepjax[checkpoint]"'
        ) from error
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


def _name(place: int) -> str:
    return f"leaf-{place:04d}"


def _write(folder: Path, leaves: list[np.ndarray]) -> None:
    # It refuses arrays without entries, and need not know of shapes.
    tree = {_name(i): leaf.reshape(-1) for i, leaf in enumerate(leaves) if leaf.size}
    with _orbax() as orbax:
        orbax.save(folder.absolute(), tree)


def _read(where: Path, described: list[dict[str, Any]]) -> list[np.ndarray]:
    try:
        with _orbax() as orbax:
            tree = orbax.restore((where / _ARRAYS).absolute())
    except ImportError:
        raise
    except Exception as error:  # it raises bare exceptions, and those of parsers
        raise _damaged(where, f"{type(error).__name__} of orbax") from error
    found = []
    for place, wanted in enumerate(described):
        dtype, shape = np.dtype(wanted["dtype"]), tuple(wanted["shape"])
        leaf = np.zeros(shape, dtype)
        if leaf.size:
            leaf = np.asarray(tree.get(_name(place), ()))
            if leaf.dtype != dtype or leaf.size != int(np.prod(shape)):
                raise _damaged(where, f"{_name(place)} has another dtype or size")
            leaf = leaf.reshape(shape)
        if _described(leaf) != wanted:
            raise _damaged(where, f"the hash of {_name(place)} differs")
        found.append(leaf)
    return found
