"""Many anneals in one call: settings, data sets and seeds."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from .._core import trees
from .._core.checks import is_count
from .._core.codes import is_failing
from .._core.keys import check_key
from .._core.params import split_params
from .._core.programs import own_arithmetic, program
from .anneal import anneal
from .problem import Problem
from .solution import Solution

# Share of an accelerator's memory that lanes may fill.
_MEMORY_SHARE = 0.5


class LaneDone(NamedTuple):
    """What a monitor of `sweep` is told when a lane has ended."""

    setting: int
    seed: int
    lanes: int
    cost: float
    code: int


class Sweep(eqx.Module):
    """The outcome of `sweep`: everything has two leading axes, (settings, seeds).

    **Fields:**

    - `solutions`: a `Solution` whose arrays are stacked; `solutions.code` tells each lane's end.
    - `cost`: the objective of each lane, inf where it failed.
    """

    solutions: Solution
    cost: Float[Array, "settings seeds"]

    @property
    def best_seed(self) -> Int[Array, " settings"]:
        """For each setting the seed of lowest cost; the first where all failed."""
        return jnp.argmin(self.cost, axis=1).astype(jnp.int32)

    @property
    def best(self) -> Solution:
        """The best solution of each setting, stacked along settings."""
        chosen = self.best_seed
        arrays, rest = eqx.partition(self.solutions, eqx.is_array)
        rows = jnp.arange(chosen.shape[0])
        return eqx.combine(jax.tree.map(lambda leaf: leaf[rows, chosen], arrays), rest)


@own_arithmetic()
def sweep(
    build: Callable[[Any], Problem],
    settings: Any,
    *,
    key: Any,
    seeds: int = 1,
    batch: int | None = None,
    objective: Callable[[Problem, Solution], Any] | None = None,
    monitor: Callable[[LaneDone], None] | None = None,
    **options: Any,
) -> Sweep:
    """Anneal `build(setting)` for every setting and several seeds, compiled once.

    A lane that fails marks only itself. Legal inside `jit`, `grad` and `vmap`.

    **Arguments:**

    - `build`: makes the problem of one setting, out of arrays only: what is static (a number of
        clusters, a choice by name) is the same in all lanes.
    - `settings`: a pytree of arrays with a leading axis of equal length: hyper-parameters,
        data sets, or both.
    - `key`: a JAX random key, split over the lanes: lane (s, r) has
        `jax.random.split(key, (S, R))[s, r]`.
    - `seeds`: runs of each setting, R.
    - `batch`: lanes solved at once; default 1 on a CPU, and on an accelerator as many as half of
        its memory holds.
    - `objective`: what is compared between seeds, a function of problem and solution; default the
        hard cost, or with capacities, which the hard cost leaves out, the distortion.
    - `monitor`: a function called on the host as lanes end, given a `LaneDone`.
    - `options`: those of `anneal`, such as `detector` and `repair`, the same in all lanes.
        `schedule` may also be a function of the setting, and `init` one of problem and key.

    **Returns:** a `Sweep`: all solutions, their costs, and the `best` of each setting.

    **Raises:** `ValueError` for settings without a common leading axis, or used where a static
    number is needed; `TypeError` for what is no problem.

    **Example:** what a growing chance of overrides costs, best of two seeds.

    ```python
    >>> import jax, jax.numpy as jnp, mepjax as mj
    >>> x = jnp.array([[-1.1], [-0.9], [0.9], [1.1]])
    >>> def build(kappa):
    ...     return mj.Clustering(x, 2, autonomy=mj.autonomy.Uniform(kappa))
    >>> kappas = jnp.array([0.0, 0.1, 0.2])
    >>> result = mj.sweep(build, kappas, key=jax.random.key(0), seeds=2)
    >>> print([f"{cost:.2f}" for cost in jnp.min(result.cost, axis=1)])
    ['0.01', '0.37', '0.65']
    >>> result.best.params.shape
    (3, 2, 1)

    ```
    """
    key = check_key(key)
    count = _number_of(settings)
    if not is_count(seeds) or seeds < 1:
        raise ValueError(f"sweep: `seeds` must be a positive int; got {seeds!r}.")
    if batch is not None and (not is_count(batch) or batch < 1):
        raise ValueError(f"sweep: `batch` must be a positive int; got {batch!r}.")
    init = options.get("init")
    if init is not None and not callable(init):
        raise ValueError(
            "sweep: lanes differ in where they start; `init` must be a function of problem and "
            f"key, got {type(init).__name__}."
        )
    settings = jax.tree.map(jnp.asarray, settings)
    _check_build(build, settings)
    keys = jax.random.split(key, (count, seeds))
    lane = _Lane(build, settings, objective or _hard_cost, options, monitor, count * seeds)
    return _sweep(lane, keys, batch)


class _Lane(eqx.Module):
    """What one setting and seed of a sweep computes."""

    build: Callable[[Any], Problem]
    settings: Any
    objective: Callable[[Problem, Solution], Any]
    options: dict[str, Any]
    monitor: Callable[[LaneDone], None] | None = eqx.field(static=True)
    lanes: int = eqx.field(static=True)

    def __call__(self, lane: Any) -> tuple[Solution, Array]:
        key, numbers = lane
        # Taken here, so that seeds do not multiply the data.
        setting = jax.tree.map(lambda leaf: leaf[numbers[0]], self.settings)
        problem, options = self.build(setting), dict(self.options)
        schedule = options.get("schedule")
        if callable(schedule):
            options["schedule"] = schedule(setting)
        solution = anneal(problem, key=key, **options)
        cost = jnp.asarray(self.objective(problem, solution), trees.dtype_of(solution.params))
        usable = ~is_failing(solution.code) & jnp.isfinite(cost)
        cost = jnp.where(usable, cost, jnp.inf)
        if self.monitor is not None:
            _tell(self.monitor, self.lanes, numbers, jax.lax.stop_gradient(cost), solution.code)
        return solution, cost


def _tell(monitor: Any, lanes: int, numbers: Array, cost: Array, code: Array) -> None:
    def call(numbers: Any, cost: Any, code: Any) -> None:
        setting, seed = (int(n) for n in numbers)
        monitor(LaneDone(setting, seed, lanes, float(cost), int(code)))

    jax.debug.callback(call, numbers, cost, code)


def _hard_cost(problem: Problem, solution: Solution) -> Any:
    _, prices = split_params(solution.params)
    # Hard decisions of whole entities that meet capacities are found on the host.
    return problem.harden(solution.params).cost if prices is None else solution.distortion


@program
def _sweep(lane: _Lane, keys: Any, batch: int | None) -> Sweep:
    count, seeds = keys.shape[0], keys.shape[1]
    numbers = jnp.stack(jnp.meshgrid(jnp.arange(count), jnp.arange(seeds), indexing="ij"), axis=-1)
    lanes = (keys.reshape(count * seeds, *keys.shape[2:]), numbers.reshape(-1, 2))
    size = batch or lanes_at_once(lane, lanes, count * seeds)
    parts = eqx.filter_eval_shape(lane, jax.tree.map(lambda leaf: leaf[0], lanes))
    static = eqx.partition(parts, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))[1]

    def arrays_of(one: Any) -> Any:
        return eqx.filter(lane(one), eqx.is_array)

    stacked = jax.lax.map(arrays_of, lanes, batch_size=size if size > 1 else None)
    solutions, cost = eqx.combine(stacked, static)
    solutions, cost = jax.tree.map(
        lambda leaf: leaf.reshape(count, seeds, *leaf.shape[1:]) if eqx.is_array(leaf) else leaf,
        (solutions, cost),
    )
    return Sweep(solutions, cost)


def lanes_at_once(lane: Any, lanes: Any, count: int, device: Any = None) -> int:
    """1 on a CPU; elsewhere as many as fit into half of the memory, as one lane's program says."""
    device = device or jax.devices()[0]
    if device.platform == "cpu":
        return 1
    memory = (device.memory_stats() or {}).get("bytes_limit")
    if memory is None:
        return count
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), lanes)
    program = jax.jit(lambda part: eqx.filter(lane(part), eqx.is_array)).lower(one).compile()
    sizes = program.memory_analysis()
    if sizes is None:
        return count
    each = sizes.temp_size_in_bytes + sizes.output_size_in_bytes + sizes.argument_size_in_bytes
    return int(np.clip(_MEMORY_SHARE * memory // max(each, 1), 1, count))


def _number_of(settings: Any) -> int:
    """The common length of the leading axes."""
    leaves = jax.tree_util.tree_leaves_with_path(settings)
    if not leaves:
        raise ValueError("sweep: `settings` must have at least one array; got none.")
    lengths: dict[str, int] = {}
    for path, leaf in leaves:
        name = "settings" + jax.tree_util.keystr(path)
        if not hasattr(leaf, "shape") or np.ndim(leaf) == 0:
            raise ValueError(
                f"sweep: `{name}` must be an array with one entry per setting along its first "
                f"axis; got {leaf!r:.60}. What is the same in all lanes belongs into `build`."
            )
        if isinstance(leaf, np.ndarray) and leaf.dtype.kind not in "biufc":
            raise ValueError(
                f"sweep: `{name}` must be an array of numbers; got dtype {leaf.dtype}. Sweep over "
                "arrays, and loop in Python over what is static, such as a choice by name."
            )
        lengths[name] = leaf.shape[0]
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise ValueError(f"sweep: all `settings` must have the same length; got {got}.")
    (length,) = set(lengths.values())
    if length == 0:
        raise ValueError("sweep: `settings` must not be empty; got length 0.")
    return length


def _check_build(build: Callable[[Any], Problem], settings: Any) -> None:
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), settings)
    try:
        problem = eqx.filter_eval_shape(build, one)
    except (jax.errors.ConcretizationTypeError, TypeError) as error:
        if not isinstance(error, jax.errors.ConcretizationTypeError) and "Tracer" not in str(error):
            raise
        raise ValueError(
            "sweep: `build` needs a setting before compiling, as for a number of clusters or "
            "another static field; sweep over arrays, and loop in Python over what is static. "
            f"({str(error).splitlines()[0]})"
        ) from error
    if not isinstance(problem, Problem):
        raise TypeError(
            f"sweep: `build` must return a mepjax.Problem; got {type(problem).__name__}."
        )
